"""The segmentation annotator: a map of classes in their colours, or a mask of people."""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from annotators.base import Annotator, Availability, Backend, Drawing, NobodyFound, Setting, Settings
from annotators.palette import ADE20K, PERSON
from annotators.starter import backend as starter
from annotators.starter import figure_row, net
from annotators.weights import fetch, hub
from annotators.weights.hub import WeightsRepo
from annotators.weights.loading import once

if TYPE_CHECKING:
    from annotators.poses.person import PersonMask
    from annotators.starter.figure import Scene
    from annotators.starter.net import SceneReading

SEGFORMER = WeightsRepo(
    "nvidia/segformer-b0-finetuned-ade-512-512",
    ("config.json", "preprocessor_config.json"),
    ("model.safetensors", "pytorch_model.bin"),
    15,
    "segformer",
)
UPERNET = WeightsRepo(
    "openmmlab/upernet-convnext-small",
    ("config.json", "preprocessor_config.json"),
    ("model.safetensors", "pytorch_model.bin"),
    328,
    "upernet",
)

_REAL_CLASSES = f"{SEGFORMER.id} ({SEGFORMER.megabytes} MB): {SEGFORMER.command}"

_WHITE = "white"
_ADE = "ade20k"
_model_lock = threading.Lock()


@dataclass(frozen=True)
class Classes:
    """Class of each pixel (H, W) uint8, and the name of each class."""

    ids: np.ndarray
    names: tuple[str, ...]


def _read_transformers(rgb: np.ndarray, repo: WeightsRepo) -> Classes:
    import torch
    from PIL import Image

    processor, network, device = once(repo.id, lambda: _load(hub.require(repo)))
    with _model_lock, torch.inference_mode():
        inputs = processor(images=Image.fromarray(rgb), return_tensors="pt").to(device)
        logits = network(**inputs).logits.float()
        sized = torch.nn.functional.interpolate(logits, rgb.shape[:2], mode="bilinear", align_corners=False)
        ids = sized[0].argmax(dim=0).cpu().numpy().astype(np.uint8)
    labels = network.config.id2label
    return Classes(ids, tuple(labels[i] for i in sorted(labels)))


def _load(folder: Path) -> tuple[Any, Any, str]:
    import torch
    from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

    device = "cuda" if torch.cuda.is_available() else "cpu"
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)  # type: ignore[no-untyped-call]
    net = AutoModelForSemanticSegmentation.from_pretrained(folder, local_files_only=True)
    return processor, net.eval().to(device), device


def _check(repo: WeightsRepo) -> Availability:
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            return Availability(usable=False, reason=f"The package {package} is not installed.")
    return hub.check(repo)


def _draw_classes(classes: Classes, settings: Settings) -> Drawing:
    return Drawing(ADE20K[classes.ids % len(ADE20K)], {"ids": classes.ids, "names": classes.names})


def _read_person(rgb: np.ndarray, settings: Settings) -> PersonMask:
    from annotators.poses.person import find_person

    return find_person(rgb)


def _draw_person(reading: PersonMask, settings: Settings) -> Drawing:
    inside = reading.mask > float(settings["threshold"])
    if not inside.any():
        raise NobodyFound(
            "No person was found in this picture: lower the threshold, or take a picture that shows one larger."
        )
    colour = ADE20K[PERSON] if settings["colours"] == _ADE else np.full(3, 255, np.uint8)
    rgb = np.where(inside[..., None], colour, np.uint8(0))
    note = "" if reading.recognised else "No person was recognised: the mask shows what stands in front."
    return Drawing(rgb, {"ids": inside.astype(np.uint8), "names": ("background", "person")}, note)


def _draw_figure(scene: Scene, settings: Settings) -> Drawing:
    from annotators.starter.figure import PARTS

    figure_row.require_people(scene)
    ids = np.array([net.PARTS.index(name) for name in PARTS], np.uint8)[scene.parts]
    return Drawing(np.asarray(net.PARTS_PALETTE, np.uint8)[ids], {"ids": ids, "names": tuple(net.PARTS)})


def _draw_starter(reading: SceneReading, settings: Settings) -> Drawing:
    ids = np.asarray(reading.parts, dtype=np.uint8)
    return Drawing(np.asarray(net.PARTS_PALETTE, np.uint8)[ids], {"ids": ids, "names": tuple(net.PARTS)})


SEGMENTATION = Annotator(
    name="segmentation",
    label="Segmentation",
    help="What everything is, each class in its colour: keeps the layout.",
    settings=(
        Setting(
            "threshold",
            "Person threshold",
            "float",
            0.5,
            0.05,
            0.95,
            0.05,
            help="Person mask only: how sure a pixel must be to count as person.",
        ),
        Setting(
            "colours",
            "Person colour",
            "choice",
            _WHITE,
            choices=(_WHITE, _ADE),
            help="Person mask only: white, or ADE20K's colour of people.",
        ),
    ),
    backends=(
        Backend(
            "segformer",
            "SegFormer B0 (ADE20K)",
            lambda rgb, settings: _read_transformers(rgb, SEGFORMER),
            _draw_classes,
            lambda: _check(SEGFORMER),
            fetch=lambda: hub.fetch(SEGFORMER),
            source=SEGFORMER.id,
            licence="NVIDIA Source Code License (non-commercial)",
            megabytes=SEGFORMER.megabytes,
        ),
        Backend(
            "upernet",
            "UperNet ConvNeXt Small (ADE20K)",
            lambda rgb, settings: _read_transformers(rgb, UPERNET),
            _draw_classes,
            lambda: _check(UPERNET),
            fetch=lambda: hub.fetch(UPERNET),
            source=UPERNET.id,
            licence="MIT",
            megabytes=UPERNET.megabytes,
        ),
        Backend(
            starter.NAME,
            starter.LABEL,
            starter.read,
            _draw_starter,
            starter.check,
            source="assets/starter/annotator",
            licence="this project's",
            suits=starter.is_own_world,
            doubt=f"{starter.DOUBT} For all classes of photos fetch {_REAL_CLASSES}.",
        ),
        Backend(
            figure_row.NAME,
            "Parts of a figure (MediaPipe)",
            figure_row.read,
            _draw_figure,
            fetch.availability,
            prepare=fetch.ensure,
            fetch=fetch.fetch_mediapipe,
            source=f"{fetch.WHEEL} (model files of the wheel)",
            licence="Apache-2.0",
            megabytes=fetch.WHEEL_MEGABYTES,
            suits=figure_row.sees_somebody,
            caveat="These are the starter model's parts, drawn from MediaPipe's skeleton and mask of people. "
            f"For ADE20K's classes of photos fetch {_REAL_CLASSES}.",
        ),
        Backend(
            "person",
            "Person mask (MediaPipe)",
            _read_person,
            _draw_person,
            fetch.availability,
            draws=("threshold", "colours"),
            prepare=fetch.ensure,
            fetch=fetch.fetch_mediapipe,
            source=f"{fetch.WHEEL} (model files of the wheel)",
            licence="Apache-2.0",
            megabytes=fetch.WHEEL_MEGABYTES,
            caveat=f"This is a mask of what stands in front, not a map of classes. For all classes of photos fetch {_REAL_CLASSES}.",
        ),
    ),
)
