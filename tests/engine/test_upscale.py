"""Upscaling models in files: small ones of real architectures, made here."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_studio import picture

from controlnext.engine import upscale
from controlnext.engine.upscale import UpscaleError, Upscaling
from controlnext.models.upscalers import UpscalerError, UpscalerFolders

pytest.importorskip("spandrel")


def compact(scale):
    """Real-ESRGAN's small architecture with random weights."""
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    return Compact(num_feat=8, num_conv=2, upscale=scale, act_type="prelu").eval()


def esrgan():
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(1)
    return ESRGAN(num_filters=4, num_blocks=1, scale=4).eval()


@pytest.fixture
def upscaling(tmp_path):
    save_file(compact(2).state_dict(), tmp_path / "two.safetensors")
    torch.save({"params_ema": compact(4).state_dict()}, tmp_path / "four.pth")
    save_file(dict(esrgan().state_dict()), tmp_path / "esrgan.safetensors")
    return Upscaling(UpscalerFolders([tmp_path, tmp_path / "nowhere"]))


@pytest.mark.parametrize(("name", "times"), [("two.safetensors", 2), ("four.pth", 4), ("esrgan.safetensors", 4)])
def test_a_model_enlarges_as_it_does_by_itself(upscaling, name, times):
    image = picture(0, (24, 16))
    made = upscaling.enlarge(image, times, name)
    assert made.size == (24 * times, 16 * times)
    model = {"two.safetensors": compact(2), "four.pth": compact(4), "esrgan.safetensors": esrgan()}[name]
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        alone = (model(pixels)[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.abs(np.asarray(made).astype(int) - alone).max() <= 1  # spandrel pads and crops, which moves rounding
    assert np.asarray(made).std() > 1


def test_another_factor_is_reached_from_the_models_own(upscaling):
    four = upscaling.enlarge(picture(0, (24, 16)), 4, "four.pth")
    two = upscaling.enlarge(picture(0, (24, 16)), 2, "four.pth")
    assert np.array_equal(two, four.resize((48, 32), Image.Resampling.LANCZOS))


def test_without_a_model_lanczos_enlarges(upscaling):
    image = picture(0, (24, 16))
    assert np.array_equal(upscaling.enlarge(image, 2), image.resize((48, 32), Image.Resampling.LANCZOS))


def test_tiles_give_the_picture_of_the_whole(upscaling, monkeypatch):
    image, told = picture(0, (60, 44)), []
    whole = upscaling.enlarge(image, 2, "two.safetensors")
    monkeypatch.setattr(upscale, "TILE", 20)
    monkeypatch.setattr(upscale, "MARGIN", 8)  # more than these three convolutions see
    tiled = upscaling.enlarge(image, 2, "two.safetensors", lambda *of: told.append(of))
    assert np.abs(np.asarray(whole).astype(int) - np.asarray(tiled)).max() <= 1
    assert told == [(number, 9) for number in range(9)]


def test_what_is_no_upscaling_model_is_refused_by_name(upscaling, tmp_path):
    with pytest.raises(UpscalerError, match=r"nonesuch\.pth.*four\.pth"):
        upscaling.enlarge(picture(), 2, "nonesuch.pth")
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    torch.save(compact(2), tmp_path / "code.pth")  # a pickled object, which would run code
    for name in ("other.safetensors", "broken.safetensors", "code.pth"):
        with pytest.raises(UpscaleError, match=name):
            upscaling.enlarge(picture(), 2, name)
