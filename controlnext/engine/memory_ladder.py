"""The memory ladder: what to do, one rung after the other, when a model does not fit.

Each rung costs more time than the one before. A rung taken stays taken for the model, since what did not fit once will not
fit the next time, and every rung is told to the person who waits for the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Name = Literal["tiling", "batch", "offload", "sequential"]


@dataclass(frozen=True)
class Rung:
    """One way to need less memory.

    Attributes:
        name: of the rung.
        devices: kinds of device on which it makes sense.
        says: what was done, after "There was not enough memory, so".
    """

    name: Name
    devices: tuple[str, ...]
    says: str


ACCELERATORS = ("cuda", "mps")
RUNGS = (
    Rung("tiling", (*ACCELERATORS, "cpu"), "large pictures are decoded in tiles"),
    Rung("batch", (*ACCELERATORS, "cpu"), "fewer pictures are made at once"),
    # On the CPU the weights are in its memory already: there is nowhere to put them.
    Rung("offload", ACCELERATORS, "the parts of the model wait in main memory until they are needed, which is slower"),
    Rung("sequential", ACCELERATORS, "the model is fetched layer by layer, which is much slower"),
)
"""From the cheapest to the dearest; the model resident on the device is the ground below them."""


@dataclass
class Ladder:
    """How far up a model has climbed on its device.

    Attributes:
        device: kind of device: `cuda`, `mps` or `cpu`.
        taken: rungs taken, in order, except the smaller batches.
        batches: pixels of a picture -> most pictures of that size at once.
    """

    device: str
    taken: list[Name] = field(default_factory=list)
    batches: dict[int, int] = field(default_factory=dict)

    @property
    def offloaded(self) -> Name | None:
        """Where the weights wait: None on the device itself."""
        return next((name for name in ("sequential", "offload") if name in self.taken), None)

    def most(self, pixels: int, batch: int) -> int:
        """How many pictures of a size to make at once, of at most `batch`."""
        return min([batch, *(most for size, most in self.batches.items() if size <= pixels)])

    def climb(self, pixels: int, batch: int) -> Rung | None:
        """Take the next rung.

        Args:
            pixels: of a picture that did not fit.
            batch: how many were made at once.

        Returns:
            The rung, or None when there is none left.
        """
        for rung in RUNGS:
            if self.device not in rung.devices or rung.name in self.taken:
                continue
            if rung.name == "batch":
                if batch <= 1:
                    continue
                self.batches[pixels] = batch // 2
            else:
                self.taken.append(rung.name)
            return rung
        return None


def put_on(pipeline: Any, rung: Rung, device: str) -> None:  # noqa: ANN401 - any diffusers pipeline
    """Make a pipeline do what a rung says; the smaller batch is the caller's.

    Args:
        pipeline: on its device, or offloaded.
        rung: a rung taken.
        device: name of the device, such as `cuda:0`.
    """
    if rung.name == "tiling":
        tile(pipeline)
    elif rung.name in _OFFLOADS:
        lift(pipeline)
        getattr(pipeline, _OFFLOADS[rung.name])(device=device)


def tile(pipeline: Any) -> None:  # noqa: ANN401
    """Let the autoencoder decode in tiles, where it can; those of video models cannot."""
    if hasattr(pipeline.vae, "use_tiling"):
        pipeline.vae.enable_tiling()


_OFFLOADS = {"offload": "enable_model_cpu_offload", "sequential": "enable_sequential_cpu_offload"}


def lift(pipeline: Any) -> None:  # noqa: ANN401
    """Bring an offloaded pipeline's weights back to main memory, where they can be changed; no hooks stay."""
    pipeline.remove_all_hooks()
    pipeline.to("cpu", silence_dtype_warnings=True)


def told(rungs: list[Rung]) -> str:
    """One sentence about rungs taken; empty for none."""
    if not rungs:
        return ""
    done = list(dict.fromkeys(rung.says for rung in rungs))
    return f"There was not enough memory, so {'; '.join(done)}. This stays so until another model is loaded."
