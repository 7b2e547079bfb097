"""The video tab's handlers, called without a browser: clips are read and written for real, by a reader without a model."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from laid_out import laid_out
from PIL import Image
from tab_values import PAGE, refused

from controlnext.errors import ControlNeXtError
from controlnext.recipes.recipe import RecipeError
from controlnext.recipes.video_recipe import read_video_recipe
from controlnext.ui import build_ui, build_video
from controlnext.ui.video.parts import sure_html
from controlnext.ui.video.tab import CHOICE, RUN
from controlnext.video import open_clip
from controlnext.video.ffmpeg import VideoError
from controlnext.video.tracks import TrackError


def data_of(video, **values) -> dict:
    """Values of the tab as it opens, with some changed, by the names of its fields."""
    tab = video.tab
    parts = tab.inputs() | {tab.clip, tab.restored, tab.frame, tab.files, tab.view}
    return {part: part.value for part in parts} | {getattr(tab, name): value for name, value in values.items()}


def filled(video, clips: Path, clip: str = "one", **values) -> dict:
    """Values of the tab with a character and an opened clip."""
    path = str(clips / f"{clip}.mp4")
    given = {"reference": str(clips / "red.png"), "clip": path, "opened": path, "seconds": 1.0, "end": 1.0}
    return data_of(video, **(given | values))


def fitted(video, data: dict) -> dict:
    return list(video.fit.show(data, PAGE))[-1]


def test_every_choice_and_setting_of_a_recipe_has_its_component(video):
    for name in (*CHOICE, *RUN):
        assert video.tab.part(name) in video.tab.inputs()
    recipe = video.events.recipe(data_of(video, seed=7, new_seed=False, limbs=True, follow=True, window=10, steps=5))
    assert (recipe.seed, recipe.limbs, recipe.follow, recipe.window, recipe.num_inference_steps) == (
        7,
        True,
        True,
        10,
        5,
    )


def test_default_model_is_the_first_that_can_be_used(video):
    assert video.tab.model.value == "starter-video"
    labels = [label for label, _ in video.tab.model.choices]
    assert labels[0].startswith("SVD v2 (")
    assert labels[1:] == ["Starter video", "Starter"]


def test_opening_a_clip_sets_its_length_and_shows_it(video, clips):
    updates = list(video.fit.open_clip(data_of(video, clip=str(clips / "one.mp4"))))
    tab = video.tab
    assert updates[0][tab.opened] == str(clips / "one.mp4")
    assert updates[0][tab.end]["value"] == updates[0][tab.end]["maximum"] == pytest.approx(1.0)
    assert updates[0][tab.fps]["value"] == 0  # slower than the usual tempo: its own
    assert updates[1][tab.strip].count("<img") == 8


def test_removing_the_clip_empties_the_page(video):
    (update,) = video.fit.open_clip(data_of(video, clip=None))
    assert (update[video.tab.opened], update[video.tab.strip]) == ("", "")


@pytest.mark.parametrize("name", ["text", "sound"])
def test_clip_that_cannot_be_opened_says_one_sentence(video, clips, name):
    opening = video.fit.open_clip(data_of(video, clip=str(clips / f"{name}.mp4")))
    update = next(opening)
    assert update[video.tab.opened] == ""
    assert f"{name}.mp4" in update[video.tab.notes]
    with refused(VideoError, f"{name}.mp4"):
        next(opening)


def test_fit_shows_both_skeletons_and_what_will_be_used(video, clips):
    tab = video.tab
    reading, *_, last = video.fit.show(filled(video, clips), PAGE)
    assert "10 frames" in reading[tab.notes]
    assert max(last[tab.overlay].size) == 512
    assert last[tab.frame]["maximum"] == 9
    assert last[tab.people]["visible"] is False
    assert "in 10 of 10 frames" in last[tab.sure]
    assert "as the character stands" in last[tab.legend]
    assert "fitted to it" in last[tab.legend]


@pytest.mark.parametrize(("chosen", "put_back"), [(3, None), (0, None), (30, 9), (None, 0)])
def test_a_reading_moves_the_scrubber_only_where_it_must(video, clips, chosen, put_back):
    update = fitted(video, filled(video, clips, frame=chosen))[video.tab.frame]
    assert update.get("value") == put_back
    assert update["interactive"] is True


def test_legend_names_the_skeletons_that_are_shown(video, clips, tmp_path):
    Image.new("RGB", (96, 64), "grey").save(tmp_path / "nobody.png")
    legend = fitted(video, filled(video, clips, reference=str(tmp_path / "nobody.png"), fit=False))[video.tab.legend]
    assert "character" not in legend
    assert "where the clip has it" in legend


def test_trim_takes_a_part(video, clips):
    data = filled(video, clips, start=0.2, end=0.6)
    assert video.fit.choice(data).end == 0.6
    assert fitted(video, data)[video.tab.frame]["maximum"] == 3


def test_scrubber_shows_another_frame(video, clips):
    first = fitted(video, filled(video, clips, fit=False))[video.tab.overlay]
    later, sure = video.fit.scrub(8, PAGE)
    assert np.asarray(first).tobytes() != np.asarray(later).tobytes()
    assert "x1='85'" in sure


def test_scrubber_before_a_fit_does_nothing(video):
    assert [set(update) for update in video.fit.scrub(3, PAGE)] == [{"__type__"}, {"__type__"}]


def test_gap_is_marked_and_told(video, clips):
    update = fitted(video, filled(video, clips, clip="two", person=0))
    other = fitted(video, filled(video, clips, clip="two", person=1))
    marked = [update for update in (update, other) if "class='absent' x='70' width='30'" in update[video.tab.sure]]
    assert len(marked) == 1
    assert "not there in 3 of 10 frames" in marked[0][video.tab.notes]


def test_several_people_can_be_chosen_by_their_pictures(video, clips):
    update = fitted(video, filled(video, clips, clip="two"))
    pictures = [np.asarray(picture).astype(int) for picture, _ in update[video.tab.people]["value"]]
    assert len(pictures) == 2
    redness = [(picture[..., 0] - picture[..., 2]).sum() for picture in pictures]
    assert min(redness) < 0 < max(redness)  # one blue, one red
    assert update[video.tab.person]["visible"] is True


def test_nobody_says_so_and_clears_the_fit(video, clips):
    showing = video.fit.show(filled(video, clips, clip="nobody"), PAGE)
    updates = []
    with refused(TrackError):
        updates.extend(showing)
    assert "Nobody was found" in updates[-1][video.tab.notes]
    assert video.fit.scrub(0, PAGE)[0] == gr.skip()
    assert updates[-1][video.tab.overlay] is None


def test_change_while_a_clip_is_read_ends_that_reading_silently(video, clips, monkeypatch):
    monkeypatch.setattr("controlnext.ui.video.fit.SETTLED_SECONDS", 0)
    old = video.fit.show(filled(video, clips), PAGE)
    next(old)
    new = fitted(video, filled(video, clips, start=0.5))
    *_, last = old
    assert last == {video.tab.notes: gr.skip()}  # Gradio says it again at the end
    assert new[video.tab.frame]["maximum"] == 4


def test_change_right_after_another_leaves_the_page_alone_but_says_something(video, clips, monkeypatch):
    monkeypatch.setattr("controlnext.ui.video.fit.SETTLED_SECONDS", 60)
    with ThreadPoolExecutor() as pool:
        old = pool.submit(list, video.fit.show(filled(video, clips), PAGE))
        while not video.fit.reads.stop(PAGE.session_hash):
            time.sleep(0.01)
        # Of a handler that sent nothing Gradio makes None for every part, the scrubber and the person among them.
        assert old.result(30) == [{video.tab.notes: gr.skip()}]


@pytest.mark.parametrize(("chosen", "put_back"), [(0, None), (3, 0), (None, 0)])
def test_a_reading_changes_the_person_only_where_it_must(video, clips, chosen, put_back):
    assert fitted(video, filled(video, clips, person=chosen))[video.tab.person].get("value") == put_back


def test_fit_without_a_clip_shows_the_character(video, clips):
    (update,) = video.fit.show(data_of(video, reference=str(clips / "red.png")), PAGE)
    assert update[video.tab.overlay].width == 512


def test_reading_is_marked_where_it_is_unsure(video, clips):
    clip_reader = video.fit.studio.animator.clip_reader
    driving = clip_reader.drive(None, str(clips / "one.mp4"))
    driving.track.confidence[3:5] = 0.2
    assert "class='doubtful' x='30' width='20'" in sure_html(driving, 0)


def test_run_shows_frames_then_a_playable_video_with_its_recipe(video, clips, studio):
    tab = video.tab
    updates = list(video.events.run(filled(video, clips, seed=3, new_seed=False), PAGE))
    assert updates[0][tab.animate]["interactive"] is False
    assert any("left" in update.get(tab.progress, "") for update in updates)
    assert any(update.get(tab.preview, {}).get("value") is not None for update in updates)
    last = updates[-1]
    assert set(last[tab.files]) == {"file", "beside", "poses"}
    assert open_clip(last[tab.files]["beside"]).width > open_clip(last[tab.files]["file"]).width == 192
    assert read_video_recipe(last[tab.save_video]["value"]).seed == last[tab.seed] == 3
    assert "follows 91" in last[tab.summary]
    assert json.loads(Path(last[tab.save_recipe]["value"]).read_text())["frames"] == 10
    assert last[tab.animate] == gr.update(value="Animate", interactive=True)
    shown, save = video.events.show_view("poses", last[tab.files])
    assert shown == save["value"] == last[tab.files]["poses"]


@pytest.mark.parametrize(
    ("values", "kind", "named"),
    [
        ({"reference": None}, RecipeError, "reference"),
        ({"opened": ""}, VideoError, "clip"),
        ({"gamma": 50}, RecipeError, "50"),
        ({"overlap": 20}, RecipeError, "20"),
    ],
)
def test_run_that_cannot_be_gives_the_buttons_back_and_says_why(video, clips, values, kind, named):
    run, updates = video.events.run(filled(video, clips, **values), PAGE), []
    with refused(kind, named):
        updates.extend(run)
    assert updates[-1][video.tab.animate]["interactive"] is True
    assert updates[-1][video.tab.empty]["visible"] is True


def test_stop_ends_the_run_of_its_page(video, clips, studio):
    studio.animator.frame_seconds = 0.2
    run = video.events.run(filled(video, clips), PAGE)
    next(run)
    while studio.animator.frames == 0:
        next(run)
    video.events.stop(PAGE)
    rest = list(run)
    assert studio.animator.frames < 10
    assert "Stopped" in rest[-1][video.tab.progress]
    assert rest[-1][video.tab.animate]["interactive"] is True


def test_choosing_a_model_sets_its_defaults(video):
    updates = dict(zip(("model", "gamma", "steps", "guidance", "size", "prompt"), video.events.model_defaults("starter"), strict=False))  # fmt: skip
    assert updates["gamma"]["value"] == 0.9
    assert updates["prompt"]["visible"] is True
    assert video.events.model_defaults("starter-video")[5]["visible"] is False


@pytest.mark.parametrize(("model", "whole_body"), [("starter-video", False), ("svd-v2", True)])
def test_a_model_made_for_whole_bodies_turns_hands_and_face_on(studio, model, whole_body):
    with laid_out() as page:
        video = build_video(studio)
    wired = next(fn for fn in page.fns.values() if fn.name == "model_defaults")
    put = dict(zip(wired.outputs, video.events.model_defaults(model), strict=True))
    assert (put[video.tab.hands], put[video.tab.face]) == (whole_body, whole_body)


def test_size_follows_the_character_until_one_is_chosen(video, clips, tmp_path):
    Image.new("RGB", (60, 90)).save(tmp_path / "tall.png")
    tall = video.events.recipe(filled(video, clips, reference=str(tmp_path / "tall.png")))
    chosen = video.events.recipe(filled(video, clips, size="192x144"))
    assert (tall.width, tall.height) == (144, 192)
    assert (chosen.width, chosen.height) == (192, 144)


def test_studio_that_makes_no_videos_says_so_in_the_tab(studio, monkeypatch):
    class Without:
        def models(self):
            raise ControlNeXtError("This studio makes no videos.")

    monkeypatch.setattr(studio, "animator", Without())
    page = build_ui(studio)
    assert any("makes no videos" in str(block.value) for block in page.blocks.values() if isinstance(block, gr.HTML))
