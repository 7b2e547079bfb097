"""Seconds and peak memory of a denoising step with and without control, at full size, on a real device.

The ways to make a step take turns, round after round, in one process, so that a machine that slows down slows all of them. The
peak of a row is its own weights and whatever it needed beside weights; the weights of the other rows are taken off.
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
from controlnext.device import release_memory

if TYPE_CHECKING:
    from controlnext.bench.cost.configs import Family
    from controlnext.device import Device

COMPILED = " compiled"
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # what the kernel takes for "forget the peak" (proc_pid_clear_refs(5))


@dataclass(frozen=True)
class Timed:
    """One way to make a step.

    Attributes:
        name: short name of the row.
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


def time_family(
    family: Family, device: Device, *, rounds: int, size: int | None = None, compiled: bool = False
) -> list[Timed]:
    """Measure every row of a family.

    Args:
        family: what to measure.
        device: where, and in which precision.
        rounds: times each row is measured, after one round that only warms up.
        size: short side in pixels; None = the family's own.
        compiled: also measure with `torch.compile`.

    Returns:
        Rows, the base alone first.
    """
    times: dict[str, list[float]] = {}
    peaks: dict[str, list[int]] = {}
    with torch.no_grad():
        rig = Rig(family, device.name, device.dtype, size, compiled)
        rows = rig.rows()
        idle = _idle(rig)
        for turn in range(rounds + 1):
            for row in rows:
                row.before()
                forget_peak(rig.device)
                begun = time.perf_counter()
                row.step()
                _finish(rig.device)
                seconds, peak = time.perf_counter() - begun, peak_bytes(rig.device)
                if not turn:
                    continue
                times.setdefault(row.name, []).append(seconds)
                if peak is not None and idle is not None:
                    peaks.setdefault(row.name, []).append(peak - idle + row.weight_bytes)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return [
        Timed(
            row.name,
            row.title,
            medians[row.name],
            medians[row.name] / medians["base compiled" if row.name.endswith(COMPILED) else "base"],
            max(peaks[row.name]) if row.name in peaks else None,
        )
        for row in rows
    ]


def table(family: Family, rows: Sequence[Timed], device: Device, size: int | None = None) -> str:
    """Return the rows as a Markdown table."""
    where = torch.cuda.get_device_name(device.name) if device.name.startswith("cuda") else device.name
    dtype = str(device.dtype).removeprefix("torch.")
    lines = [
        f"{family.title}, {family.described(size)}, with guidance; {where}, {dtype}, torch {torch.__version__}",
        "",
        "| | ms a step (median) | ratio | peak memory, GiB |",
        "|---|---:|---:|---:|",
    ]
    for row in rows:
        peak = "–" if row.peak_bytes is None else f"{row.peak_bytes / 2**30:.2f}"
        lines.append(f"| {row.title} | {1000 * row.seconds:.1f} | {row.ratio:.3f} | {peak} |")
    return "\n".join(lines) + "\n"


def _finish(device: torch.device) -> None:
    """Wait for a device to end what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _idle(rig: Rig) -> int | None:
    """Bytes in use with all networks built and nothing run, less their weights: what is no row's doing."""
    forget_peak(rig.device)
    used = peak_bytes(rig.device)
    return None if used is None else used - rig.weight_bytes


def forget_peak(device: torch.device) -> None:
    """Let go of what is not needed, and measure the fullest moment from here on."""
    release_memory()
    _finish(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu":
        with suppress(OSError, AttributeError):  # other systems than Linux have neither
            ctypes.CDLL(None).malloc_trim(0)
            _RESET.write_text(_RESET_PEAK)


def peak_bytes(device: torch.device) -> int | None:
    """Bytes at the fullest moment since it was forgotten: of torch's tensors on a card, of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "cpu":
        with suppress(OSError, StopIteration, ValueError):
            lines = _STATUS.read_text().splitlines()
            return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return None
