"""Device, precision and processes of a training, by accelerate."""

from __future__ import annotations

import importlib.util
import os
from datetime import timedelta

import accelerate
import torch
from accelerate import InitProcessGroupKwargs
from accelerate.state import AcceleratorState

from controlnext.device import bfloat16_is_faster, choose_device
from controlnext.training.config import TrainConfig, TrainingError

_PATIENCE = timedelta(hours=12)  # how long processes wait for the one that prepares or draws
_MIXED = {"bf16": torch.bfloat16, "fp16": torch.float16}


def make_accelerator(config: TrainConfig) -> accelerate.Accelerator:
    """Join the processes that `accelerate launch` started, if any, and choose device and precision.

    Raises:
        TrainingError: the device cannot do what the configuration asks for, or TensorBoard is not installed.
        DeviceError: there is no such device.
    """
    AcceleratorState._reset_state("RANK" not in os.environ)  # a page trains more than once in one process
    device = choose_device(config.learning.device).name
    on_cpu = device == "cpu"
    if device.startswith("cuda:") and "RANK" not in os.environ:
        torch.cuda.set_device(device)
    precision = config.learning.mixed_precision
    if precision == "auto":
        precision = "bf16" if _good_at_bfloat16(on_cpu) else "no"
    if precision == "fp16" and on_cpu:
        raise TrainingError("learning.mixed_precision=fp16 needs a GPU: take bf16 or no on a CPU.")
    tracker = "tensorboard" if config.validation.tensorboard else None
    if tracker and importlib.util.find_spec(tracker) is None:
        raise TrainingError(
            "validation.tensorboard=true needs a package that is missing: pip install tensorboard, or read report.html, "
            "which needs nothing."
        )
    return accelerate.Accelerator(
        cpu=on_cpu, mixed_precision=precision, log_with=tracker, project_dir=config.output,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )  # fmt: skip


def mixed_dtype(accelerator: accelerate.Accelerator) -> torch.dtype | None:
    """Return the dtype of mixed precision; None if everything is float32."""
    return _MIXED.get(accelerator.mixed_precision)


def _good_at_bfloat16(on_cpu: bool) -> bool:
    if not on_cpu:
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return bfloat16_is_faster()
