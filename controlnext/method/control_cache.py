"""Control cache: controls depend on condition and timestep, not on the latents, so each is computed once and kept."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from controlnext.method.gamma import ControlSizeError
from controlnext.method.variants import Variant
from controlnext.method.windows import FrameConditions, FrameControls

if TYPE_CHECKING:
    from controlnext.method.model import ControlNeXtModel

DEFAULT_BUDGET = 512 * 2**20
"""Bytes; a step in float16 takes 10 MiB with SDXL at 1024x1024, 79 MiB with 14 frames of SVD at 576x1024."""
PREPARED_BUDGET = 2 * 2**30  # bytes; SDXL at 1024x1024 takes 128 MiB in float16, SVD 72 MiB a frame of 576x1024


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """Hash the content of tensors, so that equal content gives equal keys on every device.

    Args:
        tensors: Any shapes, dtypes and devices.

    Returns:
        A hexadecimal digest of dtypes, shapes and bytes; tensors on the meta device have no bytes.
    """
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        if not tensor.is_meta:
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class _Kept(NamedTuple):
    """A control, when it was last used by the cache's own clock, and the seconds that computing it took."""

    control: Tensor
    used: int
    seconds: float


class CacheUse(NamedTuple):
    """How often controls were taken from a cache.

    Attributes:
        found: controls that were there.
        computed: controls that were not.
        seconds: time that computing took; on a GPU the time until it was asked for, which is less.
        saved: time that computing those that were there once took, likewise.
    """

    found: int = 0
    computed: int = 0
    seconds: float = 0.0
    saved: float = 0.0

    def since(self, before: CacheUse) -> CacheUse:
        """Return what was used after an earlier count."""
        return CacheUse(
            self.found - before.found,
            self.computed - before.computed,
            self.seconds - before.seconds,
            self.saved - before.saved,
        )


class ControlCache:
    """A store of controls within a budget of bytes, which drops the least recently used.

    Entries stay on the device where they were computed. Keys are made of content (see `fingerprint`), so one cache may
    serve several adapters and outlive the objects that filled it.
    """

    def __init__(self, budget: int = DEFAULT_BUDGET, prepared_budget: int = PREPARED_BUDGET) -> None:
        """Start empty.

        Args:
            budget: Most bytes to keep, >= 0; a control larger than that is not kept.
            prepared_budget: Most bytes, >= 0, of what an injection may hold in addition to the controls while a condition is set:
                the outputs of the layers before the timestep. They are larger than many controls and soon useless, so
                they are no entries here, where they would drive controls out.
        """
        self.budget = budget
        self.prepared_budget = prepared_budget
        self.nbytes = 0
        self.now = 0  # counts uses; `put` takes it
        self.use = CacheUse()
        self._entries: OrderedDict[Hashable, _Kept] = OrderedDict()

    def __len__(self) -> int:
        """Count the controls kept."""
        return len(self._entries)

    def get(self, key: Hashable) -> Tensor | None:
        """Return the control of a key, or None; it must not be changed in place."""
        if key not in self._entries:
            return None
        kept = self._entries[key]
        self._use(key, kept)
        return kept.control

    def seconds(self, key: Hashable) -> float:
        """Return the time that computing a control took; 0 where it is not kept."""
        return self._entries[key].seconds if key in self._entries else 0.0

    def put(self, key: Hashable, control: Tensor, since: int | None = None, seconds: float = 0.0) -> None:
        """Keep a control, dropping the least recently used ones beyond the budget.

        Args:
            key: What it is made of.
            control: Kept as it is, not copied.
            since: What `now` was when a run began; what was used since stays, and rather this control is not kept. Of a
                schedule larger than the budget the first controls so wait for the next run, where otherwise each would
                drive out the one that is needed next, and none would ever be found.
            seconds: Time that computing it took.
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
        self._use(key, _Kept(control, self.now, seconds))

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self.nbytes = 0

    def _use(self, key: Hashable, kept: _Kept) -> None:
        self.now += 1
        self._entries[key] = kept._replace(used=self.now)
        self._entries.move_to_end(key)


class ControlSource:
    """Computes the control of the condition that is set, and keeps it for the steps and runs that need it again."""

    def __init__(self, module: nn.Module, variant: Variant, cache: ControlCache | None) -> None:
        """Take the module; there is no condition yet.

        Args:
            module: Maps (condition, timestep) to the control, usually a `ControlNeXtModel`. Follows the latents' device.
            variant: Says how strength and reference frames are meant.
            cache: Where controls are kept while gradients are off; None computes each.
        """
        self.module = module
        self.variant = variant
        self.cache = cache
        self.set(None)

    def set(self, condition: Tensor | FrameConditions | None, repeats: int = 1) -> None:
        """Set another condition, and drop what was held for the previous one; see `Injection.set`.

        Raises:
            ControlSizeError: The condition is no batch of pictures or clips.
        """
        if condition is not None and condition.ndim not in (4, 5):
            raise ControlSizeError(
                f"A condition has the shape (batch, 3, height, width) or (batch, frames, 3, height, width), "
                f"not {tuple(condition.shape)}."
            )
        self.condition, self.repeats = condition, repeats
        self._since = None if self.cache is None else self.cache.now
        self._fingerprint: tuple[Hashable, str] | None = None
        self._prepared: tuple[Hashable, Any] | None = None
        self._frames = FrameControls()

    @property
    def window(self) -> range | None:
        """Frames of the current window; None where the condition is not of a video in windows."""
        return self.condition.window if isinstance(self.condition, FrameConditions) else None

    @property
    def frames(self) -> int:
        """Frames of a clip at work, 1 for pictures."""
        if self.window is not None:
            return len(self.window)
        condition = self._given()
        return condition.shape[1] if condition.ndim == 5 else 1

    def check(self, sample: Tensor) -> None:
        """Raise a `ControlSizeError` if the condition is not of the kind of the latents of a UNet."""
        condition = self._given()
        wanted = len(self.window) if self.window else condition.shape[1]
        if sample.ndim != condition.ndim or (sample.ndim == 5 and sample.shape[1] != wanted):
            raise ControlSizeError(
                f"A condition of shape {tuple(condition.shape)} does not fit latents of shape "
                f"{tuple(sample.shape)}: video needs (batch, frames, 3, height, width) with as many frames."
            )

    def control(self, timestep: Tensor | float, batch: int, frames: int, device: torch.device) -> Tensor:
        """Return the control of one forward.

        Args:
            timestep: The model's.
            batch: Pictures or clips of the forward, N.
            frames: Frames of each, F; 1 for pictures.
            device: Where the latents are.

        Returns:
            `(N * F, C, h, w)`, or a single row where one condition serves all.

        Raises:
            ControlSizeError: The number of conditions does not divide the batch.
        """
        control = self._control(timestep, batch, device)
        if 1 < len(control) != batch * frames:  # a single one broadcasts
            control = self._spread(control.reshape(-1, frames, *control.shape[1:]), batch).flatten(0, 1)
        return control

    def strength(self, gamma: Tensor, batch: int, frames: int, device: torch.device) -> Tensor:
        """Return what multiplies the normalised control.

        Args:
            gamma: `(1,)` or one a picture.
            batch: UNet batch, in pictures or clips.
            frames: frames a clip; 1 for pictures.
            device: where it is needed.

        Returns:
            `(N * F or 1, 1, 1, 1)` float32.

        Raises:
            ControlSizeError: The values of gamma do not divide the batch.
        """
        row = self.variant
        scale = cast("Tensor", self.module.scale) if row.layout.learned_scale else torch.ones(())
        scale = scale.to(device, torch.float32)
        pictures = self._given().shape[0] * self.repeats
        if not row.control_on_uncond and batch % (2 * pictures) == 0:
            scale = torch.stack([torch.zeros_like(scale), scale]).repeat_interleave(batch // 2)
        factor = row.factor * (torch.sigmoid(scale) if row.sigmoid_scale else scale)
        gamma = gamma.to(device)
        if batch % len(gamma):
            raise ControlSizeError(f"{len(gamma)} values of gamma do not divide the UNet's batch of {batch}.")
        if len(gamma) > 1:
            gamma = gamma.repeat(batch // len(gamma))
        strength = (factor * gamma).reshape(-1)
        return (strength if len(strength) == 1 else strength.repeat_interleave(frames)).view(-1, 1, 1, 1)

    def _given(self) -> Tensor | FrameConditions:
        """Return the condition that is set; nothing is asked for while there is none."""
        return cast("Tensor | FrameConditions", self.condition)

    def _control(self, timestep: Tensor | float, batch: int, device: torch.device) -> Tensor:
        """Return the control of the distinct conditions, `(K * F, C, h, w)`, from the cache if it is there."""
        if any(parameter.device != device for parameter in self.module.parameters()):
            self.module.to(device)
        given = self._given()
        if isinstance(given, FrameConditions):
            return self._window_control(given, timestep, device)
        self.condition = condition = given.to(device)
        if torch.as_tensor(timestep).numel() > 1:
            condition = self._spread(condition, batch)  # each picture is at a time of its own
        if self.cache is None or torch.is_grad_enabled():
            return cast("Tensor", self.module(condition, timestep))
        times = tuple(torch.as_tensor(timestep).reshape(-1).tolist())
        content = self._content(condition, self.cache)
        key = content, times, self.repeats if len(times) > 1 else 1
        control, use = self.cache.get(key), self.cache.use
        if control is not None:
            self.cache.use = use._replace(found=use.found + 1, saved=use.saved + self.cache.seconds(key))
        else:
            begun = time.perf_counter()
            prepared = self._prepare(condition, content, self.cache.prepared_budget) if len(times) == 1 else None
            control = self.module(condition, timestep, *(() if prepared is None else (prepared,)))
            seconds = time.perf_counter() - begun
            self.cache.put(key, control, self._since, seconds)
            self.cache.use = use._replace(computed=use.computed + 1, seconds=use.seconds + seconds)
        return control

    def _window_control(self, conditions: FrameConditions, timestep: Tensor | float, device: torch.device) -> Tensor:
        """Return the control of the current window, `(F, C, h, w)`; frames that windows share are computed once a step."""
        times = tuple(torch.as_tensor(timestep).reshape(-1).tolist())
        if len(times) != 1:
            raise ControlSizeError(f"A video in windows is at one timestep, not at {len(times)}.")
        return self._frames.get(
            (times, device),
            conditions.controlled_by(self.variant.reference_leads),
            lambda frames: self.module(conditions.take(frames).to(device), timestep),
        )

    def _prepare(self, condition: Tensor, content: Hashable, budget: int) -> Any:  # noqa: ANN401 - the module's own
        """Return what the module makes of the condition before the timestep enters, held for the condition that is set.

        None where the module makes nothing of that kind or it is not worth its memory; not held where it takes too much.
        """
        if not getattr(self.module, "worth_preparing", False):
            return None
        if self._prepared is None or self._prepared[0] != content:
            self._prepared = None  # so that the old one is gone before the new one is made
            prepared = cast("ControlNeXtModel", self.module).prepare(condition)
            if prepared.nbytes > budget:
                return prepared
            self._prepared = content, prepared
        return self._prepared[1]

    def _content(self, condition: Tensor, cache: ControlCache) -> Hashable:
        """Return what a control depends on besides the timestep: condition, weights, precision and device."""
        tensors = [condition, *self.module.parameters(), *self.module.buffers()]
        # Content is hashed once per `set`, and again only if something was written to since.
        versions = tuple((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)
        if self._fingerprint is None or self._fingerprint[0] != versions:
            if self._fingerprint is not None:
                self._since = cache.now  # what was kept of the old content may go
            self._fingerprint = versions, fingerprint(tensors)
        kind = condition.device.type  # the meta device, where only shapes are computed, has no autocast
        autocast = kind != "meta" and torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
        return self._fingerprint[1], autocast, condition.device

    def _spread(self, rows: Tensor, batch: int) -> Tensor:
        """Repeat rows `(K, ...)` to the UNet's batch `(N, ...)`: each `repeats` times in a row, then the whole sequence again."""
        rows = rows.repeat_interleave(self.repeats, dim=0)
        if batch % len(rows):
            raise ControlSizeError(
                f"{len(rows)} conditioned pictures do not divide the UNet's batch of {batch}: give one condition, or "
                f"one for each picture."
            )
        return rows.repeat(batch // len(rows), *[1] * (rows.ndim - 1))
