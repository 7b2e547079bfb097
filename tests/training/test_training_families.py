"""Whole trainings of the larger families on tiny random bases: they end with a report, an adapter and a preset."""

import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline, StableVideoDiffusionPipeline
from PIL import Image
from tiny_models import sdxl_components, svd_components

from controlnext import ControlNeXtAdapter
from controlnext.models.presets import load_preset
from controlnext.training import base_model
from controlnext.training.config import as_config
from controlnext.training.runs.run_folder import RunFolder
from controlnext.training.start import train

FIRST_BLOCK = 320  # channels in which the real modules of sdxl and svd-v2 end


def save_base(folder, pipeline, components, *channels):
    """Save a base whose UNet is random, has these channels in its blocks and else is that of the components."""
    torch.manual_seed(6)
    unet = components["unet"]
    wide = type(unet).from_config({**unet.config, "block_out_channels": channels})
    pipeline(**components | {"unet": wide}).save_pretrained(folder)


def finished(tmp_path, **values):
    """Train three steps; return the run and its adapter after what all families have in common was checked."""
    config = as_config(
        {
            "base": str(tmp_path / "base"),
            "output": str(tmp_path / "run"),
            "steps": 3,
            "optimizer": {"warm_up": 1},
            "checkpoints": {"every": 2},
            **values,
            "learning": {
                "batch": 1, "device": "cpu", "mixed_precision": "no", "gamma": 0.35, "gradient_checkpointing": True,
            },
        }
    )  # fmt: skip
    outcome = train(config, log=lambda text: None)
    assert (outcome.step, outcome.stopped) == (3, False)
    run = RunFolder(tmp_path / "run")
    assert run.status()["state"] == "done"
    assert [event["step"] for event in run.events("validation")] == [2, 3]
    assert all(np.isfinite(event["loss"]) for event in run.events("step"))
    assert run.report.read_text().count("data:image/jpeg") >= 4
    adapter = ControlNeXtAdapter.from_pretrained(run.adapter)
    assert (adapter.annotator, adapter.gamma, adapter.kind) == (config.condition, 0.35, "delta")
    assert adapter.unet_weights
    assert any(value.abs().max() > 0 for value in adapter.unet_weights.values())  # checkpointing let gradients through
    preset = load_preset(run.preset)
    assert preset.variant == adapter.variant.name
    assert preset.adapters[config.condition].gamma == 0.35
    return run, adapter


@pytest.mark.slow
def test_sdxl_learns_from_pictures_of_several_shapes(tmp_path, monkeypatch):
    presets, broken = base_model.load_presets()
    own_vae = presets["sdxl"].model_copy(update={"vae": None})  # the preset's other autoencoder is a download
    monkeypatch.setattr(base_model, "load_presets", lambda: ({**presets, "sdxl": own_vae}, broken))
    save_base(tmp_path / "base", StableDiffusionXLPipeline, sdxl_components(), FIRST_BLOCK, 32, 32)
    (tmp_path / "photos").mkdir()
    for number in range(10):
        pixels = np.full((80, 64 + 16 * number, 3), 30, np.uint8)
        pixels[10:40, 10 : 40 + 2 * number] = 200
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    run, adapter = finished(
        tmp_path,
        family="sdxl",
        condition="canny",
        data={"folder": str(tmp_path / "photos"), "width": 128, "height": 128, "aspect": "buckets"},
        validation={"every": 2, "rows": 2, "steps": 2},
    )
    assert adapter.variant.name == "sdxl"
    assert all("attn2" in name and "to_out" in name for name in adapter.unet_weights)
    shown = [Image.open(run.validation / "asked" / f"{place}.png").size for place in range(2)]
    drawn = [Image.open(run.validation / "step-00000003" / f"{place}.png").size for place in range(2)]
    assert shown == drawn
    assert len(set(shown)) == 2  # not all of one bucket
    assert json.loads((run.adapter / "config.json").read_text())["variant"] == "sdxl"
    assert all(0 <= event["adherence"] <= 1 for event in run.events("validation"))


@pytest.mark.slow
def test_svd_learns_from_clips_with_poses(tmp_path):
    save_base(tmp_path / "base", StableVideoDiffusionPipeline, svd_components(), FIRST_BLOCK, 64)
    lines = []
    for clip in range(3):
        for kind, colour in (("clips", 200), ("poses", 255)):
            folder = tmp_path / "data" / kind / str(clip)
            folder.mkdir(parents=True)
            for number in range(8):
                pixels = np.zeros((72, 64, 3), np.uint8)
                pixels[20:50, 4 + 4 * number : 24 + 4 * number, : 1 + clip] = colour
                Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append({"file_name": f"clips/{clip}", "conditioning_image": f"poses/{clip}"})
    (tmp_path / "data" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run, adapter = finished(
        tmp_path,
        family="svd",
        condition="pose",
        data={"folder": str(tmp_path / "data"), "width": 64, "height": 64, "frames": 3, "stride": 2},
        validation={"every": 2, "rows": 1, "steps": 2, "adherence": False},
    )
    assert adapter.variant.name == "svd-v2"
    assert all("to_out" in name for name in adapter.unet_weights)
    assert Image.open(run.validation / "step-00000003" / "0.png").size == (64, 64)
