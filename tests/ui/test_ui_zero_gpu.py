"""Runs on a borrowed GPU, with a stand-in for `spaces` that lets through what the real one lets through: pickles."""

from __future__ import annotations

import math
import pickle
import sys
import threading
from contextlib import suppress
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from controlnext.errors import ControlNeXtError
from controlnext.recipes.video_recipe import VideoRecipe
from controlnext.ui.worker import VideoOrder
from controlnext.ui.zero_gpu import (
    LOADING_SECONDS,
    PICTURE_SECONDS,
    VIDEO_SECONDS,
    BorrowError,
    borrowed_streams,
    check_length,
    video_seconds,
)


@pytest.fixture
def lent(monkeypatch) -> list[float]:
    """Seconds that GPUs were borrowed for, one for each time."""
    seconds: list[float] = []

    def borrow(*, duration):
        def decorate(task):
            def run(*arguments):
                seconds.append(duration(*arguments) if callable(duration) else duration)
                try:
                    for report in task(*pickle.loads(pickle.dumps(arguments))):
                        yield pickle.loads(pickle.dumps(report))
                except Exception as error:  # of an exception nothing but the class comes out
                    raise gr.Error(type(error).__name__) from None

            return run

        return decorate

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=borrow))
    return seconds


@pytest.fixture
def order(studio, clips) -> VideoOrder:
    reference = Image.open(clips / "red.png").convert("RGB")
    recipe = studio.animator.resolve("starter-video", reference, seed=3, max_frames=4)
    return VideoOrder(recipe, reference, str(clips / "one.mp4"))


def test_pictures_are_made_on_a_gpu_lent_for_a_fixed_time(studio, lent):
    recipe, condition = studio.catalogue.resolve("starter", "pose", prompt="a cat", seed=1), Image.new("RGB", (64, 64))
    *_, result = borrowed_streams(studio)["stream"](recipe, condition, threading.Event())
    assert len(result.files) == 1
    assert lent == [PICTURE_SECONDS]


def test_a_clip_is_read_before_a_gpu_is_lent_for_the_time_that_is_reckoned(studio, lent, order):
    stream = borrowed_streams(studio)["video_stream"](order, threading.Event())
    first = next(stream)
    assert (first.stage, lent) == ("Reading poses", [])
    *_, result = stream
    assert result.frames == 4
    assert result.file.is_file()
    assert lent == [math.ceil(video_seconds(order.recipe, 4))]
    assert LOADING_SECONDS < lent[0] < VIDEO_SECONDS


def test_a_video_that_takes_too_long_is_refused_before_a_gpu_is_lent(studio, lent, order, monkeypatch):
    monkeypatch.setattr("controlnext.ui.zero_gpu.VIDEO_SECONDS", 20.25)
    stream = borrowed_streams(studio)["video_stream"](order, threading.Event())
    with pytest.raises(BorrowError, match=r"4 frames of 192x192 in 12 .* for 20.25 s: take 3 frames at most"):
        list(stream)
    assert lent == []


def test_the_number_of_frames_that_is_advised_fits():
    recipe = VideoRecipe(width=576, height=1024, num_inference_steps=25)
    check_length(recipe, 14)
    with pytest.raises(BorrowError) as refused:
        check_length(recipe, 480)
    fitting = int(str(refused.value).split("take ")[2].split()[0])
    assert video_seconds(recipe, fitting) <= VIDEO_SECONDS < video_seconds(recipe, fitting + 1)
    more = recipe.replace(num_inference_steps=50)
    assert video_seconds(more, 14) > video_seconds(recipe, 14) > video_seconds(recipe, 7)


@pytest.mark.parametrize("kind", ["stream", "video_stream"])
def test_a_sentence_comes_out_of_the_process_whole(studio, lent, order, monkeypatch, kind):
    def fail(*arguments, **options):
        raise ControlNeXtError("The base model is not here: download it first.")

    monkeypatch.setattr(studio, "animate", fail)
    monkeypatch.setattr(studio, "generate", fail)
    given = (order,) if kind == "video_stream" else (studio.catalogue.resolve("starter", "pose", seed=1), None)
    with pytest.raises(ControlNeXtError, match="The base model is not here: download it first"):
        list(borrowed_streams(studio)[kind](*given, threading.Event()))
    assert len(lent) == 1


def test_a_stop_ends_the_work_in_the_process(studio, lent, order):
    studio.animator.frame_seconds = 0.3
    cancel = threading.Event()
    stream = borrowed_streams(studio)["video_stream"](order, cancel)
    while next(stream).stage != "Drawing":
        continue
    cancel.set()
    assert list(stream) == []
    assert studio.animator.frames < 4


def test_a_stop_while_a_clip_is_read_borrows_nothing(studio, lent, order):
    cancel = threading.Event()
    cancel.set()
    with suppress(ControlNeXtError):  # that it was stopped, if it had begun
        list(borrowed_streams(studio)["video_stream"](order, cancel))
    assert lent == []


def test_a_zero_gpu_space_borrows_for_pictures_and_for_videos(studio, lent, monkeypatch):
    from controlnext import ui
    from controlnext.cli import app

    built = {}

    def build(studio, **options):
        built.update(options)
        return SimpleNamespace(queue=lambda **_: None, launch=lambda **_: None)

    monkeypatch.setattr(app, "ON_ZERO_GPU", True)
    monkeypatch.setattr(app, "make_studio", lambda chosen: studio)
    monkeypatch.setattr(app, "warm_up", lambda studio: None)
    monkeypatch.setattr(ui, "build_ui", build)
    app.launch(app.options([]), block=False)
    assert {"stream", "video_stream"} <= {name for name, value in built.items() if value is not None}
