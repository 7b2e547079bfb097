"""The error of a training that cannot go on; its text is one sentence for people."""

from __future__ import annotations

from controlnext.errors import ControlNeXtError


class TrainingError(ControlNeXtError, RuntimeError):
    """A training that cannot begin or go on: what is missing or wrong, and what to do."""
