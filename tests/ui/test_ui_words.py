"""The words of the page: each has its German."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from ui_fakes import FakeStudio

from controlnext.ui import build_ui, launch_options
from controlnext.ui.words import LANGUAGES, table, translations

NAMES = {
    "ControlNeXt Studio", "MediaPipe", "MediaPipe BlazePose", "Starter", "Starter net", "Starter video", "SDXL (not here)", "SVD v2 (not here)", "DDIM", "UniPC",
    "DPM++ 2M", "DPM++ 2M Karras", "Euler", "Euler a", "CSV", "ZIP", "night", "clay", "ade20k", "Ctrl + Enter", "Esc", "scribble", "/home/me/photos",
    "few-steps", "float32", "bfloat16", "float16", "linear 1 to 0", "cosine 1 to 0",
}  # fmt: skip
"""Names, which are the same in every language, and values that are typed."""

FAKES = {"People at most", "Sure of a joint from", "Near is", "Weak edges from", "Strong edges from", "Choose the thresholds from the picture"}  # fmt: skip
"""Settings of the fake annotators."""

LICENCE = re.compile(r"Licence: |heat|ink")


class Texts(HTMLParser):
    """Collects the texts of HTML, and those of its attributes that are read out."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.drawing = 0

    def handle_starttag(self, tag, attrs):
        self.drawing += tag == "svg"
        if not self.drawing:
            self.found += [value for name, value in attrs if name in ("aria-label", "title")]

    def handle_endtag(self, tag):
        self.drawing -= tag == "svg"

    def handle_data(self, data):
        if not self.drawing:
            self.found.append(data)


def words_of(page):
    """Every word that the page shows before anything is done."""
    for part in page.get_config_file()["components"]:
        props, kind = part["props"], part["type"]
        if kind == "api" or (props.get("visible") is False and not props.get("elem_id")):
            continue
        yield from (props[name] for name in ("label", "info", "placeholder") if isinstance(props.get(name), str))
        if kind == "button":
            yield props["value"]
        if kind == "html" and "cnx-curve" not in (props.get("value") or ""):
            texts = Texts()
            texts.feed(props.get("value") or "")
            yield from texts.found
        yield from (choice[0] for choice in props.get("choices") or [] if isinstance(choice, list | tuple))


def untranslated(words, known):
    patterns = [re.compile(re.escape(key).replace(r"\{\}", ".+")) for key in known if "{}" in key]
    for word in words:
        plain = re.sub(r"[ \t]+", " ", word.strip())
        if not re.search(r"[A-Za-z]{2}", plain) or plain in NAMES | FAKES or LICENCE.match(plain):
            continue
        if re.fullmatch(
            r"[\d.]+ × [\d.]+.*|[\w]+/[\w]+|.*\((download|offline|video|experimental|needs a token).*\)|(Moves|A small model).*",
            plain,
        ):
            continue  # sizes, models and what their presets say
        if plain not in known and not any(pattern.fullmatch(plain) for pattern in patterns):
            yield plain


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_the_page_is_in_the_table(language, tmp_path):
    missing = list(dict.fromkeys(untranslated(words_of(build_ui(FakeStudio(tmp_path))), table(language))))
    assert not missing, f"add to controlnext/ui/words/{LANGUAGES[language]}: {missing}"


def test_the_real_annotators_and_the_train_tab_are_in_the_table(tmp_path):
    from controlnext.cli import app

    chosen = app.options(["--output-dir", str(tmp_path)])
    page = build_ui(app.make_studio(chosen), trainings=app.make_trainings(chosen), local=True)
    missing = list(dict.fromkeys(untranslated(words_of(page), table("de"))))
    assert not missing


def test_a_translation_keeps_the_places_of_numbers():
    for english, german in table("de").items():
        assert english.count("{}") == german.count("{}"), english
        assert english.count("\n") == german.count("\n"), english
        assert german.strip() == german != ""


def test_gradio_is_given_both_languages():
    given = launch_options()["i18n"].translations_dict
    assert given["de"]["Generate"] == "Erzeugen"
    assert set(given["en"]) == set(given["de"])
    assert translations() is translations()
