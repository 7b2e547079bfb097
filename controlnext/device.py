"""Where a model runs, in which precision, on how many threads."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from controlnext.errors import ControlNeXtError, StudioError

if TYPE_CHECKING:
    import torch


class DeviceError(ControlNeXtError, RuntimeError):
    """A device that was asked for and is not there."""


@dataclass(frozen=True)
class Device:
    """A device and the precision a base model is loaded in there.

    Attributes:
        name: as torch names it, such as `cuda:0` or `cpu`.
        dtype: floating dtype of the weights.
    """

    name: str
    dtype: torch.dtype


def software() -> dict[str, object]:
    """Return the versions that pixels depend on: of this package, and of the libraries that draw."""
    from importlib.metadata import version

    from controlnext import __version__

    return {"controlnext": __version__, "torch": version("torch"), "diffusers": version("diffusers")}


def choose_device(name: str | None = None) -> Device:
    """Choose the best device there is, or check the one asked for.

    CUDA runs in bfloat16 where the card has it (no overflow in an autoencoder, unlike float16) and in float16 elsewhere;
    Apple's MPS and the CPU in float32.

    Args:
        name: `cuda`, `cuda:1`, `mps`, `cpu`; None takes the first of these that is there.

    Returns:
        Device and dtype.

    Raises:
        DeviceError: there is no such device in this machine.
    """
    import torch

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind = name.split(":")[0]
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"There is no device {name!r}; choose cuda, mps or cpu.") from None
    if kind == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise DeviceError(
                f"The device {name} was asked for, but torch sees {count} CUDA devices; try --device cpu."
            )
        return Device(name, torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16)
    if kind == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("The device mps was asked for, but this machine has none; try --device cpu.")
        return Device(name, torch.float32)
    if kind != "cpu":
        raise DeviceError(f"There is no device {name!r} here; choose cuda, mps or cpu.")
    return Device(name, torch.float32)


def default_threads() -> int | None:
    """Number of threads torch should use; None leaves it to torch.

    On two cores one thread is best: with the page, the browser or anything else beside it, two threads wait for each other
    and a step takes 3 to 10 times as long, while an idle machine gains a quarter at most.
    """
    return 1 if (os.cpu_count() or 1) <= 2 else None


@cache
def bfloat16_is_faster() -> bool:
    """Measure once whether this processor convolves bfloat16 in channels-last order faster than float32."""
    import torch

    seconds: dict[torch.dtype, float] = {}
    with torch.inference_mode():
        for dtype, order in ((torch.float32, torch.contiguous_format), (torch.bfloat16, torch.channels_last)):
            layer = torch.nn.Conv2d(96, 96, 3, padding=1).to(dtype).to(memory_format=order)
            picture = torch.randn(1, 96, 32, 32).to(dtype).contiguous(memory_format=order)
            times = []
            for _ in range(6):
                begun = time.perf_counter()
                layer(picture)
                times.append(time.perf_counter() - begun)
                if min(times) > 20 * seconds.get(torch.float32, float("inf")):
                    break  # this processor only imitates bfloat16, at half a second a run
            seconds[dtype] = min(times)
    return seconds[torch.bfloat16] < seconds[torch.float32]


def quick_dtype() -> torch.dtype:
    """Return the type in which a network runs fastest on this CPU: bfloat16 where it convolves that faster, else float32."""
    import torch

    return torch.bfloat16 if bfloat16_is_faster() else torch.float32


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the machine or the card has not enough memory."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def release_memory() -> None:
    """Give back what nothing refers to any more, and what torch holds in reserve on a card."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def enough_memory(doing: str) -> Iterator[None]:
    """Turn running out of memory into a sentence that ends with what it was for and what helps."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        release_memory()
        raise StudioError(f"There is not enough memory {doing}.") from error
