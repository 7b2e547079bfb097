import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_parts import RandomData, losses_of, tiny_config, tiny_method, tiny_trainer, weights_of

from controlnext.training.checkpoints import latest
from controlnext.training.config import TrainingError
from controlnext.training.data.samples import Dropping, draw, stacked
from controlnext.training.runs.run_folder import RunFolder
from controlnext.training.watch import forecast

PROGRAM = Path(__file__).with_name("train_tiny.py")
SETTINGS = {"optimizer": {"rate": 1e-3, "warm_up": 4, "schedule": "cosine", "ema": 0.9}}


def trained(folder, **changes):
    trainer = tiny_trainer(tiny_config(folder, **changes))
    trainer.run()
    return trainer


def assert_equal(one, other, tolerance=0.0):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=tolerance, msg=name)


def test_loss_falls_and_weights_move(tmp_path):
    data, method = RandomData(2), tiny_method(rates=(5e-3, 5e-3))
    before = {name: p.detach().clone() for group in method.groups() for name, p in group.parameters.items()}
    frozen = method.unet.conv_in.weight.clone()
    trainer = tiny_trainer(tiny_config(tmp_path, steps=40), data, method, dropping=None)
    asked = stacked([draw(data, index % 2, Dropping(), 0, 100 + index) for index in range(8)])
    with torch.no_grad():
        first = trainer.loss(asked).item()
    trainer.run()
    assert len(losses_of(trainer)) == 40
    with torch.no_grad():
        assert trainer.loss(asked).item() < 0.96 * first
    assert all(not torch.equal(before[name], value) for name, value in trainer.parameters.items())
    assert torch.equal(frozen, method.unet.conv_in.weight)


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_twenty_steps_equal_ten_and_ten_resumed(tmp_path, name):
    changes = {"optimizer": {**SETTINGS["optimizer"], "name": name}, "checkpoints": {"every": 100}}
    straight = trained(tmp_path / "straight", steps=20, **changes)
    trainer = tiny_trainer(tiny_config(tmp_path / "parts", steps=20, **changes))
    stop = threading.Event()
    add_event = trainer.run_folder.add_event

    def add_and_stop(event, **facts):
        add_event(event, **facts)
        if facts.get("step") == 9 and event == "step":
            stop.set()

    object.__setattr__(trainer.run_folder, "add_event", add_and_stop)
    assert trainer.run(stop).stopped
    assert trainer.step == 10
    resumed = tiny_trainer(tiny_config(tmp_path / "parts", steps=20, **changes))
    assert resumed.step == 10
    assert not resumed.run().stopped
    assert_equal(weights_of(straight), weights_of(resumed))
    assert_equal(straight.averages, resumed.averages)
    assert losses_of(straight) == losses_of(resumed)


def test_a_longer_training_warms_up_again_and_resumes_exactly(tmp_path):
    changes = {**SETTINGS, "checkpoints": {"every": 100}}
    runs = []
    for name, parts in (("straight", (10, 30)), ("parts", (10, 12, 30))):
        assert (
            trained(tmp_path / name, steps=10, **changes)
            .resume_note()
            .startswith("This training was finished after 10 steps")
        )
        for number, last in enumerate(parts[1:]):
            trainer = tiny_trainer(tiny_config(tmp_path / name, steps=30, **changes))
            text = "the learning rates, which had fallen to 15% of their peak, rise to 100% within about 4 steps, and fall"
            assert (text in trainer.resume_note()) is (number == 0)
            stop, add_event = threading.Event(), trainer.run_folder.add_event

            def add_and_stop(event, last=last, stop=stop, add_event=add_event, **facts):
                add_event(event, **facts)
                if event == "step" and facts["step"] == last - 1 < 29:
                    stop.set()

            object.__setattr__(trainer.run_folder, "add_event", add_and_stop)
            trainer.run(stop)
            assert trainer.step == last
        runs.append(trainer)
    rates = [event["rate"] / 1e-3 for event in runs[0].run_folder.events("step")]
    assert rates[9:15] == pytest.approx([0.146, 0.396, 0.646, 0.896, 1, 1], abs=1e-3)
    assert rates[-1] == pytest.approx(0.017, abs=1e-3)
    assert losses_of(runs[0]) == losses_of(runs[1])
    assert_equal(weights_of(runs[0]), weights_of(runs[1]))
    assert_equal(runs[0].averages, runs[1].averages)


def test_accumulation_equals_one_larger_batch(tmp_path):
    whole = trained(tmp_path / "whole", learning={"batch": 4})
    parts = trained(tmp_path / "parts", learning={"batch": 2, "accumulation": 2})
    # The same sums in another order: float32 rounding, grown by a few steps of Adam.
    assert losses_of(whole) == pytest.approx(losses_of(parts), abs=1e-5)
    assert_equal(weights_of(whole), weights_of(parts), tolerance=1e-4)


def test_stop_file_saves_and_ends(tmp_path):
    trainer = tiny_trainer(tiny_config(tmp_path, steps=50, checkpoints={"every": 100}))
    RunFolder(tmp_path).request_stop()
    outcome = trainer.run()
    assert outcome.stopped
    assert outcome.step == 1
    assert latest(tmp_path / "checkpoints").step == 1


def test_minutes_end_a_training(tmp_path):
    outcome = tiny_trainer(tiny_config(tmp_path, steps=100_000, minutes=0.02)).run()
    assert not outcome.stopped
    assert outcome.step < 100_000
    assert outcome.seconds == pytest.approx(1.2, abs=30)


def test_resuming_with_other_settings_is_refused(tmp_path):
    trained(tmp_path, steps=2)
    with pytest.raises(TrainingError, match=r"optimizer\.rate \(0\.001 instead of 0\.5\)"):
        tiny_trainer(tiny_config(tmp_path, optimizer={"rate": 0.5}))
    with pytest.raises(TrainingError, match="number of samples a step"):
        tiny_trainer(tiny_config(tmp_path, learning={"batch": 3}))
    tiny_trainer(tiny_config(tmp_path, steps=4, learning={"batch": 1, "accumulation": 2}))


def test_a_loss_that_is_no_number_ends_with_a_sentence(tmp_path):
    trainer = tiny_trainer(tiny_config(tmp_path))
    with torch.no_grad():
        trainer.method.module.mid_convs[1].weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"nan at step 1: .*optimizer\.rate.*no checkpoint"):
        trainer.run()
    assert latest(tmp_path / "checkpoints") is None


def test_a_loss_that_explodes_ends_with_a_sentence_and_keeps_the_checkpoint_before(tmp_path):
    """A head of zeros has a loss of about 1; at a rate of 1 its weights jump by 1 in each step."""
    method = tiny_method(pattern=r"conv_out.*", rates=(1e-3, 1e-3))
    for parameter in method.unet.conv_out.parameters():
        torch.nn.init.zeros_(parameter)
    calm = {"optimizer": {"rate": 1e-3, "warm_up": 0}, "checkpoints": {"every": 2}}
    trainer = tiny_trainer(tiny_config(tmp_path, steps=60, **calm), method=method)
    for group in trainer.optimizer.param_groups:
        group["peak"] = 1e-3 if group["name"] == "module" else 1e-6
    learn = trainer._learn

    def jump(batches):
        if trainer.step == 4:  # as a rate that is too high does
            trainer.optimizer.param_groups[1]["peak"] = 1.0
        return learn(batches)

    trainer._learn = jump
    with pytest.raises(TrainingError, match=r"from 1\.\d+ to .* at step \d+: .*rate than 0\.001.* step 4 is kept"):
        trainer.run()
    assert latest(tmp_path / "checkpoints").step == 4
    losses = losses_of(trainer)
    assert max(losses[:4]) < 2
    assert min(losses[6:]) > 2


def test_gradients_that_stay_zero_are_a_warning(tmp_path):
    said = []
    trainer = tiny_trainer(tiny_config(tmp_path, steps=25), dropping=Dropping(0.0, 1.0), log=said.append)
    trainer.run()
    (warning,) = trainer.run_folder.events("warning")
    assert warning["step"] == 9
    assert "gradients of the module" in warning["text"]
    assert warning["text"] in said
    healthy = tiny_trainer(tiny_config(tmp_path / "healthy", steps=25))
    healthy.run()
    assert healthy.run_folder.events("warning") == []


def test_time_and_steps_are_forecast_from_measured_speed(tmp_path):
    trainer = tiny_trainer(tiny_config(tmp_path, steps=30, minutes=100), log=lambda text: None)
    trainer.run()
    (event,) = trainer.run_folder.events("forecast")
    assert event["step"] == 10
    assert event["seconds_a_step"] > 0
    assert forecast(10, 100, 2.0, None) == "At 2 s a step the remaining 90 steps take about 3 minutes."
    assert "about 40 of 100 steps fit into the 1 minutes" in forecast(10, 100, 2.0, 60.0)


def test_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    trained(tmp_path, steps=6)
    newest = tmp_path / "checkpoints" / "step-00000006"
    (newest / "trained.safetensors").write_bytes(b"cut off")
    assert latest(tmp_path / "checkpoints").step == 3
    (tmp_path / "checkpoints" / "step-00000003" / "optimizer.pt").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"No checkpoint in .* can be read"):
        latest(tmp_path / "checkpoints")


def test_a_full_disk_is_one_sentence_and_keeps_the_checkpoint_before(tmp_path):
    trainer = trained(tmp_path, steps=3)
    kept = sorted((tmp_path / "checkpoints").iterdir())
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for room in (2_000, max(file.stat().st_size for file in kept[-1].glob("*.safetensors")) + 500):
        trainer.step += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(TrainingError, match="checkpoint of step"):
                trainer.save()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)
    assert sorted((tmp_path / "checkpoints").iterdir()) == kept
    assert latest(tmp_path / "checkpoints").step == 3


def test_what_a_kill_left_and_what_is_damaged_does_not_stay(tmp_path):
    changes = {"checkpoints": {"every": 2, "keep": 1}}
    trained(tmp_path, steps=4, **changes)
    folder = tmp_path / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["step-00000004"]
    (folder / "step-00000009.partial").mkdir()
    (folder / "step-00000008").mkdir()
    assert latest(folder).step == 4
    trained(tmp_path, steps=6, **changes)
    assert [path.name for path in folder.iterdir()] == ["step-00000006"]


def test_averaged_weights_come_and_go(tmp_path):
    trainer = trained(tmp_path, **SETTINGS)
    before = weights_of(trainer)
    with trainer.averaged():
        assert_equal(weights_of(trainer), trainer.averages)
        assert any(not torch.equal(before[name], value) for name, value in weights_of(trainer).items())
    assert_equal(weights_of(trainer), before)


def start(output, changes, **environment):
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(output), json.dumps(changes)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE,
    )


def test_a_kill_loses_no_more_than_the_steps_since_the_checkpoint(tmp_path):
    changes = {"steps": 40, "checkpoints": {"every": 5}}
    child = start(tmp_path / "killed", changes)
    run = RunFolder(tmp_path / "killed")
    deadline = time.monotonic() + 900
    while len(run.events("step")) < 12:
        assert child.poll() is None, child.stderr.read().decode()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = run.events("step")[-1]["step"]
    resumed = tiny_trainer(tiny_config(tmp_path / "killed", **changes))
    assert 10 <= resumed.step <= done < resumed.step + 6
    resumed.run()
    straight = trained(tmp_path / "straight", **changes)
    assert_equal(weights_of(straight), weights_of(resumed))
    assert losses_of(straight) == losses_of(resumed)


def start_two(outputs, changes):
    """Start two gloo processes as launchers do, each with its own view of the output."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    return [
        start(output, changes, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank, output in enumerate(outputs)
    ]


@pytest.mark.slow
def test_processes_that_see_other_checkpoints_do_not_begin(tmp_path):
    trained(tmp_path / "here", steps=2, learning={"batch": 4})
    children = start_two([tmp_path / "here", tmp_path / "elsewhere"], {"steps": 5, "learning": {"batch": 2}})
    for child in children:
        said = child.communicate(timeout=900)[1].decode()
        assert child.returncode != 0
        assert "see different checkpoints" in said
        assert "(steps 2, 0): let `output` be a folder that all machines share" in said


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path):
    children = start_two([tmp_path / "two"] * 2, {"steps": 5, "learning": {"batch": 2}})
    for child in children:
        assert child.wait(timeout=900) == 0, child.stderr.read().decode()[-2000:]
    one = trained(tmp_path / "one", steps=5, learning={"batch": 4})
    two = [event["loss"] for event in RunFolder(tmp_path / "two").events("step")]
    assert len(two) == 5
    assert losses_of(one) == pytest.approx(two, abs=1e-5)
    assert_equal(weights_of(one), load_file(tmp_path / "two" / "weights.safetensors"), tolerance=1e-4)
