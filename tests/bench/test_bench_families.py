import argparse
import json
from dataclasses import asdict, replace

import diffusers
import pytest
import torch
from safetensors import safe_open
from tiny_models import make_text_encoder, make_tokenizer, make_unet, sdxl_components
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextModelWithProjection

from controlnext.bench.command import BenchError
from controlnext.bench.cost import flops, full_size, overhead, seconds
from controlnext.bench.cost.base_models import BENCH_MODELS, get_model
from controlnext.bench.cost.flops import ElementCounter, count_step, count_steps
from controlnext.bench.cost.rig import HALVES, TIMES, Rig
from controlnext.device import Device

STARTER = BENCH_MODELS["starter"]
SIZE = 64


@pytest.fixture(scope="module")
def counts():
    return {count.name: count for count in count_steps(STARTER, SIZE)}


@pytest.mark.parametrize("name", [name for name, family in BENCH_MODELS.items() if family.parameters])
def test_the_networks_are_the_released_ones(name):
    family = BENCH_MODELS[name]
    kind = getattr(diffusers, family.unet_class)
    with torch.device("meta"):
        if family.unet_folder is None:
            unet = kind(**family.unet)
        else:
            unet = kind.from_config(kind.load_config(family.unet_folder))
    assert sum(parameter.numel() for parameter in unet.parameters()) == family.parameters


@pytest.mark.parametrize("kernel", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
def test_counting_on_shapes_equals_counting_while_computing_with_every_kernel(counts, kernel):
    with torch.no_grad(), sdpa_kernel(kernel):
        for step in Rig(STARTER, "cpu", size=SIZE).steps():
            assert count_step(step) == (counts[step.name].flops, counts[step.name].elements), step.name


def test_each_row_costs_what_its_parts_cost(counts):
    rig = Rig(STARTER, size=SIZE)
    parts = {}
    with torch.no_grad():
        prepared = rig.module.prepare(rig.condition)
        for name, run in {
            "base": lambda: rig.unet(rig._sample, 1.0, **rig._others),
            "prepare": lambda: rig.module.prepare(rig.condition),
            "rest": lambda: rig.module(rig.condition, TIMES[1], prepared),
            "module": lambda: rig.module(rig.condition, TIMES[1]),
            "halves": lambda: rig.module(torch.cat([rig.condition] * HALVES), TIMES[1]),
        }.items():
            rig.injection.set(None)
            with FlopCounterMode(display=False) as counter:
                run()
            parts[name] = counter.get_total_flops()
    assert counts["base"].flops == counts["again"].flops == parts["base"] > 0
    assert counts["first"].flops == parts["base"] + parts["module"]
    assert counts["further"].flops == parts["base"] + parts["rest"]
    assert counts["authors"].flops == parts["base"] + parts["halves"]
    assert 0 < parts["rest"] < parts["prepare"] + parts["rest"] == parts["module"]
    assert counts["again"].elements > counts["base"].elements  # cross normalisation is not free, nor hidden
    assert counts["controlnet"].ratio > counts["first"].ratio


def test_elementwise_work_is_counted_once_and_products_are_left_out():
    x = torch.zeros(4, 6)
    with ElementCounter() as counter:
        x.relu()
        assert counter.elements == 24
        x.reshape(6, 4).t()[0]
        x @ x.t()
        assert counter.elements == 24
        x.mean()
    assert counter.elements == 48


def test_bars_decide_the_status_and_are_only_for_the_full_size(monkeypatch, capsys, counts):
    loose, tight = (2.0, 2.0, 1.01), (2.0, 1.0001, 1.01)
    small = {"height": SIZE, "width": SIZE}
    bars_alone = pytest.MonkeyPatch()
    bars_alone.setattr(flops, "count_step", lambda step: (counts[step.name].flops, counts[step.name].elements))
    for bars, status in ((loose, 0), (tight, 1)):
        family = replace(STARTER, bars=bars, **small)
        monkeypatch.setattr(overhead, "get_model", lambda name, family=family: family)
        assert overhead.main(["--family", "starter"]) == status
        text = capsys.readouterr().out
        assert f"Starter, {SIZE}x{SIZE}, with guidance" in text
        assert ("**no**" in text) == bool(status)
    bars_alone.undo()  # the last one counts
    assert overhead.main(["--family", "starter", "--size", "64", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["starter"]
    assert [row["name"] for row in rows] == list(counts)
    assert all(row["bar"] is None for row in rows)
    assert rows[1]["flops"] == counts["first"].flops


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in ("sd15-train", "sd15", "sdxl", "svd", "svd-v1")]
)
def test_the_bars_are_met(name):
    counts = {count.name: count for count in count_steps(get_model(name))}
    assert [counts[row].met for row in ("first", "further", "again")] == [True] * 3, counts
    assert counts["authors"].ratio - 1 == pytest.approx(2 * (counts["first"].ratio - 1))


def test_sizes_keep_the_shape_and_wrong_ones_are_sentences():
    assert get_model("svd").size() == (576, 1024)
    assert get_model("svd").size(128) == (128, 192)
    assert get_model("sdxl").size(512) == (512, 512)
    for size in (0, 100):
        with pytest.raises(BenchError, match="multiple of 64"):
            get_model("sdxl").size(size)
    with pytest.raises(BenchError, match="choose one of sd15"):
        get_model("sd3")


def test_a_missing_configuration_is_a_sentence(tmp_path):
    with pytest.raises(BenchError, match=r"holds no config\.json"):
        Rig(replace(STARTER, unet_folder=tmp_path))


def test_seconds_and_memory_are_measured_for_every_row():
    device = Device("cpu", torch.float32)
    rows = seconds.time_steps(STARTER, device, rounds=1, size=SIZE)
    assert [row.name for row in rows] == [row.name for row in Rig(STARTER, size=SIZE).steps()]
    assert rows[0].ratio == 1.0
    assert all(row.seconds > 0 for row in rows)
    assert json.dumps([asdict(row) for row in rows])
    weights = Rig(STARTER, size=SIZE).steps()[0].weight_bytes
    if rows[0].peak_bytes is not None:  # the system says
        assert all(weights < row.peak_bytes < 2**30 for row in rows)
    text = seconds.table(STARTER, rows, device, SIZE)
    assert text.startswith("Starter, 64x64, with guidance; cpu, float32, torch ")
    assert text.count("\n|") == len(rows) + 2


@pytest.fixture(scope="module")
def tiny_sdxl(tmp_path_factory):
    """Configurations in the layout of those that come with the project, of an SDXL small enough to run."""
    folder = tmp_path_factory.mktemp("configs")
    components = sdxl_components()
    changes = {
        "block_out_channels": (320, 32, 32),  # the released module makes 320 channels
        "transformer_layers_per_block": (1, 1, 10),  # ten of them is what tells SDXL's files apart
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 2048,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 1024,
    }
    components |= {
        "unet": make_unet(**changes),
        "text_encoder": make_text_encoder(1024),
        "text_encoder_2": make_text_encoder(1024, CLIPTextModelWithProjection),
        "tokenizer": make_tokenizer(),
        "tokenizer_2": make_tokenizer(),
    }
    diffusers.StableDiffusionXLPipeline(**components).save_pretrained(folder / "sdxl")
    return folder


def options(**changes):
    values = {"family": "sdxl", "size": SIZE, "steps": 2, "precision": "bfloat16", "threads": 1}
    return argparse.Namespace(**{**values, **changes})


def test_a_full_size_model_is_written_in_shards_loaded_and_run(tmp_path, tiny_sdxl, monkeypatch):
    monkeypatch.setattr(full_size, "SHARD", "3MB")
    figures = full_size.measure(options(), tmp_path, tiny_sdxl)
    unet = tmp_path / "sdxl" / "base" / "unet"
    shards = sorted(path.name for path in unet.glob("*.safetensors"))
    assert len(shards) > 1
    assert all(name.startswith("diffusion_pytorch_model") and "fp16" in name for name in shards)
    with safe_open(unet / shards[0], "pt") as file:
        assert file.get_tensor(next(iter(file.keys()))).dtype == torch.float16
    with safe_open(tmp_path / "sdxl" / "adapter" / "unet.safetensors", "pt") as file:
        assert all("attn2.to_out" in key for key in file.keys())  # noqa: SIM118 - no mapping
        assert not file.metadata()
    assert len(figures.files) == 2
    assert (len(figures.step_seconds), len(figures.kept_seconds)) == (2, 2)
    assert figures.parameters > 10**6
    assert figures.disk_bytes > 2 * figures.parameters
    assert "bfloat16" in full_size.table(figures)
    before = {path: path.stat().st_mtime_ns for path in unet.iterdir()}
    full_size.write_base(tmp_path / "sdxl" / "base", tiny_sdxl / "sdxl")
    assert {path: path.stat().st_mtime_ns for path in unet.iterdir()} == before  # written once


def test_full_size_says_when_there_is_no_room(tmp_path, tiny_sdxl, monkeypatch):
    monkeypatch.setattr(full_size.shutil, "disk_usage", lambda path: argparse.Namespace(free=1000))
    with pytest.raises(BenchError, match="of disk, but 0"):
        full_size.measure(options(), tmp_path, tiny_sdxl)


@pytest.mark.parametrize(("name", "parameters"), [("sd15", 1_066_235_307), ("sdxl", 3_468_837_867)])
def test_the_full_configurations_are_those_of_the_released_models(name, parameters):
    config = full_size.CONFIGS / name
    total = sum(full_size.component_size(config, network) for network in full_size.networks(config))
    assert total == parameters


def test_every_family_names_its_source():
    assert all(family.source for family in BENCH_MODELS.values())
    assert flops.table(STARTER, []).startswith("Starter, 256x256")
