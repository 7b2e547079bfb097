"""Where a training computes: on one CPU thread, or on a GPU with workers that prepare its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from controlnext.training.quick import cpu_autocast, quicken

Batch = tuple[Tensor, ...]
Make = Callable[[np.random.Generator], Batch]


class _Endless(IterableDataset):
    """An endless data set of batches; each worker draws its own."""

    def __init__(self, make: Make, seed: tuple[int, ...]) -> None:
        self.make, self.seed = make, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        rng = np.random.default_rng([*self.seed, worker.id if worker else 0])
        while True:
            yield self.make(rng)


@dataclass(frozen=True)
class Compute:
    """A device, how many processes prepare batches for it (0: the training itself does), and how much larger its batches are."""

    device: str = "cpu"
    workers: int = 0
    batches: int = 1

    def prepare(self, network: nn.Module) -> nn.Module:
        """Move a network to the device, in the memory format that trains fastest there."""
        if self.device == "cpu":
            return quicken(network)
        return network.to(self.device, memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        """Return the context in which networks run: in bfloat16, on a CPU where it is faster there."""
        return cpu_autocast() if self.device == "cpu" else torch.autocast(self.device.split(":")[0], torch.bfloat16)

    def put(self, tensor: Tensor) -> Tensor:
        """Move a tensor to the device."""
        return tensor if self.device == "cpu" else tensor.to(self.device, non_blocking=True)

    def stream(self, make: Make, *seed: int) -> Iterator[Batch]:
        """Return an endless run of batches on the device, drawn by generators of `seed`."""
        ahead = {"prefetch_factor": 4} if self.workers else {}
        loader = DataLoader(_Endless(make, seed), batch_size=None, num_workers=self.workers, **ahead)
        return (tuple(self.put(part) for part in batch) for batch in loader)


CPU = Compute()
"""One thread of this machine."""
