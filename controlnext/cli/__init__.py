"""The command line: `python -m controlnext`."""

from __future__ import annotations

from controlnext.lazy import lazy_names

_HOMES = {"main": ".program"}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
