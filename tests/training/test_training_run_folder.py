import json
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Timer

import pytest

from controlnext.training.runs.report import curve, thinned
from controlnext.training.runs.run_folder import RunFolder, seconds_left


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def test_events_are_lines_of_json_in_order(run):
    run.add_event("step", step=1, loss=0.5)
    run.add_event("validation", step=1, note="“ü”")
    assert [event["event"] for event in run.events()] == ["step", "validation"]
    assert run.events("validation")[0]["note"] == "“ü”"
    assert len(run.events_file.read_text(encoding="utf-8").splitlines()) == 2


def test_steps_after_the_checkpoint_that_was_resumed_do_not_count(run):
    for step in (1, 2, 3, 4):
        run.add_event("step", step=step)
    run.add_event("resumed", step=2)
    run.add_event("step", step=3, loss=9)
    assert [(event["step"], event.get("loss")) for event in run.events("step")] == [(1, None), (2, None), (3, 9)]


def test_a_line_cut_off_by_a_kill_spoils_no_other(run):
    run.add_event("step", step=1)
    with run.events_file.open("a") as file:
        file.write('{"event": "step", "st')
    run.add_event("resumed", step=1)
    assert [event["event"] for event in run.events()] == ["step", "resumed"]


def test_nothing_is_read_of_a_run_that_never_began(tmp_path):
    run = RunFolder(tmp_path / "gone")
    assert (run.events(), run.status(), run.stop_requested(), run.locked()) == ([], {}, False, False)
    run.request_stop()
    assert not run.path.exists()


def test_status_is_replaced_whole_and_says_whether_a_process_is_at_it(run):
    run.set_status("training", step=3, steps=9)
    status = run.status()
    assert (status["state"], status["step"], status["pid"], status["alive"]) == ("training", 3, os.getpid(), False)
    claim = run.lock()
    assert run.status()["alive"]
    assert run.lock() is None
    claim.close()
    assert not run.status()["alive"]
    assert json.loads((run.path / "status.json").read_text())["state"] == "training"


def test_those_who_look_are_no_training_and_stand_in_the_way_of_none(run):
    fcntl = pytest.importorskip("fcntl")
    run.lock().close()
    with (run.path / "lock").open("rb") as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)  # in the middle of a look
        assert not run.locked()
        Timer(0.05, fcntl.flock, (looker, fcntl.LOCK_UN)).start()
        claim = run.lock()
        assert claim is not None
        assert run.locked()
        claim.close()


def test_looking_again_and_again_from_two_sides_sees_nobody(run):
    run.lock().close()
    with ThreadPoolExecutor(2) as pool:
        assert not any(pool.map(lambda _: run.locked(), range(2000)))


def test_steps_done_are_not_forgotten_when_it_prepares_again_or_fails(run):
    run.set_status("training", step=500, elapsed=60.0, loss=0.1)
    run.set_status("preparing", steps=900)
    run.set_status("failed", steps=900, error="The loss is nan.")
    status = run.status()
    assert (status["state"], status["step"], status["elapsed"]) == ("failed", 500, 60.0)
    assert "loss" not in status


def test_a_stop_can_be_asked_for_and_taken_back(run):
    run.request_stop()
    assert run.stop_requested()
    run.forget_stop()
    assert not run.stop_requested()


def test_time_left_follows_the_pace_and_the_budget():
    assert seconds_left(10, 110, 0, 20.0, elapsed=20.0, minutes=None) == pytest.approx(200)
    assert seconds_left(60, 110, 50, 20.0, elapsed=99.0, minutes=None) == pytest.approx(100)
    assert seconds_left(10, 110, 0, 20.0, elapsed=20.0, minutes=1.0) == pytest.approx(40)
    assert seconds_left(5, 110, 5, 0.0, elapsed=0.0, minutes=None) is None


def test_curves_are_drawn_from_numbers():
    drawn = curve("a < b", {"x": [(0, 1.0), (10, 0.5)], "none": []})
    assert drawn.count("<polyline") == 1
    assert "a &lt; b" in drawn
    assert curve("nothing", {"x": []}) == ""
    assert "nan" not in curve("flat", {"x": [(5, 2.0)]})
    assert ">0</text>" in curve("one point stands on an axis from 0", {"x": [(5, 2.0)]})
    points = [(step, float(step)) for step in range(1000)]
    assert len(thinned(points)) <= 400
    assert thinned(points)[0] == (2, 1.0)
    assert thinned(points[:7]) == points[:7]
