"""A reference picture by diffusers' own IP-Adapter loader, together with control."""

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from ip_adapter_files import save_ip_adapter
from PIL import Image
from tiny_models import CHANNELS, TEXT_WIDTH, make_module, sd_components, sdxl_components

from controlnext import (
    ControlNeXtAdapter,
    StableDiffusionControlNeXtPipeline,
    StableDiffusionXLControlNeXtPipeline,
)

FAMILIES = {
    "sd15": (StableDiffusionControlNeXtPipeline, StableDiffusionPipeline, sd_components, "starter", TEXT_WIDTH),
    "sdxl": (StableDiffusionXLControlNeXtPipeline, StableDiffusionXLPipeline, sdxl_components, "sdxl", 2 * TEXT_WIDTH),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reference_picture_acts_beside_the_control_and_leaves_no_trace(family, tmp_path):
    kind, stock, components, variant, width = FAMILIES[family]
    pipeline = kind(**components())
    pipeline.set_progress_bar_config(disable=True)
    save_ip_adapter(tmp_path, pipeline.unet, width)
    torch.manual_seed(8)
    module = make_module(variant, CHANNELS[variant])
    pipeline.load_controlnext(ControlNeXtAdapter(module, None, None, variant=variant))
    condition, reference = Image.new("RGB", (64, 64), (200, 40, 0)), Image.new("RGB", (40, 40), (0, 90, 200))

    def drawn(**options):
        noise = torch.Generator().manual_seed(0)
        given = {"num_inference_steps": 2, "width": 64, "height": 64, "guidance_scale": 2.0, "output_type": "latent"}
        return pipeline("a b", generator=noise, **given, **options).images

    bare, controlled = drawn(), drawn(control_image=condition)
    pipeline.load_ip_adapter(str(tmp_path), subfolder="models", weight_name="ip-adapter.safetensors")
    pipeline.set_ip_adapter_scale(0.7)
    referred = drawn(ip_adapter_image=reference)
    both = drawn(ip_adapter_image=reference, control_image=condition)
    for one, other in ((referred, bare), (both, referred), (both, controlled)):
        assert not torch.allclose(one, other, atol=1e-3)
    pipeline.set_ip_adapter_scale(0.0)
    torch.testing.assert_close(
        drawn(ip_adapter_image=reference, control_image=condition), controlled, rtol=1e-4, atol=1e-4
    )
    pipeline.unload_ip_adapter()
    assert torch.equal(drawn(control_image=condition), controlled)
    assert torch.equal(drawn(), bare)
    assert issubclass(kind, stock)
