"""A saved video dropped back into the video tab, and the examples."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from tab_values import PAGE, refused
from test_ui_video import data_of, filled

from controlnext.recipes.areas import area_picture
from controlnext.recipes.png import RECIPE_KEY
from controlnext.recipes.recipe import RecipeError
from controlnext.recipes.video_recipe import VideoRecipe
from controlnext.ui.examples import video_examples
from controlnext.ui.image.area import INSIDE, RESTORED
from controlnext.ui.image.start_picture import OPACITY, PAINT
from controlnext.ui.video.restore import UNSHOWN
from controlnext.ui.video.tab import CHOICE, RUN
from controlnext.video import open_clip, write_video


@pytest.fixture
def saved(video, clips) -> str:
    """A video made of `one.mp4` with unusual values."""
    data = filled(
        video, clips, seed=11, new_seed=False, gamma=0.4, steps=7, start=0.2, end=0.8, limbs=True, window=9, keep_sound=False
    )  # fmt: skip
    return list(video.events.run(data, PAGE))[-1][video.tab.files]["file"]


def value_of(update):
    return update["value"] if isinstance(update, dict) else update


def test_everything_comes_back_with_character_and_clip(video, clips, saved):
    tab, updates = video.tab, video.restore.asked(saved)
    values = {
        name: value_of(updates[tab.part(name)])
        for name in ("gamma", "num_inference_steps", "start", "limbs", "window")
    }
    assert values == {"gamma": 0.4, "num_inference_steps": 7, "start": 0.2, "limbs": True, "window": 9}
    assert (updates[tab.seed], updates[tab.new_seed], updates[tab.keep_sound]) == (11, False, False)
    assert updates[tab.clip] == str(clips / "one.mp4")
    assert Image.open(updates[tab.reference]).tobytes() == Image.open(clips / "red.png").tobytes()


def test_clip_that_comes_back_leaves_the_values_as_they_are(video, clips, saved):
    tab, updates = video.tab, video.restore.asked(saved)
    data = data_of(video, clip=updates[tab.clip], restored=updates[tab.restored], start=0.2, end=0.8)
    opened = next(video.fit.open_clip(data))
    assert (opened[tab.start]["value"], opened[tab.end]["value"]) == (0.2, 0.8)
    assert tab.fps not in opened
    assert opened[tab.restored] == ""


def test_video_dropped_as_the_clip_is_put_back_and_leads_to_its_clip(video, clips, saved):
    (update,) = video.fit.open_clip(data_of(video, clip=saved))
    assert update[video.tab.clip] == str(clips / "one.mp4")
    assert update[video.tab.seed] == 11


def test_gif_that_drove_comes_back(video, clips):
    gif = str(clips / "one.gif")
    made = list(video.events.run(filled(video, clips, opened=gif, start=0.2, end=0.8), PAGE))[-1]
    updates = video.restore.asked(made[video.tab.files]["file"])
    shown, digest = updates[video.tab.clip], updates[video.tab.restored]
    assert open_clip(shown).path.suffix == ".mp4"
    opened = next(video.fit.open_clip(data_of(video, clip=shown, restored=digest, start=0.2, end=0.8)))
    assert opened[video.tab.opened] == gif
    assert (opened[video.tab.start]["value"], opened[video.tab.end]["value"]) == (0.2, 0.8)


def test_video_whose_clip_is_gone_drives_itself(video, clips, saved):
    video.restore.clips.clear()
    first, second, _ = video.fit.open_clip(data_of(video, clip=saved))
    assert value_of(first[video.tab.gamma]) == 0.4
    assert second[video.tab.opened] == saved
    assert second[video.tab.end]["value"] == pytest.approx(0.6)


def test_video_of_another_program_is_refused_by_restore_and_taken_as_a_clip(video, clips):
    with refused(RecipeError):
        video.restore.asked(str(clips / "one.mp4"))
    assert next(video.fit.open_clip(data_of(video, clip=str(clips / "one.mp4"))))[video.tab.seconds] == pytest.approx(
        1
    )


def test_model_that_is_not_here_leaves_the_chosen_one(video, saved, studio, monkeypatch):
    rows = [row for row in studio.animator.models() if row["name"] != "starter-video"]
    monkeypatch.setattr(studio.animator, "models", lambda: rows)
    assert video.tab.model not in video.restore.asked(saved)


def test_what_the_page_has_no_place_for_is_said(video, clips, studio, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(gr, "Warning", lambda text, **_: warnings.append(text))
    made = {"model": "starter-video", "gamma_curve": "linear 1 to 0", "negative_prompt": "blur", "clip_sha256": "0"}
    for name, values in (("usual", {}), ("unusual", made)):
        recipe = studio.animator.resolve(**{"model": "starter-video", "seed": 1} | values)
        frames = [np.zeros((64, 64, 3), np.uint8)]
        contents = {RECIPE_KEY: recipe.model_dump(mode="json")}
        write_video(tmp_path / f"{name}.mp4", frames, 8, contents=contents)
        video.restore.asked(str(tmp_path / f"{name}.mp4"))
    said = [text for text in warnings if "no place" in text]
    assert len(said) == 1
    assert "negative_prompt, gamma_curve;" in said[0]


def test_every_field_of_a_recipe_comes_back_or_is_named():
    kept = {"version", "model", "seed", "width", "height", "reference_sha256", "clip_sha256", "weights", "area"}
    assert VideoRecipe.model_fields.keys() == {*CHOICE, *RUN, *UNSHOWN, *kept}
    assert not {*CHOICE, *RUN} & {*UNSHOWN}


def test_examples_are_small_clips_with_characters():
    found = video_examples()
    assert len(found) >= 2
    for _, clip in found:
        assert clip.stat().st_size < 300_000
        opened = open_clip(clip)
        assert (opened.fps, 3 <= opened.seconds <= 4) == (12, True)


def test_example_sets_character_and_clip(video):
    updates = video.restore.example(SimpleNamespace(index=0))
    assert Path(updates[video.tab.clip]).suffix == ".mp4"
    assert Path(updates[video.tab.reference]).suffix == ".png"


def test_a_painted_area_drives_the_video_and_comes_back(video, clips, tmp_path):
    tab, area = video.tab, video.tab.area
    layer = Image.new("RGBA", (96, 64))
    layer.paste(Image.new("RGBA", (48, 64), f"{PAINT}{round(255 * OPACITY):02x}"), (0, 0))
    layer.save(tmp_path / "layer.png")
    painted = {"background": None, "layers": [str(tmp_path / "layer.png")], "composite": None}
    data = filled(video, clips, new_seed=False) | {area.editor: painted, area.where: INSIDE, area.soft: 0}
    list(video.fit.show(data, PAGE))
    under = video.fit.paint_on(0, None, PAGE)["background"]
    assert np.array_equal(under, video.fit.shown.get(PAGE.session_hash).overlay(0))
    made = list(video.events.run(data, PAGE))[-1]
    recipe = video.events.recipe(data)
    inside = np.asarray(area_picture(recipe.area))
    assert (inside[:, 4].min(), inside[:, -4].max()) == (255, 0)
    updates = video.restore.asked(made[tab.files]["file"])
    page = data | {part: value_of(updates[part]) for part in (area.where, area.kept, area.editor)}
    assert page[area.where] == RESTORED
    assert video.events.recipe(page).area == recipe.area
