"""`python -m controlnext bench video`: memory and time of a video in windows, by its length.

Videos of several lengths are denoised in windows and written to an MP4 as they are decoded, each in its own process, so that
none inherits another's memory. The model is the bundled video starter, or its untrained networks where that is missing:
neither memory nor time depends on the weights. The control frames are drawn on demand.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from controlnext.assets import IMPORT_ROOT, STARTER
from controlnext.bench.command import BenchError, bench_parser, publish, whole
from controlnext.bench.cost.base_models import SIZE_STEP
from controlnext.bench.tables import markdown

if TYPE_CHECKING:
    import torch

    from controlnext.method.video_pipeline import StableVideoDiffusionControlNeXtPipeline

BAR = 1.05
"""Twice the frames may take at most so many times the peak memory."""

GUIDANCE = 2.0  # above 1, so that both halves run
FPS = 8
_MIB = 2**20
_VAE_WIDTHS = (64, 64, 96, 128)  # the video starter's
_LINE = 6  # pixels


@dataclass(frozen=True)
class VideoCost:
    """Memory and time of one video.

    Attributes:
        frames: of the video.
        windows: the UNet's, in each step.
        steps: denoising steps.
        peak_bytes: of the process, or of the tensors on a GPU; 0 where the system does not say.
        idle_bytes: the same with the model loaded and warm, before the video.
        latent_bytes: of the video's latents, once.
        denoise_seconds: from the call to the latents.
        control_seconds: part of them in the control module.
        write_seconds: from the latents to the MP4.
    """

    frames: int
    windows: int
    steps: int
    peak_bytes: int
    idle_bytes: int
    latent_bytes: int
    denoise_seconds: float
    control_seconds: float
    write_seconds: float


class Dancer:
    """Control frames of a waving figure, drawn on demand."""

    def __init__(self, frames: int, size: int) -> None:
        """Take the number of frames, and their side in pixels."""
        self._frames, self._size = frames, size

    def __len__(self) -> int:
        """Count the frames."""
        return self._frames

    def __getitem__(self, index: int) -> Image.Image:
        """Draw one."""
        image = Image.new("RGB", (self._size, self._size))
        swing = 0.2 * np.sin(index / 3)
        joints = np.array([(0.5, 0.15), (0.5, 0.55), (0.5 + swing, 0.9), (0.3, 0.4 - swing), (0.7, 0.4 + swing)])
        draw = ImageDraw.Draw(image)
        for colour, (a, b) in zip(("red", "lime", "blue", "yellow"), ((0, 1), (1, 2), (0, 3), (0, 4)), strict=True):
            draw.line([*(joints[a] * self._size), *(joints[b] * self._size)], fill=colour, width=_LINE)
        return image


def load(options: argparse.Namespace) -> StableVideoDiffusionControlNeXtPipeline:
    """Load the model to measure with its adapter: the one named, else the bundled one, else its untrained networks."""
    import torch

    from controlnext.device import choose_device
    from controlnext.method.adapter import ControlNeXtAdapter
    from controlnext.method.video_pipeline import StableVideoDiffusionControlNeXtPipeline
    from controlnext.quiet import quiet_loading

    device = choose_device(options.device)
    base, adapter = options.base or STARTER / "video" / "base", options.adapter or STARTER / "video" / "adapters/pose"
    if base.is_dir() and adapter.exists():
        pipe = StableVideoDiffusionControlNeXtPipeline.from_pretrained(base, dtype=device.dtype, local_files_only=True)
        adapter = ControlNeXtAdapter.from_pretrained(adapter, variant=options.variant, dtype=device.dtype)
    elif options.base or options.adapter:
        raise BenchError(f"{base} and {adapter} do not both exist: name a model's folder and an adapter's.")
    else:
        torch.manual_seed(0)
        pipe, adapter = _untrained()
    pipe.set_progress_bar_config(disable=True)
    with quiet_loading():
        pipe.to(device.name, device.dtype)
    pipe.load_controlnext(adapter)
    return pipe


def _untrained() -> tuple[Any, Any]:
    """Build the video starter as it is before its training."""
    from diffusers import AutoencoderKLTemporalDecoder

    from controlnext.method.adapter import ControlNeXtAdapter
    from controlnext.method.model import ControlNeXtModel
    from controlnext.method.video_pipeline import StableVideoDiffusionControlNeXtPipeline
    from controlnext.starter.train import video_networks as networks

    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=_VAE_WIDTHS, down_block_types=("DownEncoderBlock2D",) * len(_VAE_WIDTHS), force_upcast=False
    )
    pipe = StableVideoDiffusionControlNeXtPipeline(
        vae=vae.eval(),
        image_encoder=networks.make_image_encoder().eval(),
        unet=networks.make_video_unet().eval(),
        scheduler=networks.make_video_scheduler(),
        feature_extractor=networks.make_feature_extractor(),
    )
    return pipe, ControlNeXtAdapter(ControlNeXtModel.from_variant("starter-video").eval())


def measure_once(options: argparse.Namespace, frames: int) -> VideoCost:
    """Make one video in this process and measure it."""
    import torch

    from controlnext.bench.cost.seconds import forget_peak, peak_bytes
    from controlnext.device import choose_device
    from controlnext.method.windows import plan_windows
    from controlnext.video.writer import VideoWriter

    torch.set_num_threads(options.threads)
    pipe, device = load(options), torch.device(choose_device(options.device).name)
    watch = Stopwatch(next(iter(pipe.controlnexts.values())).adapter.module, device)

    def begin(count: int, steps: int) -> object:
        return pipe.stream(
            Image.new("RGB", (options.size, options.size), "grey"),
            control_image=Dancer(count, options.size),
            window=options.window,
            overlap=options.overlap,
            num_inference_steps=steps,
            min_guidance_scale=GUIDANCE,
            max_guidance_scale=GUIDANCE,
            decode_chunk_size=options.decode_chunk,
            generator=torch.Generator("cpu").manual_seed(0),
        )

    for _ in begin(options.window + 1, 1):  # imports and allocations that happen once belong to no video
        pass
    forget_peak(device)
    idle, watch.seconds = peak_bytes(device), 0.0
    with tempfile.TemporaryDirectory(prefix="controlnext-") as folder:
        begun = time.perf_counter()
        stream = begin(frames, options.steps)
        denoised = time.perf_counter()
        with VideoWriter(Path(folder) / "video.mp4", FPS) as writer:
            for frame in stream:
                writer.write(np.asarray(frame))
            writer.finish()
        ended = time.perf_counter()
    return VideoCost(
        frames=frames,
        windows=len(plan_windows(frames, options.window, options.overlap)),
        steps=options.steps,
        peak_bytes=peak_bytes(device) or 0,
        idle_bytes=idle or 0,
        latent_bytes=stream.latents.nbytes,
        denoise_seconds=denoised - begun,
        control_seconds=watch.seconds,
        write_seconds=ended - denoised,
    )


class Stopwatch:
    """Adds up the seconds spent in a module."""

    def __init__(self, module: torch.nn.Module, device: torch.device) -> None:
        """Hook a module on a device."""
        self.seconds, self._begun, self._device = 0.0, 0.0, device
        module.register_forward_pre_hook(self._start)
        module.register_forward_hook(self._stop)

    def _now(self) -> float:
        import torch

        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def _start(self, *_: object) -> None:
        self._begun = self._now()

    def _stop(self, *_: object) -> None:
        self.seconds += self._now() - self._begun


def measure(arguments: Sequence[str], lengths: Sequence[int]) -> list[VideoCost]:
    """Make a video of each length, each in its own process.

    Args:
        arguments: of the command, for each process.
        lengths: frames of the videos.

    Returns:
        The figures, in the order of the lengths.

    Raises:
        BenchError: a process failed; the text ends with its last line.
    """
    rows = []
    for frames in lengths:
        command = [sys.executable, "-m", "controlnext", "bench", "video", *arguments, "--once", str(frames)]
        made = subprocess.run(command, capture_output=True, text=True, cwd=IMPORT_ROOT, check=False)
        if made.returncode:
            lines = made.stderr.strip().splitlines() or [f"exit status {made.returncode}"]
            raise BenchError(f"The video of {frames} frames could not be made: {lines[-1]}")
        rows.append(VideoCost(**json.loads(made.stdout)))
    return rows


def table(rows: Sequence[VideoCost], options: argparse.Namespace) -> str:
    """Format the figures as a Markdown table, with notes on what they say about memory."""
    cells = [
        (
            row.frames,
            row.windows,
            f"{row.peak_bytes / _MIB:.0f}",
            f"{(row.peak_bytes - row.idle_bytes) / _MIB:.0f}",
            f"{row.latent_bytes / _MIB:.2f}",
            f"{1000 * row.denoise_seconds / row.frames / row.steps:.0f}",
            f"{row.control_seconds / row.denoise_seconds:.1%}",
            f"{1000 * row.write_seconds / row.frames:.0f}",
        )
        for row in rows
    ]
    columns = [
        "frames", "windows", "peak memory, MiB", "above the idle model", "latents, MiB", "ms a frame and step",
        "of it in the control module", "ms a frame to decode and write",
    ]  # fmt: skip
    title = (
        f"{options.size}x{options.size}, windows of {options.window} frames that share {options.overlap}, "
        f"{options.steps} steps with guidance, {options.threads} CPU threads"
    )
    return markdown(columns, cells, title=title, notes=[_note(*pair) for pair in pairwise(rows) if pair[0].peak_bytes])


def _note(short: VideoCost, long: VideoCost) -> str:
    ratio, more = long.peak_bytes / short.peak_bytes, long.peak_bytes - short.peak_bytes
    return (
        f"{long.frames} frames take {ratio:.3f} times the peak memory of {short.frames} (bar: {BAR}, "
        f"{'met' if ratio <= BAR else 'missed'}): {more / _MIB:+.1f} MiB. Only the latents grow with the video, here by "
        f"{(long.latent_bytes - short.latent_bytes) / _MIB:.2f} MiB, of which a step holds about ten copies (both guidance "
        "halves, the reference's latents, the UNet's output); the rest is what the allocator keeps."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    parser = bench_parser("video", __doc__, threads=1)
    parser.add_argument("--frames", type=whole(), nargs="+", default=[48, 96], help="lengths")
    parser.add_argument("--steps", type=whole(), default=2, help="denoising steps; memory does not depend on them")
    parser.add_argument("--size", type=whole(SIZE_STEP, SIZE_STEP), default=192, help="pixels of a side")
    parser.add_argument("--window", type=whole(), default=8, help="frames that the UNet sees at once")
    parser.add_argument("--overlap", type=int, default=2, help="frames that windows share")
    parser.add_argument("--decode-chunk", type=whole(), default=4, help="frames decoded at once")
    parser.add_argument(
        "--base", type=Path, help="folder of a model in diffusers' layout (default: the video starter)"
    )
    parser.add_argument("--adapter", type=Path, help="folder of its adapter")
    parser.add_argument("--variant", help="its variant, where the adapter does not say")
    parser.add_argument("--device", default="cpu", help="where it runs")
    parser.add_argument("--once", type=int, metavar="FRAMES", help=argparse.SUPPRESS)  # what `measure` starts
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    if options.once:
        sys.stdout.write(json.dumps(asdict(measure_once(options, options.once))) + "\n")
        return 0
    rows = measure(given, options.frames)
    return publish(options, [asdict(row) for row in rows], table(rows, options))
