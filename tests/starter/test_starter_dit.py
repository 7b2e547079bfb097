"""The starter's transformer: its size, what it is taught, and the pipeline that draws with it."""

import numpy as np
import pytest
import torch
from diffusers import SD3Transformer2DModel
from PIL import Image

from controlnext import ControlNeXtAdapter, ControlNeXtModel, StableDiffusion3ControlNeXtPipeline
from controlnext.adherence.measure import fitted
from controlnext.assets import STARTER
from controlnext.bench.quality.control_metrics import METRICS
from controlnext.bench.quality.control_reading import reader_of
from controlnext.bench.quality.control_transformer import TransformerModel
from controlnext.engine import loading
from controlnext.method.pipelines import PipelineError
from controlnext.models.presets import load_presets
from controlnext.starter.train import dit
from controlnext.starter.train.dataset import FIRST_TRAINING_SEED, make_samples
from controlnext.starter.train.networks import make_scheduler


class PerfectTeacher:
    """Knows latents and noise, and tells v as the UNet's schedule has it."""

    def __init__(self, latents, noise):
        self.latents, self.noise = latents, noise
        self.alphas = make_scheduler().alphas_cumprod

    def __call__(self, noisy, timesteps, states):
        self.timesteps = timesteps
        low, share = timesteps.long(), timesteps % 1
        level = torch.lerp((1 - self.alphas[low]).sqrt(), (1 - self.alphas[(low + 1).clamp(max=999)]).sqrt(), share)
        noise = level.view(-1, 1, 1, 1)
        signal = (1 - noise**2).sqrt()
        assert torch.allclose(noisy, signal * self.latents + noise * self.noise, atol=1e-3)
        self.sample = signal * self.noise - noise * self.latents
        return self


def test_the_flow_that_is_taught_leads_from_latents_to_noise():
    torch.manual_seed(0)
    latents, noise = torch.randn(2, 4, 4, 8, 8)
    sigmas = torch.tensor([0.05, 0.4, 0.8, 0.99]).view(-1, 1, 1, 1)
    teacher = PerfectTeacher(latents, noise)
    flow = dit.Flow().taught(teacher, (1 - sigmas) * latents + sigmas * noise, sigmas, None)
    assert torch.allclose(flow, noise - latents, atol=1e-2)
    assert (teacher.timesteps.diff() > 0).all()
    drawn = dit.Flow(shift=1.0).sigmas(400)
    assert drawn.shape == (400, 1, 1, 1)
    assert 0 < drawn.min() < drawn.max() < 1
    assert drawn.mean() > 0.6


def test_the_transformer_is_small_and_begins_with_no_opinion():
    model = dit.make_transformer()
    assert 3e6 < sum(value.numel() for value in model.parameters()) < 8e6
    with torch.no_grad():
        made = model(
            torch.randn(1, 4, 32, 32), torch.randn(1, 40, 128), torch.randn(1, 128), torch.tensor([500.0])
        ).sample
    assert not made.any()


def test_a_saved_transformer_draws_with_the_starters_words_under_control(tmp_path):
    torch.manual_seed(0)
    small = dit.make_transformer(32, 1, 2)
    torch.nn.init.normal_(small.proj_out.weight, std=0.1)
    torch.nn.init.normal_(small.transformer_blocks[0].norm1.linear.weight, std=0.1)
    small.half().save_pretrained(tmp_path)
    assert SD3Transformer2DModel.from_pretrained(tmp_path).config.num_layers == 1
    pipe = dit.load_pipeline(STARTER, tmp_path)
    red, blue = dit.draw(pipe, ["a person with a red shirt", "a person with a blue shirt"], 2)
    assert red.shape == (256, 256, 3)
    assert not np.array_equal(red, blue)
    module = ControlNeXtModel.from_variant("sd3", out_channels=32, stem_channels=(4, 4, 8), stage_channels=(8, 8, 8))
    pipe.save_pretrained(tmp_path / "pipeline")
    preset = load_presets()[0]["sd35"]
    again = loading.load_pipeline(preset, tmp_path / "pipeline", None, torch.float32, lambda: None)
    assert type(again) is StableDiffusion3ControlNeXtPipeline
    for one in (pipe, again):
        states, nothing, pooled, empty = one.encode_prompt(["a person", "a tree"], None, None, num_images_per_prompt=2)
        assert states.shape == nothing.shape == (4, 40, 128)
        assert pooled.shape == empty.shape == (4, 128)
        assert torch.equal(states[0], states[1])
        avoided = one.encode_prompt("", None, None, negative_prompt="a tree")[1]
        assert torch.allclose(avoided[0], states[2], atol=1e-5)
        with pytest.raises(PipelineError, match="2 negative prompts for 1"):
            one.encode_prompt("", None, None, negative_prompt=["a tree", "a house"])
        assert one.encode_prompt("a tree", None, None, do_classifier_free_guidance=False)[1] is None
    pipe.load_controlnext(ControlNeXtAdapter(module.eval()))
    options = {"num_inference_steps": 2, "height": 256, "width": 256, "output_type": "np"}
    picture = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    pair = [
        pipe("a person", generator=torch.Generator().manual_seed(0), **options, **more).images
        for more in ({}, {"control_image": picture})
    ]
    assert not np.allclose(*pair)


def test_the_bundled_transformer_draws_shirts_in_the_colours_asked_for():
    pipe = dit.load_pipeline(STARTER, STARTER / "transformer")
    assert 3e6 < sum(value.numel() for value in pipe.transformer.parameters()) < 8e6
    captions = [f"a person with a {shirt} shirt and black trousers" for shirt in ("red", "blue", "green")]
    drawn = dit.draw(pipe, captions, 8)[:, 48:208, 48:208].astype(np.int16)
    lead = np.stack([3 * drawn[..., c] - drawn.sum(-1) for c in (0, 2, 1)])  # of red, blue, green
    strong = (lead > 120).mean((2, 3))
    assert (strong.argmax(1) == np.arange(3)).all()
    assert (np.diag(strong) > 0.02).all()


@pytest.mark.parametrize(("kind", "followed"), [("pose", 0.4), ("canny", 0.35)])
def test_the_transformers_bundled_adapters_follow(kind, followed, tmp_path):
    load = dit.load_pipeline(STARTER, STARTER / "transformer")
    load.save_pretrained(tmp_path)
    values = {"num_inference_steps": 8, "guidance_scale": 3.0}
    model = TransformerModel(tmp_path, STARTER / "transformer" / "adapters" / kind, kind, values, None)
    read, metric, scores = reader_of("starter"), METRICS[kind][-1], []
    for seed in range(6):
        sample = make_samples(FIRST_TRAINING_SEED // 2 + seed, 1)[0]
        asked = fitted(read(kind, Image.fromarray(sample.picture.rgb)), kind, model.size)
        prompt = sample.caption(np.random.default_rng(seed))
        drawn = [model.draw(kind, prompt, asked, [seed], controlled=on)[0] for on in (True, False)]
        scores.append([metric.measure(asked, read(kind, picture)) for picture in drawn])
    controlled, floor = np.nanmean(scores, axis=0)
    assert controlled > followed > 2 * floor
