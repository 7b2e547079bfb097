"""`bench gpu`, run small on the CPU."""

import json
from functools import cache

import pytest
import torch

from controlnext.bench.command import BenchError
from controlnext.bench.cost import gpu, seconds
from controlnext.bench.cost.base_models import get_model
from controlnext.bench.cost.seconds import time_steps
from controlnext.device import Device


def test_every_step_is_measured_and_the_bar_decides_the_status(capsys, monkeypatch):
    arguments = ["--device", "cpu", "--family", "starter", "--size", "64", "--rounds", "1", "--json"]
    measured = cache(lambda: time_steps(get_model("starter"), Device("cpu", torch.float32), rounds=1, size=64))
    monkeypatch.setattr(seconds, "time_steps", lambda *model_and_device, **how: measured())
    for most, status in ((1000.0, 0), (0.0, 1)):
        monkeypatch.setattr(gpu, "MOST", most)
        assert gpu.main(arguments) == status
        found = json.loads(capsys.readouterr().out)["starter"]
        assert found["met"] is not bool(status)
        names = [row["name"] for row in found["steps"]]
        assert names[:4] == ["base", "first", "further", "again"]
        assert {"controlnet", "t2i first"} & set(names)
        assert all(row["seconds"] > 0 for row in found["steps"])


def test_the_families_are_those_of_real_models_and_no_gpu_is_a_sentence(monkeypatch):
    assert gpu.REAL == ("sd15", "sdxl", "svd")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(BenchError, match="no GPU"):
        gpu.main([])
