"""The plug-in bench with a model that needs no weights: pictures are the scenes as the base would paint them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import make_unet

from annotators.starter.net import SceneReading
from controlnext.bench.command import BenchError
from controlnext.bench.quality import fine_tune, plug_in, scenes
from controlnext.starter.train.dataset import make_samples
from controlnext.starter.world.styles import restyle


@pytest.fixture(scope="module")
def samples():
    return [make_samples(seed, 1)[0] for seed in range(2)]


@pytest.fixture(scope="module")
def reference():
    return [sample for seed in range(100, 108) for sample in make_samples(seed, 4)]


@pytest.fixture
def assets(tmp_path, samples, monkeypatch):
    """One LoRA file; each base paints the scenes in its own way, but on `film` the control is lost."""
    (tmp_path / "loras").mkdir()
    tensors = {
        "unet.down_blocks.0.resnets.0.conv1.lora_A.weight": torch.randn(2, 4, 3, 3),
        "unet.down_blocks.0.resnets.0.conv1.lora_B.weight": torch.randn(4, 2, 1, 1),
    }
    save_file(tensors, tmp_path / "loras" / "night.safetensors", {"weight": "0.5"})
    known = {}
    for sample in samples:
        rgb = np.array(sample.picture.rgb)
        known |= {picture.tobytes(): sample for picture in (rgb, restyle("night", rgb), fine_tune.film(rgb))}

    def draw(base, adapter, gamma, drawn, label):
        painted = np.stack([(base.repaint or (lambda rgb: rgb))(np.array(s.picture.rgb)) for s in drawn])
        return painted[::-1].copy() if base.name == "film" else painted

    def read_batch(network, pictures):
        found = [known[picture.tobytes()].picture for picture in pictures]
        return [SceneReading(p.parts, p.depth, list(p.people)) for p in found]

    monkeypatch.setattr(plug_in, "pipeline_on", lambda assets, adapter, base: base)
    monkeypatch.setattr(plug_in, "draw", draw)
    monkeypatch.setattr(scenes, "bundled", lambda: None)
    monkeypatch.setattr(scenes, "read_batch", read_batch)
    return tmp_path


def test_each_base_is_judged_by_its_own_colours_and_lost_control_is_seen(assets, samples, reference, tmp_path):
    bases = plug_in.list_bases(assets, [], tmp_path / "unet", "so many steps")
    assert [(base.name, base.changed) for base in bases][1:] == [
        ("night", "style LoRA at weight 1"),
        ("film", "so many steps"),
    ]
    rows = plug_in.measure(assets, ["pose", "depth"], bases, samples, reference, tmp_path / "sheets")
    assert [(row["adapter"], row["base"]) for row in rows] == [
        (adapter, base) for adapter in ("pose", "depth") for base in ("plain", "night", "film")
    ]
    plain, night, film = rows[:3]
    assert plain["adherence"] == night["adherence"] == 1
    assert film["adherence"] < 1
    assert film["renders"]["adherence"] == 1
    assert {key: value for key, value in night.items() if key in plug_in.COLOURED} == {
        key: value for key, value in night["renders"].items() if key in plug_in.COLOURED
    }
    assert (tmp_path / "sheets" / "plug-in-depth.png").is_file()
    text = plug_in.table(rows, 2)
    assert "| night | style LoRA at weight 1 | 1.000 (1.000) | 100% |" in text
    assert "| base | changed by | depth rank correlation |" in text
    assert json.dumps(rows, allow_nan=False)


def test_colours_are_learned_in_the_style(samples, reference):
    names = scenes.Colours.learn(fine_tune.repainted(reference, fine_tune.film))
    plain = scenes.Colours.learn(reference)
    right = {"own": [], "plain": []}
    for sample in reference:
        rgb = fine_tune.film(np.array(sample.picture.rgb))
        for key, table in (("own", names), ("plain", plain)):
            right[key].append(table.right(rgb, sample.picture.parts, "sky", sample.look.sky, sample.look.sky))
    share = {key: np.mean([bool(value) for value in values]) for key, values in right.items()}
    assert share["own"] >= 0.9 > share["plain"]


def test_a_base_that_is_not_there_is_a_sentence(assets):
    with pytest.raises(BenchError, match=r"heat.*plain, night"):
        plug_in.list_bases(assets, ["heat"], None, "")
    assert [base.name for base in plug_in.list_bases(assets, ["night"], None, "")] == ["plain", "night"]


def test_a_changed_unet_gets_the_adapter_on_top(tmp_path, monkeypatch):
    """The adapter's differences are added to the changed weights, not written over them."""
    from tiny_models import make_module, sd_components

    from controlnext import ControlNeXtAdapter, StableDiffusionControlNeXtPipeline

    components = sd_components()
    key = "mid_block.resnets.0.conv1.bias"
    delta = {key: torch.ones_like(components["unet"].get_parameter(key))}
    pipeline = StableDiffusionControlNeXtPipeline(**components)
    pipeline.load_controlnext(ControlNeXtAdapter(make_module("starter", 16), delta, "delta", variant="starter"))
    other = make_unet()
    with torch.no_grad():
        other.get_parameter(key).fill_(5.0)
    other.save_pretrained(tmp_path / "unet")
    monkeypatch.setattr(plug_in, "load_pipeline", lambda assets, adapter: pipeline)
    changed = plug_in.pipeline_on(tmp_path, "pose", plug_in.ChangedBase("other", "", unet=tmp_path / "unet"))
    assert torch.equal(changed.unet.get_parameter(key), torch.full_like(delta[key], 6.0))
    changed.unload_controlnext()
    assert torch.equal(changed.unet.get_parameter(key), torch.full_like(delta[key], 5.0))


def test_film_keeps_colours_apart_and_changes_all_of_them():
    wheel = np.stack(np.meshgrid([0, 128, 255], [0, 128, 255], [0, 128, 255]), -1).reshape(1, -1, 3).astype(np.uint8)
    found = fine_tune.film(wheel).reshape(-1, 3).astype(int)
    apart = np.abs(found[:, None] - found[None]).sum(-1) + 999 * np.eye(len(found), dtype=int)
    assert apart.min() > 40
    assert (np.abs(found - wheel.reshape(-1, 3)).sum(-1) > 5).mean() > 0.9
