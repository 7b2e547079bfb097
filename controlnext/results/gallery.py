"""The output folder: pictures are written whole or not at all, and never over another one."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from PIL import Image

from controlnext.errors import ControlNeXtError
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.png import write_png
from controlnext.recipes.recipe import Recipe
from controlnext.scratch import sweep_unfinished, unfinished

_ROOM_NEEDED = 16 << 20  # bytes that must be free before minutes are spent on a picture


class GalleryError(ControlNeXtError, RuntimeError):
    """A result could not be written, read or deleted; the text says why and what helps."""


VIDEO_SUFFIX = ".mp4"
COMPANIONS = (".beside.mp4", ".poses.mp4", ".poses.json")
"""Endings of the files that belong to a video: next to its clip, and its poses alone, as a video and as data."""


class Gallery:
    """A folder that results are written to."""

    def __init__(self, output_dir: str | Path) -> None:
        """Name the folder; it is made when first written to.

        Args:
            output_dir: where results go.
        """
        self.output_dir = Path(output_dir).expanduser().absolute()

    def check(self) -> None:
        """Raise a `GalleryError` now, rather than after the work, if results cannot be written.

        What killed processes have left half written is removed.
        """
        with self.reported("write to"):
            self.output_dir.mkdir(parents=True, exist_ok=True)
            sweep_unfinished(self.output_dir)
            probe = unfinished(self.output_dir, "")
            try:
                probe.touch()
            finally:
                probe.unlink(missing_ok=True)
            if shutil.disk_usage(self.output_dir).free < _ROOM_NEEDED:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def save(
        self,
        image: Image.Image,
        recipe: Recipe,
        condition: Image.Image | Inputs | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> Path:
        """Save one picture with its recipe and the pictures it was made with inside.

        Written to a temporary file, flushed to the disk, then moved into place in one step, so a picture in the folder
        is always whole.

        Args:
            image: the picture.
            recipe: the recipe of this one picture.
            condition: the condition it was made with, or all pictures it was made with.
            facts: what was measured on it.

        Returns:
            Path of the PNG, named by date and seed.

        Raises:
            GalleryError: full disk, no permission or another fault of the folder; nothing half-written stays behind.
        """
        with self.reported("save a picture in"):
            self.output_dir.mkdir(parents=True, exist_ok=True)
            partial = unfinished(self.output_dir, ".png")
            try:
                with partial.open("wb") as file:
                    write_png(file, image, recipe, condition, facts)
                    file.flush()
                    os.fsync(file.fileno())
                return _move_to_free_name(partial, self.output_dir, _stem(recipe.seed))
            finally:
                partial.unlink(missing_ok=True)

    def video_path(self, seed: int) -> Path:
        """Return where a video can be written: named as pictures are, and no result of that name is there."""
        stem, count = _stem(seed), 1
        while (path := self.output_dir / f"{stem if count == 1 else f'{stem}_{count}'}{VIDEO_SUFFIX}").exists():
            count += 1
        return path

    @contextmanager
    def reported(self, doing: str) -> Iterator[None]:
        """Turn errors of the file system into a sentence with the folder and the remedy."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                why = "the disk is full. Free some space, or choose another folder"
            elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                why = "there is no permission to write there. Change the permission, or choose another folder"
            elif error.errno in (errno.ENOTDIR, errno.EEXIST):
                why = "it is not a folder. Choose another one"
            else:
                why = f"the system says: {error.strerror or error}. Choose another folder if that does not change"
            raise GalleryError(f"Could not {doing} the output folder {self.output_dir}: {why}.") from error


def _stem(seed: int) -> str:
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{seed}"


def _move_to_free_name(partial: Path, folder: Path, stem: str) -> Path:
    """Move a finished file to `stem.png`, or `stem_2.png` and so on; never over another result."""
    count = 1
    while True:
        target = folder / (f"{stem}.png" if count == 1 else f"{stem}_{count}.png")
        try:
            os.link(partial, target)  # fails if the name is taken, unlike a rename
        except FileExistsError:
            count += 1
            continue
        except OSError:  # a file system without hard links
            if target.exists():
                count += 1
                continue
            partial.replace(target)
        return target
