"""Every preset of the project on its real path: listed, downloaded from a hub, loaded, and run without a network."""

import json
import shutil

import huggingface_hub.constants
import numpy as np
import pytest
from fake_hub import FakeHub
from PIL import Image
from released import save_adapter, save_base

from controlnext.assets import PRESETS as FOLDER
from controlnext.models import hub
from controlnext.models.hub import Repo
from controlnext.models.presets import load_presets
from controlnext.studio.studio import Studio

PRESETS = {name: preset for name, preset in load_presets()[0].items() if preset.family in ("sd15", "sdxl")}


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A hub with a tiny stand-in for every repository that a preset names."""
    folder = tmp_path_factory.mktemp("released")
    made = FakeHub()
    for preset in PRESETS.values():
        base = folder / preset.family
        if not base.exists():
            save_base(base, preset.family)
        made.add_folder(preset.base.repo, base)
        if preset.vae:
            vae = folder / "vae"
            if not vae.exists():
                vae.mkdir()
                shutil.copy(base / "vae" / "config.json", vae)
                shutil.copy(
                    base / "vae" / "diffusion_pytorch_model.fp16.safetensors",
                    vae / "diffusion_pytorch_model.safetensors",
                )
            made.add_folder(preset.vae.repo, vae)
        for kind, row in preset.adapters.items():
            place = folder / preset.name / kind
            save_adapter(place, preset.variant, row.files, original=preset.name == "sdxl-anime")
            repo = Repo.parse(row.repo)
            made.add_folder(repo.id, place, f"{repo.folder}/" if repo.folder else "")
    return made


@pytest.fixture
def online(held, tmp_path, monkeypatch):
    with held.serve() as address:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub, "NETWORK", hub.Network())
        held.requests.clear()
        yield held


def row_of(studio, name):
    return next(row for row in studio.catalogue.models() if row["name"] == name)


@pytest.mark.parametrize("name", PRESETS)
def test_a_released_model_is_downloaded_loaded_and_controls(online, tmp_path, monkeypatch, name):
    studio = Studio(output_dir=tmp_path / "out", device="cpu", threads=1)
    row = row_of(studio, name)
    assert row["state"] == "download"
    assert row["download_bytes"] > 2e9
    assert "the first run downloads" in row["reason"]
    assert set(row["styles"]) == set(PRESETS[name].adapters)
    kind = row["annotators"][0]
    condition = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8))
    size = PRESETS[name].sizes.minimum
    recipe = studio.catalogue.resolve(name, kind, prompt="x", seed=1, num_inference_steps=2, width=size, height=size)
    assert recipe.scheduler == "unipc"
    assert recipe.gamma == (0.35 if name == "sdxl-anime" else 1.0)
    told = []
    made = studio.generate(recipe, condition, on_progress=told.append)
    stages = list(dict.fromkeys(one.stage for one in told))
    title = PRESETS[name].title
    assert stages == [f"Asking the hub for {title}", f"Downloading {title}", f"Loading {title}", "Drawing"]
    assert set(made.recipe.weights) == {"base", "adapter"}
    assert row_of(studio, name)["state"] == "ready"

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    asked = len(online.requests)
    again = Studio(output_dir=tmp_path / "out", device="cpu", threads=1)
    assert row_of(again, name)["state"] == "ready"
    assert np.array_equal(np.asarray(again.generate(recipe, condition).images[0]), np.asarray(made.images[0]))
    off = again.generate(recipe.replace(gamma=0.0, alpha=0.0), condition)
    assert not np.array_equal(np.asarray(off.images[0]), np.asarray(made.images[0]))
    assert again._engine._adapters[kind].kind == PRESETS[name].adapters[kind].kind
    assert len(online.requests) == asked
    assert not any("safety_checker" in path for path, _ in online.requests)


def test_every_adapter_of_a_model_loads(online, tmp_path):
    studio = Studio(output_dir=tmp_path / "out", device="cpu", threads=1)
    condition = Image.new("RGB", (64, 64), "white")
    for kind in PRESETS["sd15"].adapters:
        recipe = studio.catalogue.resolve("sd15", kind, seed=1, num_inference_steps=1, width=256, height=256)
        assert studio.generate(recipe, condition).files


def test_the_list_of_presets_is_that_of_the_releases():
    presets = load_presets(FOLDER)[0]
    named = {row.repo for preset in presets.values() for row in preset.adapters.values() if row.repo}
    mirrors = {text for preset in presets.values() for row in preset.adapters.values() for text in row.mirrors}
    prefix = "Pbihao/ControlNeXt"
    assert named | mirrors == {
        *(f"{prefix}/ControlNeXt-SD1.5/{task}" for task in
          ("deepfashion_multiview", "deepfashion_caption", "deepfashoin_mask", "vidit_depth")),
        *(f"{prefix}/ControlAny-SDXL/{task}" for task in ("anime_canny", "vidit_depth")),
        *(f"{prefix}/ControlNeXt-SVD/{task}" for task in ("finetune", "v2")),
        "Eugeoter/controlnext-sd1.5-deepfashion-multiview",
        "Eugeoter/controlnext-sdxl-anime-canny",
        "Eugeoter/controlnext-sdxl-vidit-depth",
    }  # fmt: skip
    for preset in presets.values():
        assert preset.base.licence, preset.name
        assert "runwayml" not in json.dumps(preset.base.model_dump()), "the original repository is gone"
        for row in preset.adapters.values():
            assert row.path or (row.kind and row.style and row.source), preset.name


@pytest.mark.parametrize("name", ["svd-v1", "svd-v2"])
def test_a_video_model_is_listed_and_refused_with_a_sentence(tmp_path, name):
    studio = Studio(output_dir=tmp_path, device="cpu", threads=1)
    row = row_of(studio, name)
    assert (row["state"], row["usable"]) == ("video", False)
    assert "makes videos" in row["reason"]
    from controlnext.models.presets import PresetError

    with pytest.raises(PresetError, match=r"makes videos: .* makes no single pictures"):
        studio.generate(studio.catalogue.resolve(name, "pose", seed=1), Image.new("RGB", (64, 64)))
