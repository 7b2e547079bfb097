"""Depth and segmentation by the transformers classes, from tiny weights in the layouts people really have."""

import shutil

import numpy as np
import pytest
from annotator_helpers import scene

from annotators import AnnotatorError, annotate, depth, segmentation, table
from annotators.palette import ADE20K
from annotators.weights import hub, loading


def test_depth_fills_the_range_and_comes_as_data(tiny_models):
    made = annotate("depth", scene())
    assert made.backend == "depth-anything"
    near = made.data["depth"]
    assert near.shape == (96, 128)
    assert (near.min(), near.max()) == (0, 1)
    assert np.array_equal(np.asarray(made.image)[..., 0], np.rint(near * 255).astype(np.uint8))
    assert made.note == ""


def test_depth_inverts_and_clips(tiny_models):
    plain = np.asarray(annotate("depth", scene()).image).astype(int)
    inverted = np.asarray(annotate("depth", scene(), invert=True).image).astype(int)
    assert np.abs(plain + inverted - 255).max() <= 1
    clipped = np.asarray(annotate("depth", scene(), clip=10.0).image)
    assert ((clipped == 255) | (clipped == 0)).mean() > 0.18


def test_flat_depth_is_black_not_a_division_by_zero():
    drawing = depth._draw_relative(np.full((8, 8), 3.0, np.float32), {"clip": 0.0, "invert": False})
    assert not drawing.rgb.any()


@pytest.mark.parametrize("backend", ["segformer", "upernet"])
def test_segmentation_paints_classes_in_ade20k_colours(tiny_models, backend):
    made = annotate("segmentation", scene(), backend=backend)
    ids = made.data["ids"]
    assert ids.shape == (96, 128)
    assert len(made.data["names"]) == 150
    assert np.array_equal(np.asarray(made.image), ADE20K[ids])


def test_auto_prefers_the_light_class_model(tiny_models):
    assert annotate("segmentation", scene()).backend == "segformer"


def test_the_palette_is_ade20ks():
    assert ADE20K.shape == (150, 3)
    assert tuple(ADE20K[2]) == (6, 230, 230)  # sky
    assert tuple(ADE20K[12]) == (150, 5, 61)  # person
    assert tuple(ADE20K[149]) == (92, 0, 255)  # flag


def test_weights_are_found_in_the_hubs_own_layout(tiny_models, tmp_path):
    repo = segmentation.SEGFORMER
    root = tmp_path / "hub" / "models--nvidia--segformer-b0-finetuned-ade-512-512"
    for snapshot in ("aaa", "bbb"):
        shutil.copytree(tiny_models / repo.id.replace("/", "--"), root / "snapshots" / snapshot)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("bbb")
    tiny_models.unlink()
    assert hub.find(repo) == root / "snapshots" / "bbb"
    assert annotate("segmentation", scene()).backend == "segformer"
    (root / "snapshots" / "bbb" / "config.json").unlink()
    assert hub.find(repo) == root / "snapshots" / "aaa"


def test_a_repository_half_downloaded_is_not_there(tiny_models, tmp_path):
    folder = tmp_path / "cache" / "half"
    shutil.copytree(tiny_models / depth.DEPTH_ANYTHING.id.replace("/", "--"), folder)
    (folder / "model.safetensors").unlink()
    assert not hub._complete(folder, depth.DEPTH_ANYTHING)
    assert hub._complete(tiny_models / depth.DEPTH_ANYTHING.id.replace("/", "--"), depth.DEPTH_ANYTHING)


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HUB_CACHE": "/a"}, "/a"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
    ],
)
def test_the_hubs_cache_is_where_its_variables_say(monkeypatch, variables, place):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(hub.hub_cache()) == place


def test_a_download_that_fails_is_a_sentence_with_the_repository(monkeypatch):
    import huggingface_hub

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(AnnotatorError, match=r"Depth-Anything-V2-Small-hf \(99 MB\) could not be downloaded"):
        table.fetch_backend("depth", "depth-anything")


def test_a_download_takes_what_is_needed_and_the_best_weights(monkeypatch):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repo, name: asked.append(name))
    table.fetch_backend("segmentation", "segformer")
    assert asked == ["config.json", "preprocessor_config.json", "model.safetensors"]


def test_nothing_to_fetch_is_a_sentence():
    with pytest.raises(AnnotatorError, match="nothing to fetch"):
        table.fetch_backend("canny", "opencv")


def test_midas_is_asked_through_controlnet_aux(own_cache, monkeypatch):
    folder = own_cache / "models" / "lllyasviel--Annotators"
    folder.mkdir(parents=True)
    (folder / depth.MIDAS.files[0]).touch()
    calls = []

    def detector(rgb, **options):
        calls.append(options)
        return np.repeat(np.arange(64, dtype=np.uint8)[:, None, None] * 4, 64, axis=1).repeat(3, axis=2)

    loading.unload()
    monkeypatch.setattr(
        depth, "_load_midas", lambda path: detector if path == folder else pytest.fail("another folder")
    )
    made = annotate("depth", scene(), backend="midas")
    assert calls == [{"detect_resolution": 512, "image_resolution": 512, "output_type": "np"}]
    assert made.image.size == (128, 96)
    assert made.image.getpixel((5, 95)) == (255, 255, 255)
    loading.unload()


def test_unload_lets_go_and_loads_again(tiny_models):
    annotate("depth", scene())
    assert loading._loaded
    loading.unload()
    assert not loading._loaded
    table.CACHE.clear()
    assert annotate("depth", scene()).backend == "depth-anything"


def test_damaged_weights_are_a_sentence(tiny_models, own_cache):
    name = depth.DEPTH_ANYTHING.id.replace("/", "--")
    damaged = own_cache / "damaged"
    shutil.copytree(tiny_models / name, damaged / name)
    (damaged / name / "model.safetensors").write_bytes(b"half a file")
    tiny_models.unlink()
    damaged.rename(tiny_models)
    with pytest.raises(AnnotatorError, match="depth-anything could not be loaded"):
        annotate("depth", scene(), backend="depth-anything")
    assert annotate("canny", scene()).backend == "opencv"


def test_a_package_that_does_not_fit_is_a_sentence():
    def fail():
        raise RuntimeError("operator torchvision::nms does not exist\nmore lines")

    with pytest.raises(
        AnnotatorError, match=r"net could not be loaded: operator torchvision::nms does not exist. Fetch"
    ):
        loading.once("net", fail)
    assert loading.once("net", lambda: "now it works") == "now it works"
