"""Masks of a control: nothing changes where they are black, and a white one is none."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import make_case, sd_components

from controlnext import VARIANTS, ControlNeXtAdapter, StableDiffusionControlNeXtPipeline
from controlnext.method.areas import AreaError, as_mask, masked
from controlnext.method.cross_norm import add_control
from controlnext.method.injection import attach
from controlnext.method.variants import get_variant


@pytest.mark.parametrize("variant", [name for name in VARIANTS if VARIANTS[name].tokens is None])
def test_a_white_mask_is_none_and_a_black_one_is_no_control(variant):
    case = make_case(variant)
    bare = case.run()
    with attach(case.unet, case.module, variant) as injection:
        injection.set(case.condition, 0.8)
        controlled = case.run()
        injection.set(case.condition, 0.8, mask=torch.ones(1, 1, 7, 5))
        assert torch.equal(case.run(), controlled)
        injection.set(case.condition, 0.8, mask=torch.zeros(1, 1, 7, 5))
        assert torch.equal(case.run(), bare)
        injection.set(case.condition, 0.8)
        assert torch.equal(case.run(), controlled)


@pytest.mark.parametrize("variant", ["sdxl", "sd15-train", "svd-v2"])
def test_inside_the_control_adds_what_it_adds_without_a_mask(variant):
    row = get_variant(variant)
    torch.manual_seed(0)
    hidden, control = torch.randn(2, 8, 16, 16), torch.randn(2, 8, 32, 32)
    strength = torch.tensor([0.8, 0.3]).view(-1, 1, 1, 1)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :32] = 1
    whole = add_control(hidden, control, strength, row)
    half = add_control(hidden, control, masked(strength, mask, (16, 16), 2), row)
    assert torch.equal(half[..., :8], whole[..., :8])
    assert torch.equal(half[..., 8:], hidden[..., 8:])


def test_frames_have_masks_of_their_own_also_in_windows():
    strength, mask = torch.ones(1, 1, 1, 1), torch.arange(5.0).view(5, 1, 1, 1)
    assert masked(strength, mask, (1, 1), 10).flatten().tolist() == [0, 1, 2, 3, 4] * 2
    assert masked(strength, mask, (1, 1), 6, range(2, 5)).flatten().tolist() == [2, 3, 4] * 2
    with pytest.raises(AreaError, match="5"):
        masked(strength, mask, (1, 1), 6)


def test_a_video_takes_a_mask_a_frame():
    case = make_case("svd-v2", batch=2, conditions=1, frames=3)
    mask = torch.zeros(3, 1, 8, 8)
    with attach(case.unet, case.module, "svd-v2") as injection:
        injection.set(case.condition, 0.8, mask=mask)
        bare = case.run()
        mask[1] = 1
        injection.set(case.condition, 0.8, mask=mask)
        assert not torch.equal(case.run(), bare)


def test_masks_of_any_form_are_read():
    grey = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    assert torch.equal(as_mask(grey), as_mask(np.asarray(grey)))
    assert as_mask([grey, grey]).shape == (2, 1, 3, 4)
    assert as_mask(torch.full((2, 2), 1.5)).max() == 1.5
    for wrong in (
        np.full((2, 2), -1.0),
        np.full((2, 2), np.nan),
        np.zeros((2, 2, 3)),
        "mask",
        [grey, grey.resize((2, 2))],
    ):
        with pytest.raises(AreaError):
            as_mask(wrong)


def test_a_pipeline_takes_masks():
    components = sd_components()
    pipe = StableDiffusionControlNeXtPipeline(**components)
    pipe.set_progress_bar_config(disable=True)
    case = make_case("sd15-train")
    pipe.load_controlnext(ControlNeXtAdapter(case.module, variant="sd15-train"))

    def draw(**values):
        options = {"num_inference_steps": 2, "output_type": "np", "generator": torch.Generator().manual_seed(0)}
        return pipe("x", control_image=Image.new("RGB", (64, 64), "white"), gamma=1.0, **options, **values).images

    plain = draw()
    assert np.array_equal(draw(control_mask=Image.new("L", (20, 30), 255)), plain)
    black = draw(control_mask=Image.new("L", (20, 30)))
    assert np.array_equal(black, draw(control_mask=np.zeros((8, 8), np.float32)))
    assert not np.array_equal(black, plain)
