import sys
from types import SimpleNamespace

import pytest
import torch
from transformers.optimization import Adafactor

from controlnext.training.config import OptimizerConfig
from controlnext.training.methods import Group
from controlnext.training.optimizers import make_optimizer, rate_factor


def groups():
    return [Group(name, {name: torch.nn.Parameter(torch.ones(3))}, rate) for name, rate in (("m", 1e-4), ("s", 1e-5))]


def config(**values):
    return OptimizerConfig(**{"name": "adamw", "warm_up": 0, "schedule": "constant", **values})


class AdamW8bit(torch.optim.AdamW):
    """Takes what bitsandbytes' takes of it."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adafactor", Adafactor), ("adamw8bit", AdamW8bit)]
)
def test_each_optimizer_learns_each_group_at_its_own_rate(name, kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", SimpleNamespace(AdamW8bit=AdamW8bit))
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace())
    made = make_optimizer(groups(), config(name=name, weight_decay=0.02, betas=(0.8, 0.9), eps=1e-6))
    assert type(made) is kind
    assert [(row["name"], row["lr"], row["peak"]) for row in made.param_groups] == [
        ("m", 1e-4, 1e-4),
        ("s", 1e-5, 1e-5),
    ]
    first = made.param_groups[0]
    assert first["weight_decay"] == 0.02
    if name == "adafactor":
        assert not any(first[name] for name in ("relative_step", "scale_parameter", "warmup_init"))
    else:
        assert (first["betas"], first["eps"]) == ((0.8, 0.9), 1e-6)
    for row in made.param_groups:
        row["params"][0].grad = torch.ones(3)
    made.step()
    moved = [1 - row["params"][0].mean().item() for row in made.param_groups]
    assert moved[0] == pytest.approx(10 * moved[1], rel=0.02)


def test_rates_rise_in_the_warm_up_and_fall_at_the_end_of_a_cosine():
    warm = config(warm_up=4)
    assert [rate_factor(warm, step, 0.0) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert rate_factor(warm, 100, 1.0) == 1
    cosine = config(schedule="cosine", hold=0.6)
    shares = [rate_factor(cosine, 0, share) for share in (0.0, 0.6, 0.8, 1.0)]
    assert shares == pytest.approx([1, 1, 0.5, 0])


def test_fallen_rates_rise_again_no_faster_than_in_the_warm_up():
    row = config(schedule="cosine", hold=0.6, warm_up=4)
    assert [rate_factor(row, 100, 0.5, before) for before in (0.0, 0.5, 0.9)] == pytest.approx(
        [0.25, 0.75, 1], abs=1e-6
    )
    assert rate_factor(row, 100, 0.8, 0.6) == pytest.approx(0.5)
    assert rate_factor(config(schedule="cosine", hold=0.6), 100, 0.5, 0.0) == 1
    before = 1.0
    for step in range(6):  # the first warm-up, to the last bit
        assert rate_factor(row, step, 0.0, before) == min(1, (step + 1) / 4)
        before = 1e-4 * rate_factor(row, step, 0.0, before) / 1e-4
