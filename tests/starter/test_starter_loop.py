import itertools

import numpy as np
import pytest
import torch
from torch import nn

from controlnext.starter.train.loop import Loop, Plan


def _loop(folder, minutes):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    return model, Loop(folder, {"model": model}, [(list(model.parameters()), 0.1)], Plan(minutes=minutes, warm_up=1))


def test_loss_falls(tmp_path):
    model, loop = _loop(tmp_path, 0.02)
    x = torch.randn(64, 3)
    losses = []

    def loss(step):
        value = (model(x) - x.sum(1, keepdim=True)).square().mean()
        losses.append(value.item())
        return value

    loop.run(loss)
    assert losses[-1] < 0.05 * losses[0]


def test_resume_restores_weights_averages_and_step(tmp_path):
    model, loop = _loop(tmp_path, 0.005)
    loop.run(lambda step: model(torch.ones(1, 3)).square().sum())
    again, resumed = _loop(tmp_path, 0.005)
    assert resumed.step == loop.step
    assert resumed.elapsed == pytest.approx(loop.elapsed)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    for a, b in zip(loop.averages, resumed.averages, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_averaged_leaves_the_trained_weights_alone(tmp_path):
    model, loop = _loop(tmp_path, 0.005)
    loop.run(lambda step: model(torch.ones(1, 3)).square().sum())
    before = [p.detach().clone() for p in model.parameters()]
    copy = loop.averaged()["model"]
    for parameter, kept, average, copied in zip(
        model.parameters(), before, loop.averages, copy.parameters(), strict=True
    ):
        torch.testing.assert_close(parameter.detach(), kept, rtol=0, atol=0)
        torch.testing.assert_close(copied.detach(), average, rtol=0, atol=0)


def test_learning_rate_falls_to_zero(tmp_path):
    _, loop = _loop(tmp_path, 1.0)
    rates = []
    for share in np.linspace(0, 1, 11):
        loop.elapsed, loop.step = share * 60, 100
        loop._set_rates()
        rates.append(loop.optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert all(a >= b for a, b in itertools.pairwise(rates))
