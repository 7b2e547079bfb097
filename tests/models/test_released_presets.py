"""Every preset of the project on its real path: listed, downloaded from a hub, loaded, and run without a network."""

import json

import huggingface_hub.constants
import numpy as np
import pytest
from PIL import Image
from released import released_hub

from controlnext.assets import PRESETS as FOLDER
from controlnext.models import hub
from controlnext.models.presets import load_presets
from controlnext.studio.studio import Studio

PRESETS = {name: preset for name, preset in load_presets()[0].items() if preset.family in ("sd15", "sdxl")}


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A hub with a tiny stand-in for every repository that a preset names."""
    return released_hub(tmp_path_factory.mktemp("released"))


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
def test_a_released_video_model_is_downloaded_and_moves_a_picture(online, tmp_path, monkeypatch, name):
    import annotators
    from annotators.poses.skeleton import draw_skeleton
    from controlnext.models.download_errors import DownloadError
    from controlnext.video import write_video

    joints = np.ones((18, 3))
    joints[:, 0] = 48 + np.array([0, 0, -8, -12, -14, 8, 12, 14, -5, -6, -6, 5, 6, 6, -2, 2, -4, 4])
    joints[:, 1] = [18, 30, 30, 45, 60, 30, 45, 60, 65, 85, 108, 65, 85, 108, 15, 15, 17, 17]
    skeleton = draw_skeleton([joints], 128, 96)
    clip = tmp_path / "poses.mp4"
    write_video(clip, [skeleton] * 2, 6)
    studio = Studio(output_dir=tmp_path / "out", device="cpu", threads=1, annotators=annotators)
    reference = Image.new("RGB", (256, 256), (200, 40, 0))
    recipe = studio.animator.resolve(
        name, reference, seed=1, width=256, height=256, num_inference_steps=1, reader="drawing", fit=False
    )
    assert recipe.drawing == "svd"
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(DownloadError) as caught:
        studio.animate(recipe, reference, clip)
    assert caught.value.state == "gated"
    monkeypatch.setenv("HF_TOKEN", online.token)
    made = studio.animate(recipe, reference, clip)
    assert made.frames == 2
    assert set(made.recipe.weights) == {"base", "adapter"}
    names = {path.rpartition("/")[2] for path, _ in online.requests}
    assert {"controlnet.bin", "unet.bin", "model.fp16.safetensors"} <= names


@pytest.mark.parametrize("name", ["svd-v1", "svd-v2"])
def test_a_video_model_is_listed_and_refused_with_a_sentence(tmp_path, name):
    studio = Studio(output_dir=tmp_path, device="cpu", threads=1)
    row = row_of(studio, name)
    assert (row["state"], row["usable"]) == ("video", False)
    assert "makes videos" in row["reason"]
    from controlnext.models.presets import PresetError

    with pytest.raises(PresetError, match=r"makes videos: .* makes no single pictures"):
        studio.generate(studio.catalogue.resolve(name, "pose", seed=1), Image.new("RGB", (64, 64)))
