"""The generated tables of the documents are what `python .ci/docs.py` makes today."""

import importlib.util

import pytest
from doc_pages import ROOT

_SPEC = importlib.util.spec_from_file_location("docs_tables", ROOT / ".ci" / "docs.py")
docs = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(docs)


def tables():
    return [
        pytest.param(page, name, id=f"{page.name}:{name}")
        for page in docs.PAGES
        for _, name, _ in docs.MARKED.findall(page.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("page", "name"), tables())
def test_table_is_current(page, name):
    text = page.read_text(encoding="utf-8")
    shown = next(found.group(0) for found in docs.MARKED.finditer(text) if found[2] == name)
    assert shown == docs.filled(shown), "Run python .ci/docs.py to write the tables again."


def test_every_table_is_shown_once():
    assert sorted(param.values[1] for param in tables()) == sorted(docs.TABLES)
