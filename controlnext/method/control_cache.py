"""Keep controls between steps and runs: a control depends on the condition and the timestep, not on the latents."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

DEFAULT_BUDGET = 512 * 2**20
"""Bytes; a step in float16 takes 10 MiB with SDXL at 1024x1024, 79 MiB with 14 frames of SVD at 576x1024."""
PREPARED_BUDGET = 2 * 2**30  # bytes; SDXL at 1024x1024 takes 128 MiB in float16, SVD 72 MiB a frame of 576x1024


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """Hash the content of tensors, so that equal content gives equal keys wherever it lives.

    Args:
        tensors: Any shapes, dtypes and devices.

    Returns:
        A hexadecimal digest of dtypes, shapes and bytes; tensors on the meta device have no bytes.
    """
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        if not tensor.is_meta:
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class _Kept(NamedTuple):
    """A control, and when it was last used by the cache's own clock."""

    control: Tensor
    used: int


class ControlCache:
    """A store of controls within a budget of bytes, which lets go of the least recently used.

    Entries stay on the device where they were computed. Keys are made of content (see `fingerprint`), so one cache may
    serve several adapters and outlive the objects that filled it.
    """

    def __init__(self, budget: int = DEFAULT_BUDGET, prepared_budget: int = PREPARED_BUDGET) -> None:
        """Start empty.

        Args:
            budget: Most bytes to keep, >= 0; a control larger than that is not kept.
            prepared_budget: Most bytes, >= 0, of what an injection may hold beside the controls while a condition is set:
                the outputs of the layers before the timestep. They are larger than many controls and soon useless, so
                they are no entries here, where they would drive controls out.
        """
        self.budget = budget
        self.prepared_budget = prepared_budget
        self.nbytes = 0
        self.now = 0  # counts uses; `put` takes it
        self._entries: OrderedDict[Hashable, _Kept] = OrderedDict()

    def __len__(self) -> int:
        """Count the controls kept."""
        return len(self._entries)

    def get(self, key: Hashable) -> Tensor | None:
        """Return the control of a key, or None; it must not be changed in place."""
        if key not in self._entries:
            return None
        control = self._entries[key].control
        self._use(key, control)
        return control

    def put(self, key: Hashable, control: Tensor, since: int | None = None) -> None:
        """Keep a control, letting go of the least recently used ones beyond the budget.

        Args:
            key: What it is made of.
            control: Kept as it is, not copied.
            since: What `now` was when a run began; what was used since stays, and rather this control is not kept. Of a
                schedule larger than the budget the first controls so wait for the next run, where otherwise each would
                drive out the one that is needed next, and none would ever be found.
        """
        before = self._entries[key].control.nbytes if key in self._entries else 0
        excess = self.nbytes - before + control.nbytes - self.budget
        leaving = []
        for other, kept in self._entries.items():
            if excess <= 0 or (since is not None and kept.used > since):
                break
            if other != key:
                leaving.append(other)
                excess -= kept.control.nbytes
        if excess > 0:
            return
        for other in leaving:
            self.nbytes -= self._entries.pop(other).control.nbytes
        self.nbytes += control.nbytes - before
        self._use(key, control)

    def clear(self) -> None:
        """Let go of everything."""
        self._entries.clear()
        self.nbytes = 0

    def _use(self, key: Hashable, control: Tensor) -> None:
        self.now += 1
        self._entries[key] = _Kept(control, self.now)
        self._entries.move_to_end(key)
