"""Tiny random models of the real classes, saved the way the hub holds them, and photos that come with packages."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotators.weights import fetch

needs_mediapipe = [
    pytest.mark.weights,
    pytest.mark.skipif(bool(fetch.missing()), reason="run `python -m annotators fetch` first"),
]


def astronaut() -> Image.Image:
    """Half a body, facing the camera, 512x512."""
    return _package_picture("skimage", "data/astronaut.png")


def hopper() -> Image.Image:
    """Head and shoulders, 512x600."""
    return _package_picture("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")


def coffee() -> Image.Image:
    """A cup and nobody, 600x400."""
    return _package_picture("skimage", "data/coffee.png")


def _package_picture(package: str, path: str) -> Image.Image:
    folder = Path(importlib.util.find_spec(package).origin).parent
    return Image.open(folder / path).convert("RGB")


def scene(height=96, width=128) -> Image.Image:
    """A drawn picture with edges, colours and smooth parts; nobody in it."""
    ys, xs = np.mgrid[0:height, 0:width]
    rgb = np.stack([xs * 255 // width, ys * 255 // height, (xs + ys) % 256], axis=-1).astype(np.uint8)
    rgb[height // 4 : height // 2, width // 4 : width // 2] = (250, 40, 40)
    return Image.fromarray(rgb)


def save_depth_anything(folder: Path) -> None:
    """Depth Anything V2, tiny."""
    import torch
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        out_indices=[1, 2, 3, 4],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    net = DepthAnythingForDepthEstimation(config)
    net.head.conv3.weight.data.abs_()  # untrained, its last layer would give nothing but zeros
    net.save_pretrained(folder)
    size = {"height": 56, "width": 56}
    DPTImageProcessor(size=size, keep_aspect_ratio=True, ensure_multiple_of=14).save_pretrained(folder)


def save_segformer(folder: Path) -> None:
    """SegFormer with the 150 classes of ADE20K, tiny."""
    import torch
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1] * 4,
        num_attention_heads=[1] * 4,
        decoder_hidden_size=16,
        num_labels=150,
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


def save_upernet(folder: Path) -> None:
    """UperNet on ConvNeXt with the 150 classes of ADE20K, tiny."""
    import torch
    from transformers import ConvNextConfig, SegformerImageProcessor, UperNetConfig, UperNetForSemanticSegmentation

    torch.manual_seed(0)
    backbone = ConvNextConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    config = UperNetConfig(
        backbone_config=backbone, hidden_size=16, auxiliary_in_channels=16, auxiliary_channels=8, num_labels=150
    )
    UperNetForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
