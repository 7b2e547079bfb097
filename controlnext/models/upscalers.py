"""Upscaling models: files of a folder, named by their file names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controlnext.errors import ControlNeXtError, shorten
from controlnext.hashes import weights_digest

FORMATS = (".safetensors", ".pth", ".pt", ".ckpt")


class UpscalerError(ControlNeXtError, ValueError):
    """An upscaling model that is not there."""


@dataclass(frozen=True)
class UpscalerFolders:
    """Folders of upscaling models. Files may come and go while the app runs.

    Attributes:
        folders: searched in order, with the folders in them; those that do not exist are left out.
    """

    folders: Sequence[str | Path] = ()

    def files(self) -> dict[str, Path]:
        """Return the files by name."""
        found: dict[str, Path] = {}
        for folder in self.folders:
            root = Path(folder).expanduser()
            for file in sorted(root.rglob("*")) if root.is_dir() else ():
                if file.suffix.lower() in FORMATS and not file.name.startswith("."):
                    found.setdefault(file.name, file)
        return found

    def hashes(self, name: str) -> dict[str, str]:
        """Return the digest of a model as a recipe carries it; nothing for Lanczos, which has no name."""
        return {"upscaler": weights_digest(self.find(name))} if name else {}

    def find(self, name: str) -> Path:
        """Return the file of a model.

        Raises:
            UpscalerError: there is none of that name.
        """
        files = self.files()
        if name not in files:
            there = ", ".join(files) or "there is none"
            where = " or ".join(str(folder) for folder in self.folders) or "a folder of upscalers"
            raise UpscalerError(
                f"There is no upscaler {shorten(name)} in {where} ({there}); put its file there, or leave the upscaler empty for Lanczos."
            )
        return files[name]
