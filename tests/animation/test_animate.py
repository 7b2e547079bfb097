import threading

import numpy as np
import pytest
from animation_clips import FPS, noise_clip, pose_clip
from PIL import Image
from video_clips import make

import annotators
from controlnext.animation import read_reference, read_video_recipe
from controlnext.animation.video_files import VideoFiles
from controlnext.assets import PRESETS
from controlnext.engine.engine import Engine
from controlnext.engine.memory_savings import SAVINGS
from controlnext.engine.video_engine import VideoEngine
from controlnext.errors import ControlNeXtError, StudioError
from controlnext.models.presets import PresetError
from controlnext.progress import Cancelled
from controlnext.recipes.recipe import RecipeError
from controlnext.recipes.video_recipe import VideoRecipe
from controlnext.results.board import Board, BoardQuery
from controlnext.studio.studio import Studio
from controlnext.video import VideoError, open_clip, read_frames


def frames_of(path):
    with read_frames(open_clip(path)) as frames:
        return [frame.copy() for frame in frames]


def animate(studio, reference, clip, model="starter", options=None, **values):
    values = {"prompt": "a person", "seed": 3, "num_inference_steps": 2, "max_frames": 3, **values}
    recipe = studio.animator.resolve(model, reference, **values)
    return studio.animate(recipe, reference, clip, **(options or {}))


def left_over(studio):
    return [path.name for path in studio.gallery.output_dir.iterdir()] if studio.gallery.output_dir.exists() else []


def test_frame_by_frame_makes_a_video_with_all_that_belongs_to_it(studio, reference, dance):
    reports = []
    made = animate(
        studio, reference, dance, options={"beside": True, "poses": True, "on_progress": reports.append}, max_frames=0
    )
    clip = open_clip(made.file)
    assert (made.frames, made.fps, made.seed, made.stopped) == (6, FPS, 3, False)
    assert (clip.frames, clip.fps, clip.width, clip.height, clip.has_sound) == (6, FPS, 64, 64, True)
    assert 0 <= made.adherence <= 1
    assert read_video_recipe(made.file) == made.recipe
    assert made.recipe.reference_sha256
    assert made.recipe.clip_sha256
    assert set(made.recipe.weights) == {"base", "adapter"}
    assert np.array_equal(np.asarray(read_reference(made.file)), np.asarray(reference))
    beside = open_clip(made.beside)
    assert (beside.frames, beside.width, beside.height) == (6, 64 + 64 + 48, 64)
    assert frames_of(made.poses)[0].max() > 100
    assert made.pose_data == made.file.with_suffix(".poses.json")
    assert len(open_clip(made.pose_data).poses) == 6
    (item,) = Board(studio.gallery).page(BoardQuery()).items
    assert (item.path, item.recipe) == (made.file, made.recipe)
    assert item.facts["adherence"] == pytest.approx(made.adherence, abs=1e-4)
    assert Image.open(Board(studio.gallery).thumbnail(made.file.name)).size == (64, 64)
    drawing = [report for report in reports if report.stage.startswith("Drawing")]
    assert drawing[-1].stage == "Drawing frames 5 to 6 of 6"
    assert (drawing[-1].step, drawing[-1].total) == (6, 6)  # three batches of two frames, two steps each
    assert any(report.preview is not None for report in drawing)
    assert sorted(left_over(studio)) == sorted(
        [made.file.name, made.beside.name, made.poses.name, made.pose_data.name, ".thumbnails"]
    )
    Board(studio.gallery).trash(made.file.name)
    assert sorted(left_over(studio)) == [".thumbnails", ".trash"]


def test_the_same_recipe_gives_the_same_pixels(studio, reference, dance):
    first = animate(studio, reference, dance)
    again = studio.animate(read_video_recipe(first.file), reference, dance)
    other = animate(studio, reference, dance, seed=4)
    assert again.recipe == first.recipe
    assert not again.notes or not any("differ" in note for note in again.notes)
    one, two, three = (frames_of(made.file) for made in (first, again, other))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, three, strict=True))


def test_sound_is_left_out_on_request_and_another_reference_is_said(studio, reference, dance):
    made = animate(studio, reference, dance, max_frames=1, keep_sound=False)
    assert not open_clip(made.file).has_sound
    other = reference.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    again = studio.animate(made.recipe, other, dance)
    assert any("made with another reference" in note for note in again.notes)


def test_a_photograph_is_carried_no_larger_than_a_video_shows_it(studio, reference, dance):
    photo = reference.resize((1350, 1200))
    made = animate(studio, photo, dance, max_frames=1)
    carried = read_reference(made.file)
    assert carried.size == (1152, 1024)
    again = studio.animate(made.recipe, carried, dance)
    assert again.recipe == made.recipe  # the reference's digest, too
    assert not any("another reference" in note for note in again.notes)
    assert np.array_equal(frames_of(again.file)[0], frames_of(made.file)[0])


def test_without_a_prompt_the_reference_is_told_in_words(studio, reference, dance):
    made = animate(studio, reference, dance, prompt="", max_frames=1)
    assert made.recipe.prompt.startswith("a person with")
    assert "shirt" in made.recipe.prompt
    assert any(made.recipe.prompt in note for note in made.notes)


def test_saved_poses_drive_again_without_their_clip(studio, reference, dance):
    made = animate(studio, reference, dance, options={"poses": True}, smooth=False)
    again = animate(studio, reference, made.pose_data, options={"beside": True}, smooth=False)
    assert (again.frames, again.fps) == (made.frames, made.fps)
    assert not open_clip(again.file).has_sound
    one, two = (frames_of(result.file) for result in (made, again))
    assert np.abs(np.stack(one).astype(int) - np.stack(two)).mean() < 1.0  # fitted once more, to where they were
    assert frames_of(again.beside)[0][:, 128:].max() < 10  # where the clip is shown
    assert again.recipe.clip_sha256 not in ("", made.recipe.clip_sha256)
    cut = studio.animate(again.recipe.replace(start=1 / FPS, max_frames=1), reference, made.pose_data)
    assert cut.frames == 1


def test_saved_poses_of_a_stopped_video_end_with_it(studio, reference, dance):
    cancel = threading.Event()

    def watch(progress):
        if progress.stage == "Drawing frames 3 to 4 of 6":
            cancel.set()

    options = {"on_progress": watch, "cancel": cancel, "poses": True}
    made = animate(studio, reference, dance, options=options, max_frames=0)
    assert (made.stopped, len(open_clip(made.pose_data).poses)) == (True, made.frames)


def test_one_frame_is_a_still(studio, reference, tmp_path):
    made = animate(studio, reference, pose_clip(tmp_path / "one.mp4", 1), max_frames=0)
    assert made.frames == 1
    assert any("one frame only" in note for note in made.notes)


def test_stop_keeps_the_frames_made_so_far(studio, reference, dance):
    cancel = threading.Event()

    def watch(progress):
        if progress.stage == "Drawing frames 3 to 4 of 6":
            cancel.set()

    made = animate(studio, reference, dance, options={"on_progress": watch, "cancel": cancel}, max_frames=0)
    assert (made.stopped, made.frames, made.recipe.max_frames) == (True, 2, 2)
    assert len(frames_of(made.file)) == 2


@pytest.mark.parametrize("model", ["starter", "svd-v2"])
def test_stop_before_the_first_frame_leaves_nothing(studio, reference, dance, model):
    cancel = threading.Event()

    def watch(progress):
        if progress.stage.startswith("Drawing") and progress.step == 1:
            cancel.set()

    with pytest.raises(Cancelled):
        animate(studio, reference, dance, model, {"on_progress": watch, "cancel": cancel})
    assert left_over(studio) == []


@pytest.mark.parametrize("model", ["svd-v2", "starter-video"])
def test_stop_after_the_last_step_keeps_a_frame(studio, reference, dance, model):
    cancel, reports = threading.Event(), []

    def watch(progress):
        reports.append(progress)
        if progress.stage.startswith("Drawing") and progress.step == progress.total > 0:
            cancel.set()

    made = animate(studio, reference, dance, model, {"on_progress": watch, "cancel": cancel})
    assert (reports[-2].stage, reports[-2].counted) == ("Drawing", "step 2 of 2")  # one window: steps alone
    assert (made.stopped, made.frames) == (True, 1)
    assert len(frames_of(made.file)) == 1
    written = [report.step for report in reports if report.stage == "Writing frames"]
    assert written == [1]


def test_a_video_model_without_room_is_one_sentence(studio, reference, dance, monkeypatch):
    monkeypatch.setattr(VideoEngine, "animate", lambda *given: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(StudioError, match="not enough memory for a video of 64x64 and 3 frames; make it smaller"):
        animate(studio, reference, dance, "starter-video")
    assert left_over(studio) == []


def test_a_video_model_that_did_not_fit_begins_again_with_less(studio, reference, dance, monkeypatch):
    expected = animate(studio, reference, dance, "starter-video")
    whole, tries = VideoEngine.animate, []

    def first_too_large(self, *given):
        tries.append(1)
        frames = whole(self, *given)
        if len(tries) == 1:
            raise MemoryError
        return frames

    offload = next(saving for saving in SAVINGS if saving.name == "offload")
    monkeypatch.setattr(VideoEngine, "animate", first_too_large)
    monkeypatch.setattr(VideoEngine, "save_memory", lambda self, recipe, batch: offload)
    made = animate(studio, reference, dance, "starter-video")
    assert len(tries) == 2
    assert any(offload.says in note for note in made.notes)
    assert all(np.array_equal(a, b) for a, b in zip(frames_of(made.file), frames_of(expected.file), strict=True))


@pytest.mark.parametrize("model", ["svd-v2", "starter-video"])
def test_a_video_model_draws_in_windows(studio, reference, dance, model):
    reports = []
    values = {"window": 3, "overlap": 1, "max_frames": 0}
    first = animate(studio, reference, dance, model, {"on_progress": reports.append}, **values)
    assert (first.frames, first.fps) == (6, FPS)
    assert len(frames_of(first.file)) == 6  # where the reference leads, it is no frame of the video
    drawing = [report for report in reports if report.stage.startswith("Drawing")]
    assert drawing[-1].total == drawing[-1].step == 2 * 3  # steps times windows
    assert [f"{report.stage}, {report.counted}" for report in (drawing[0], drawing[-1])] == [
        "Drawing step 1 of 2, window 0 of 6",
        "Drawing step 2 of 2, window 6 of 6",
    ]
    previews = [report.preview for report in drawing if report.preview is not None]
    assert previews[0].size == (4 * 64, 64)
    assert [report.step for report in reports if report.stage == "Writing frames"] == [1, 2, 3, 4, 5, 6]
    again = studio.animate(first.recipe, reference, dance)
    one, two = frames_of(first.file), frames_of(again.file)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def control_frames(monkeypatch, run):
    """What a video model is given to follow, and what `run` made of it."""
    given, whole = [], VideoEngine.animate

    def looked_at(self, recipe, reference, controls, *rest):
        given.extend(np.asarray(controls[index]) for index in range(len(controls)))
        return whole(self, recipe, reference, controls, *rest)

    monkeypatch.setattr(VideoEngine, "animate", looked_at)
    made = run()
    monkeypatch.setattr(VideoEngine, "animate", whole)
    return given, made


def test_poses_are_drawn_as_the_adapter_learned_them_and_again_so(studio, reference, dance, monkeypatch):
    given, made = control_frames(monkeypatch, lambda: animate(studio, reference, dance, "svd-v2"))
    assert made.recipe.drawing == "svd"
    driving = studio.animator.read(made.recipe, reference, dance)
    data = driving.poses.data(1)
    assert np.array_equal(given[2], np.asarray(annotators.draw_pose(data, drawing="svd").image))  # after the reference
    assert not np.array_equal(given[2], driving.frame(1))  # which the page shows, in the classic drawing
    again, remade = control_frames(monkeypatch, lambda: studio.animate(read_video_recipe(made.file), reference, dance))
    assert remade.recipe == made.recipe
    assert all(np.array_equal(one, two) for one, two in zip(given, again, strict=True))


def test_a_recipe_from_before_there_were_drawings_draws_as_then(studio, reference, dance, monkeypatch):
    old = studio.animator.resolve("svd-v2", reference, num_inference_steps=2, max_frames=2).model_dump()
    old.pop("drawing")
    given, _ = control_frames(monkeypatch, lambda: studio.animate(VideoRecipe(**old), reference, dance))
    driving = studio.animator.read(VideoRecipe(**old), reference, dance)
    assert np.array_equal(given[1], driving.frame(0))


def test_an_image_model_draws_poses_as_asked_for(studio, reference, dance, monkeypatch):
    run, given = Engine.run, []

    def looked_at(self, recipe, seeds, inputs, *rest):
        given.append(np.asarray(inputs.conditions[0][0]))
        return run(self, recipe, seeds, inputs, *rest)

    monkeypatch.setattr(Engine, "run", looked_at)
    for drawing in ({}, {"drawing": "svd"}):
        animate(studio, reference, dance, max_frames=1, **drawing)
    assert given[0][..., 0].any()
    assert not np.array_equal(*given)


def test_models_that_make_videos_are_listed_with_their_own_state(studio):
    rows = {row["name"]: row for row in studio.animator.models()}
    assert next(iter(rows)) == "starter-video"
    assert {name: row["frame_by_frame"] for name, row in rows.items()} == {
        "starter-video": False,
        "svd-v2": False,
        "starter": True,
    }
    assert all(row["usable"] for row in rows.values())
    with pytest.raises(PresetError, match="makes no single pictures"):
        studio.catalogue.resolve("starter-video", "pose")


def test_the_size_is_the_models_of_the_references_shape(studio):
    tall, wide = Image.new("RGB", (300, 410)), Image.new("RGB", (500, 490))
    assert (studio.animator.resolve("starter", tall).width, studio.animator.resolve("starter", tall).height) == (
        72,
        96,
    )
    assert studio.animator.resolve("starter", wide).width == 64
    assert studio.animator.resolve("starter", tall, width=80, height=88).height == 88


@pytest.mark.parametrize("model", ["svd-v1", "svd-v2"])
def test_a_landscape_reference_gets_a_landscape_video_of_svd(tmp_path, model):
    animator = Studio(output_dir=tmp_path, presets_dir=PRESETS, device="cpu", annotators=annotators).animator
    made = [animator.resolve(model, Image.new("RGB", size)) for size in ((1920, 1080), (1600, 1200), (1080, 1920))]
    assert [(recipe.width, recipe.height) for recipe in made] == [(1024, 576), (1024, 576), (576, 1024)]
    assert animator.resolve(model, Image.new("RGB", (500, 500))).height > 576  # people stand: the portrait is larger


def bad_input(name, tmp_path, dance, reference):
    nobody = Image.new("RGB", (96, 96), (90, 120, 160))
    text = tmp_path / "text.mp4"
    text.write_text("hello")
    return {
        "nobody in the clip": (reference, noise_clip(tmp_path / "noise.mp4"), {}, "Nobody was found in this part"),
        "nobody in the reference": (nobody, dance, {}, "Nobody was found in the reference"),
        "sound only": (reference, make(tmp_path / "s.m4a", "-i", dance, "-vn", "-c", "copy"), {}, "no moving picture"),
        "no video": (reference, text, {}, "upload or export it again"),
        "no such file": (reference, tmp_path / "none.mp4", {}, "There is no file"),
        "no such person": (reference, dance, {"person": 5}, "no person 6"),
        "behind the end": (reference, dance, {"start": 50}, "choose an earlier start"),
        "too large": (reference, dance, {"width": 512}, "The width must be"),
        "no such model": (reference, dance, {"model": "nonesuch"}, "There is no model 'nonesuch'"),
        "a scheduler": (reference, dance, {"model": "svd-v2", "scheduler": "unipc"}, "a sampler of its own"),
        "no reference": (None, dance, {}, "There is no reference picture"),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "nobody in the clip",
        "nobody in the reference",
        "sound only",
        "no video",
        "no such file",
        "no such person",
        "behind the end",
        "too large",
        "no such model",
        "a scheduler",
        "no reference",
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_left(studio, reference, dance, tmp_path, name):
    picture, clip, values, said = bad_input(name, tmp_path, dance, reference)
    with pytest.raises(ControlNeXtError, match=said) as caught:
        animate(studio, picture, clip, **values)
    assert "\n" not in str(caught.value)
    assert left_over(studio) == []


def test_a_model_without_an_adapter_for_poses_is_refused(studio, presets_dir):
    path = presets_dir / "edges.yaml"
    text = (presets_dir / "starter.yaml").read_text()
    path.write_text("".join(line for line in text.splitlines(keepends=True) if "pose:" not in line))
    try:
        with pytest.raises(RecipeError, match="no adapter for 'pose'"):
            studio.animator.resolve("edges")
    finally:
        path.unlink()


def test_a_video_model_that_is_not_there_says_what_draws_meanwhile(tmp_path, reference, dance):
    for name in ("starter-video", "starter"):
        (tmp_path / f"{name}.yaml").write_text((PRESETS / f"{name}.yaml").read_text().replace("../assets", "../no"))
    studio = Studio(output_dir=tmp_path / "out", presets_dir=tmp_path, device="cpu", annotators=annotators)
    row = studio.animator.models()[0]
    assert (row["name"], row["usable"], row["state"]) == ("starter-video", False, "missing")
    with pytest.raises(ControlNeXtError, match=r"not there: .* the model starter draws"):
        studio.animate(studio.animator.resolve("starter-video"), reference, dance)


def test_the_starter_shares_its_noise_and_svd_does_not(studio):
    assert studio.animator.resolve("starter-video").shared_noise == 1.0
    assert studio.animator.resolve("starter-video", shared_noise=0.5).shared_noise == 0.5
    assert VideoRecipe().shared_noise == 0.0  # what older videos were made with


def test_a_full_disk_is_one_sentence_and_no_half_file_stays(studio, reference, dance, monkeypatch):
    write = VideoFiles.write

    def full(self, image):
        if self.frames == 2:
            raise VideoError("The disk is full.")
        write(self, image)

    monkeypatch.setattr(VideoFiles, "write", full)
    monkeypatch.setattr(
        VideoFiles, "finish", lambda *given, **options: (_ for _ in ()).throw(VideoError("Full again."))
    )
    with pytest.raises(VideoError, match=r"^The disk is full\.$"):
        animate(studio, reference, dance)
    assert left_over(studio) == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StudioError("Something broke."), r"^Something broke\."),
        (RuntimeError("a kernel\nfailed."), r"unexpected error \(RuntimeError: a kernel failed\)\."),
    ],
)
def test_what_was_made_before_an_error_is_kept_and_named(studio, reference, dance, monkeypatch, error, told):
    run, calls = Engine.run, []

    def failing(self, *given):
        calls.append(1)
        if len(calls) == 2:
            raise error
        return run(self, *given)

    monkeypatch.setattr(Engine, "run", failing)
    with pytest.raises(StudioError, match=told + r" The 2 frames made before it are saved as .*\.mp4"):
        animate(studio, reference, dance)
    (item,) = Board(studio.gallery).page(BoardQuery()).items
    assert len(frames_of(item.path)) == 2


def test_too_little_memory_makes_fewer_frames_at_once(studio, reference, dance, monkeypatch):
    run, sizes = Engine.run, []

    def small(self, recipe, seeds, *given):
        sizes.append(len(seeds))
        if len(seeds) > 1:
            raise MemoryError
        return run(self, recipe, seeds, *given)

    monkeypatch.setattr(Engine, "run", small)
    made = animate(studio, reference, dance)
    assert sizes[-3:] == [1, 1, 1]
    assert any("not enough memory" in note for note in made.notes)
    monkeypatch.setattr(Engine, "run", lambda *given: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(StudioError, match="not enough memory for a video of 64x64 and 3 frames"):
        animate(studio, reference, dance)
    studio._engine.savings.batches.clear()
