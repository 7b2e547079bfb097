"""Cache of conditions, latents and texts: on the disk, and recently used ones in memory."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from controlnext.training.config import TrainingError


class Store:
    """Tensors by key, in memory up to a budget and on the disk; safe for threads and processes that share the folder."""

    def __init__(self, folder: Path, memory_mb: int) -> None:
        """Set the folder, which is created on the first write."""
        self.folder = folder
        self._budget, self._used = memory_mb * 2**20, 0
        self._memory: OrderedDict[str, Mapping[str, Tensor]] = OrderedDict()
        self._lock = threading.Lock()

    def path(self, kind: str, key: str, suffix: str) -> Path:
        """Return the file of a cached value."""
        name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        return self.folder / kind / name[:2] / f"{name}{suffix}"

    def tensors(
        self, kind: str, key: str, make: Callable[[], Mapping[str, Tensor]], *, on_disk: bool = True
    ) -> Mapping[str, Tensor]:
        """Return the value of a key; make and cache it if it is missing.

        Args:
            kind: folder: `latents` or `texts`.
            key: names everything that the value depends on.
            make: makes the value.
            on_disk: whether to cache it on the disk as well.
        """
        name = f"{kind}:{key}"
        with self._lock:
            if name in self._memory:
                self._memory.move_to_end(name)
                return self._memory[name]
        file = self.path(kind, key, ".safetensors")
        value = self._read(file) if on_disk else None
        if value is None:
            value = dict(make())
            if on_disk:
                self._write(file, lambda path: save_file({k: v.contiguous() for k, v in value.items()}, path))
        self._remember(name, value)
        return value

    def has(self, kind: str, key: str, suffix: str = ".safetensors") -> bool:
        """Return whether a value is on the disk."""
        return self.path(kind, key, suffix).exists()

    def picture(self, key: str, make: Callable[[], Image.Image]) -> np.ndarray:
        """Return a condition `(H, W, 3)` uint8 that is cached as a PNG; make it if it is missing."""

        def read() -> dict[str, Tensor]:
            file = self.path("conditions", key, ".png")
            try:
                with Image.open(file) as image:
                    pixels = np.array(image.convert("RGB"))
            except (OSError, SyntaxError):
                made = make().convert("RGB")
                self._write(file, lambda path: made.save(path, format="PNG", compress_level=1))
                pixels = np.array(made)
            return {"rgb": torch.from_numpy(pixels)}

        return self.tensors("conditions", key, read, on_disk=False)["rgb"].numpy()

    def _read(self, file: Path) -> dict[str, Tensor] | None:
        try:
            return load_file(file) if file.exists() else None
        except (SafetensorError, OSError):
            return None

    def _write(self, file: Path, write: Callable[[Path], object]) -> None:
        partial = file.with_name(f"{file.stem}.{uuid4().hex}.partial")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write(partial)
            partial.replace(file)
        except (OSError, SafetensorError) as error:  # not the fault of the row, which would be skipped
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
            raise TrainingError(
                f"Prepared data cannot be written to {self.folder} ({reason}): make room, or name another folder as data.cache."
            ) from error

    def _remember(self, name: str, value: Mapping[str, Tensor]) -> None:
        size = sum(tensor.nbytes for tensor in value.values())
        with self._lock:
            if size > self._budget or name in self._memory:
                return
            self._memory[name] = value
            self._used += size
            while self._used > self._budget:
                _, old = self._memory.popitem(last=False)
                self._used -= sum(tensor.nbytes for tensor in old.values())
