"""The small decoder of the starter: its cost and quality, and that nothing is saved through it."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from controlnext.assets import EXAMPLES, PRESETS, STARTER
from controlnext.device import Device
from controlnext.engine.eight_bit import EightBitConv
from controlnext.engine.engine import Engine
from controlnext.engine.live import LiveCopy
from controlnext.engine.preview import DecodedPreview
from controlnext.engine.small_decoder import DecoderTail, SmallDecoder, small_decoder
from controlnext.loras.file import inspect_lora
from controlnext.method.control_cache import ControlCache
from controlnext.models.presets import load_preset
from controlnext.progress import Cancelled
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.recipe import Recipe
from controlnext.starter.train.small_decoder import HeldOut

STEPS = 2


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(load_preset(PRESETS / "starter.yaml"), Device("cpu", torch.float32), ControlCache())


@pytest.fixture(scope="module")
def copied(engine) -> LiveCopy:
    return LiveCopy.of(engine)


def gigaflops(decoder, latents) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        decoder(latents)
    return counter.get_total_flops() / 1e9


def test_it_takes_a_third_of_the_work(engine):
    vae, latents = engine.pipeline.vae, torch.zeros(1, 4, 32, 32)
    small = small_decoder(engine.preset, vae)
    assert gigaflops(small, latents) <= 9
    assert gigaflops(vae.decoder, latents) > 26


def test_it_draws_as_well_as_the_large_one(engine):
    vae = engine.pipeline.vae
    small, large, _ = HeldOut(vae, count=4).measure(small_decoder(engine.preset, vae))
    assert large > 31
    assert small > large - 0.5  # decibels


def test_pictures_are_the_same_with_previews_and_without(engine):
    recipe = Recipe(prompt="a person in a red shirt", num_inference_steps=STEPS, seed=3, width=256, height=256)
    engine.prepare(recipe, ())
    decoder, previews = engine.pipeline.vae.decoder, []
    (alone,) = engine.run(recipe, [3], Inputs(), None)
    (watched,) = engine.run(recipe, [3], Inputs(), previews.append)
    assert alone.tobytes() == watched.tobytes()
    assert engine.pipeline.vae.decoder is decoder
    assert not isinstance(decoder, SmallDecoder)
    assert len(previews) == STEPS
    assert previews[0].size == (256, 256)


def test_previews_take_a_tenth_of_the_time(engine):
    vae = engine.pipeline.vae
    preview = DecodedPreview(vae, small_decoder(engine.preset, vae))
    latents = torch.randn(6, 4, 16, 16)
    assert preview.draw(latents, 64, 48).size == (256, 48)
    assert preview.draw(latents, 64, 48) is None  # not yet
    preview._next = 0.0
    assert preview.draw(torch.full((1, 4, 16, 16), torch.nan), 64, 48) is None
    preview.begin()
    assert preview.draw(latents, 64, 48) is None  # a run that is over sooner has none
    time.sleep(preview._pause)
    assert preview.draw(latents, 64, 48).size == (256, 48)


def test_live_pictures_are_decoded_by_the_small_one(copied):
    decoder = copied.pipeline.vae.decoder
    assert isinstance(decoder, SmallDecoder)
    assert isinstance(decoder.tail.enter, torch.nn.Conv2d | EightBitConv)


def test_live_controls_in_eight_bits_are_close_to_those_in_full(engine, copied):
    pose = Image.open(EXAMPLES / "arms-out.png").convert("RGB").resize((256, 256))
    picture = torch.from_numpy(np.asarray(pose).copy()).permute(2, 0, 1)[None] / 255
    for kind in ("pose", "canny"):
        whole, eight = (one._adapter(kind).module for one in (engine, copied))
        assert copied._adapter(kind).module is eight  # measured once
        assert not any(isinstance(part, EightBitConv) for part in whole.modules())
        with torch.inference_mode():
            wanted, made = (module(picture, 500) for module in (whole, eight))
        assert float((made - wanted).std() / wanted.std()) < 0.05


def test_a_run_can_be_stopped_after_a_step(engine):
    recipe, steps = Recipe(prompt="a person", num_inference_steps=STEPS, seed=3, width=64, height=64), []

    def stop() -> None:
        steps.append(1)
        raise Cancelled("Stopped.")

    engine.prepare(recipe, ())
    with pytest.raises(Cancelled):
        engine.run(recipe, [3], Inputs(), None, stop)
    assert len(steps) == 1


def test_live_loras_are_added_to_the_weights_and_taken_back_to_the_bit(engine, copied):
    recipe = Recipe(prompt="a person", num_inference_steps=STEPS, seed=3, width=128, height=128, guidance_scale=1)
    clay = [(inspect_lora(STARTER / "loras" / "clay.safetensors"), 1.0)]

    def drawn(loras) -> np.ndarray:
        copied.prepare(recipe, loras)
        return np.asarray(copied.run(recipe, [3], Inputs(), None)[0], float)

    plain = drawn(())
    before = {name: value.clone() for name, value in copied.pipeline.unet.state_dict().items()}
    fused = drawn(clay)
    assert drawn(clay).tolist() == fused.tolist()
    assert np.abs(fused - plain).mean() > 3
    copied._fused.undo()  # layers of their own
    layers = np.asarray(copied.run(recipe, [3], Inputs(), None)[0], float)
    assert np.abs(layers - fused).mean() < 1
    assert drawn(()).tolist() == plain.tolist()
    after = copied.pipeline.unet.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_tail_keeps_its_size(tmp_path):
    DecoderTail(inputs=8, inner=4, width=4, groups=2).save_pretrained(tmp_path)
    tail = DecoderTail.from_pretrained(tmp_path)
    assert tail(torch.zeros(1, 8, 5, 7)).shape == (1, 3, 20, 28)
