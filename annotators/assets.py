"""Path of the bundled annotator weights, in a checkout and in an installed package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "data"

STARTER_READER = (
    _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "assets/starter/annotator"
) / "model.safetensors"
"""Weights of the net that reads the starter's pictures."""
