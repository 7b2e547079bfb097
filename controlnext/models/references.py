"""IP-Adapter files: a reference picture beside the control, by files of a folder as h94/IP-Adapter lays them out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.errors import ControlNeXtError, shorten
from controlnext.hashes import weights_digest
from controlnext.loras.file import BaseShape
from controlnext.method.families import FAMILIES
from controlnext.models.sources import parts_of

if TYPE_CHECKING:
    from controlnext.models.presets import Preset

ENCODER = "image_encoder"
"""Folder of the encoder that reads the reference: next to the file, or anywhere in the folder."""


class ReferenceFileError(ControlNeXtError, ValueError):
    """An IP-Adapter that is not there, is damaged or does not fit the model."""


@dataclass(frozen=True)
class ReferenceFile:
    """One IP-Adapter.

    Attributes:
        path: a safetensors file with `image_proj` and `ip_adapter`.
        encoder: folder of the image encoder whose features it takes; None where there is none.
        text_width: width of the text features of its base model.
    """

    path: Path
    encoder: Path | None
    text_width: int


@dataclass(frozen=True)
class ReferenceFolders:
    """Folders of IP-Adapters. Files may come and go while the app runs.

    Attributes:
        folders: searched in order, with the folders in them; those that do not exist are left out.
    """

    folders: Sequence[str | Path] = ()

    def files(self, preset: Preset) -> dict[str, ReferenceFile]:
        """Return the files that fit the base model of a preset, with their encoders, by name."""
        width = text_width(preset)
        return {name: one for name, one in self._all().items() if one.text_width == width and one.encoder is not None}

    def first(self, preset: Preset) -> str:
        """Return the name of the first file that fits a preset.

        Raises:
            ReferenceFileError: there is none.
        """
        files = self.files(preset)
        if not files:
            where = " or ".join(str(folder) for folder in self.folders) or "a folder of IP-Adapters"
            raise ReferenceFileError(
                f"A reference picture needs an IP-Adapter for {preset.title} and its image encoder, and {where} has none; put them there."
            )
        return next(iter(files))

    def find(self, name: str, preset: Preset) -> ReferenceFile:
        """Return an IP-Adapter by its file name.

        Raises:
            ReferenceFileError: there is none of that name, it is for another base model, or its image encoder is missing.
        """
        found = self._all().get(name)
        if found is None:
            where = " or ".join(str(folder) for folder in self.folders) or "a folder of IP-Adapters"
            raise ReferenceFileError(f"There is no IP-Adapter {shorten(name)} in {where}; put its file there.")
        if found.text_width != (width := text_width(preset)):
            raise ReferenceFileError(
                f"The IP-Adapter {name} is for text features of {found.text_width}, and {preset.title} has {width}: it is for another "
                "base model."
            )
        if found.encoder is None:
            raise ReferenceFileError(
                f"The IP-Adapter {name} lacks its image encoder; put the folder {ENCODER} that it was released with next to it."
            )
        return found

    def hashes(self, name: str, preset: Preset) -> dict[str, str]:
        """Return the digests of a file and its encoder as a recipe carries them; nothing for an empty name."""
        if not name:
            return {}
        found = self.find(name, preset)
        assert found.encoder is not None
        return {"ip_adapter": weights_digest(found.path), "image_encoder": weights_digest(found.encoder)}

    def _all(self) -> dict[str, ReferenceFile]:
        found: dict[str, ReferenceFile] = {}
        for folder in self.folders:
            root = Path(folder).expanduser()
            if not root.is_dir():
                continue
            encoders = sorted(path.parent for path in root.rglob(f"{ENCODER}/config.json"))
            for file in sorted(root.rglob("*.safetensors")):
                if file.parent not in encoders and (one := _read(file, encoders)):
                    found.setdefault(file.name, one)
        return found


def text_width(preset: Preset) -> int | None:
    """Return the width of the text features of a preset's base model; None where it cannot be known."""
    if (known := FAMILIES[preset.family].text_width) is not None:
        return known
    place = parts_of(preset, ())[0].find()
    return None if place is None else BaseShape.of_folder(place).text_width


def _read(file: Path, encoders: Sequence[Path]) -> ReferenceFile | None:
    """Read the shapes in the header of a file; None where it is no IP-Adapter."""
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(size)) if size < 1 << 24 else {}
        shapes = {name: row["shape"] for name, row in header.items() if name != "__metadata__"}
        width = next(shape[1] for name, shape in shapes.items() if name.endswith("to_k_ip.weight"))
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, StopIteration):
        return None
    # plain ones take the encoder's projection, those called plus its hidden states
    plain, plus = shapes.get("image_proj.proj.weight"), shapes.get("image_proj.proj_in.weight")
    key, wanted = ("projection_dim", plain) if plain else ("hidden_size", plus)
    near = sorted(encoders, key=lambda one: one.parent != file.parent)
    encoder = next((one for one in near if wanted and _config(one).get(key) == wanted[1]), None)
    return ReferenceFile(file, encoder, int(width))


def _config(encoder: Path) -> dict[str, object]:
    try:
        read = json.loads((encoder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}
