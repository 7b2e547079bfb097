import json
import math
import os

import pytest
import torch
from lora_files import SCALED, change_of, make_layers, write
from safetensors.torch import save_file

from controlnext.loras.conflicts import HIGH, OPPOSED, SOME, Conflict, Conflicts, compare, read_delta, word_for
from controlnext.loras.layers import read_layers
from controlnext.studio.studio import Studio

CONV = "down_blocks.0.resnets.0.conv1"
ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0"
ALONE = "mid_block.resnets.0.time_emb_proj"


@pytest.fixture(scope="module")
def layers(models):
    from diffusers import StableDiffusionPipeline

    return make_layers(StableDiffusionPipeline.from_pretrained(models / "base", safety_checker=None))


@pytest.fixture(scope="module")
def delta():
    torch.manual_seed(5)
    return {
        f"{CONV}.weight": torch.randn(64, 64, 3, 3),
        f"{CONV}.bias": torch.randn(64),
        f"{ATTENTION}.weight": torch.randn(64, 64),
        f"{ALONE}.weight": torch.randn(64, 256),
        "conv_norm_out.weight": torch.randn(64),
    }


def expected(layers, delta, scaled):
    """Ratio, cosine and pressure by matrices multiplied out."""
    changes = {
        key: change_of(name, *layers[f"unet.{name}"], scaled=scaled)
        for name in (CONV, ATTENTION)
        for key in [f"{name}.weight"]
    }
    lora = torch.cat([change.flatten() for change in changes.values()]).double()
    own = torch.cat([delta[key].flatten() for key in changes]).double()
    everything = torch.cat([value.flatten() for value in delta.values() if value.ndim > 1]).double()
    norms = lora.norm().item(), own.norm().item(), everything.norm().item()
    return norms[0] / norms[1], (lora @ own).item() / (norms[0] * norms[1]), norms[0] / norms[2]


@pytest.mark.parametrize("style", SCALED)
def test_numbers_are_those_of_the_multiplied_matrices(tmp_path, layers, delta, style):
    only_unet = {name: pair for name, pair in layers.items() if style != "peft-raw" or name.startswith("unet")}
    path = write(tmp_path / "a.safetensors", only_unet, style)
    conflict = compare(read_layers(path), delta)
    ratio, cosine, pressure = expected(layers, delta, SCALED[style])
    assert conflict.ratio == pytest.approx(ratio, rel=1e-5)
    assert conflict.cosine == pytest.approx(cosine, abs=1e-6)
    assert conflict.pressure == pytest.approx(pressure, rel=1e-5)
    assert (conflict.layers, conflict.share) == (2, pytest.approx(2 / 3))
    assert {one.layer for one in conflict.worst} == {CONV.replace(".", "_"), ATTENTION.replace(".", "_")}
    assert conflict.worst[0].ratio > conflict.worst[1].ratio
    attention = next(one for one in conflict.worst if "attn2" in one.layer)
    change = change_of(ATTENTION, *layers[f"unet.{ATTENTION}"], scaled=SCALED[style]).double()
    own = delta[f"{ATTENTION}.weight"].double()
    assert attention.ratio == pytest.approx((change.norm() / own.norm()).item(), rel=1e-5)
    assert attention.cosine == pytest.approx(((change * own).sum() / change.norm() / own.norm()).item(), abs=1e-6)


def test_a_lora_along_the_delta_has_cosine_one_and_against_it_minus_one(tmp_path):
    torch.manual_seed(0)
    down, up = torch.randn(2, 8), torch.randn(6, 2)
    save_file({"unet.x.lora_A.weight": down, "unet.x.lora_B.weight": up}, tmp_path / "a.safetensors")
    along = compare(read_layers(tmp_path / "a.safetensors"), {"x.weight": 2 * up @ down})
    assert (along.cosine, along.ratio, along.word) == (pytest.approx(1), pytest.approx(0.5), "some")
    against = along.at(-1.0)
    assert (against.cosine, against.ratio, against.word) == (pytest.approx(-1), pytest.approx(0.5), "high")
    weak = along.at(0.2)
    assert (weak.ratio, weak.pressure, weak.word) == (pytest.approx(0.1), pytest.approx(0.1), "low")
    assert weak.worst[0].ratio == pytest.approx(0.1)
    assert along.at(0.0) == Conflict("none")


def test_words_follow_pressure_and_direction():
    steps = (SOME - 0.01, SOME, HIGH - 0.01, HIGH, 1e9)
    assert [word_for(pressure, 0.0) for pressure in steps] == ["low", "some", "some", "high", "high"]
    assert [word_for(pressure, OPPOSED) for pressure in steps] == ["some", "high", "high", "high", "high"]
    assert word_for(SOME - 0.01, 1.0) == "low"


def test_nothing_in_common_is_none(tmp_path, layers, delta):
    path = write(tmp_path / "a.safetensors", layers, "peft")
    assert compare(read_layers(path), {f"{ALONE}.weight": delta[f"{ALONE}.weight"]}) == Conflict("none")
    assert compare(read_layers(path), {}) == Conflict("none")
    assert compare(read_layers(path), {f"{ATTENTION}.weight": torch.randn(32, 32)}) == Conflict(
        "none"
    )  # another model
    assert "no layer" in Conflict("none").sentence()


def test_a_layer_the_adapter_leaves_as_it_is_can_be_told_in_json(tmp_path, layers):
    path = write(tmp_path / "a.safetensors", layers, "peft")
    conflict = compare(read_layers(path), {f"{ATTENTION}.weight": torch.zeros(64, 64)})
    assert conflict.word == "high"
    assert math.isinf(conflict.worst[0].ratio)
    assert json.loads(json.dumps(conflict.row(), allow_nan=False))["worst"][0]["ratio"] == 1e9


def save_subset(folder, base, delta):
    """An adapter that holds full values: those of the base with a change on top."""
    from safetensors.torch import load_file

    folder.mkdir()
    values = load_file(base / "unet" / "diffusion_pytorch_model.safetensors")
    tensors = {key: values[key] + change for key, change in delta.items() if key in values}
    save_file(tensors, folder / "unet.safetensors", {"kind": "subset"})
    return {key: delta[key] for key in tensors}


def test_full_values_are_compared_with_the_base(tmp_path, models, layers, delta):
    changed = save_subset(tmp_path / "subset", models / "base", delta)
    read = read_delta(tmp_path / "subset", models / "base")
    assert read.keys() == changed.keys()
    assert all(torch.allclose(read[key], changed[key], atol=1e-5) for key in changed)
    path = write(tmp_path / "a.safetensors", layers, "kohya")
    measured = Conflicts().measure(path, tmp_path / "subset", models / "base")
    assert measured.ratio == pytest.approx(compare(read_layers(path), changed).ratio, rel=1e-4)


def test_full_values_are_compared_with_a_checkpoint_file(tmp_path, delta):
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0.weight"
    inside = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_out.0.weight"
    (tmp_path / "subset").mkdir()
    save_file({name: torch.full((2, 2), 3.0)}, tmp_path / "subset" / "unet.safetensors", {"kind": "subset"})
    save_file({inside: torch.ones(2, 2), "cond_stage_model.x": torch.ones(2)}, tmp_path / "base.safetensors")
    read = read_delta(tmp_path / "subset", tmp_path / "base.safetensors")
    assert torch.equal(read[name], torch.full((2, 2), 2.0))


def test_what_cannot_be_told_says_why(tmp_path, models, layers, delta):
    lora = write(tmp_path / "a.safetensors", layers, "kohya")
    save_subset(tmp_path / "subset", models / "base", delta)
    (tmp_path / "unsaid").mkdir()
    save_file({f"{ATTENTION}.weight": torch.zeros(2, 2)}, tmp_path / "unsaid" / "unet.safetensors")
    (tmp_path / "empty" / "unet").mkdir(parents=True)
    conflicts = Conflicts()
    cases = [
        (conflicts.measure(lora, tmp_path / "subset"), "base model is not on this machine"),
        (conflicts.measure(lora, tmp_path / "subset", tmp_path / "empty"), "lacks"),
        (conflicts.measure(lora, None), "not on this machine yet"),
        (conflicts.measure(lora, tmp_path / "unsaid"), "differences or full values"),
    ]
    (tmp_path / "bad.safetensors").write_bytes(b"rubbish")
    cases.append((conflicts.measure(tmp_path / "bad.safetensors", models / "canny"), "cannot be read"))
    for conflict, says in cases:
        assert conflict.word == "unknown"
        assert says in conflict.sentence()
        assert conflict.at(0.5) == conflict
    assert conflicts.measure(lora, models / "depth").word == "none"  # an adapter without UNet weights
    told = conflicts.measure(lora, tmp_path / "unsaid", kind="delta")
    assert told.word == "none"


def test_numbers_are_remembered_until_a_file_changes(tmp_path, models, layers, monkeypatch):
    lora = write(tmp_path / "a.safetensors", layers, "kohya")
    conflicts, calls = Conflicts(), []
    monkeypatch.setattr("controlnext.loras.conflicts.read_delta", lambda *a: calls.append(a) or read_delta(*a))
    first = conflicts.measure(lora, models / "canny")
    assert conflicts.measure(lora, models / "canny", weight=0.5).ratio == pytest.approx(first.ratio / 2)
    assert len(calls) == 1
    write(lora, {name: (down, 2 * up) for name, (down, up) in layers.items()}, "kohya")
    os.utime(lora, (1, 1))
    assert conflicts.measure(lora, models / "canny").ratio == pytest.approx(first.ratio * 2, rel=1e-5)


def test_the_studio_says_it_with_the_rows(models, tmp_path):
    studio = Studio(output_dir=tmp_path, presets_dir=models)
    rows = {row["name"]: row for row in studio.catalogue.loras("starter", "canny")}
    assert rows["one"]["conflict"]["word"] in ("low", "some", "high")
    assert rows["one"]["conflict"]["layers"] == 1
    assert "conflict" not in rows["other base"]
    assert all("conflict" not in row for row in studio.catalogue.loras("starter"))
    assert json.dumps(list(rows.values()), allow_nan=False)
    one = studio.catalogue.conflict("starter", "canny", "one", -0.5)
    assert one.ratio == pytest.approx(rows["one"]["conflict"]["ratio"] / 2)
    assert one.cosine == pytest.approx(-rows["one"]["conflict"]["cosine"])
    assert studio.catalogue.conflict("starter", "depth", "one").word == "none"
    with pytest.raises(ValueError, match="no adapter for 'segmentation'"):
        studio.catalogue.conflict("starter", "segmentation", "one")
