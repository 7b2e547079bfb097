"""Folders of models besides bases, adapters and LoRAs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

UPSCALERS, REFERENCES = Path("upscalers"), Path("ip-adapters")


@dataclass(frozen=True)
class ExtraFolders:
    """Where they are.

    Attributes:
        upscalers: folders of upscaling models.
        references: folders of IP-Adapters, for reference pictures.
    """

    upscalers: Sequence[str | Path] = (UPSCALERS,)
    references: Sequence[str | Path] = (REFERENCES,)
