"""The studio: one object for everything that the page, the API and the command line do."""

from __future__ import annotations

from controlnext.lazy import lazy_names

_HOMES = {"Studio": ".studio"}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
