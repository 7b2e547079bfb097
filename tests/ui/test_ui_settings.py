"""Settings kept in the browser, presets of one's own, and the contact sheet: what comes back may have been written by anyone."""

from types import SimpleNamespace

import gradio as gr
import pytest
import yaml
from laid_out import laid_out
from tab_values import refused
from ui_fakes import KINDS

from controlnext.ui.image.contact_sheet_events import ContactSheetEvents, NoPictureError
from controlnext.ui.image.own_preset_events import MOST, OwnPresetError, OwnPresetEvents
from controlnext.ui.image.own_presets import LONGEST_NAME
from controlnext.ui.image.settings import ImageSettings, fits


@pytest.fixture
def settings(events) -> ImageSettings:
    return ImageSettings(events)


@pytest.fixture
def own(settings) -> OwnPresetEvents:
    made = OwnPresetEvents(settings.image.tab.own, settings)
    with laid_out() as page:
        made.wire(page)
    return made


def shown(own, **values) -> dict:
    """The page's values, as an event gets them."""
    parts = own.settings.parts
    return {part: values.get(name, part.value) for name, part in parts.items()}


@pytest.mark.parametrize(
    ("part", "good", "bad"),
    [
        (gr.Slider(0, 2), 1.5, [2.5, -1, "1", None, True, float("nan"), [1]]),
        (gr.Number(), 12, ["12", None, float("inf"), False]),
        (gr.Checkbox(), False, [1, "yes", None]),
        (gr.Textbox(), "words", [1, None, "x" * 20_000, ["a"]]),
        (gr.Radio(["a", "b"]), "b", ["c", None, ["a"]]),
        (gr.Dropdown([("A", "a")]), "a", ["A", None, {}]),
    ],
)
def test_a_value_fits_its_component_or_is_left_out(part, good, bad):
    assert fits(part, good)
    assert [value for value in bad if fits(part, value)] == []


def test_kept_settings_come_back_and_nonsense_does_not(settings):
    tab = settings.image.tab
    updates = settings.updates(
        {
            "model": "starter", "annotator": "canny", "prompt": "kept", "gamma": 1.25, "steps": 9999, "canny low": 33, "seed": "x",
            "lora 1": "night", "lora 2": "gone", "shape": "192x256", "nobody knows": 1,
        }
    )  # fmt: skip
    assert updates[tab.prompt] == "kept"
    assert updates[tab.gamma]["value"] == 1.25
    assert updates[tab.annotator]["value"] == "canny"
    assert updates[tab.model]["value"] == "starter"
    assert updates[tab.steps] == 20  # the model's own
    assert updates[tab.panels["canny"].widgets["low"]] == 33
    assert updates[tab.loras[0][0]]["value"] == "night"
    assert updates[tab.loras[1][0]]["value"] == "none"
    assert updates[tab.shape]["value"] == "192x256"
    assert tab.seed not in updates


@pytest.mark.parametrize("model", ["sdxl", "nothing", None, 5])
def test_a_model_that_cannot_be_used_leaves_the_chosen_one(settings, model):
    updates = settings.updates({"model": model, "annotator": "pose", "prompt": "kept"})
    assert updates == {settings.image.tab.prompt: "kept", settings.image.tab.annotator: "pose"}


@pytest.mark.parametrize("kept", [None, [], "text", 3])
def test_a_browser_that_kept_nothing_changes_nothing(settings, kept):
    assert settings.restore(kept) == gr.skip()


def test_a_preset_is_kept_renewed_used_and_deleted(own):
    area, tab = own.area, own.settings.image.tab
    first = own.keep({**shown(own, prompt="one"), area.name: "  My   look ", own.kept: None})
    assert first[own.kept]["My look"]["prompt"] == "one"
    again = own.keep({**shown(own, prompt="two"), area.name: "My look", own.kept: first[own.kept]})
    assert list(again[own.kept]) == ["My look"]
    assert own.use("My look", again[own.kept])[tab.prompt] == "two"
    assert own.delete("My look", again[own.kept])[own.kept] == {}
    with refused(OwnPresetError):
        own.keep({**shown(own), area.name: " ", own.kept: {}})
    with refused(OwnPresetError):
        own.use("gone", {})


def test_a_preset_goes_out_as_yaml_and_comes_back(own, tmp_path):
    kept = own.keep({**shown(own, prompt="ein Haus, groß"), own.area.name: "a/b: c", own.kept: {}})
    with open(kept[own.area.save]["value"], encoding="utf-8") as file:
        text = file.read()
    assert yaml.safe_load(text)["prompt"] == "ein Haus, groß"
    path = tmp_path / "look.yaml"
    path.write_text(text, encoding="utf-8")
    assert own.read(str(path), {})[own.kept]["look"] == kept[own.kept]["a/b: c"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"prompt: [", "no YAML file"),
        (b"\xff\xfe\x00", "no YAML file"),
        (b"[" * 5000, "no YAML file"),
        (b"!!python/object/apply:os.system ['true']", "no YAML file"),
        (b"", "holds no settings"),
        (b"- a", "holds no settings"),
        (b"prompt: x\nsurprise: 1", "1 settings that this page does not know, such as 'surprise'"),
        (b"prompt: " + b"x" * 200_000, "larger than 100 KB"),
    ],
)
def test_a_file_that_is_no_preset_is_refused_in_one_sentence(own, tmp_path, content, reason):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(gr.Error, match=reason) as raised:
        own.read(str(path), {})
    assert str(tmp_path) not in raised.value.message
    assert len(raised.value.message) < 300


def test_names_and_numbers_of_presets_are_bounded(own):
    full = {str(number): {} for number in range(MOST)}
    with refused(OwnPresetError, MOST):
        own.keep({**shown(own), own.area.name: "one more", own.kept: full})
    kept = own.keep({**shown(own), own.area.name: "x" * 500, own.kept: {"bad": 1}})[own.kept]
    assert list(kept) == ["x" * LONGEST_NAME]


def test_the_sheet_shows_every_kind_and_a_click_uses_one(events, picture):
    tab = events.tab
    sheet = ContactSheetEvents(tab, events.studio, {"canny": "Edges"})
    settings = {widget: widget.value for panel in tab.panels.values() for widget in panel.widgets.values()}
    *steps, last = sheet.make({tab.picture: str(picture), tab.resolution: 256, **settings})
    assert [len(step[tab.sheet.maps]["value"]) for step in steps] == [1, 2, 3, 4]
    assert set(last[tab.sheet.kinds]) == set(KINDS)
    assert "Edges" in [label for _, label in steps[-1][tab.sheet.maps]["value"]]
    used = sheet.choose(last[tab.sheet.kinds], "pose", SimpleNamespace(index=2))
    assert used == {tab.annotator: last[tab.sheet.kinds][2], tab.ready_map: False}
    assert sheet.choose([], "pose", SimpleNamespace(index=7))[tab.annotator] == "pose"
    with refused(NoPictureError):
        list(sheet.make({tab.picture: None, **settings}))


def test_a_map_that_cannot_be_made_says_why_beside_the_others(events, tmp_path):
    from PIL import Image

    tab, black = events.tab, tmp_path / "black.png"
    Image.new("RGB", (64, 64)).save(black)
    settings = {widget: widget.value for panel in tab.panels.values() for widget in panel.widgets.values()}
    *_, last = ContactSheetEvents(tab, events.studio, {}).make(
        {tab.picture: str(black), tab.resolution: 256, **settings}
    )
    assert last[tab.sheet.kinds] == ["canny"]
    assert last[tab.sheet.note].count("No person was found") == 3
