"""`python -m controlnext bench full-size`: a base model of real size with random weights, loaded and run on the CPU.

The base model is written once into a scratch folder in the layout of the released ones (diffusers' layout, fp16 safetensors
in shards), with an adapter as released (`controlnet.safetensors`, `unet.safetensors`). A preset that names them is then loaded
and run through the studio like any other. The pictures are noise; the figures are whether it runs, in what time and memory.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from controlnext.assets import CONFIGS
from controlnext.bench.command import BenchError, bench_parser, publish, whole
from controlnext.bench.cost.base_models import SIZE_STEP
from controlnext.bench.tables import markdown, number

if TYPE_CHECKING:
    from torch import nn

    from controlnext.progress import Progress

VARIANTS = {"sd15": "sd15", "sdxl": "sdxl"}
"""Base model -> variant of its adapter."""
INDEX = "model_index.json"
SHARD = "2GB"
TRAINED = "attn2.to_out"
"""Part of the names of the UNet weights that released adapters contain."""
PRECISIONS = {"float32": 4, "bfloat16": 2}
"""Name -> bytes of a weight."""

_DELTA_SPREAD = 1e-4
_WORKING_MEMORY = 4 * 2**30  # bytes that a run at 512 px may need besides the weights
_GIB = 2**30


@dataclass
class FullSizeRun:
    """The figures of a run.

    Attributes:
        family: base model.
        size: pixels of a side.
        precision: of the weights in memory.
        parameters: of all networks of the base model.
        disk_bytes: of all files.
        load_seconds: from the request to the first step.
        step_seconds: of each step that computes its control.
        kept_seconds: of each step of the second picture, whose controls are kept.
        total_seconds: of both pictures, decoding and saving included.
        peak_bytes: of the process; None where the system does not say.
        files: the pictures.
    """

    family: str
    size: int
    precision: str
    parameters: int
    disk_bytes: int
    load_seconds: float = 0.0
    step_seconds: list[float] = field(default_factory=list)
    kept_seconds: list[float] = field(default_factory=list)
    total_seconds: float = 0.0
    peak_bytes: int | None = None
    files: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is missing, run and print; return the exit status."""
    parser = bench_parser("full-size", __doc__, threads=None)
    parser.add_argument("--family", choices=VARIANTS, default="sd15", help="base model")
    parser.add_argument("--size", type=whole(SIZE_STEP, SIZE_STEP), default=512, help="pixels of a side")
    parser.add_argument("--steps", type=whole(2), default=2, help="denoising steps of a picture")
    parser.add_argument("--precision", choices=PRECISIONS, default="bfloat16", help="of the weights in memory")
    parser.add_argument(
        "--scratch", type=Path, help="folder for the weights, kept (default: a temporary one, removed)"
    )
    options = parser.parse_args(arguments)
    if options.scratch is not None:
        figures = measure(options, options.scratch)
    else:
        with tempfile.TemporaryDirectory(prefix="controlnext-") as folder:
            figures = measure(options, Path(folder))
    return publish(options, asdict(figures), table(figures))


def table(figures: FullSizeRun) -> str:
    """Format the figures as a Markdown table."""
    peak = None if figures.peak_bytes is None else figures.peak_bytes / _GIB
    rows = [
        ("parameters of the base model", f"{figures.parameters / 1e6:.0f} million"),
        ("on the disk", f"{figures.disk_bytes / _GIB:.1f} GiB"),
        ("until the first step", f"{figures.load_seconds:.1f} s"),
        ("a step, control computed", f"{np.median(figures.step_seconds):.1f} s"),
        ("a step, control kept", f"{np.median(figures.kept_seconds):.1f} s"),
        ("both pictures", f"{figures.total_seconds:.1f} s"),
        ("peak of the process", number(peak, ".1f") + " GiB" * (peak is not None)),
    ]
    title = f"{figures.family}, {figures.size}x{figures.size}, random weights, CPU, {figures.precision}"
    return markdown(["figure", "value"], rows, title=title)


def measure(options: argparse.Namespace, scratch: Path, configs: Path = CONFIGS) -> FullSizeRun:
    """Write the model if it is missing, load it through the studio, and make two pictures of one condition.

    Args:
        options: as `main` parses them.
        scratch: folder for the weights, the preset and the pictures.
        configs: folder of a pipeline's configurations by family.

    Returns:
        The figures.

    Raises:
        ControlNeXtError: disk or memory are too small, or the model cannot be loaded or run.
    """
    import torch

    from controlnext.bench.cost.seconds import forget_peak, peak_bytes
    from controlnext.studio.studio import Studio

    base, adapter = scratch / options.family / "base", scratch / options.family / "adapter"
    config = configs / options.family
    parameters = sum(component_size(config, name) for name in networks(config))
    _check_room(scratch, base, parameters, PRECISIONS[options.precision])
    write_base(base, config)
    write_adapter(adapter, config, VARIANTS[options.family])
    preset = write_preset(scratch / "presets", options, base, adapter)
    disk = sum(file.stat().st_size for file in (scratch / options.family).rglob("*") if file.is_file())
    figures = FullSizeRun(options.family, options.size, options.precision, parameters, disk)

    forget_peak(torch.device("cpu"))
    studio = Studio(output_dir=scratch / "outputs", presets_dir=preset.parent, device="cpu", threads=options.threads)
    side = np.linspace(0, 255, options.size).astype(np.uint8)
    condition = Image.fromarray(np.repeat(np.repeat(side[None, :, None], options.size, 0), 3, 2))
    begun = time.perf_counter()
    for seed, seconds in enumerate((figures.step_seconds, figures.kept_seconds)):
        ends: list[float] = []

        def watch(progress: Progress, ends: list[float] = ends) -> None:
            if progress.stage == "Drawing":
                ends.append(time.perf_counter())  # before the first step, and after each

        recipe = studio.catalogue.resolve(preset.stem, adapter="canny", prompt="a picture", seed=seed)
        result = studio.generate(recipe, condition, on_progress=watch)
        seconds += [later - earlier for earlier, later in pairwise(ends[: options.steps + 1])]
        figures.load_seconds = figures.load_seconds or ends[0] - begun
        figures.files += [str(path) for path in result.files]
    figures.total_seconds = time.perf_counter() - begun
    figures.peak_bytes = peak_bytes(torch.device("cpu"))
    return figures


def networks(config: Path) -> dict[str, tuple[str, str]]:
    """Return the components of a pipeline that have weights: name -> library and class."""
    index = json.loads((config / INDEX).read_text(encoding="utf-8"))
    rows = {name: tuple(row) for name, row in index.items() if isinstance(row, list) and row[0]}
    return {name: row for name, row in rows.items() if (config / name / "config.json").is_file()}


def component_size(config: Path, name: str) -> int:
    """Count the parameters that a component's configuration describes."""
    return sum(parameter.numel() for parameter in _described(config, name).parameters())


def write_base(folder: Path, config: Path) -> None:
    """Write a pipeline with random weights in diffusers' layout, one network after the other; existing files stay.

    Args:
        folder: the pipeline's; `model_index.json` is written last, so a folder that has it is complete.
        config: folder with its configurations; CLIP's tokenizer stands in for missing ones.
    """
    if (folder / INDEX).is_file():
        return
    import torch

    from controlnext.bench.cost.rig import fill_random
    from controlnext.engine.loading import clip_tokenizer

    index = json.loads((config / INDEX).read_text(encoding="utf-8"))
    generator = torch.Generator().manual_seed(0)
    for name, row in index.items():
        if not isinstance(row, list) or not row[0]:
            continue
        if name in networks(config):
            network = fill_random(_described(config, name).half(), "cpu", generator)
            network.save_pretrained(folder / name, variant="fp16", max_shard_size=SHARD)
            del network  # the next one needs the memory
        elif (config / name).is_dir():
            shutil.copytree(config / name, folder / name, dirs_exist_ok=True)
        elif name.startswith("tokenizer"):
            clip_tokenizer().save_pretrained(folder / name)
    shutil.copy(config / INDEX, folder / INDEX)


def write_adapter(folder: Path, config: Path, variant: str) -> None:
    """Write an adapter with random weights in the layout of the released ones; existing files stay.

    Args:
        folder: the adapter's.
        config: configurations of its base model.
        variant: key of `controlnext.method.variants.VARIANTS`.
    """
    if (folder / "unet.safetensors").is_file():
        return
    import torch
    from safetensors.torch import save_file

    from controlnext.method.model import ControlNeXtModel

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    save_file(ControlNeXtModel.from_variant(variant).state_dict(), folder / "controlnet.safetensors")
    generator = torch.Generator().manual_seed(1)
    delta = {
        name: torch.randn(weight.shape, generator=generator).mul_(_DELTA_SPREAD).half()
        for name, weight in _described(config, "unet").state_dict().items()
        if TRAINED in name
    }
    save_file(delta, folder / "unet.safetensors")


def write_preset(folder: Path, options: argparse.Namespace, base: Path, adapter: Path) -> Path:
    """Write the preset that names base and adapter."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"full-{options.family}.yaml"
    side = options.size
    path.write_text(
        f"title: Full-size {options.family}\n"
        f"variant: {VARIANTS[options.family]}\n"
        f"base: {{path: {json.dumps(str(base.resolve()))}, licence: none}}\n"
        f'sizes: {{width: {side}, height: {side}, minimum: {side}, maximum: {side}, choices: {{"1:1": [{side}, {side}]}}}}\n'
        f"defaults: {{num_inference_steps: {options.steps}, guidance_scale: 5.0}}\n"
        f"adapters: {{canny: {{path: {json.dumps(str(adapter.resolve()))}, kind: delta}}}}\n"
        f"precision: {options.precision}\n"
        "batch: 1\n",
        encoding="utf-8",
    )
    return path


def _described(config: Path, name: str) -> nn.Module:
    """Build a component from its configuration on the meta device, where weights take no memory."""
    import torch

    library, kind = networks(config)[name]
    network = getattr(importlib.import_module(library), kind)
    with torch.device("meta"):
        if library == "diffusers":
            return network.from_config(network.load_config(config / name))
        return network(network.config_class.from_pretrained(config / name))


def _check_room(scratch: Path, base: Path, parameters: int, bytes_each: int) -> None:
    """Raise a BenchError if disk or memory are too small, before minutes are spent."""
    import psutil

    scratch.mkdir(parents=True, exist_ok=True)
    weights = bytes_each * parameters
    on_disk = 0 if (base / INDEX).is_file() else 2.2 * parameters
    for what, needed, free, remedy in (
        ("disk", on_disk, shutil.disk_usage(scratch).free, "free some space or name another --scratch"),
        ("memory", weights + min(_WORKING_MEMORY, 4 * weights), psutil.virtual_memory().available,
         "close other programs, or take --precision bfloat16"),
    ):  # fmt: skip
        if needed > free:
            raise BenchError(
                f"The model needs about {needed / _GIB:.1f} GiB of {what}, but {free / _GIB:.1f} GiB are free; {remedy}."
            )
