"""The report of a run: one HTML file with its curves and pictures inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlnext.training.run_folder import RunFolder


def write_report(run: RunFolder, latest: Mapping[str, Any] | None = None) -> None:
    """Write `report.html` of a run."""
