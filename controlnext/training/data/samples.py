"""Samples, their order over the steps, and batches.

The generator of everything random is seeded by the training's seed and the number of the sample, counted over the whole
training. A training that is resumed, split over processes or accumulated therefore draws the same numbers without saved state.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

States = Mapping[str, Tensor]
"""Inputs of a UNet besides latents and timestep, by name: `encoder_hidden_states`, and `text_embeds`, `time_ids` (SDXL), or
`image_latents`, `added_time_ids` (video). See `controlnext.training.methods.call_unet`."""


@dataclass(frozen=True)
class Sample:
    """One sample of a data set.

    Attributes:
        latents: `(4, h, w)`, or `(F, 4, h, w)` for a clip, in the UNet's units, float32.
        condition: RGB in [0, 1], `(3, H, W)` or `(F, 3, H, W)`, float32.
        states: other inputs of the UNet, without the batch dimension.
        weight: `(1, h, w)` weight of each cell in the loss, `(F, 1, h, w)` for a clip; None weighs all equally.
    """

    latents: Tensor
    condition: Tensor
    states: States
    weight: Tensor | None = None


class Data(Protocol):
    """A data set; equal arguments give equal samples.

    Attributes:
        empty: states of a sample without prompt, as far as they differ.
    """

    empty: States

    def __len__(self) -> int:
        """Return how many samples there are."""

    def shape(self, index: int) -> Hashable:
        """Return a key, such as the size, that samples of one batch must share."""

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        """Return a sample; everything random about it, such as a crop, comes from the generator."""


@dataclass(frozen=True)
class Batch:
    """Samples of a step with their random numbers.

    Attributes:
        latents: `(B, ...)`.
        condition: `(B, ...)`.
        states: each `(B, ...)`.
        noise: as the latents.
        share: `(B,)` in [0, 1), decides the timestep.
        keep: `(B,)` 1 where there is control, 0 where there is none.
        weight: `(B, 1, h, w)`, `(B, F, 1, h, w)`, or None.
    """

    latents: Tensor
    condition: Tensor
    states: States
    noise: Tensor
    share: Tensor
    keep: Tensor
    weight: Tensor | None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; on a CPU pictures are channels last, which is quicker there."""
        return Batch(
            latents=_moved(self.latents, device),
            condition=_moved(self.condition, device),
            states={name: value.to(device, non_blocking=True) for name, value in self.states.items()},
            noise=_moved(self.noise, device),
            share=_moved(self.share, device),
            keep=_moved(self.keep, device),
            weight=None if self.weight is None else _moved(self.weight, device),
        )


def _moved(value: Tensor, device: torch.device) -> Tensor:
    if device.type == "cpu" and value.ndim == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value.to(device, non_blocking=True)


@dataclass(frozen=True)
class Dropping:
    """Shares of samples without prompt, or without prompt and control.

    The share `nothing` trains the unconditional half of guidance for variants that give that half no control.

    Attributes:
        prompt: share without prompt but with control.
        nothing: share with neither.
    """

    prompt: float = 0.0
    nothing: float = 0.0

    def __call__(self, states: States, empty: States, share: float) -> tuple[States, float]:
        """Return the remaining states, and 1 for control or 0 for none.

        For video, picture embedding and picture latents are dropped by one number, each with the share `prompt`, and
        both together with the share `nothing`, as in the authors' training.
        """
        if "image_latents" in empty:
            first = self.prompt - self.nothing
            gone = {"encoder_hidden_states"} if share < self.prompt else set()
            gone |= {"image_latents"} if first <= share < first + self.prompt else set()
            return {**states, **{name: empty[name] for name in gone}}, float(len(gone) < 2)
        if share < self.nothing + self.prompt:
            return {**states, **empty}, float(share >= self.nothing)
        return states, 1.0


def generator_for(*numbers: int) -> torch.Generator:
    """Return a CPU generator that is seeded by numbers."""
    seed = int(np.random.SeedSequence([number & 0xFFFFFFFF for number in numbers]).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(seed >> 1)


class Order:
    """The samples of each step: every sample once an epoch, those of one shape together.

    Args:
        data: the data set.
        size: samples of a step over all processes.
        seed: of the order.
    """

    def __init__(self, data: Data, size: int, seed: int) -> None:
        """Group samples by shape."""
        self.size, self.seed = size, seed
        groups: dict[Hashable, list[int]] = {}
        for index in range(len(data)):
            groups.setdefault(data.shape(index), []).append(index)
        self._groups = list(groups.values())
        self.steps = sum(-(-len(group) // size) for group in self._groups)
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def __call__(self, step: int) -> Sequence[int]:
        """Return the indices of the `size` samples of a step; a group's last step is filled up from its first samples."""
        epoch, place = divmod(step, self.steps)
        if self._epoch[0] != epoch:
            self._epoch = epoch, self._shuffled(epoch)
        return self._epoch[1][place]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        random = np.random.default_rng([self.seed, epoch])
        steps = []
        for group in self._groups:
            order = random.permutation(group).tolist()
            count = -(-len(order) // self.size) * self.size
            order = (order * -(-count // len(order)))[:count]
            steps += [order[start : start + self.size] for start in range(0, count, self.size)]
        return [steps[place] for place in random.permutation(len(steps))]


class Loader:
    """Batches of one process, prepared ahead by threads if there are any.

    Args:
        data: the data set.
        order: samples of each step.
        dropping: how often prompts and control are left out.
        batch: samples at once.
        share: this process's number and how many there are.
        workers: threads; 0 prepares each batch on demand.
    """

    def __init__(
        self,
        data: Data,
        order: Order,
        dropping: Dropping,
        *,
        batch: int,
        share: tuple[int, int] = (0, 1),
        workers: int = 0,
    ) -> None:
        """Start the threads."""
        self.data, self.order, self.dropping, self.batch = data, order, dropping, batch
        self.rank, self.world = share
        self.accumulation = order.size // (batch * self.world)
        self._threads = ThreadPoolExecutor(workers, "loader") if workers else None
        self._ahead = 2 * workers

    def steps(self, first: int, last: int) -> Iterator[list[Batch]]:
        """Yield the batches of each step from `first` up to `last`; several where batches are accumulated."""
        if self._threads is None:
            for step in range(first, last):
                yield [self._make(step, part) for part in range(self.accumulation)]
            return
        waiting: list[list[Future[Batch]]] = []
        for step in range(first, last):
            while len(waiting) * self.accumulation <= self._ahead and step + len(waiting) < last:
                later = step + len(waiting)
                waiting.append([self._threads.submit(self._make, later, part) for part in range(self.accumulation)])
            yield [future.result() for future in waiting.pop(0)]

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def _make(self, step: int, part: int) -> Batch:
        # First by part of the step, then by process: the split does not change a sample.
        first = (part * self.world + self.rank) * self.batch
        places = range(first, first + self.batch)
        indices = self.order(step)
        return stacked(
            [
                draw(self.data, indices[place], self.dropping, self.order.seed, step * self.order.size + place)
                for place in places
            ]
        )


def draw(data: Data, index: int, dropping: Dropping, seed: int, number: int) -> Batch:
    """Return one sample with its random numbers, as a batch without the batch dimension."""
    generator = generator_for(seed, number)
    share, drop = torch.rand(2, generator=generator).tolist()
    sample = data.sample(index, generator)
    states, keep = dropping(sample.states, data.empty, drop)
    noise = torch.randn(sample.latents.shape, generator=generator)
    return Batch(
        sample.latents, sample.condition, states, noise, torch.tensor(share), torch.tensor(keep), sample.weight
    )


def stacked(rows: Sequence[Batch]) -> Batch:
    """Stack batches that have no batch dimension."""
    weights = [row.weight for row in rows if row.weight is not None]
    return Batch(
        latents=torch.stack([row.latents for row in rows]),
        condition=torch.stack([row.condition for row in rows]),
        states={name: torch.stack([row.states[name] for row in rows]) for name in rows[0].states},
        noise=torch.stack([row.noise for row in rows]),
        share=torch.stack([row.share for row in rows]),
        keep=torch.stack([row.keep for row in rows]),
        weight=torch.stack(weights) if weights else None,
    )
