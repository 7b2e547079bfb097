"""A pose reader for clips: one backend for all frames, no drawing, and no entry in the cache of pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from annotators.base import BackendMissing, NobodyFound, Value
from annotators.table import ANNOTATORS, AUTO, check, describe

_EMPTY = ("people", "hands", "faces")


class PoseReader:
    """Reads the people of one frame after another.

    A thousand frames would evict everything that live sliders need from the cache, so clips have a cache of their own.

    Attributes:
        backend: name of the backend that reads.
        key: identifies everything besides the picture that the reading depends on.
    """

    def __init__(self, backend: str = AUTO, **settings: Value) -> None:
        """Choose the backend; nothing is loaded before the first frame.

        Args:
            backend: name of one of the pose annotator's backends, or `auto` for the first that is usable now.
            **settings: the pose annotator's settings; a search for small people is off unless it is given.

        Raises:
            AnnotatorError: an unknown setting, or no backend is usable; the text gives the remedy.
        """
        row = ANNOTATORS["pose"]
        self._values = row.check_settings({"search": False, **settings})
        states = {state["name"]: state for state in describe("pose")["backends"]}
        if backend == AUTO:
            backend = next((name for name, state in states.items() if state["usable"] and state["automatic"]), "")
        if not backend:
            raise BackendMissing(describe("pose")["reason"])
        check("pose", backend=backend)
        self._served = next(one for one in row.backends if one.name == backend)
        self._ready = False
        self.backend = backend
        read = ",".join(f"{name}={self._values[name]}" for name in self._served.settings if name != "confidence")
        # the confidence only thins the drawing
        self.key = f"pose:{backend}:{read}"

    def __call__(self, rgb: np.ndarray) -> dict[str, Any]:
        """Read a frame.

        Args:
            rgb: (H, W, 3) uint8.

        Returns:
            The `data` of a pose annotation; its lists are empty where there is nobody.
        """
        if not self._ready and self._served.prepare is not None:
            self._served.prepare()
        self._ready = True
        try:
            return self._served.draw(self._served.read(rgb, self._values), self._values).data or {}
        except NobodyFound:
            return {name: [] for name in _EMPTY} | {"height": rgb.shape[0], "width": rgb.shape[1]}
