"""Pipelines of transformers with control: the stock ones on tiny random models."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from test_transformers import _flux, _sd3, _wan

from controlnext import (
    ControlNeXtAdapter,
    ControlNeXtModel,
    FluxControlNeXtPipeline,
    StableDiffusion3ControlNeXtPipeline,
    WanControlNeXtPipeline,
)
from controlnext.assets import PRESETS
from controlnext.engine.engine import Engine
from controlnext.method.pipelines import PipelineError
from controlnext.models.catalogue import Catalogue
from controlnext.models.presets import PresetError

R = torch.randn
NO_TEXT = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
STEPS = 3


def flow():
    return diffusers.FlowMatchEulerDiscreteScheduler()


def make_vae():
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(4,) * 4,
        norm_num_groups=2, latent_channels=4, shift_factor=0.0,
    )  # fmt: skip


def adapter_for(variant, width):
    torch.manual_seed(1)
    module = ControlNeXtModel.from_variant(
        variant, out_channels=width, stem_channels=(4, 4, 8), stage_channels=(8, 8, 8)
    )
    return ControlNeXtAdapter(module.eval(), gamma=0.7)


def flux():
    torch.manual_seed(0)
    pipe = FluxControlNeXtPipeline(scheduler=flow(), vae=make_vae(), transformer=_flux()[0].eval(), **NO_TEXT)
    words = {
        "prompt_embeds": R(1, 7, 32), "pooled_prompt_embeds": R(1, 32), "negative_prompt_embeds": R(1, 7, 32),
        "negative_pooled_prompt_embeds": R(1, 32), "true_cfg_scale": 3.0,
    }  # fmt: skip
    return pipe, words, adapter_for("flux", 32)


def sd3():
    torch.manual_seed(0)
    pipe = StableDiffusion3ControlNeXtPipeline(
        scheduler=flow(),
        vae=make_vae(),
        transformer=_sd3()[0].eval(),
        text_encoder_3=None,
        tokenizer_3=None,
        **NO_TEXT,
    )
    words = {
        "prompt_embeds": R(1, 7, 32), "pooled_prompt_embeds": R(1, 64), "negative_prompt_embeds": R(1, 7, 32),
        "negative_pooled_prompt_embeds": R(1, 64),
    }  # fmt: skip
    return pipe, words, adapter_for("sd3", 32)


def wan(experts=1):
    torch.manual_seed(0)
    more = {"transformer_2": _wan()[0].eval(), "boundary_ratio": 0.7} if experts == 2 else {}
    pipe = WanControlNeXtPipeline(
        tokenizer=None, text_encoder=None, vae=None, scheduler=flow(), transformer=_wan()[0].eval(), **more
    )
    words = {"prompt_embeds": R(1, 7, 16), "negative_prompt_embeds": R(1, 7, 16)}
    return pipe, words, adapter_for("wan", 24)


def experts():
    return wan(2)


def drawing(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8))


def picture(pipe):
    return [drawing(i) for i in range(5)] if isinstance(pipe, WanControlNeXtPipeline) else drawing()


def run(pipe, words, **more):
    pipe.set_progress_bar_config(disable=True)
    size = {"height": 64, "width": 64} | ({"num_frames": 5} if isinstance(pipe, WanControlNeXtPipeline) else {})
    call = {"num_inference_steps": STEPS, "output_type": "latent", "return_dict": False, **size, **words, **more}
    return pipe(generator=torch.Generator().manual_seed(0), **call)[0]


@pytest.mark.parametrize("make", [flux, sd3, wan, experts])
def test_control_joins_a_stock_call_and_leaves_no_trace(make):
    pipe, words, adapter = make()
    bare = run(pipe, words)
    pipe.load_controlnext(adapter)
    assert torch.equal(run(pipe, words), bare)
    assert torch.equal(run(pipe, words, control_image=picture(pipe), gamma=0.0), bare)
    controlled = run(pipe, words, control_image=picture(pipe))
    assert not torch.allclose(controlled, bare, atol=1e-3)
    assert torch.equal(run(pipe, words, control_image=picture(pipe), gamma=0.7), controlled)
    pipe.unload_controlnext()
    assert torch.equal(run(pipe, words), bare)


@pytest.mark.parametrize("make", [flux, sd3, wan, experts])
def test_steps_are_counted_once_however_often_a_step_runs_the_model(make):
    pipe, words, adapter = make()
    pipe.load_controlnext(adapter)
    strengths, image = [], picture(pipe)

    def at(pipeline, step, _, tensors):
        strengths.append(step)
        return tensors

    late = run(pipe, words, control_image=image, control_start=2 / 3, callback_on_step_end=at)
    curve = run(pipe, words, control_image=image, gamma="0:0, 0.6:0, 0.7:0.7")
    assert strengths == [0, 1, 2]
    assert torch.equal(late, curve)  # both act in the last step alone
    assert not torch.equal(late, run(pipe, words, control_image=image))
    assert not torch.equal(late, run(pipe, words))


def test_both_experts_have_the_adapter():
    pipe, _, adapter = experts()
    pipe.load_controlnext(adapter)
    attachment = pipe.controlnexts["default"]
    assert [len(model._forward_pre_hooks) for model in (pipe.transformer, pipe.transformer_2)] == [1, 1]
    assert attachment.attached
    pipe.unload_controlnext()
    assert not attachment.attached
    assert [len(model._forward_pre_hooks) for model in (pipe.transformer, pipe.transformer_2)] == [0, 0]


@pytest.mark.parametrize(("count", "frames"), [(5, 9), (5, 4)])
def test_a_clip_needs_a_picture_a_frame(count, frames):
    pipe, words, adapter = wan()
    pipe.load_controlnext(adapter)
    with pytest.raises(PipelineError, match="multiple of 4"):
        run(pipe, words, control_image=[drawing()] * count, num_frames=frames)


def test_an_offloaded_pipeline_is_controlled():
    pipe, words, adapter = sd3()
    pipe.load_controlnext(adapter)
    expected = run(pipe, words, control_image=drawing())
    pipe.enable_model_cpu_offload(device="cpu")
    assert torch.equal(run(pipe, words, control_image=drawing()), expected)


@pytest.mark.parametrize("name", ["flux", "sd35", "wan"])
def test_experimental_models_are_listed_and_refused_before_anything_is_downloaded(name):
    catalogue = Catalogue(PRESETS, ())
    row = next(row for row in catalogue.models() if row["name"] == name)
    assert (row["usable"], row["state"], row["annotators"]) == (False, "experimental", [])
    preset = catalogue.preset(name)
    with pytest.raises(PresetError, match=r"docs/transformers\.md"):
        catalogue.require(preset, video=True)
    with pytest.raises(Exception, match="makes no pictures here") as caught:
        Engine.load(preset, None, None)
    assert type(caught.value).__name__ == "EngineError"
