"""The trainings of an app: one runs at a time; found again, stopped, resumed, followed."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from train_fakes import FakeLaunch

from controlnext.training.config import TrainingError, as_config, load_config
from controlnext.training.runs.event_reader import EventReader
from controlnext.training.runs.run_folder import RunFolder
from controlnext.training.runs.trainings import ASKED, Trainings

ROOT = Path(__file__).resolve().parents[2]


def configure(name="one", **values):
    return as_config({"condition": "canny", "output": name, "steps": 30, "data": {"folder": "photos"}, **values})


@pytest.fixture
def launch():
    return FakeLaunch()


@pytest.fixture
def trainings(tmp_path, launch):
    return Trainings(tmp_path / "training", launch=launch, processes=1)


def wait_for(trainings, name, *states, seconds=60):
    until = time.monotonic() + seconds
    while (standing := trainings.status_of(name)).state not in states or (standing.alive and "training" not in states):
        assert time.monotonic() < until, standing
        time.sleep(0.01)
    return standing


def test_a_training_is_started_followed_and_found_by_another_app(trainings, launch, tmp_path):
    launch.step_seconds = 0.02
    assert trainings.start(configure(), lambda path: (path / "made").touch()) == "one"
    assert trainings.run("one").path == tmp_path / "training" / "one"
    assert (tmp_path / "training" / "one" / "made").exists()
    assert trainings.running() == "one"
    wait_for(trainings, "one", "training")
    other = Trainings(tmp_path / "training", launch=launch)
    assert (other.names(), other.running()) == (["one"], "one")
    with pytest.raises(TrainingError, match="The training one is running"):
        other.start(configure("two"))
    with pytest.raises(TrainingError, match="one is running"):
        trainings.resume("one")
    assert not (tmp_path / "training" / "two").exists()
    assert wait_for(trainings, "one", "done").step == 30
    assert trainings.running() is None
    follow = trainings.follow("one")
    follow.look()
    assert [step for step, _ in follow.losses] == list(range(1, 31))


def test_stop_and_resume_go_on_where_it_was(trainings, launch):
    launch.step_seconds = 0.02
    trainings.start(configure())
    wait_for(trainings, "one", "training")
    trainings.stop("one")
    stopped = wait_for(trainings, "one", "stopped")
    assert 0 < stopped.step < 30
    launch.step_seconds = 0.0
    trainings.resume("one")
    assert wait_for(trainings, "one", "done").step == 30
    follow = EventReader(trainings.run("one"))
    follow.look()
    assert [step for step, _ in follow.losses] == list(range(1, 31))
    assert launch.configs[1] == launch.configs[0]


def test_stop_before_it_begins_ends_it_at_once(trainings, launch):
    launch.starting_seconds = 30
    trainings.start(configure())
    assert trainings.status_of("one").state == "starting"
    trainings.stop("one")
    launch.processes[0].wait()
    standing = trainings.status_of("one")
    assert (standing.state, standing.alive, standing.error) == ("stopped", False, "")


def test_closing_the_app_asks_its_training_to_save(trainings, launch):
    launch.step_seconds = 0.02
    trainings.start(configure())
    wait_for(trainings, "one", "training")
    trainings.close()
    assert wait_for(trainings, "one", "stopped").step < 30
    assert trainings.run("one").preset.is_file()
    trainings.close()  # nothing is at work: nothing is asked for
    assert not trainings.run("one").stop_requested()


def test_an_app_that_ends_in_order_asks_its_training_to_save(tmp_path):
    code = (
        "import os, signal, sys, time; sys.path[:0] = ['tests', '.']\n"
        "from controlnext.cli import app; from train_fakes import FakeLaunch; from controlnext.training.config import as_config\n"
        "from controlnext.training.runs.trainings import Trainings\n"
        f"trainings = Trainings({str(tmp_path)!r}, launch=FakeLaunch(step_seconds=0.05), processes=1)\n"
        "app.launch = lambda *_: (trainings.start(as_config({'condition': 'canny', 'output': 'one', 'data': {'folder': 'x'}})),\n"
        "    [time.sleep(0.05) for _ in iter(lambda: trainings.status_of('one').state == 'training', True)],\n"
        "    os.kill(os.getpid(), signal.SIGTERM), time.sleep(60))\n"
        "sys.exit(app.run(app.options([])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 143, done.stderr
    run = RunFolder(tmp_path / "one")
    assert run.stop_requested() or run.status()["state"] == "stopped"


def test_one_that_is_done_goes_on_for_the_minutes_given(trainings, launch):
    trainings.start(configure(minutes=20))
    wait_for(trainings, "one", "done")
    trainings.resume("one", 5)
    config = launch.configs[-1][0]
    assert config.minutes == pytest.approx(5 + 0.3 / 60)
    assert config.steps == 60
    assert load_config(trainings.run("one").path / ASKED).minutes == config.minutes
    wait_for(trainings, "one", "done")
    before = trainings.status_of("one").facts["elapsed"] / 60
    trainings.resume("one")  # as long as at first, and not as long as all so far
    config = launch.configs[-1][0]
    assert (config.minutes - before, config.steps) == (pytest.approx(20), 90)


@pytest.mark.parametrize(
    ("fault", "state", "says"),
    [
        ({"die_at": 3}, "killed", "status -9.*Killed"),
        ({"error": "The loss is nan."}, "failed", "The loss is nan"),
        ({"crash": True}, "failed", "with status 1.*ImportError: no torch"),
    ],
)
def test_how_it_broke_off_is_said_and_it_can_be_resumed(trainings, launch, fault, state, says):
    for name, value in fault.items():
        setattr(launch, name, value)
    trainings.start(configure())
    launch.processes[0].wait()
    standing = trainings.status_of("one")
    assert (standing.state, standing.alive) == (state, False)
    assert re.search(says, standing.error)
    launch.die_at, launch.error, launch.crash = None, "", False
    trainings.resume("one")
    assert wait_for(trainings, "one", "done").step == 30


def test_what_cannot_be_started_leaves_nothing_behind(trainings, launch, tmp_path):
    def full(path):
        raise OSError(28, "No space left on device")

    with pytest.raises(TrainingError, match="no room left on the disk"):
        trainings.start(configure(), full)
    assert trainings.names() == []
    assert not (tmp_path / "training" / "one").exists()
    for wrong in ("../one", "a/b", "", "x" * 61):
        with pytest.raises(TrainingError, match="named by letters"):
            trainings.run(wrong)
    trainings.start(configure())
    wait_for(trainings, "one", "done")
    with pytest.raises(TrainingError, match="There is a training named one already"):
        trainings.start(configure())
    assert trainings.names() == ["one"]
    assert trainings.free_name("one") == "one-2"
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot be written"):
        Trainings(tmp_path / "file", launch=launch, processes=1).start(configure())


def test_the_newest_is_named_first_and_other_folders_are_not(trainings, tmp_path):
    for number, name in enumerate(("a", "b", "c")):
        (trainings.folder / name).mkdir(parents=True)
        (trainings.folder / name / ASKED).touch()
        os.utime(trainings.folder / name / ASKED, (number, number))
    (trainings.folder / "other").mkdir()
    assert trainings.names() == ["c", "b", "a"]
    assert trainings.status_of("b").state == "new"


@pytest.mark.parametrize(("cores", "batch", "split"), [(2, 16, (8, 2)), (2, 5, (5, 1)), (1, 16, (16, 1))])
def test_the_starter_is_shared_by_two_processes_of_a_processor(tmp_path, launch, monkeypatch, cores, batch, split):
    monkeypatch.setattr("controlnext.training.runs.trainings._cores", lambda: cores)
    trainings = Trainings(tmp_path / "training", device="cpu", launch=launch)
    trainings.start(configure(learning={"batch": batch}))
    config, processes = launch.configs[0]
    assert (config.learning.batch, processes) == split
    assert config.learning.device == "cpu"
    wait_for(trainings, "one", "done")
    trainings.resume("one")
    assert launch.configs[1][1] == processes


def test_follow_reads_each_event_once_and_forgets_what_was_taken_back(tmp_path):
    run = RunFolder(tmp_path)
    follow = EventReader(run)
    assert follow.look() == 0
    for step in range(1, 6):
        run.add_event("step", step=step, loss=1.0)
    run.add_event("validation", step=5, adherence=0.5)
    version = follow.look()
    assert (len(follow.losses), len(follow.validations)) == (5, 1)
    assert follow.look() == version
    with run.events_file.open("a") as file:
        file.write('{"event": "step", "st')  # half a line
    assert follow.look() == version
    with run.events_file.open("a") as file:
        file.write('ep": 6, "loss": 0.5}\nno json\n')
    assert follow.look() > version
    assert follow.losses[-1] == (6, 0.5)
    run.add_event("resumed", step=3)
    follow.look()
    assert [step for step, _ in follow.losses] == [1, 2, 3]
    assert follow.validations == []
    run.events_file.write_text(json.dumps({"event": "step", "step": 1, "loss": 2.0}) + "\n")
    follow.look()
    assert follow.losses == [(1, 2.0)]
