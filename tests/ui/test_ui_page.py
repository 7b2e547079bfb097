"""The page's own handlers, called without a browser."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from laid_out import laid_out
from PIL import Image
from tab_values import PAGE, applied, data_of, refused
from ui_fakes import KINDS, FakeAnnotators, FakeStudio

from annotators.base import AnnotatorError
from controlnext.models.catalogue import Catalogue
from controlnext.recipes.kinds import READY_MADE
from controlnext.recipes.pictures import fit_condition
from controlnext.recipes.png import read_png, write_png
from controlnext.recipes.recipe import LoraUse, RecipeError
from controlnext.ui.examples import example_pictures, example_prompts
from controlnext.ui.header import chip_html
from controlnext.ui.image.loras import NO_LORA
from controlnext.ui.image.restore import Restore
from controlnext.ui.shared import picture_input
from controlnext.ui.status import address_of, api_example, status_html, with_video_states

ROOT = Path(__file__).resolve().parents[2]


def test_building_the_page_imports_no_torch_writes_no_stubs_and_starts_nothing():
    code = (
        "import sys, pathlib; sys.path.insert(0, 'tests/ui')\n"
        "from controlnext.ui import build_ui, launch_options\n"
        "from ui_fakes import FakeStudio\n"
        "build_ui(FakeStudio(pathlib.Path('unused'))); launch_options()\n"
        "print([name for name in ('torch', 'diffusers', 'transformers', 'cv2') if name in sys.modules])\n"
        "print(sys.modules['gradio.component_meta'].create_or_modify_pyi.__module__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["[]", "controlnext.quiet"], done.stderr
    assert not (ROOT / "unused").exists()


def test_page_has_private_events_beside_the_endpoints(whole_page):
    public = {fn.api_name for fn in whole_page.fns.values() if fn.api_visibility == "public"}
    assert public == {
        "annotate",
        "generate",
        "models",
        "annotators",
        "loras",
        "poses",
        "animate",
        "sweep",
        "score",
        "repair",
        "enhance",
    }


def test_every_slider_holds_its_own_value(whole_page):
    sliders = [block for block in whole_page.blocks.values() if isinstance(block, gr.Slider)]
    assert len(sliders) > 30
    assert not [one.label for one in sliders if not one.minimum <= one.value <= one.maximum]


def test_live_conditions_have_a_queue_of_their_own(whole_page):
    groups = {fn.name: fn.concurrency_id for fn in whole_page.fns.values()}
    assert groups["show_condition"] == groups["annotate"] == "live"
    assert groups["run"] == groups["generate"] == "generate"


def test_every_setting_of_every_annotator_has_its_widget(events):
    for name, settings in FakeAnnotators.SETTINGS.items():
        widgets = events.tab.panels[name].widgets
        assert set(widgets) - {"backend"} == {setting.name for setting in settings}
        assert all(widgets[setting.name].value == setting.default for setting in settings)
    assert isinstance(events.tab.panels["canny"].widgets["automatic"], gr.Checkbox)
    assert isinstance(events.tab.panels["depth"].widgets["near"], gr.Dropdown)
    assert events.tab.panels["canny"].widgets["low"].maximum == 255


def test_condition_follows_the_settings(events, picture):
    low = events.tab.panels["canny"].widgets["low"]
    data = data_of(events, picture=str(picture), annotator="canny")
    weak = next(events.show_condition(data | {low: 4}))[events.tab.condition]
    strong = next(events.show_condition(data | {low: 250}))[events.tab.condition]
    assert min(weak.size) == 256  # the model's own size
    assert weak.tobytes() != strong.tobytes()


def test_condition_without_a_picture_is_empty(events):
    assert next(events.show_condition(data_of(events)))[events.tab.condition] is None


def test_condition_that_fails_is_cleared_and_said(events, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    shown = events.show_condition(data_of(events, picture=str(tmp_path / "black.png")))
    update = next(shown)
    assert update[events.tab.condition] is None
    assert "No person was found" in update[events.tab.served]
    with refused(AnnotatorError):
        next(shown)


def test_condition_that_takes_long_says_so(events, picture, monkeypatch):
    monkeypatch.setattr("controlnext.ui.image.events.SLOW_SECONDS", 0.01)
    before = events.studio.annotators.annotate
    monkeypatch.setattr(events.studio.annotators, "annotate", lambda *a, **k: (time.sleep(0.1), before(*a, **k))[1])
    first, second = events.show_condition(data_of(events, picture=str(picture)))
    assert "Reading the picture" in first[events.tab.served]
    assert second[events.tab.condition] is not None


def test_ready_map_is_taken_pixel_by_pixel(events, picture):
    made = events.condition(data_of(events, picture=str(picture), ready_map=True))
    assert made.annotation.image.tobytes() == Image.open(picture).convert("RGB").tobytes()


def test_choosing_an_annotator_shows_its_settings_and_its_gamma(events):
    visible = dict(zip(events.tab.panels, events.choose_annotator("depth", False), strict=True))
    assert [name for name, update in visible.items() if update["visible"]] == ["depth"]
    ready = dict(zip(events.tab.panels, events.choose_annotator("depth", True), strict=True))
    assert [name for name, update in ready.items() if update["visible"]] == [READY_MADE]
    assert events.control_default("starter", "canny")["value"] == 0.8


def test_recipe_holds_what_the_page_shows(events, picture):
    tab = events.tab
    name, weight = tab.loras[1]
    data = data_of(
        events, picture=str(picture), prompt="p", negative_prompt="n", annotator="canny", gamma=0.3, steps=9, guidance=2.0,
        shape="256x192", count=3, seed=11, new_seed=False, control_start=0.1, control_end=0.8, alpha=0.5, sampler="euler",
    ) | {name: "night", weight: 0.4}  # fmt: skip
    recipe = events.recipe(data)
    assert (recipe.prompt, recipe.negative_prompt, recipe.annotator, recipe.gamma) == ("p", "n", "canny", 0.3)
    assert (recipe.num_inference_steps, recipe.guidance_scale, recipe.seed, recipe.num_images) == (9, 2.0, 11, 3)
    assert (recipe.width, recipe.height) == (256, 192)
    assert (recipe.control_start, recipe.control_end, recipe.alpha, recipe.scheduler) == (0.1, 0.8, 0.5, "euler")
    assert recipe.loras == (LoraUse(name="night", weight=0.4),)
    assert recipe.annotator_settings["low"] == 100


def test_run_shows_steps_then_saved_pictures_and_says_the_seed(events, picture):
    tab = events.tab
    updates = list(events.run(data_of(events, picture=str(picture), seed=3, new_seed=False, count=2), PAGE))
    assert updates[0][tab.generate]["interactive"] is False
    assert any("step" in update.get(tab.progress, "") for update in updates)
    assert any(update.get(tab.preview, {}).get("value") is not None for update in updates)
    last = updates[-1]
    assert [read_png(path).seed for path in last[tab.files]] == [3, 4]
    assert last[tab.recipe]["adherence"] == [0.95, 0.75]
    assert last[tab.seed] == 3
    assert "follows 95" in last[tab.summary]
    assert last[tab.generate]["interactive"] is True
    saved = json.loads(Path(last[tab.save_recipe]["value"]).read_text())
    assert saved["seeds"] == [3, 4]


def test_run_without_a_picture_draws_from_words_alone(events):
    last = list(events.run(data_of(events, prompt="words"), PAGE))[-1]
    assert last[events.tab.recipe]["adherence"] == [None]


def test_run_that_fails_gives_the_buttons_back_and_keeps_the_pictures(events):
    run = events.run(data_of(events, gamma=50), PAGE)
    next(run)
    update = next(run)
    assert update[events.tab.generate]["interactive"] is True
    assert "value" not in update[events.tab.gallery]
    assert update[events.tab.empty]["visible"] is True
    with refused(RecipeError, "gamma", 50):
        next(run)


def test_run_whose_studio_fails_says_why(events, studio, picture, monkeypatch):
    def fail(*_, **__):
        raise RecipeError("There is not enough memory.")

    monkeypatch.setattr(studio, "generate", fail)
    with refused(RecipeError):
        list(events.run(data_of(events, picture=str(picture)), PAGE))


def test_stop_ends_the_run_of_its_page(events, studio, picture):
    studio.step_seconds = 0.02
    run = events.run(data_of(events, picture=str(picture), steps=50), PAGE)
    next(run)
    next(run)
    events.stop(PAGE)
    rest = list(run)
    assert studio.steps < 15
    assert rest[-1][events.tab.generate]["interactive"] is True
    assert not studio.recipes


def test_error_texts_cannot_carry_markup_into_the_page(events):
    with pytest.raises(gr.Error) as caught:
        list(events.run(data_of(events, model="<img src=x onerror=alert(1)>"), PAGE))
    assert "<img" not in caught.value.message


@pytest.fixture
def saved(studio, picture, tmp_path) -> Path:
    recipe = studio.catalogue.resolve(
        "starter", "canny", prompt="saved", seed=9, gamma=2.5, num_inference_steps=7, width=288, height=224,
        loras=[{"name": "night", "weight": 0.6}], annotator_settings={"low": 33},
    )  # fmt: skip
    condition = fit_condition(Image.open(picture), 288, 224, "canny")
    result = studio.generate(recipe, condition)
    path = tmp_path / "saved.png"
    write_png(path, result.images[0], result.recipe, condition)
    return path


def test_restore_brings_everything_back_to_the_same_pixels(events, studio, saved, monkeypatch):
    monkeypatch.setattr(gr, "Info", lambda *_, **__: None)
    restore = Restore(events.tab, studio, {})
    updates = restore.uploaded(str(saved), False)
    tab = events.tab
    data = applied(events, updates)
    condition = saved.with_name("condition.png")
    updates[tab.picture].save(condition)
    data[tab.picture] = str(condition)
    assert data[tab.annotator] == "canny"
    assert data[tab.ready_map] is True
    assert data[tab.panels["canny"].widgets["low"]] == 33
    assert updates[tab.gamma]["maximum"] == 2.5
    assert (data[tab.loras[0][0]], data[tab.loras[0][1]], data[tab.loras[1][0]]) == ("night", 0.6, NO_LORA)

    before = read_png(saved)
    last = list(events.run(data, PAGE))[-1]
    again = read_png(last[tab.files][0])
    same = (
        "prompt",
        "seed",
        "gamma",
        "width",
        "height",
        "num_inference_steps",
        "loras",
        "condition_sha256",
        "condition_kind",
    )
    assert [getattr(again, name) for name in same] == [getattr(before, name) for name in same]
    assert Image.open(last[tab.files][0]).tobytes() == Image.open(saved).tobytes()


def test_restore_leaves_a_plain_picture_alone_and_says_so_when_asked(events, studio, picture):
    restore = Restore(events.tab, studio, {})
    assert restore.uploaded(str(picture), False) == {events.tab.pose.editor: ""}
    assert restore.uploaded(str(picture), True)[events.tab.ready_map] is False
    with refused(RecipeError):
        restore.asked(str(picture))


def test_restore_tells_what_is_not_here(events, studio, saved, monkeypatch):
    warnings = []
    monkeypatch.setattr(gr, "Info", lambda *_, **__: None)
    monkeypatch.setattr(gr, "Warning", lambda text, **_: warnings.append(text))
    monkeypatch.setattr(studio.catalogue, "models", lambda: [])
    monkeypatch.setattr(studio.catalogue, "loras", lambda model=None: [])
    Restore(events.tab, studio, {}).uploaded(str(saved), False)
    assert "'starter'" in warnings[0]
    assert "night" in warnings[1]


def test_examples_are_pictures_with_their_words(tmp_path):
    assert example_pictures(tmp_path / "none") == []
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a person\n", encoding="utf-8")
    Image.new("RGB", (8, 8)).save(tmp_path / "c.jpg")
    assert [path.name for path in example_pictures(tmp_path)] == ["a.png", "b.png", "c.jpg"]
    assert list(example_prompts(tmp_path).values()) == ["a person", "", ""]


def test_a_photograph_is_among_the_examples():
    photograph = example_pictures()[-1]
    assert photograph.suffix == ".jpg"
    assert example_prompts()[str(photograph)]


def test_chip_says_ready_loading_or_what_is_missing(studio: FakeStudio, monkeypatch):
    assert chip_html(studio)[0] is True
    studio.ready = False
    settled, html = chip_html(studio)
    assert not settled
    assert "Loading" in html
    monkeypatch.setattr(studio.catalogue, "models", lambda: [{"usable": False, "reason": "no <weights>"}])
    settled, html = chip_html(studio)
    assert settled
    assert "no &lt;weights&gt;" in html


def test_status_names_everything_and_every_reason(studio):
    html = status_html(studio.catalogue.models(), studio.annotators.status(), studio.catalogue.loras())
    assert all(name.title() in html for name in KINDS)
    assert "Its base model is not downloaded." in html
    assert "It was trained for SDXL." in html


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"referer": "http://192.168.1.5:8000/?__theme=dark"}, "http://192.168.1.5:8000"),
        ({"referer": "https://someone-studio.hf.space/"}, "https://someone-studio.hf.space"),
        ({"referer": "https://host/studio/"}, "https://host/studio"),
        ({"origin": "http://[::1]:7861"}, "http://[::1]:7861"),
        ({"referer": 'http://x"); import os; ("'}, "http://x"),
        ({"referer": "javascript:alert(1)"}, "http://127.0.0.1:7860"),
        ({}, "http://127.0.0.1:7860"),
    ],
)
def test_the_example_for_programs_names_the_address_of_the_page(headers, address):
    assert address_of(SimpleNamespace(headers=headers)) == address
    assert f'Client("{address}")' in api_example(address)


def test_video_models_have_the_state_they_have_on_the_video_tab():
    catalogue = Catalogue()
    before, shown = catalogue.models(), with_video_states(catalogue.models(), catalogue.animators())
    states = {row["name"]: row["state"] for row in shown}
    assert {row["state"] for row in before if row["name"] == "starter-video"} == {"video"}
    assert states["starter-video"] == "ready"
    assert "video" not in states.values()
    assert [row for row in before if row["state"] != "video"] == [row for row in shown if row in before]


def test_picture_input_hands_over_the_path_after_gradio_built_it_anew():
    with laid_out():
        picture = picture_input(label="Picture")
    again = type(picture)(**{**picture.constructor_args, "render": False})  # what an update or a skip leads to
    upload = SimpleNamespace(path="/somewhere/no picture at all.png")
    assert picture.preprocess(upload) == again.preprocess(upload) == upload.path
    assert again.preprocess(None) is None
    assert again.get_block_name() == "image"
