"""The depth annotator: near is white, far is black."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from annotators.base import Annotator, Availability, Backend, Drawing, Setting, Settings
from annotators.starter import backend as starter
from annotators.starter import figure_row
from annotators.weights import fetch, hub
from annotators.weights.hub import WeightsRepo
from annotators.weights.loading import once

if TYPE_CHECKING:
    from annotators.starter.figure import Scene
    from annotators.starter.net import SceneReading

DEPTH_ANYTHING = WeightsRepo(
    "depth-anything/Depth-Anything-V2-Small-hf",
    ("config.json", "preprocessor_config.json"),
    ("model.safetensors",),
    99,
    "depth-anything",
)
MIDAS = WeightsRepo("lllyasviel/Annotators", ("dpt_hybrid-midas-501f0c75.pt",), (), 493, "midas")

_REAL_DEPTH = f"{DEPTH_ANYTHING.id} ({DEPTH_ANYTHING.megabytes} MB): {DEPTH_ANYTHING.command}"

_model_lock = threading.Lock()  # torch modules are shared by threads; one picture at a time bounds the memory


def _read_depth_anything(rgb: np.ndarray, settings: Settings) -> np.ndarray:
    """Return relative inverse depth (H, W) float32, larger is nearer."""
    import torch
    from PIL import Image

    processor, net, device = once("depth-anything", lambda: _load_depth_anything(hub.require(DEPTH_ANYTHING)))
    with _model_lock, torch.inference_mode():
        inputs = processor(images=Image.fromarray(rgb), return_tensors="pt").to(device)
        depth = net(**inputs).predicted_depth[:, None].float()
        sized = torch.nn.functional.interpolate(depth, rgb.shape[:2], mode="bicubic", align_corners=False)
        return sized[0, 0].cpu().numpy()


def _load_depth_anything(folder: Path) -> tuple[Any, Any, str]:
    import torch
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    device = "cuda" if torch.cuda.is_available() else "cpu"
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)  # type: ignore[no-untyped-call]
    net = AutoModelForDepthEstimation.from_pretrained(folder, local_files_only=True)
    return processor, net.eval().to(device), device


def _read_midas(rgb: np.ndarray, settings: Settings) -> np.ndarray:
    """Return relative inverse depth (H, W) float32, larger is nearer, in 256 steps (the detector gives a picture)."""
    import cv2

    detector = once("midas", lambda: _load_midas(hub.require(MIDAS)))
    height, width = rgb.shape[:2]
    with _model_lock:
        grey = detector(rgb, detect_resolution=512, image_resolution=512, output_type="np")[..., 0]
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)


class _MidasDetector(Protocol):
    """The detector of the optional package controlnet_aux, as far as it is used."""

    def __call__(
        self, rgb: np.ndarray, *, detect_resolution: int, image_resolution: int, output_type: str
    ) -> np.ndarray:
        """Return an RGB picture of relative inverse depth."""


def _load_midas(folder: Path) -> _MidasDetector:
    import torch
    from controlnet_aux.midas import MidasDetector

    detector = MidasDetector.from_pretrained(str(folder), filename=MIDAS.files[0])
    return cast(_MidasDetector, detector.to("cuda" if torch.cuda.is_available() else "cpu"))


def _check_transformers(repo: WeightsRepo) -> Availability:
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            return Availability(usable=False, reason=f"The package {package} is not installed.")
    return hub.check(repo)


def _check_midas() -> Availability:
    for package in ("torch", "controlnet_aux", "timm"):
        if importlib.util.find_spec(package) is None:
            name = package.replace("_", "-")
            return Availability(usable=False, reason=f"The package {name} is not installed: pip install {name}.")
    return hub.check(MIDAS)


def _draw_relative(depth: np.ndarray, settings: Settings) -> Drawing:
    """Stretch relative depth over the full range of greys, the extremes cut off as asked."""
    cut = float(settings["clip"])
    low, high = np.percentile(depth, (cut, 100 - cut)) if cut else (float(depth.min()), float(depth.max()))
    flat = high - low <= 1e-6 * max(abs(low), abs(high))
    near = np.zeros_like(depth) if flat else np.clip((depth - low) / (high - low), 0, 1)
    return _draw_near(near.astype(np.float32), settings)


def _draw_near(near: np.ndarray, settings: Settings) -> Drawing:
    """Draw nearness (H, W) float32 in [0, 1]."""
    shown = 1 - near if settings["invert"] else near
    grey = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    return Drawing(np.repeat(grey[..., None], 3, axis=2), {"depth": near})


def _draw_figure(scene: Scene, settings: Settings) -> Drawing:
    figure_row.require_people(scene)
    return _draw_near(scene.near, settings)


def _draw_starter(reading: SceneReading, settings: Settings) -> Drawing:
    return _draw_near(np.asarray(reading.depth, dtype=np.float32), settings)


DEPTH = Annotator(
    name="depth",
    label="Depth",
    help="How near everything is, white is nearest: keeps the space and the shapes.",
    settings=(
        Setting(
            "clip",
            "Clip extremes",
            "float",
            0.0,
            0.0,
            20.0,
            0.5,
            unit="%",
            help="Spreads the greys over the middle of the scene by cutting this share off at both ends.",
        ),
        Setting("invert", "Invert", "bool", False, help="Draw near as black instead of white."),
    ),
    backends=(
        Backend(
            "depth-anything",
            "Depth Anything V2 Small",
            _read_depth_anything,
            _draw_relative,
            lambda: _check_transformers(DEPTH_ANYTHING),
            draws=("clip", "invert"),
            fetch=lambda: hub.fetch(DEPTH_ANYTHING),
            source=DEPTH_ANYTHING.id,
            licence="Apache-2.0",
            megabytes=DEPTH_ANYTHING.megabytes,
        ),
        Backend(
            "midas",
            "MiDaS (DPT hybrid)",
            _read_midas,
            _draw_relative,
            _check_midas,
            draws=("clip", "invert"),
            fetch=lambda: hub.fetch(MIDAS),
            source=MIDAS.id,
            licence="MIT",
            megabytes=MIDAS.megabytes,
        ),
        Backend(
            starter.NAME,
            starter.LABEL,
            starter.read,
            _draw_starter,
            starter.check,
            draws=("invert",),
            source="assets/starter/annotator",
            licence="this project's",
            suits=starter.is_own_world,
            doubt=f"{starter.DOUBT} For real depth of photos fetch {_REAL_DEPTH}.",
        ),
        Backend(
            figure_row.NAME,
            "Figure on flat ground (MediaPipe)",
            figure_row.read,
            _draw_figure,
            fetch.availability,
            draws=("invert",),
            prepare=fetch.ensure,
            fetch=fetch.fetch_mediapipe,
            source=f"{fetch.WHEEL} (model files of the wheel)",
            licence="Apache-2.0",
            megabytes=fetch.WHEEL_MEGABYTES,
            suits=figure_row.sees_somebody,
            caveat="This depth is drawn, not measured: MediaPipe's mask of people on flat ground. "
            f"For real depth of photos fetch {_REAL_DEPTH}.",
        ),
    ),
)
