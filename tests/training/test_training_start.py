"""Whole trainings on a tiny base model, from a configuration to an adapter in use."""

import errno
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file

from controlnext import ControlNeXtAdapter, StableDiffusionControlNeXtPipeline
from controlnext.cli.program import main
from controlnext.recipes.inputs import Inputs
from controlnext.studio.studio import Studio
from controlnext.training.base_model import start_adapter
from controlnext.training.config import TrainingError, as_config, load_config, to_yaml
from controlnext.training.runs.report import LEARNED_TOO
from controlnext.training.runs.run_folder import RunFolder
from controlnext.training.start import start_process, train

ROOT = Path(__file__).resolve().parents[2]


def configure(base, folder, output, **changes):
    values = {
        "condition": "canny",
        "base": str(base),
        "output": str(output),
        "steps": 4,
        "data": {"folder": str(folder), "width": 64, "height": 64},
        "trainable": {"subset": r".*attn2\.to_out.*"},
        "learning": {"batch": 2, "device": "cpu", "mixed_precision": "no"},
        "validation": {"every": 2, "rows": 2, "steps": 2},
        "checkpoints": {"every": 2},
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    return as_config(values)


@pytest.fixture
def quiet():
    return lambda text: None


def test_a_training_tells_what_happens_and_leaves_an_adapter_that_works(tiny_base, photos, tmp_path, quiet):
    (photos / "broken.png").write_bytes(b"x")
    config = configure(tiny_base, photos, tmp_path / "run", learning={"gamma": 0.5})
    outcome = train(config, log=quiet)
    assert (outcome.step, outcome.stopped) == (4, False)
    run = RunFolder(tmp_path / "run")
    assert [event["step"] for event in run.events("step")] == [1, 2, 3, 4]
    assert [event["name"] for event in run.events("skipped")] == ["broken.png"]
    status = run.status()
    assert (status["state"], status["step"], status["alive"]) == ("done", 4, False)
    validations = run.events("validation")
    assert [event["step"] for event in validations] == [2, 4]
    assert all(0 <= event["adherence"] <= 1 and len(event["scores"]) == 2 for event in validations)
    assert all(event["held_out_loss"] > 0 and event["loss_without_control"] > 0 for event in validations)
    for step in (2, 4):
        assert Image.open(run.validation / f"step-{step:08d}" / "1.png").size == (64, 64)
    assert load_config(run.config_file).optimizer.rate == 5e-4

    adapter = ControlNeXtAdapter.from_pretrained(run.adapter)
    assert (adapter.annotator, adapter.gamma, adapter.kind, adapter.base) == ("canny", 0.5, "delta", str(tiny_base))
    assert any(value.abs().max() > 0 for value in adapter.unet_weights.values())
    facts = json.loads((run.adapter / "config.json").read_text())
    assert (facts["steps"], facts["variant"], facts["size"]) == ("4", "starter", "64x64")
    pipeline = StableDiffusionControlNeXtPipeline.from_pretrained(tiny_base)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_controlnext(run.adapter)
    condition = Image.open(run.validation / "asked" / "0.png")
    options = {"num_inference_steps": 2, "output_type": "np"}
    images = [
        pipeline("a", control_image=condition, gamma=gamma, generator=torch.manual_seed(0), **options).images[0]
        for gamma in (None, 0.5, 0.0)
    ]
    assert np.array_equal(images[0], images[1])
    assert not np.allclose(images[0], images[2], atol=1e-3)


def test_the_adapters_folder_is_ready_for_the_hub(tiny_base, photos, tmp_path, quiet):
    train(configure(tiny_base, photos, tmp_path / "run", steps=2), log=quiet)
    folder = RunFolder(tmp_path / "run").adapter
    assert {file.name for file in folder.iterdir()} == {
        "README.md", "config.json", "controlnet.safetensors", "unet.safetensors",
    }  # fmt: skip
    card = ModelCard.load(folder / "README.md", ignore_metadata_errors=False)
    assert card.data.tags == ["controlnext", "diffusers", "canny", "starter"]
    assert (card.data.pipeline_tag, card.data.library_name) == ("text-to-image", "diffusers")
    assert "| steps | 2 |" in card.text
    assert "| edge F1 | 0." in card.text
    assert "StableDiffusionControlNeXtPipeline.from_pretrained" in card.text
    assert str(tmp_path) not in card.content  # nothing of this machine
    assert str(tiny_base) not in card.content


def test_the_page_and_the_command_line_take_the_result_as_a_model(tiny_base, photos, tmp_path, quiet):
    train(configure(tiny_base, photos, tmp_path / "run", validation={"every": 0}), log=quiet)
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "mine.yaml").write_bytes(RunFolder(tmp_path / "run").preset.read_bytes())
    studio = Studio(output_dir=tmp_path / "out", presets_dir=tmp_path / "presets", device="cpu", threads=1)
    row = studio.catalogue.models()[0]
    assert (row["name"], row["annotators"], row["state"]) == ("mine", ["canny"], "ready")
    recipe = studio.catalogue.resolve(
        "mine", "canny", prompt="a square", width=128, height=128, num_inference_steps=2, seed=1
    )
    result = studio.generate(recipe, Inputs(conditions=(Image.new("RGB", (128, 128)),)))
    assert result.files[0].is_file()


def test_the_report_needs_nothing_else(tiny_base, photos, tmp_path, quiet):
    (photos / "0.txt").write_text("<script>alert(1)</script>")
    train(configure(tiny_base, photos, tmp_path / "run", validation={"rows": 5}), log=quiet)
    text = RunFolder(tmp_path / "run").report.read_text()
    assert not re.search(r"(src|href)=[\"']?(?!data:)[^\"' >]", text)
    assert "http" not in re.sub(r"<pre>.*?</pre>", "", text, flags=re.S)
    assert "<script>alert" not in text
    assert text.count("<polyline") == 4  # adherence, two losses of the fixed rows, loss
    strips = [json.loads(strip) for strip in re.findall(r"data-steps='(.*?)'", text)]
    assert [len(strip) for strip in strips] == [2] * 5
    assert all(source.startswith("data:image/jpeg;base64,") for strip in strips for source in strip)
    assert "const steps = [2, 4]" in text


def test_fixed_rows_are_called_held_out_only_where_they_are(tiny_base, photos, tmp_path):
    for name, rows, loss, other in (
        ("many", 2, "held_out_loss", "learned_loss"), ("few", 3, "learned_loss", "held_out_loss")
    ):  # fmt: skip
        told = []
        train(configure(tiny_base, photos, tmp_path / name, steps=2, validation={"rows": rows}), log=told.append)
        run, alone = RunFolder(tmp_path / name), name == "many"
        assert run.events("asked")[0]["held_out"] is alone
        (event,) = run.events("validation")
        assert event[loss] > 0
        assert other not in event
        facts = json.loads((run.adapter / "config.json").read_text())
        assert (loss in facts, other in facts) == (True, False)
        report = run.report.read_text()
        assert ("held out, with control" in report, "also learned from, with control" in report) == (alone, not alone)
        assert (LEARNED_TOO in report, LEARNED_TOO in told) == (not alone, not alone)


def test_validating_changes_nothing_about_the_training(tiny_base, photos, tmp_path, quiet):
    shared = {"optimizer": {"ema": 0.9}}
    often = configure(tiny_base, photos, tmp_path / "often", validation={"every": 1}, **shared)
    never = configure(tiny_base, photos, tmp_path / "never", validation={"every": 0}, **shared)
    for config in (often, never):
        train(config, log=quiet)
    one, other = (
        load_file(tmp_path / name / "checkpoints/step-00000004/trained.safetensors") for name in ("often", "never")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_stopped_training_has_an_adapter_and_resumes(tiny_base, photos, tmp_path, quiet, monkeypatch):
    config = configure(tiny_base, photos, tmp_path / "run", steps=6, trainable={"save_dtype": "float32"})
    stop = threading.Event()
    stop.set()
    assert train(config, stop, quiet).stopped
    run = RunFolder(tmp_path / "run")
    assert run.status()["state"] == "stopped"
    add_event = RunFolder.add_event

    def add_and_stop(self, event, **facts):
        add_event(self, event, **facts)
        if (event, facts.get("step")) == ("step", 1):
            run.request_stop()

    monkeypatch.setattr(RunFolder, "add_event", add_and_stop)
    stopped = train(config, log=quiet)
    monkeypatch.undo()
    assert stopped.stopped
    assert stopped.step == 2
    ControlNeXtAdapter.from_pretrained(run.adapter)
    saved = load_file(run.adapter / "controlnet.safetensors")["mid_convs.1.bias"]
    trained, averages = (
        load_file(run.checkpoints / f"step-00000002/{name}.safetensors")["module.mid_convs.1.bias"]
        for name in ("trained", "averages")
    )
    assert torch.equal(saved, averages)
    assert not torch.equal(saved, trained)
    stop = threading.Event()
    assert train(config, stop, lambda text: stop.set()).step == 2  # stopped while it prepared again
    assert run.status()["step"] == 2
    outcome = train(config, log=quiet)
    assert (outcome.step, outcome.stopped) == (6, False)
    assert [event["step"] for event in run.events("step")] == [1, 2, 3, 4, 5, 6]
    assert not run.stop_requested()


def test_preparing_can_be_stopped_from_another_process(tiny_base, photos, tmp_path):
    run, told = RunFolder(tmp_path / "run"), []

    def log(text):
        told.append(text)
        run.request_stop()

    assert train(configure(tiny_base, photos, tmp_path / "run"), log=log).stopped
    assert any(text.startswith("Preparing rows") for text in told)
    assert not any(text.startswith("module") for text in told)
    assert run.status()["state"] == "stopped"


def test_too_little_memory_or_room_is_one_sentence(tiny_base, photos, tmp_path, quiet, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("controlnext.training.trainer.Trainer.loss", full)
    with pytest.raises(TrainingError, match=r"2 samples of 64x64 at once: halve learning\.batch"):
        train(configure(tiny_base, photos, tmp_path / "run"), log=quiet)

    def no_room(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("controlnext.training.trainer.Trainer.loss", no_room)
    with pytest.raises(TrainingError, match=r"no room left on the disk of .*run: free some"):
        train(configure(tiny_base, photos, tmp_path / "run"), log=quiet)


def test_an_output_that_cannot_be_written_is_one_sentence(tiny_base, photos, tmp_path, quiet, monkeypatch):
    (tmp_path / "file").write_text("x")
    for output in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(TrainingError, match=r"output .*file.* cannot be written \(.*choose another output"):
            train(configure(tiny_base, photos, output), log=quiet)
    monkeypatch.setattr(RunFolder, "set_status", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(TrainingError, match=r"run cannot be written \(full\): make room"):
        train(configure(tiny_base, photos, tmp_path / "run"), log=quiet)
    assert not RunFolder(tmp_path / "run").locked()


def test_one_training_at_a_time_in_a_folder(tiny_base, photos, tmp_path, quiet):
    claim = RunFolder(tmp_path / "run").lock()
    assert RunFolder(tmp_path / "run").locked()
    with pytest.raises(TrainingError, match="Another training is running"):
        train(configure(tiny_base, photos, tmp_path / "run"), log=quiet)
    claim.close()
    assert not RunFolder(tmp_path / "run").locked()


def test_a_failed_training_says_why(tiny_base, photos, tmp_path, quiet):
    config, told = configure(tiny_base, photos, tmp_path / "run", trainable={"subset": "nothing"}), []
    with pytest.raises(TrainingError, match="nothing"):
        train(config, log=told.append)
    assert not any(text.startswith("Preparing rows") for text in told)  # said before hours go into pictures
    status = RunFolder(tmp_path / "run").status()
    assert status["state"] == "failed"
    assert "'nothing'" in status["error"]


def test_wrong_data_are_said_before_the_base_is_loaded(photos, tmp_path, quiet):
    (photos / "metadata.jsonl").write_text("{")
    with pytest.raises(TrainingError, match=r"to learn from \(metadata\.jsonl line 1"):
        train(configure("nowhere at all", photos, tmp_path / "run"), log=quiet)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"annotator": "scribble"}, r"0\.png has no condition, and there is no annotator 'scribble'"),
        (
            {"annotator_settings": {"lo": 1}},
            r"no setting 'lo'; it has low, high.*data\.annotator_settings",
        ),
        ({"annotator_settings": {"low": "x"}}, r"low.*data\.annotator_settings"),
        ({"annotator_settings": {"backend": "sketch"}}, r"no backend 'sketch'; it has .*data\.annotator_settings"),
    ],
)
def test_wrong_annotators_are_said_before_the_base_is_loaded(photos, tmp_path, quiet, data, sentence):
    with pytest.raises(TrainingError, match=sentence):
        train(configure("nowhere at all", photos, tmp_path / "run", data=data), log=quiet)


def test_too_many_bad_lines_are_said_before_pictures_are_prepared(tiny_base, photos, tmp_path):
    lines = [*(json.dumps({"file_name": f"{number}.png"}) for number in range(10)), "{", "{"]
    (photos / "metadata.jsonl").write_text("\n".join(lines))
    (photos / "0.png").write_bytes(b"x")
    told = []
    for most, sentence in (
        (1, r"2 rows cannot be used, more than data\.max_bad_rows=1; the last is metadata\.jsonl line 12"),
        (2, r"3 rows cannot be used, more than data\.max_bad_rows=2; the last is 0\.png"),
    ):
        assert not told
        with pytest.raises(TrainingError, match=sentence):
            train(configure(tiny_base, photos, tmp_path / "run", data={"max_bad_rows": most}), log=told.append)
    assert told == ["Preparing rows 0/10"]  # the broken picture is the first, and one too many with the lines


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("nowhere at all", "There is no base model 'nowhere at all'"),
        ("sdxl", "The preset sdxl is of the family sdxl, but the training is of starter"),
    ],
)
def test_a_wrong_base_is_named(photos, tmp_path, base, sentence, quiet):
    with pytest.raises(TrainingError, match=sentence):
        train(configure(base, photos, tmp_path / "run"), log=quiet)


def test_a_training_begins_from_an_adapter_of_a_preset():
    least = ["condition=normal", "output=o", "data.folder=f"]
    assert start_adapter(load_config(None, least)) is None
    assert start_adapter(load_config(None, [*least, "trainable.start=starter/depth"])).name == "depth"
    with pytest.raises(TrainingError, match=r"no adapter 'starter/shade' to start from"):
        start_adapter(load_config(None, [*least, "trainable.start=starter/shade"]))


def test_tensorboard_gets_curves_and_pictures(tiny_base, photos, tmp_path, quiet):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(configure(tiny_base, photos, tmp_path / "run", validation={"tensorboard": True}, steps=2), log=quiet)
    board = reading.EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"tensors": 0})
    board.Reload()
    scalars = {name: [event.step for event in board.Scalars(name)] for name in board.Tags()["scalars"]}
    assert scalars["loss"] == scalars["rate"] == [1, 2]
    assert scalars["adherence"] == scalars["held_out_loss"] == [2]
    picture = board.Images("picture 1")[0]
    assert (picture.width, picture.height, picture.step) == (64, 64, 2)
    losses = [event["loss"] for event in RunFolder(tmp_path / "run").events("step")]
    assert [event.value for event in board.Scalars("loss")] == pytest.approx(losses)


def test_missing_tensorboard_is_one_sentence(tiny_base, photos, tmp_path, quiet, monkeypatch):
    config = configure(tiny_base, photos, tmp_path / "run", validation={"tensorboard": True}, steps=2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="pip install tensorboard"):
        train(config, log=quiet)


def test_a_missing_optimizer_is_one_sentence(tiny_base, photos, tmp_path, quiet, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    config = configure(tiny_base, photos, tmp_path / "run", optimizer={"name": "adamw8bit"})
    with pytest.raises(TrainingError, match="pip install bitsandbytes, or take adamw or adafactor"):
        train(config, log=quiet)


@pytest.mark.slow
def test_a_process_of_its_own_can_be_followed_and_stopped(tiny_base, photos, tmp_path):
    config = configure(tiny_base, photos, tmp_path / "run", steps=100_000, validation={"rows": 0, "every": 0})
    process, run = start_process(config), RunFolder(tmp_path / "run")
    deadline = time.monotonic() + 900
    while run.status().get("step", 0) < 3:
        assert process.poll() is None, (run.path / "log.txt").read_text()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert run.status()["alive"]
    run.request_stop()
    assert process.wait(timeout=600) == 130
    assert (run.status()["state"], run.status()["alive"]) == ("stopped", False)
    ControlNeXtAdapter.from_pretrained(run.adapter)


def test_own_conditions_of_a_new_kind_are_learned(tiny_base, scribbles, tmp_path, quiet):
    config = configure(tiny_base, scribbles, tmp_path / "run", condition="scribble", trainable={"lora_rank": 2})
    train(config, log=quiet)
    assert ControlNeXtAdapter.from_pretrained(tmp_path / "run" / "adapter").annotator == "scribble"
    assert RunFolder(tmp_path / "run").events("validation")[-1]["adherence"] is None


def test_the_command_prints_defaults_and_sentences(capsys, tmp_path, photos):
    assert main(["train", "--defaults"]) == 0
    assert "gradient_checkpointing: false" in capsys.readouterr().out
    assert main(["train"]) == 2
    assert "Give a training" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "gone.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_two_processes_train_one_adapter(tiny_base, photos, tmp_path):
    (photos / "broken.png").write_bytes(b"x")
    process = start_process(configure(tiny_base, photos, tmp_path / "run", steps=3), processes=2)
    run = RunFolder(tmp_path / "run")
    assert process.wait(timeout=900) == 0, (run.path / "log.txt").read_text()[-3000:]
    assert (run.path / "log.txt").read_text().count("Trained 3 steps") == 1
    assert [event["step"] for event in run.events("step")] == [1, 2, 3]
    assert [event["name"] for event in run.events("skipped")] == ["broken.png"]
    settings = json.loads((run.checkpoints / "step-00000003" / "state.json").read_text())["settings"]
    assert settings["number of samples a step"] == 4
    ControlNeXtAdapter.from_pretrained(run.adapter)
    assert json.loads((run.adapter / "config.json").read_text())["samples"] == "4"


@pytest.mark.slow
def test_the_command_under_accelerate_trains_one_adapter_in_two_processes(tiny_base, photos, tmp_path):
    (photos / "broken.png").write_bytes(b"x")
    config = configure(tiny_base, photos, tmp_path / "run", steps=3, validation={"every": 0, "rows": 1})
    (tmp_path / "mine.yaml").write_text(to_yaml(config))
    # As for `batch`: on a processor accelerate's own `--cpu` would start only one of them.
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m", "controlnext", "train",
        tmp_path / "mine.yaml", "learning.threads=1",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [str(part) for part in command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    run = RunFolder(tmp_path / "run")
    assert done.stdout.count("Trained 3 steps") == 1
    assert [event["step"] for event in run.events("step")] == [1, 2, 3]
    assert [event["name"] for event in run.events("skipped")] == ["broken.png"]
    assert run.status()["state"] == "done"
    assert json.loads((run.adapter / "config.json").read_text())["samples"] == "4"  # two processes of two
    ControlNeXtAdapter.from_pretrained(run.adapter)
