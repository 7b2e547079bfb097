"""Where presets, bundled weights, examples and configurations lie, in a checkout and in an installed package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "data"

IMPORT_ROOT = _PACKAGE.parent
"""Folder that has to be on `sys.path` to import this package."""

ROOT = _INSTALLED if _INSTALLED.is_dir() else IMPORT_ROOT
"""Folder of `presets/` and `assets/`: the checkout, or `controlnext/data` in an installed package."""

PRESETS = ROOT / "presets"
"""YAML files of the models."""

TRAINING_PRESETS = PRESETS / "training"
"""YAML files of trainings."""

ASSETS = ROOT / "assets"
"""Everything bundled that is no code and no preset."""

CONFIGS = ASSETS / "configs"
"""Configurations that single checkpoint files lack, by family, and the merges of CLIP's tokenizer."""

STARTER = ASSETS / "starter"
"""Weights of the starter models."""

EXAMPLES = ASSETS / "examples"
"""Pictures, prompts and clips that the page offers."""

PAGE = ASSETS / "ui"
"""Style sheet and icon of the page."""
