"""Checkpoints: written atomically, with everything that an exact resume needs.

A checkpoint is a folder: the trained weights and their averages (safetensors), the optimizer (a state dict, read with
`weights_only`), and the step, the time and the settings (JSON). Random numbers need no state: they follow from seed and step.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from controlnext.method.weights import read_tensors, write_tensors
from controlnext.training.config import TrainingError

_NAME = re.compile(r"step-(\d{8})")
_FULL = (OSError, SafetensorError, RuntimeError)  # raised by the writers on a full disk


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint.

    Attributes:
        step: steps done.
        weights: trained weights by name.
        averages: their averages by name, or None.
        optimizer: its state dict, and that of a gradient scaler.
        facts: plain data: settings, elapsed seconds.
    """

    step: int
    weights: Mapping[str, Tensor]
    averages: Mapping[str, Tensor] | None
    optimizer: Mapping[str, Any]
    facts: Mapping[str, Any]


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint; remove older ones, damaged ones of later steps, and unfinished ones of a killed process.

    Args:
        folder: of all checkpoints.
        checkpoint: what to write.
        keep: how many stay.

    Returns:
        Its folder.

    Raises:
        TrainingError: it cannot be written.
    """
    target = folder / f"step-{checkpoint.step:08d}"
    partial = folder / f"{target.name}.partial"
    try:
        _clear(folder.glob("step-*.partial"))
        partial.mkdir(parents=True)
        write_tensors(partial / "trained.safetensors", checkpoint.weights, {"format": "pt"})
        if checkpoint.averages is not None:
            write_tensors(partial / "averages.safetensors", checkpoint.averages, {"format": "pt"})
        torch.save(dict(checkpoint.optimizer), partial / "optimizer.pt")
        (partial / "state.json").write_text(
            json.dumps({"step": checkpoint.step, **checkpoint.facts}), encoding="utf-8"
        )
        for file in partial.iterdir():
            _to_disk(file)
        _to_disk(partial)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
        _to_disk(folder)
    except _FULL as error:
        _clear([partial])
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise TrainingError(
            f"The checkpoint of step {checkpoint.step} cannot be written to {folder} ({reason}): make room; started again, "
            "the training resumes from the one before."
        ) from error
    others = _all(folder)
    place = others.index(target)
    _clear([*others[: max(0, place + 1 - keep)], *others[place + 1 :]])
    return target


def latest(folder: Path) -> Checkpoint | None:
    """Read the newest undamaged checkpoint; None if there are none.

    Raises:
        TrainingError: there are checkpoints, but none can be read.
    """
    problem = ""
    for path in reversed(_all(folder)):
        try:
            facts = json.loads((path / "state.json").read_text(encoding="utf-8"))
            averages = path / "averages.safetensors"
            return Checkpoint(
                step=facts.pop("step"),
                weights=read_tensors(path / "trained.safetensors")[0],
                averages=read_tensors(averages)[0] if averages.exists() else None,
                optimizer=torch.load(path / "optimizer.pt", weights_only=True, map_location="cpu"),
                facts=facts,
            )
        except Exception as error:  # damaged in any way: the one before may be sound
            problem = problem or f"{path.name}: {' '.join(str(error).split())[:200]}"
    if problem:
        raise TrainingError(f"No checkpoint in {folder} can be read ({problem}): remove the folder to start again.")
    return None


def steps(folder: Path) -> list[int]:
    """Return the steps of the checkpoints in a folder, in order."""
    return [int(path.name.removeprefix("step-")) for path in _all(folder)]


def _clear(folders: Iterable[Path]) -> None:
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))


def _to_disk(path: Path) -> None:
    """Flush a file or folder to the disk before it gets its final name."""
    with suppress(OSError):  # folders cannot be opened everywhere
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
