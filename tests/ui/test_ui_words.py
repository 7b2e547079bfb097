"""The words of the page: each has its German."""

from __future__ import annotations

import ast
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import controlnext
from annotators.poses.skeleton import KEYPOINTS
from controlnext.adherence.map_kind import MapKind
from controlnext.ui import build_ui, launch_options
from controlnext.ui.image.doctor_events import sentence, taken
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
def test_every_word_of_the_page_is_in_the_table(language, whole_page):
    missing = list(dict.fromkeys(untranslated(words_of(whole_page), table(language))))
    assert not missing, f"add to controlnext/ui/words/{LANGUAGES[language]}: {missing}"


def test_the_real_annotators_and_the_train_tab_are_in_the_table(tmp_path):
    from controlnext.cli import app

    chosen = app.options(["--output-dir", str(tmp_path)])
    page = build_ui(app.make_studio(chosen), trainings=app.make_trainings(chosen), local=True)
    missing = list(dict.fromkeys(untranslated(words_of(page), table("de"))))
    assert not missing


SAID = {"note_html": 0, "waiting_html": 0, "Progress": 0, "_tell": 0, "_chip": 1, "Info": 0, "Warning": 0}
"""What puts a text of the server into the page, and which of its arguments is the text."""

ELSEWHERE = {"starter", "bench", "cli", "training"}
"""Rooms whose texts go to a terminal."""


def said(node):
    """The texts that an expression can be, with `{}` for what is put into them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from (*said(node.body), *said(node.orelse))


def answers():
    """Every text that the page is given while it is used, as it stands in the code: notes, stages, chips and sentences of results."""
    house = Path(controlnext.__file__).parent
    for file in sorted(house.rglob("*.py")):
        if ELSEWHERE & set(file.relative_to(house).parts[:1]):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in SAID and len(node.args) > SAID[name]:
                    yield from said(node.args[SAID[name]])


def test_every_answer_of_the_page_is_in_the_table():
    found = [text for text in answers() if re.search(r"[A-Za-z]{3}", text) and text != "Drawing{}"]
    assert len(found) > 40
    assert list(dict.fromkeys(untranslated(found, table("de")))) == []


def sentences():
    """What searches, repairs, projects and verifications come to."""
    from controlnext.results.project import OpenedProject
    from controlnext.studio.auto_gamma import FoundGamma, GammaTry
    from controlnext.studio.repair import Repaired, RepairTry
    from controlnext.studio.verify import Verified

    low, high = GammaTry(1.0, 0.4, None), GammaTry(1.5, 0.9, None)
    for target, tries in ((0.9, (low, high)), (0.9, (low,)), (0.6, (low, high))):
        yield FoundGamma(tries, tries[-1], target, tries[-1].adherence == target).sentence()
    for tries in ((), (RepairTry(0.1, 0.4, kept=False),), (RepairTry(0.1, 0.6, kept=True),) * 2):
        yield Repaired(Path("a.png"), 0.5, 0.6, tries).sentence()
    yield Verified(0, 0.0, ()).sentence()
    yield Verified(3, 0.1, ("another version",)).sentence()
    for missing in ((), ("The LoRA x.",)):
        yield OpenedProject((Path("a.png"),), (), missing).sentence()


def test_every_outcome_is_in_the_table():
    assert list(untranslated(sentences(), table("de"))) == []


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


def pieces(text, known):
    """A text and what stands in the places of its row, as the page's script looks them up."""
    yield text
    for key in known:
        if "{}" in key and text not in known:
            found = re.fullmatch(re.escape(key).replace(r"\{\}", "(.+?)"), text)
            if found:
                for part in ", ".join(found.groups()).split(", "):
                    yield from pieces(part, known)
                return


@pytest.mark.parametrize("name", ["pose", "canny", "depth", "segmentation", "normal"])
def test_the_sentences_of_the_upload_doctor_are_in_the_table(name):
    known = table("de")
    for found in (MapKind(name), MapKind(name, inverted=True), MapKind(name, swapped=True)):
        said = [sentence(found, [name]), sentence(found, []), sentence(found, [name], True), sentence(MapKind(""), [])]
        said += [taken(found)] if name != "normal" else []
        assert list(untranslated((piece for text in said for piece in pieces(text, known)), known)) == []


def test_the_joints_of_the_pose_editor_are_in_the_table():
    words = table("de")
    for joint in KEYPOINTS:
        name = joint.replace("_", " ")
        assert words[f"{name}: {{}}"] == f"{words[name]}: {{}}"
