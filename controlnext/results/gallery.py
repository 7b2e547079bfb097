"""Results on disk, pictures and videos: written whole or not at all, listed by looking, with small pictures for the page."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from PIL import Image

from controlnext.errors import ControlNeXtError
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.png import FACTS_KEY, read_facts, read_png, write_png
from controlnext.recipes.recipe import Recipe, RecipeError

if TYPE_CHECKING:
    from controlnext.recipes.video_recipe import VideoRecipe

THUMBNAIL_FOLDER = ".thumbnails"
THUMBNAIL_SIZE = 256
"""Longer side of a thumbnail in pixels."""

_TEMPORARY = ".unfinished-"
_ROOM_NEEDED = 16 << 20  # bytes that must be free before minutes are spent on a picture


class GalleryError(ControlNeXtError, RuntimeError):
    """A result could not be written, read or deleted; the text says why and what helps."""


VIDEO_SUFFIX = ".mp4"
COMPANIONS = (".beside.mp4", ".poses.mp4", ".poses.json")
"""Endings of what belongs to a video: itself beside its clip, and its poses alone, as a video and as data."""


@dataclass(frozen=True)
class GalleryItem:
    """One saved result.

    Attributes:
        path: the PNG, or the MP4.
        modified: time of writing, seconds since 1970.
        recipe: how it was made; None for a result without a (readable) recipe.
        facts: what was measured on it, such as `adherence`.
    """

    path: Path
    modified: float
    recipe: Recipe | VideoRecipe | None
    facts: Mapping[str, Any]


class Gallery:
    """A folder of results. The folder is the index: pictures that are copied in or removed by hand just are, or are not."""

    def __init__(self, output_dir: str | Path) -> None:
        """Name the folder; it is made when first written to.

        Args:
            output_dir: where results go.
        """
        self.output_dir = Path(output_dir).expanduser().absolute()
        self._seen: dict[Path, GalleryItem] = {}

    def check(self) -> None:
        """Raise a `GalleryError` now, rather than after the work, if results cannot be written."""
        with self._in_words("write to"):
            self.output_dir.mkdir(parents=True, exist_ok=True)
            probe = self.output_dir / f"{_TEMPORARY}{uuid4().hex}"
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

        Written beside its place, flushed to the disk, then moved into place in one step, so a picture in the folder is
        always whole.

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
        with self._in_words("save a picture in"):
            self.output_dir.mkdir(parents=True, exist_ok=True)
            unfinished = self.output_dir / f"{_TEMPORARY}{uuid4().hex}.png"
            try:
                with unfinished.open("wb") as file:
                    write_png(file, image, recipe, condition, facts)
                    file.flush()
                    os.fsync(file.fileno())
                return _move_to_free_name(unfinished, self.output_dir, _stem(recipe.seed))
            finally:
                unfinished.unlink(missing_ok=True)

    def video_path(self, seed: int) -> Path:
        """Return where a video can be written: named as pictures are, and no result of that name is there."""
        stem, count = _stem(seed), 1
        while (path := self.output_dir / f"{stem if count == 1 else f'{stem}_{count}'}{VIDEO_SUFFIX}").exists():
            count += 1
        return path

    def items(self, limit: int | None = None) -> list[GalleryItem]:
        """List results, newest first.

        Args:
            limit: at most so many.

        Returns:
            Items; files are read once and again only when they change.
        """
        if not self.output_dir.is_dir():
            return []
        with self._in_words("read"):
            found = []
            for entry in os.scandir(self.output_dir):
                if _is_result(entry.name) and entry.is_file():
                    found.append((entry.stat().st_mtime, Path(entry.path)))
        found.sort(key=lambda pair: (pair[0], pair[1].name), reverse=True)
        present = set(found)
        self._seen = {path: item for path, item in self._seen.items() if (item.modified, path) in present}
        return [self._item(path, modified) for modified, path in found[:limit]]

    def thumbnail(self, path: str | Path) -> Path:
        """Small JPEG of a result, made once and again when the result changes.

        Args:
            path: a result of this gallery.

        Returns:
            Path of the thumbnail, at most `THUMBNAIL_SIZE` pixels on its longer side.

        Raises:
            GalleryError: not a result of this gallery, not a readable picture, or the folder cannot be written.
        """
        source = self._own(path)
        target = self._small(source)
        with self._in_words("make a thumbnail in"):
            if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
                return target
            target.parent.mkdir(exist_ok=True)
            small = _first_frame(source) if source.suffix == VIDEO_SUFFIX else _picture(source)
            small.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
            unfinished = target.with_name(f"{_TEMPORARY}{uuid4().hex}.jpg")
            try:
                small.save(unfinished, format="JPEG", quality=88)
                unfinished.replace(target)
            finally:
                unfinished.unlink(missing_ok=True)
        return target

    def delete(self, path: str | Path) -> None:
        """Delete one result and its thumbnail.

        Raises:
            GalleryError: not a result of this gallery, or it cannot be deleted.
        """
        source = self._own(path)
        with self._in_words("delete from"):
            source.unlink()
            for ending in COMPANIONS if source.suffix == VIDEO_SUFFIX else ():
                source.with_suffix(ending).unlink(missing_ok=True)
            self._small(source).unlink(missing_ok=True)
        self._seen.pop(source, None)

    def _item(self, path: Path, modified: float) -> GalleryItem:
        known = self._seen.get(path)
        if known is None:
            known = self._seen[path] = GalleryItem(path, modified, *_contents(path))
        return known

    def _small(self, source: Path) -> Path:
        """Where a result's thumbnail is; a picture and a video may share a stem."""
        return self.output_dir / THUMBNAIL_FOLDER / f"{source.name.removesuffix('.png')}.jpg"

    def _own(self, path: str | Path) -> Path:
        """Check that a path names a result in this very folder: the page's input never reaches another file."""
        source = Path(os.path.abspath(self.output_dir / path))
        if source.parent != self.output_dir or not _is_result(source.name) or not source.is_file():
            raise GalleryError(f"There is no result {Path(path).name!r} in the gallery; it may have been deleted.")
        return source

    @contextmanager
    def _in_words(self, doing: str) -> Iterator[None]:
        """Turn what the file system says into a sentence with the folder and the remedy."""
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
                why = f"the system says: {error.strerror or error}. Choose another folder if it stays so"
            raise GalleryError(f"Could not {doing} the output folder {self.output_dir}: {why}.") from error


def _is_result(name: str) -> bool:
    return name.endswith((".png", VIDEO_SUFFIX)) and not name.endswith(COMPANIONS) and not name.startswith(".")


def _stem(seed: int) -> str:
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{seed}"


def _contents(path: Path) -> tuple[Recipe | VideoRecipe | None, Mapping[str, Any]]:
    """The recipe inside of a result, None where it cannot be read, and what was measured on it."""
    from controlnext.recipes.mp4 import read_contents
    from controlnext.recipes.video_recipe import read_video_recipe

    facts: Mapping[str, Any]
    if path.suffix == VIDEO_SUFFIX:
        told = read_contents(path).get(FACTS_KEY)
        facts = told if isinstance(told, dict) else {}
    else:
        facts = read_facts(path)
    try:
        return read_video_recipe(path) if path.suffix == VIDEO_SUFFIX else read_png(path), facts
    except RecipeError:
        return None, facts


def _picture(source: Path) -> Image.Image:
    try:
        with Image.open(source, formats=["PNG"]) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise GalleryError(f"{source.name} is not a readable picture; delete it or replace it.") from None


def _first_frame(source: Path) -> Image.Image:
    from controlnext.video import VideoError, open_clip, read_frames

    try:
        with read_frames(open_clip(source)) as frames:
            return Image.fromarray(next(frames))
    except VideoError:
        raise GalleryError(f"{source.name} is not a readable video; delete it or replace it.") from None


def _move_to_free_name(unfinished: Path, folder: Path, stem: str) -> Path:
    """Move a finished file to `stem.png`, or `stem_2.png` and so on; never over another result."""
    count = 1
    while True:
        target = folder / (f"{stem}.png" if count == 1 else f"{stem}_{count}.png")
        try:
            os.link(unfinished, target)  # fails if the name is taken, unlike a rename
        except FileExistsError:
            count += 1
            continue
        except OSError:  # a file system without hard links
            if target.exists():
                count += 1
                continue
            unfinished.replace(target)
        return target
