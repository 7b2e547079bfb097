"""The LoRA of few steps: the differences of a distilled UNet from its teacher, by singular values."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from controlnext.assets import STARTER
from controlnext.method.adapter import ControlNeXtAdapter
from controlnext.starter.train.few_steps import extract, split

CONV = "down_blocks.0.resnets.0.conv1.weight"


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


def test_the_teachers_own_differences_stay_with_its_adapter(tmp_path):
    torch.manual_seed(0)
    teacher = STARTER / "adapters" / "pose"
    adapter = ControlNeXtAdapter.from_pretrained(teacher)
    shapes = {name: value.shape for name, value in adapter.unet_weights.items()}
    assert CONV in shapes
    learned = {CONV: torch.randn(shapes[CONV][0], 4) @ torch.randn(4, shapes[CONV][1:].numel()) / 50}
    student = {name: value.float() for name, value in adapter.unet_weights.items()}
    student[CONV] = student[CONV] + learned[CONV].reshape(shapes[CONV])
    ControlNeXtAdapter(
        adapter.module, {name: value.half() for name, value in student.items()}, kind="delta"
    ).save_pretrained(tmp_path / "student")
    share = extract(STARTER / "base", teacher, tmp_path / "student", tmp_path / "few.safetensors", rank=8)
    found = load_file(tmp_path / "few.safetensors")
    layer = f"unet.{CONV.removesuffix('.weight')}"
    made = product(found[f"{layer}.lora_A.weight"], found[f"{layer}.lora_B.weight"], shapes[CONV])
    assert torch.allclose(made, learned[CONV].reshape(shapes[CONV]), atol=2e-3)
    assert share > 0.999
    others = [value for key, value in found.items() if "lora_B" in key and layer not in key]
    assert others
    assert max(float(value.abs().max()) for value in others) == 0
