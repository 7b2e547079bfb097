"""The worker thread: progress merged, results last, errors unchanged, and a stop that stops."""

from __future__ import annotations

import threading
import time

import pytest
from PIL import Image
from ui_fakes import Cancelled, FakeStudio

from controlnext.recipes.recipe import RecipeError
from controlnext.ui.worker import Runs, Work, run_in_thread


def test_run_yields_progress_and_the_result_last(studio):
    reports = list(run_in_thread(studio, studio.catalogue.resolve(), None, threading.Event()))
    assert len(reports[-1].images) == 1
    steps = [report.step for report in reports[:-1]]
    assert steps == sorted(steps)
    assert steps[-1] == 20


def test_run_merges_what_the_reader_is_too_slow_for_and_keeps_the_newest_preview(studio):
    reports = []
    for report in run_in_thread(studio, studio.catalogue.resolve(), None, threading.Event()):
        reports.append(report)
        time.sleep(0.05)
    assert len(reports) < 20
    assert all(report.preview is not None for report in reports[:-1])


def test_run_raises_what_the_studio_raised(studio, monkeypatch):
    def fail(*_, **__):
        raise RecipeError("no")

    monkeypatch.setattr(studio, "generate", fail)
    cancel = threading.Event()
    with pytest.raises(RecipeError, match="no"):
        list(run_in_thread(studio, studio.catalogue.resolve(), None, cancel))
    assert not cancel.is_set()  # by which the page tells an error from a stop


def test_run_stops_after_a_step_when_cancelled(studio):
    studio.step_seconds = 0.02
    cancel = threading.Event()
    reports = run_in_thread(studio, studio.catalogue.resolve(num_inference_steps=100), None, cancel)
    next(reports)
    cancel.set()
    with pytest.raises(Cancelled):
        list(reports)
    assert studio.steps < 20


def test_run_stops_when_the_reader_goes_away(studio):
    studio.step_seconds = 0.02
    reports = run_in_thread(studio, studio.catalogue.resolve(num_inference_steps=100), None, threading.Event())
    next(reports)
    reports.close()
    time.sleep(0.1)
    assert studio.steps < 20
    assert studio.lock.acquire(timeout=1)


def test_run_that_waits_for_another_one_can_be_stopped_at_once(studio):
    cancel = threading.Event()
    with studio.lock:
        cancel.set()
        assert list(run_in_thread(studio, studio.catalogue.resolve(), None, cancel)) == []


def test_runs_stop_only_their_own_page():
    runs = Runs()
    one, two = runs.start("one"), runs.start("two")
    assert runs.stop("one")
    assert one.is_set()
    assert not two.is_set()
    runs.finish("one", one)
    assert not runs.stop("one")


def test_runs_a_second_run_of_a_page_stops_the_first_and_outlives_its_end():
    runs = Runs()
    first = runs.start("page")
    second = runs.start("page")
    assert first.is_set()
    runs.finish("page", first)
    assert runs.stop("page")
    assert second.is_set()


def test_fake_studio_is_the_real_interface(studio: FakeStudio):
    result = studio.generate(studio.catalogue.resolve(num_images=2, seed=3), Image.new("RGB", (64, 64)))
    assert result.seeds == [3, 4]
    assert len(result.files) == 2


def test_the_end_waits_for_what_makes_something_and_not_for_a_model_that_loads():
    work, go_on, made = Work(), threading.Event(), []
    asked = threading.Event()
    work.start(go_on.wait, threading.Event(), "a model that loads", awaited=False)
    work.start(lambda: made.append(asked.wait(60)), asked)
    assert not work.end(60)
    assert made == [True]
    go_on.set()
    while any(thread.name == "a model that loads" for thread in threading.enumerate()):
        time.sleep(0.01)
    assert work.end(0)
