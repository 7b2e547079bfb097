import json

import pytest

from controlnext.models.presets import Base, Place, load_preset
from controlnext.models.sources import Part, adapter_of, parts_of, weight_variant

PRESET = """
title: Mine
variant: sdxl
base: {repo: owner/base, licence: none, file_variant: fp16}
vae: {repo: owner/vae, files: {diffusion_pytorch_model.safetensors: 10}}
sizes: {width: 64, height: 64, minimum: 64, maximum: 128}
adapters:
  canny: {repo: owner/adapter/in/it, files: {controlnet.safetensors: 3, unet.safetensors: 4}}
  depth: {path: depth}
"""


@pytest.fixture
def preset(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    (tmp_path / "mine.yaml").write_text(PRESET)
    return load_preset(tmp_path / "mine.yaml")


def cached(tmp_path, repo, commit="abc", head=None):
    root = tmp_path / "hf" / "hub" / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(head or commit)
    folder = root / "snapshots" / commit
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


def test_parts_are_the_base_the_float16_autoencoder_and_adapters(preset):
    assert [part.label for part in parts_of(preset)] == ["the base model", "the canny adapter", "the depth adapter"]
    assert [part.layout for part in parts_of(preset, (), half=True)] == ["pipeline", "model"]
    full = preset.model_copy(update={"precision": "float32"})
    assert len(parts_of(full, (), half=True)) == 1
    assert adapter_of(preset, "canny").size() == 7
    assert parts_of(preset, ())[0].size() is None


def test_a_cached_base_counts_once_it_is_whole(preset, tmp_path):
    (base,) = parts_of(preset, ())
    assert base.find() is None
    folder = cached(tmp_path, "owner/base")
    index = {
        "unet": ["diffusers", "X"],
        "vae": ["diffusers", "Y"],
        "safety_checker": [None, None],
        "scheduler": ["d", "S"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    put(folder, "unet/config.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors")
    assert base.find() is None
    put(folder, "scheduler/scheduler_config.json", "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors")
    assert base.find() is None
    put(folder, "unet/diffusion_pytorch_model.fp16-00002-of-00002.safetensors")
    assert base.find() == folder
    assert weight_variant(folder / "unet") == "fp16"
    assert weight_variant(folder / "vae") is None


def test_the_snapshot_of_the_branch_wins_and_another_revision_is_none(preset, tmp_path):
    adapter = adapter_of(preset, "canny")
    old, new = cached(tmp_path, "owner/adapter", "aaa"), cached(tmp_path, "owner/adapter", "zzz")
    put(old, "in/it/controlnet.safetensors", "in/it/unet.safetensors")
    assert adapter.find() == old / "in" / "it"
    put(new, "in/it/controlnet.safetensors")
    assert adapter.find() == old / "in" / "it"  # the newer one lacks a file
    put(new, "in/it/unet.safetensors")
    assert adapter.find() == new / "in" / "it"
    pinned = Part("x", "adapter", adapter.place.model_copy(update={"revision": "v2"}))
    assert pinned.find() is None


def test_local_things_are_looked_at_as_they_lie(preset, tmp_path):
    depth = adapter_of(preset, "depth")
    assert depth.find() is None
    put(tmp_path, "depth/controlnext.bin")
    assert depth.find() == tmp_path / "depth"
    (tmp_path / "depth" / "controlnext.bin").rename(tmp_path / "one.safetensors")
    single = Part("x", "checkpoint", Base(path="one.safetensors", licence=""), tmp_path / "one.safetensors")
    assert single.find() == tmp_path / "one.safetensors"


NAMES = [
    "model_index.json", "README.md", "a.safetensors", "unet/config.json", "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors", "text_encoder/model.safetensors", "text_encoder/config.json",
    "tokenizer/merges.txt", "tokenizer/vocab.json", "safety_checker/model.safetensors", "safety_checker/config.json",
]  # fmt: skip


def test_chosen_files_are_safetensors_in_one_precision():
    place = Base(repo="a/b", licence="", file_variant="fp16")
    assert Part("x", "pipeline", place).choose(NAMES) == sorted(
        ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors", "text_encoder/model.safetensors",
         "text_encoder/config.json", "tokenizer/merges.txt", "tokenizer/vocab.json"]
    )  # fmt: skip
    plain = Part("x", "pipeline", Base(repo="a/b", licence="")).choose(NAMES)
    assert "unet/diffusion_pytorch_model.safetensors" in plain
    assert not any("fp16" in name or "non_ema" in name for name in plain)
    single = Part("x", "checkpoint", Base(repo="a/b", licence="", checkpoint="a.safetensors"))
    assert single.choose(NAMES) == ["a.safetensors"]


@pytest.mark.parametrize(
    ("part", "names", "says"),
    [
        (Part("x", "pipeline", Base(repo="a/b", licence="")), [name for name in NAMES if "unet/diff" not in name or "bin" in name],
         "its unet has no safetensors files"),
        (Part("x", "pipeline", Base(repo="a/b", licence="", files={"unet/x.safetensors": 1})), NAMES, r"it lacks unet/x"),
        (Part("x", "checkpoint", Base(repo="a/b", licence="", checkpoint="b.safetensors")), NAMES, r"it lacks b\.safetensors"),
        (Part("x", "adapter", Place(repo="a/b")), NAMES, r"it holds none of controlnet\.safetensors"),
        (Part("x", "model", Place(repo="a/b")), ["config.json"], "its folder has no safetensors"),
    ],
)  # fmt: skip
def test_a_repository_that_lacks_something_is_a_sentence(part, names, says):
    with pytest.raises(ValueError, match=says):
        part.choose(names)
