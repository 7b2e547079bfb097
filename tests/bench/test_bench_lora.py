"""The LoRA bench with a model that needs no weights: pictures are the renders themselves, spoilt by a LoRA."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from annotators.starter.net import SceneReading
from controlnext.bench.command import BenchError
from controlnext.bench.quality import lora as bench
from controlnext.bench.quality import scenes
from controlnext.starter.train.dataset import make_samples

LAYER = "down_blocks.0.resnets.0.conv1"


@pytest.fixture(scope="module")
def samples():
    return [make_samples(seed, 1)[0] for seed in range(2)]


@pytest.fixture
def assets(tmp_path, samples, monkeypatch):
    """A folder with two LoRAs and an adapter; `clay` keeps the pictures, `blank` paints them grey."""
    (tmp_path / "loras").mkdir()
    (tmp_path / "adapters" / "pose").mkdir(parents=True)
    torch.manual_seed(0)
    for name in ("clay", "blank"):
        down, up = torch.randn(2, 4, 3, 3), torch.randn(4, 2, 1, 1)
        tensors = {f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": up}
        save_file(tensors, tmp_path / "loras" / f"{name}.safetensors", {"weight": "0.5"})
    save_file(
        {f"{LAYER}.weight": torch.randn(4, 4, 3, 3)},
        tmp_path / "adapters" / "pose" / "unet.safetensors",
        {"kind": "delta"},
    )
    on = []
    known = {sample.picture.rgb.tobytes(): sample for sample in samples}

    def load(pipeline, wanted):
        on[:] = [(info.name, weight) for info, weight in wanted]

    def draw(pipeline, name, gamma, batch, label):
        grey = bool(on) and on[0] == ("blank", 0.5)
        return np.stack([np.full_like(s.picture.rgb, 128) if grey else s.picture.rgb for s in batch])

    def read_batch(weights, pictures):
        readings = []
        for rgb in pictures:
            truth = known.get(rgb.tobytes())
            empty = SceneReading(np.zeros(rgb.shape[:2], np.uint8), np.zeros(rgb.shape[:2], np.float32), [])
            readings.append(
                empty
                if truth is None
                else SceneReading(truth.picture.parts, truth.picture.depth, list(truth.picture.people))
            )
        return readings

    monkeypatch.setattr(bench, "load_pipeline", lambda assets, *names: None)
    monkeypatch.setattr(bench, "load_loras", load)
    monkeypatch.setattr(bench, "draw", draw)
    monkeypatch.setattr(scenes, "bundled", lambda: None)
    monkeypatch.setattr(scenes, "read_batch", read_batch)
    return tmp_path


def test_control_that_holds_and_control_that_is_lost_are_told_apart(assets, samples, tmp_path):
    results = bench.measure(assets, "pose", samples, sheets=tmp_path / "sheets")
    rows = {row["lora"]: row for row in results["rows"]}
    assert (results["without"], results["renders"]) == (1, 1)
    assert (rows["clay"]["adherence"], rows["clay"]["distance"]) == (1, 0)
    assert rows["clay"]["repainted"] == 0  # the stand-in reader knows plain renders alone
    assert rows["clay"]["repainted_distance"] > 10
    assert rows["blank"]["adherence"] == 0
    assert rows["blank"]["distance"] > 10
    assert "repainted" not in rows["blank"]
    assert rows["blank"]["weight"] == 0.5
    assert rows["blank"]["conflict"]["word"] in ("low", "some", "high")
    assert (tmp_path / "sheets" / "lora-pose.png").is_file()
    assert json.dumps(results, allow_nan=False)
    lines = bench.table(results).splitlines()
    assert lines[0] == "pose, PCK@0.1, 2 held-out scenes, gamma 1"
    assert len({line.count("|") for line in lines[2:]}) == 1
    assert lines[4].startswith("| none | – | 1.000 | 1.000 |")
    assert lines[5].startswith("| blank | 0.5 | 0.000 | – |")


def test_command_prints_the_table_and_writes_the_figures(assets, tmp_path, capsys):
    arguments = ["--scenes", "1", "--assets", str(assets), "--json", str(tmp_path / "f.json"), "--only", "clay"]
    assert bench.main(arguments) == 0
    assert "| clay | 0.5 | 1.000 |" in capsys.readouterr().out
    assert json.loads((tmp_path / "f.json").read_text())["scenes"] == 1


def test_a_lora_that_is_not_there_is_a_sentence(assets, samples):
    with pytest.raises(BenchError, match="sepia"):
        bench.measure(assets, "pose", samples, only=["sepia"])
    for file in (assets / "loras").iterdir():
        file.unlink()
    with pytest.raises(BenchError, match="any LoRA"):
        bench.measure(assets, "pose", samples)
