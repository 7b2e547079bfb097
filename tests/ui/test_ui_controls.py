"""Further controls, start pictures and strength over time, in the page and through the API."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio.components.image_editor import EditorData
from gradio_client import handle_file
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tab_values import PAGE, applied, data_of, refused
from ui_fakes import FakeAnnotators, FakeStudio

from controlnext.recipes.inputs import InputError
from controlnext.recipes.png import read_inputs, read_png
from controlnext.recipes.recipe import RecipeError
from controlnext.studio.conditions import ConditionRequestError
from controlnext.ui.api import Endpoints
from controlnext.ui.image.controls import OFF, ROWS, SentControl
from controlnext.ui.image.curve import curve_svg
from controlnext.ui.image.restore import Restore
from controlnext.ui.image.start_picture import Painted, layer_of, painted_mask, start_images
from controlnext.ui.worker import stream_of


@pytest.fixture
def other(tmp_path) -> Path:
    path = tmp_path / "other.png"
    Image.fromarray(np.random.default_rng(7).integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def layer(tmp_path) -> Path:
    """A painted layer of the size of `picture`, with a soft edge on its left."""
    array = np.zeros((96, 128, 4), np.uint8)
    array[20:50, 30:60] = (255, 90, 95, 178)
    array[20:50, 29] = (255, 90, 95, 20)
    Image.fromarray(array).save(tmp_path / "layer.png")
    return tmp_path / "layer.png"


def painted(background, *layers) -> dict:
    """A value as the editor gives it."""
    return {"background": background and str(background), "layers": [str(path) for path in layers], "composite": None}


def with_row(data: dict, row, **values) -> dict:
    return data | {getattr(row, name): value for name, value in values.items()}


def test_adding_shows_the_next_row_with_a_kind_of_its_own_and_its_gamma(events):
    tab, data = events.tab, data_of(events)
    data |= {tab.annotator: "pose"}
    first, second = tab.controls
    updates = events.additional.add(data)
    assert updates[first.group]["visible"] is True
    assert (updates[first.kind], updates[first.gamma]) == ("depth", 0.9)
    assert updates[tab.add_control]["visible"] is True
    updates = events.additional.add(data | {first.kind: "depth"})
    assert updates[second.kind] == "canny"
    assert updates[tab.add_control]["visible"] is False
    gone = events.additional.remove(first)
    assert gone[0]["visible"] is False
    assert gone[1:4] == [OFF, None, False]
    assert len(tab.controls) == ROWS


def test_a_rows_condition_comes_from_the_same_picture_or_its_own(events, picture, other):
    tab, row = events.tab, events.tab.controls[0]
    data = with_row(data_of(events, picture=str(picture), annotator="pose"), row, kind="canny")
    shared = events.additional.show(row, data)
    own = events.additional.show(row, with_row(data, row, picture=str(other)))
    assert min(shared[row.condition].size) == 256
    assert shared[row.condition].size != own[row.condition].size
    assert "opencv" in shared[row.served]
    assert events.additional.show(row, with_row(data, row, kind=OFF))[row.condition] is None
    assert events.additional.show(row, data | {tab.picture: None})[row.condition] is None
    alone = with_row(data | {tab.picture: None}, row, picture=str(other))
    assert "need a first one" in events.additional.show(row, alone)[row.served]


def test_a_row_beside_a_ready_made_map_says_that_it_needs_a_picture(events, picture, other):
    row = events.tab.controls[1]
    data = with_row(data_of(events, picture=str(picture), ready_map=True), row, kind="depth")
    shown = events.additional.show(row, data)
    assert shown[row.condition] is None
    assert "third control needs a picture of its own" in shown[row.served]
    with refused(ConditionRequestError, "third"):
        list(events.run(data, PAGE))
    assert events.additional.condition(row, with_row(data, row, picture=str(other))) is not None
    with pytest.raises(ConditionRequestError, match="third"):
        events.additional.condition(row, with_row(data, row, ready_map=True))


def test_a_run_takes_every_row_the_curve_and_the_painted_picture(events, studio, picture, other, layer):
    tab = events.tab
    first, second = tab.controls
    data = data_of(
        events, picture=str(picture), annotator="pose", gamma=0.8, gamma_curve="0:1, 0.5:0.3", seed=4, new_seed=False
    )
    data = with_row(data, first, kind="depth", gamma=0.4, start=0.1, end=0.7)
    data = with_row(data, second, kind="canny", picture=str(other), ready_map=True)
    data |= {tab.start.editor: painted(picture, layer), tab.start.strength: 0.6}
    last = list(events.run(data, PAGE))[-1]
    recipe, inputs = studio.recipes[-1], studio.inputs[-1]
    assert [control.condition_kind for control in recipe.all_controls] == ["pose", "depth", "canny"]
    assert (recipe.gamma, recipe.gamma_curve, recipe.strength) == (0.8, "0:1, 0.5:0.3", 0.6)
    depth, canny = recipe.controls
    assert (depth.gamma, depth.control_start, depth.control_end, depth.adapter) == (0.4, 0.1, 0.7, "")
    assert (canny.annotator, canny.adapter) == ("none", "canny")
    assert len(inputs.conditions) == 3
    assert inputs.init_image.size == (256, 192)  # the shape of the picture
    assert 0.05 < np.asarray(inputs.mask).mean() / 255 < 0.1  # 900 of 128 x 96 pixels
    assert "depth 95 %" in last[tab.summary]
    assert last[tab.recipe]["adherences"]["canny"] == [0.95]


def test_without_a_start_picture_the_strength_says_nothing(events, layer):
    assert events.recipe(data_of(events, prompt="x")).strength is None
    nothing = {events.tab.start.editor: painted(None, layer)}
    assert events.recipe(data_of(events, prompt="x") | nothing).strength is None
    assert start_images(FakeAnnotators(), Painted(None, (str(layer),))) == (None, None)


def test_restore_brings_rows_curve_and_painting_back(events, studio, picture, other, layer, monkeypatch, tmp_path):
    monkeypatch.setattr(gr, "Info", lambda *_, **__: None)
    tab = events.tab
    first, second = tab.controls
    data = data_of(events, picture=str(picture), annotator="pose", gamma_curve="linear 1 to 0", seed=4, new_seed=False)
    data |= {tab.other_shape: "crop"}
    data = with_row(data, first, kind="depth", gamma=2.5, picture=str(other))
    data |= {tab.start.editor: painted(picture, layer), tab.start.strength: 0.6}
    path = list(events.run(data, PAGE))[-1][tab.files][0]

    updates = Restore(tab, studio, {}).uploaded(path, False)
    back = applied(events, updates)
    for number, component in enumerate((tab.picture, first.picture)):
        updates[component].save(tmp_path / f"{number}.png")
        back[component] = str(tmp_path / f"{number}.png")
    shown = updates[tab.start.editor]
    shown["background"].save(tmp_path / "start.png")
    shown["layers"][0].save(tmp_path / "painted.png")
    back[tab.start.editor] = painted(tmp_path / "start.png", tmp_path / "painted.png")
    assert updates[first.group]["visible"] is True
    assert updates[first.gamma]["maximum"] == 2.5
    assert updates[second.group]["visible"] is False
    assert (back[first.kind], back[first.ready_map], back[second.kind]) == ("depth", True, OFF)
    assert (back[tab.gamma_curve], back[tab.start.strength], back[tab.other_shape]) == ("linear 1 to 0", 0.6, "crop")
    assert read_png(path).crop
    again = list(events.run(back, PAGE))[-1][tab.files][0]
    assert Image.open(again).tobytes() == Image.open(path).tobytes()
    digests = ("condition_sha256", "init_sha256", "mask_sha256", "strength", "gamma_curve", "crop")
    assert [getattr(read_png(again), name) for name in digests] == [getattr(read_png(path), name) for name in digests]
    assert read_png(again).controls[0].condition_sha256 == read_png(path).controls[0].condition_sha256
    assert len(read_inputs(again).conditions) == 2


def test_painting_becomes_a_mask_and_back(layer):
    mask = np.asarray(painted_mask([layer], (128, 96)))
    assert mask.sum() == 255 * 900
    assert mask[20:50, 30:60].min() == 255
    assert painted_mask([], (128, 96)) is None
    again = layer_of(Image.fromarray(mask))
    assert np.array_equal(np.asarray(again.getchannel("A")) > 64, mask > 0)


def test_the_editors_own_value_is_understood(events, picture, layer):
    editor = events.tab.start.editor
    assert Painted.of(editor.preprocess(None)) == Painted(None)
    painted = Painted.of(editor.preprocess(payload(background=picture, layers=[layer])))
    assert Image.open(painted.background).convert("RGB").tobytes() == Image.open(picture).convert("RGB").tobytes()
    assert painted_mask(painted.layers, (128, 96)).getbbox() == (30, 20, 60, 50)
    assert Painted.of(editor.preprocess(payload())) == Painted(None)


def test_the_editor_hands_over_the_uploads_and_writes_none(events, picture, layer):
    """Two events that read one upload at the same time would otherwise meet it half written."""
    value = events.tab.start.editor.preprocess(payload(background=picture, layers=[layer]))
    assert (value["background"], value["layers"]) == (str(picture), [str(layer)])


def test_a_painting_that_is_no_picture_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "layer_0.png").write_bytes(b"no picture")
    with pytest.raises(InputError):
        painted_mask([tmp_path / "layer_0.png"], (64, 64))


def payload(background=None, layers=()):
    def file(path):
        return None if path is None else {"path": str(path), "meta": {"_type": "gradio.FileData"}}

    return EditorData(background=file(background), layers=[file(path) for path in layers], composite=None)


def test_the_curve_is_drawn_or_says_what_is_wrong():
    drawn = curve_svg("linear 1 to 0", 0.5, 0.0, 1.0)
    assert "0.5 at the first step, 0 at the last" in drawn
    assert drawn != curve_svg("linear 1 to 0", 0.5, 0.5, 1.0)
    wrong = curve_svg("<b>", 1.0)
    assert "is no gamma curve" in wrong
    assert "<b>" not in wrong


def test_generate_takes_controls_a_curve_and_a_start_picture(client, served, picture, other, tmp_path):
    mask = Image.new("L", (128, 96))
    mask.paste(255, (32, 24, 96, 72))
    mask.save(tmp_path / "mask.png")
    _, facts = client.predict(
        handle_file(picture),
        prompt="x",
        annotator="pose",
        gamma_curve="cosine 1 to 0",
        init_image=handle_file(picture),
        strength=0.5,
        mask=handle_file(tmp_path / "mask.png"),
        controls=[
            {"annotator": "depth", "gamma": 0.4, "settings": {"near": "black"}},
            {"annotator": "none", "image": handle_file(other), "settings": {"adapter": "canny"}, "control_end": 0.5},
        ],
        api_name="/generate",
    )
    recipe, inputs = served[1].recipes[-1], served[1].inputs[-1]
    assert (recipe.gamma_curve, recipe.strength) == ("cosine 1 to 0", 0.5)
    assert [control.condition_kind for control in recipe.all_controls] == ["pose", "depth", "canny"]
    assert recipe.controls[0].annotator_settings == {"near": "black"}
    assert recipe.controls[1].control_end == 0.5
    assert np.array_equal(np.asarray(inputs.conditions[2].resize((96, 96))).shape, (96, 96, 3))
    assert 0.18 < np.asarray(inputs.mask).mean() / 255 < 0.26
    assert facts["adherences"] == {"pose": [0.95], "depth": [0.95], "canny": [0.95]}
    client.predict(handle_file(picture), init_image=handle_file(picture), api_name="/generate")
    assert served[1].recipes[-1].strength == 0.75
    assert served[1].recipes[-1].controls == ()


@pytest.mark.parametrize(
    ("values", "kind", "named"),
    [
        ({"gamma_curve": "up"}, RecipeError, "up"),
        ({"strength": 0.5}, RecipeError, "strength"),
        ({"strength": 7, "init_image": True}, RecipeError, "7"),
        ({"mask": True}, InputError, "mask"),
        ({"controls": "depth"}, ConditionRequestError, "depth"),
        ({"controls": [{"annotator": "depth", "image": "/etc/passwd"}]}, ConditionRequestError, "/etc/passwd"),
        ({"controls": [{"annotator": "depth", "settings": 3}]}, ConditionRequestError, "3"),
        ({"controls": [{"annotator": "depth", "power": 3}]}, RecipeError, "power"),
        ({"controls": [{"annotator": "pose"}]}, RecipeError, "pose"),
        ({"controls": [{}]}, RecipeError, "kind"),
        ({"controls": [{"annotator": "depth", "gamma": 99}]}, RecipeError, "99"),
    ],
)
def test_bad_values_give_one_sentence(tmp_path, picture, values, kind, named):
    """Straight at the function behind the endpoint, which gets paths where a client sends files."""
    studio = FakeStudio(tmp_path / "out")
    endpoints = Endpoints(studio, stream_of(studio))
    values = {name: str(picture) if value is True else value for name, value in values.items()}
    with refused(kind, named):
        endpoints.generate(str(picture), **values)
    assert not studio.recipes


def test_a_file_on_the_server_cannot_be_named_by_a_client():
    with pytest.raises(ConditionRequestError, match="/etc/passwd"):
        SentControl.read([{"annotator": "depth", "image": {"path": "/etc/passwd"}}])
    sent = {"path": "a.png", "meta": {"_type": "gradio.FileData"}}
    assert SentControl.read([{"annotator": "depth", "image": sent}])[0].path == "a.png"
    assert SentControl.read(None) == []


def test_a_picture_of_another_program_gives_its_settings(events, studio, monkeypatch, tmp_path):
    said = []
    monkeypatch.setattr(gr, "Info", lambda text, **_: said.append(text))
    tab, path = events.tab, tmp_path / "x.png"
    for size, fits in (("192x256", True), ("1024x512", False)):
        info = PngInfo()
        info.add_text(
            "parameters",
            f"a <b>\nNegative prompt: c\nSteps: 33, Sampler: Euler a, CFG scale: 6, Seed: 9, Size: {size}, Model: m",
        )
        Image.new("RGB", (8, 8)).save(path, pnginfo=info)
        updates = Restore(tab, studio, {}).uploaded(str(path), False)
        assert tab.picture not in updates
        assert (updates[tab.prompt], updates[tab.negative_prompt], updates[tab.seed]) == ("a <b>", "c", 9)
        assert (updates[tab.sampler], updates[tab.new_seed]) == ("euler_a", False)
        assert updates[tab.steps]["value"] == 33
        assert [updates[name] for name, _ in tab.loras] == ["none"] * 3  # it was made without those of the page
        assert (tab.shape in updates) is fits
        assert "Model 'm'" in said[-1]
        assert ("1024 × 512" in said[-1]) is not fits
        asked = Restore(tab, studio, {}).asked(str(path))
        assert asked[tab.seed] == 9
