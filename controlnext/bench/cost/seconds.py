"""Seconds and peak memory of a denoising step with and without control, at full size, on a real device.

The kinds of step take turns, round after round, in one process, so that a machine that slows down slows all of them. The
peak of a row is its own weights and whatever else it needed; the weights of the other rows are subtracted.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from controlnext.bench.cost.rig import Rig
from controlnext.bench.tables import markdown, number
from controlnext.device import release_memory

if TYPE_CHECKING:
    from controlnext.bench.cost.base_models import BenchModel
    from controlnext.device import Device

COMPILED = " compiled"
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # what the kernel takes for "forget the peak" (proc_pid_clear_refs(5))


@dataclass(frozen=True)
class Timed:
    """One way to make a step.

    Attributes:
        name: short name of the step.
        title: for people.
        seconds: median of a step.
        ratio: times the base alone; of a compiled row, times the compiled base.
        peak_bytes: weights and everything else at the fullest moment; None where the system does not say.
    """

    name: str
    title: str
    seconds: float
    ratio: float
    peak_bytes: int | None


def time_steps(
    model: BenchModel, device: Device, *, rounds: int, size: int | None = None, compiled: bool = False
) -> list[Timed]:
    """Measure every kind of step of a base model.

    Args:
        model: what to measure.
        device: where, and in which precision.
        rounds: times each step is measured, after one round that only warms up.
        size: short side in pixels; None = the model's own.
        compiled: also measure with `torch.compile`.

    Returns:
        Rows, the base alone first.
    """
    times: dict[str, list[float]] = {}
    peaks: dict[str, list[int]] = {}
    with torch.no_grad():
        rig = Rig(model, device.name, device.dtype, size, compiled)
        steps = rig.steps()
        idle = _idle(rig)
        for turn in range(rounds + 1):
            for step in steps:
                step.before()
                forget_peak(rig.device)
                begun = time.perf_counter()
                step.run()
                _finish(rig.device)
                seconds, peak = time.perf_counter() - begun, peak_bytes(rig.device)
                if not turn:
                    continue
                times.setdefault(step.name, []).append(seconds)
                if peak is not None and idle is not None:
                    peaks.setdefault(step.name, []).append(peak - idle + step.weight_bytes)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return [
        Timed(
            step.name,
            step.title,
            medians[step.name],
            medians[step.name] / medians["base compiled" if step.name.endswith(COMPILED) else "base"],
            max(peaks[step.name]) if step.name in peaks else None,
        )
        for step in steps
    ]


def table(model: BenchModel, rows: Sequence[Timed], device: Device, size: int | None = None) -> str:
    """Format the rows as a Markdown table."""
    where = torch.cuda.get_device_name(device.name) if device.name.startswith("cuda") else device.name
    dtype = str(device.dtype).removeprefix("torch.")
    cells = [
        (row.title, f"{1000 * row.seconds:.1f}", f"{row.ratio:.3f}",
         number(None if row.peak_bytes is None else row.peak_bytes / 2**30, ".2f"))
        for row in rows
    ]  # fmt: skip
    title = f"{model.title}, {model.described(size)}, with guidance; {where}, {dtype}, torch {torch.__version__}"
    return markdown(["step", "ms (median)", "ratio", "peak memory, GiB"], cells, title=title)


def _finish(device: torch.device) -> None:
    """Wait until a device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _idle(rig: Rig) -> int | None:
    """Bytes in use with all networks built and nothing run, without their weights: the share of no step."""
    forget_peak(rig.device)
    used = peak_bytes(rig.device)
    return None if used is None else used - rig.weight_bytes


def forget_peak(device: torch.device) -> None:
    """Free unused memory, and start to measure the peak again."""
    release_memory()
    _finish(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu":
        with suppress(OSError, AttributeError):  # other systems than Linux have neither
            ctypes.CDLL(None).malloc_trim(0)
            _RESET.write_text(_RESET_PEAK)


def peak_bytes(device: torch.device) -> int | None:
    """Peak bytes since `forget_peak`: of torch's tensors on a GPU, of the process on a CPU; None where it is unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "cpu":
        with suppress(OSError, StopIteration, ValueError):
            lines = _STATUS.read_text().splitlines()
            return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return None
