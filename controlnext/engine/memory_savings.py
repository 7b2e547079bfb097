"""Memory savings: tiles, smaller batches and offloading, taken one after the other when a model does not fit.

Each saving costs more time than the one before. A saving stays in place for the model, since what did not fit once will
not fit the next time, and the person who waits for the picture is shown every one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from controlnext.device import is_out_of_memory, release_memory

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from controlnext.device import Device

Name = Literal["tiling", "batch", "offload", "group", "sequential"]


@dataclass(frozen=True)
class Saving:
    """One way to need less memory.

    Attributes:
        name: what the engine calls it.
        devices: kinds of device on which it makes sense.
        says: what was done, after "There was not enough memory, so".
    """

    name: Name
    devices: tuple[str, ...]
    says: str


ACCELERATORS = ("cuda", "mps")
SAVINGS = (
    Saving("tiling", (*ACCELERATORS, "cpu"), "large pictures are decoded in tiles"),
    Saving("batch", (*ACCELERATORS, "cpu"), "fewer pictures are made at once"),
    # On the CPU the weights are in its memory already: there is nowhere to put them.
    Saving(
        "offload", ACCELERATORS, "the parts of the model wait in main memory until they are needed, which is slower"
    ),
    Saving("group", ("cuda",), "the layers of the model wait there, each fetched while the one before it works"),
    Saving("sequential", ACCELERATORS, "the model is fetched layer by layer, which is much slower"),
)
"""From the cheapest in time to the most expensive."""


@dataclass
class SavingsTaken:
    """The savings that a model on a device has taken so far.

    Attributes:
        device: kind of device: `cuda`, `mps` or `cpu`.
        taken: names in order, except the smaller batches.
        batches: pixels of a picture -> most pictures of that size at once.
    """

    device: str
    taken: list[Name] = field(default_factory=list)
    batches: dict[int, int] = field(default_factory=dict)

    @property
    def offloaded(self) -> Name | None:
        """Where the weights wait: None on the device itself."""
        return next((name for name in ("sequential", "group", "offload") if name in self.taken), None)

    def most(self, pixels: int, batch: int) -> int:
        """How many pictures of a size to make at once, of at most `batch`."""
        return min([batch, *(most for size, most in self.batches.items() if size <= pixels)])

    def take_next(self, pixels: int, batch: int) -> Saving | None:
        """Take the next saving.

        Args:
            pixels: of a picture that did not fit.
            batch: how many were made at once.

        Returns:
            The saving, or None when there is none left.
        """
        for saving in SAVINGS:
            if self.device not in saving.devices or saving.name in self.taken:
                continue
            if saving.name == "batch":
                if batch <= 1:
                    continue
                self.batches[pixels] = batch // 2
            else:
                self.taken.append(saving.name)
            return saving
        return None


def apply_saving(pipeline: DiffusionPipeline, saving: Saving, device: str) -> None:
    """Make a pipeline do what a saving says; the smaller batch is the caller's.

    Args:
        pipeline: on its device, or offloaded.
        saving: a saving taken.
        device: name of the device, such as `cuda:0`.
    """
    if saving.name == "tiling":
        tile(pipeline)
    elif saving.name == "group":
        undo_offload(pipeline)
        group_offload(pipeline, device)
    elif saving.name in _OFFLOADS:
        undo_offload(pipeline)
        getattr(pipeline, _OFFLOADS[saving.name])(device=device)


def tile(pipeline: DiffusionPipeline) -> None:
    """Let the autoencoder decode in tiles, where it can; those of video models cannot."""
    if hasattr(pipeline.vae, "use_tiling"):
        pipeline.vae.enable_tiling()


_OFFLOADS = {"offload": "enable_model_cpu_offload", "sequential": "enable_sequential_cpu_offload"}


_GROUP_HOOKS = ("lazy_prefetch_group_offloading", "layer_execution_tracker", "group_offloading")
"""Names of what diffusers' group offloading leaves on modules."""


def group_offload(pipeline: DiffusionPipeline, device: str) -> None:
    """Let every layer wait in main memory, and fetch the next one while one works where the device has streams."""
    import torch

    pipeline.enable_group_offload(
        onload_device=torch.device(device), offload_type="leaf_level", use_stream=device.startswith("cuda")
    )


def undo_offload(pipeline: DiffusionPipeline) -> None:
    """Bring an offloaded pipeline's weights back to main memory, where they can be changed; no hooks stay."""
    pipeline.remove_all_hooks()
    for component in pipeline.components.values():
        if (registry := getattr(component, "_diffusers_hook", None)) is not None:
            for name in _GROUP_HOOKS:
                registry.remove_hook(name, recurse=True)
    pipeline.to("cpu", silence_dtype_warnings=True)


def savings_note(savings: list[Saving]) -> str:
    """One sentence about savings; empty for none."""
    if not savings:
        return ""
    done = list(dict.fromkeys(saving.says for saving in savings))
    return f"There was not enough memory, so {'; '.join(done)}. This stays so until another model is loaded."


def place_on(pipeline: DiffusionPipeline, device: Device, savings: SavingsTaken) -> None:
    """Move a pipeline to its device; one too large for it leaves its parts in main memory until they are needed."""
    try:
        pipeline.to(device.name)
        return
    except Exception as error:
        if not is_out_of_memory(error) or savings.device not in ACCELERATORS:
            raise
    pipeline.to("cpu", silence_dtype_warnings=True)
    release_memory()
    saving = next(saving for saving in SAVINGS if saving.name == "offload")
    savings.taken += ["tiling", "offload"]
    tile(pipeline)
    apply_saving(pipeline, saving, device.name)
