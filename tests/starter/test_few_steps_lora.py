"""The LoRA of few steps: a difference of the UNet's weights under every adapter, learned from runs of the guided starter."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from controlnext.assets import STARTER
from controlnext.loras.file import inspect_lora
from controlnext.starter.train import few_steps
from controlnext.starter.train.few_steps import PLAIN, Student, read_lora, split, train, write_lora
from controlnext.starter.train.loop import Plan
from controlnext.starter.world.conditions import CONDITIONS

CONV, LINEAR = "down_blocks.0.resnets.0.conv1.weight", "time_embedding.linear_1.weight"


def product(down: torch.Tensor, up: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return (up.flatten(1).float() @ down.flatten(1).float()).reshape(shape)


@pytest.mark.parametrize("shape", [(12, 7), (6, 5, 3, 3)])
def test_a_split_has_the_error_of_the_singular_values_it_leaves_out(shape):
    torch.manual_seed(0)
    weight = torch.randn(shape)
    values = torch.linalg.svdvals(weight.flatten(1))
    for rank in (2, len(values), 99):
        down, up = split(weight, rank)
        error = (product(down, up, weight.shape) - weight).square().sum()
        assert error == pytest.approx(float(values[rank:].square().sum()), abs=1e-4)


def test_a_written_lora_is_read_back_and_can_be_loaded_as_one(tmp_path):
    torch.manual_seed(0)
    shapes = {CONV: torch.Size((8, 6, 3, 3)), LINEAR: torch.Size((16, 8))}
    learned = {name: torch.randn(shape) / 10 for name, shape in shapes.items()}
    assert write_lora(learned, tmp_path / "all.safetensors", rank=99) == pytest.approx(1, abs=1e-3)
    for name, found in read_lora(tmp_path / "all.safetensors", shapes).items():
        assert torch.allclose(found, learned[name], atol=2e-3)
    assert write_lora(learned, tmp_path / "some.safetensors", rank=2) < 0.9
    assert inspect_lora(tmp_path / "some.safetensors").rank == 2


def test_every_adapter_predicts_with_its_own_weights_moved_by_the_difference():
    student = Student(STARTER, None)
    latents, times = torch.randn(1, 4, 32, 32), torch.full((1,), 600)
    states = {"encoder_hidden_states": student.states(["a person in a red shirt"])}
    given = states, torch.full((1, 3, 256, 256), 0.3), torch.ones(1)
    found = {}
    for kind in (PLAIN, *CONDITIONS):
        with torch.no_grad():
            found[kind] = student.under(kind).predict(latents, times, *given)
            assert torch.equal(student.under(kind, student.difference).predict(latents, times, *given), found[kind])
    assert all(not torch.equal(found[PLAIN], found[name]) for name in CONDITIONS)
    student.under("pose", student.difference).predict(latents, times, *given).square().mean().backward()
    assert all(moved.grad is not None for moved in student.difference)


@pytest.mark.slow
def test_training_makes_runs_once_and_writes_a_lora(tmp_path, monkeypatch):
    monkeypatch.setattr(few_steps, "CHUNK", 2)
    monkeypatch.setattr(few_steps, "TEACHER_STEPS", few_steps.STEPS)
    train(tmp_path, Plan(minutes=0.02, warm_up=1), count=5)
    made = sorted((tmp_path / "teacher").glob("*.safetensors"))
    assert [path.name for path in made] == [
        f"{kind}-00{index}.safetensors" for kind in sorted((PLAIN, *CONDITIONS)) for index in range(2)
    ]
    assert load_file(made[0])["run"].shape == (2, few_steps.STEPS + 1, 4, 32, 32)
    times = [path.stat().st_mtime_ns for path in made]
    train(tmp_path, Plan(minutes=0.04, warm_up=1), count=5)
    assert [path.stat().st_mtime_ns for path in made] == times
    lora = load_file(tmp_path / "few-steps.safetensors")
    assert max(float(value.abs().max()) for key, value in lora.items() if "lora_B" in key) > 0
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
