"""The annotators are tested in a cache folder of their own, which holds tiny models in the real layout."""

import pytest
from annotator_helpers import save_depth_anything, save_segformer, save_upernet

from annotators import depth, segmentation, table
from annotators.weights import fetch, loading

SAVERS = {
    depth.DEPTH_ANYTHING: save_depth_anything,
    segmentation.SEGFORMER: save_segformer,
    segmentation.UPERNET: save_upernet,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """An empty cache folder that has MediaPipe's files if the machine has them, and no hub."""
    real = fetch.mediapipe_folder()
    monkeypatch.setenv("CONTROLNEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(fetch, "_failure", None)
    (tmp_path / "cache").mkdir()
    if real.is_dir():
        (tmp_path / "cache" / real.name).symlink_to(real, target_is_directory=True)
    table.CACHE.clear()
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory):
    """Tiny models by repository, saved once."""
    root = tmp_path_factory.mktemp("models")
    for repo, save in SAVERS.items():
        save(root / repo.id.replace("/", "--"))
    return root


@pytest.fixture
def tiny_models(own_cache, saved_models):
    """The tiny models, in the place where files carried over by hand belong."""
    (own_cache / "models").symlink_to(saved_models, target_is_directory=True)
    loading.unload()
    yield own_cache / "models"
    loading.unload()


@pytest.fixture(scope="session")
def starter_weights(tmp_path_factory):
    """The starter net before any training."""
    import torch
    from safetensors.torch import save_file

    from annotators.starter import net as starter_net

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("starter") / "model.safetensors"
    save_file(starter_net.make_network().state_dict(), path)
    return path


@pytest.fixture
def untrained_starter(starter_weights, monkeypatch):
    """The starter net's backends, served by an untrained net."""
    from annotators.starter import backend as starter
    from annotators.starter import net as starter_net

    monkeypatch.setattr(starter, "STARTER_READER", starter_weights)
    monkeypatch.setattr(starter_net, "STARTER_READER", starter_weights)
    loading.unload()
    yield
    loading.unload()


@pytest.fixture
def nothing_fetched(own_cache, monkeypatch):
    """A fresh machine: no files, and a package client that cannot reach its registry."""
    for path in own_cache.iterdir():
        path.unlink()
    loading.unload()

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(fetch.subprocess, "run", refuse)
    yield own_cache
    loading.unload()
