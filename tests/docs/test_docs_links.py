"""Links, pictures and file names in the documents lead to something."""

import re

import pytest
from doc_pages import GUIDES, ROOT, all_pages, anchors, inline_code, links, name

README_BYTES = 8192
PATHS = re.compile(r"(?:app\.py|(?:controlnext|annotators|presets|assets|tests|docs|\.ci|\.github)/[\w./-]*)")
MADE_BY_READERS = {"presets/mine.yaml", "presets/normal.yaml"}
"""Files that the documents have people make."""


@pytest.mark.parametrize("page", all_pages(), ids=name)
def test_links_lead_somewhere(page):
    for link in links(page):
        if re.match(r"(https?|mailto):", link):
            assert link.startswith("https://"), f"{link} is not encrypted"
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading; there is {anchors(target)}"


@pytest.mark.parametrize("page", [page for page in all_pages() if page.name != "CHANGELOG.md"], ids=name)
def test_named_files_exist(page):
    named = {text for text in inline_code(page) if PATHS.fullmatch(text)} - MADE_BY_READERS
    missing = {text for text in named if not (ROOT / text).exists()}
    assert not missing


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_every_page_is_reached_from_the_readme(page):
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        here = ahead.pop()
        seen.add(here)
        found = {(here.parent / link.partition("#")[0]).resolve() for link in links(here) if "://" not in link}
        ahead += [target for target in found if target.suffix == ".md" and target not in seen and target.is_file()]
    assert page in seen
