"""Textual-inversion embeddings: files whose name in a prompt stands for vectors that were trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.errors import ControlNeXtError, shorten
from controlnext.loras.file import PICKLES

if TYPE_CHECKING:
    from torch import Tensor

MOST_VECTORS = 75
"""Vectors of one embedding that a text encoder of Stable Diffusion reads at once."""


class EmbeddingError(ControlNeXtError, ValueError):
    """An embedding that cannot be used; the text says why."""


@dataclass
class Embeddings:
    """Folders of embeddings, named by their files. Files may come and go while the app runs.

    Attributes:
        folders: searched in order; those that do not exist are left out.
    """

    folders: Sequence[str | Path] = ()
    _read: dict[tuple[Path, int], dict[int, Tensor]] = field(default_factory=dict, repr=False)

    def files(self) -> dict[str, Path]:
        """Return the files by name in lower case; pickled ones too, which are never opened."""
        found: dict[str, Path] = {}
        for folder in self.folders:
            root = Path(folder).expanduser()
            for file in sorted(root.rglob("*")) if root.is_dir() else ():
                if file.suffix.lower() in (".safetensors", *PICKLES) and not file.name.startswith("."):
                    found.setdefault(file.stem.lower(), file)
        return found

    def split(self, text: str) -> list[tuple[str, Path | None]]:
        """Split a text where it names embeddings: `name`, `<name>` or `embedding:name`, as whole words in any case.

        Returns:
            Stretches of the text; those that name an embedding with its file.
        """
        files = self.files()
        if not files:
            return [(text, None)]
        names = "|".join(re.escape(name) for name in sorted(files, key=len, reverse=True))
        pattern = re.compile(rf"<({names})>|(?<![\w-])(?:embedding:)?({names})(?![\w-])", re.IGNORECASE)
        parts: list[tuple[str, Path | None]] = []
        end = 0
        for match in pattern.finditer(text):
            parts += [(text[end : match.start()], None), (match[0], files[(match[1] or match[2]).lower()])]
            end = match.end()
        return [part for part in (*parts, (text[end:], None)) if part[0] or part[1]]

    def named(self, text: str) -> bool:
        """Tell whether a text names an embedding."""
        return any(file is not None for _, file in self.split(text))

    def vectors(self, file: Path, width: int) -> Tensor:
        """Read the vectors of an embedding for a text encoder.

        Args:
            file: the embedding.
            width: of the text encoder's token vectors.

        Returns:
            (N, width), as stored.

        Raises:
            EmbeddingError: the file is pickled, damaged, no embedding, or made for another model.
        """
        key = file, file.stat().st_mtime_ns
        if key not in self._read:
            self._read[key] = _by_width(file)
        rows = self._read[key]
        if width not in rows:
            sizes = " and ".join(str(size) for size in sorted(rows))
            raise EmbeddingError(
                f"The embedding {shorten(file.stem)} has vectors of {sizes}; this model reads {width}."
            )
        return rows[width]


def _by_width(file: Path) -> dict[int, Tensor]:
    """Read the vectors of each width: one, or two in a file for SDXL (`clip_l`, `clip_g`)."""
    from controlnext.method.weights import read_tensors

    name = shorten(file.stem)
    if file.suffix.lower() in PICKLES:
        raise EmbeddingError(
            f"The embedding {name} is a pickled file, which can run code when it is opened; convert it to safetensors."
        )
    tensors, _ = read_tensors(file)
    rows = {
        tensor.shape[-1]: tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors.values() if tensor.ndim in (1, 2)
    }
    if not rows or len(rows) != len(tensors) or any(len(vectors) > MOST_VECTORS for vectors in rows.values()):
        raise EmbeddingError(f"{file.name} is no embedding: it holds no rows of vectors.")
    if not all(vectors.isfinite().all() for vectors in rows.values()):
        raise EmbeddingError(f"The embedding {name} holds numbers that are not finite; get it again.")
    return rows
