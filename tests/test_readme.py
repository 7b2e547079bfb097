"""The README promises what it shows: its Python examples for the starter are run as they stand."""

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.weights
def test_python_examples_make_pictures(tmp_path, monkeypatch):
    first, second = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[:2]
    assert "StableDiffusionControlNeXtPipeline" in first
    assert "control_image=[" in second
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    shutil.copy(ROOT / "assets" / "examples" / "arms-out.png", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in (first, second):
        exec(code, names)
        assert names["image"].size == (256, 256)
        assert names["image"].getextrema()[0][0] < names["image"].getextrema()[0][1]


def test_starter_loads_in_one_precision_with_the_stock_pipeline():
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(ROOT / "assets" / "starter" / "base", safety_checker=None)
    assert {part.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}
