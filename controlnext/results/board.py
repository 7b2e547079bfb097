"""The board: results in an output folder, listed, searched and sorted by the recipes inside of them."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from controlnext.recipes.png import FACTS_KEY, read_facts, read_png
from controlnext.recipes.recipe import Recipe, RecipeError
from controlnext.results.gallery import COMPANIONS, VIDEO_SUFFIX, Gallery, GalleryError
from controlnext.scratch import unfinished

if TYPE_CHECKING:
    from controlnext.recipes.video_recipe import VideoRecipe

THUMBNAIL_FOLDER, TRASH_FOLDER = ".thumbnails", ".trash"
THUMBNAIL_SIZE = 256
"""Longer side of a thumbnail in pixels."""

Order = Literal["newest", "oldest", "adherence"]

_UNSAID = ("version", "weights")  # fields of a recipe that say nothing about how two results differ


@dataclass(frozen=True)
class BoardItem:
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

    @property
    def name(self) -> str:
        """File name, which stands for the result on the page."""
        return self.path.name

    @property
    def video(self) -> bool:
        """Whether it is a video."""
        return self.path.suffix == VIDEO_SUFFIX

    @property
    def score(self) -> float | None:
        """Adherence in [0, 1]; None where none was measured."""
        value = self.facts.get("adherence")
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def day(self) -> str:
        """Local date of writing, such as `2026-11-29`."""
        return f"{datetime.fromtimestamp(self.modified):%Y-%m-%d}"

    def matches(self, words: str) -> bool:
        """Tell whether each word stands in the prompt, the model, the kind of control or the date."""
        recipe = self.recipe
        text = f"{self.day} {self.name}"
        if recipe is not None:
            text += f" {recipe.prompt} {recipe.model} {recipe.condition_kind}"
        return all(word in text.lower() for word in words.lower().split())


@dataclass(frozen=True)
class BoardQuery:
    """What is looked for.

    Attributes:
        words: each must stand in prompt, model, kind of control or date.
        videos: True for videos alone, False for pictures alone, None for both.
        order: newest first, oldest first, or the best adherence first (results without one come last).
        names: the only results that may be shown; None shows all.
    """

    words: str = ""
    videos: bool | None = None
    order: Order = "newest"
    names: frozenset[str] | None = None

    @property
    def needs_recipes(self) -> bool:
        """Whether every result has to be read before the first can be shown."""
        return bool(self.words.strip()) or self.order == "adherence"


@dataclass(frozen=True)
class BoardPage:
    """A part of the results that were asked for.

    Attributes:
        items: at most as many as were asked for.
        found: how many there are.
        unread: results that were not read yet, so that they are missing here.
    """

    items: tuple[BoardItem, ...]
    found: int
    unread: int = 0


@dataclass
class _KnownResults:
    """Results read so far, by path, each with the time it was written at."""

    items: dict[Path, BoardItem] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    thread: threading.Thread | None = None


class Board:
    """The results of a gallery. The folder is the index: files that are copied in or removed by hand just are, or are not."""

    def __init__(self, gallery: Gallery) -> None:
        """Take a gallery; nothing is read yet."""
        self.gallery = gallery
        self._reading = _KnownResults()

    def page(self, query: BoardQuery, start: int = 0, count: int = 48) -> BoardPage:
        """List results.

        A file is read once, and again when it changes. Where every file has to be read first, that goes on in a thread,
        and what is there already is returned.

        Args:
            query: what is looked for.
            start: results to leave out.
            count: most results to return.

        Raises:
            GalleryError: the folder cannot be read.
        """
        files = [(modified, path) for modified, path in self._files() if _wanted(path, query)]
        files.sort(key=lambda pair: (pair[0], pair[1].name), reverse=query.order != "oldest")
        if not query.needs_recipes:
            items = tuple(self._item(path, modified) for modified, path in files[start : start + count])
            return BoardPage(items, len(files))
        self._read_in_background(files)
        with self._reading.lock:
            known = dict(self._reading.items)
        read = [known[path] for modified, path in files if path in known and known[path].modified == modified]
        found = [item for item in read if item.matches(query.words)]
        if query.order == "adherence":
            found.sort(key=lambda item: (item.score is None, -(item.score or 0.0)))
        return BoardPage(tuple(found[start : start + count]), len(found), len(files) - len(read))

    def wait(self) -> None:
        """Wait until everything that was asked for is read."""
        if self._reading.thread is not None:
            self._reading.thread.join()

    def find(self, name: str) -> BoardItem:
        """Return a result by its file name.

        Raises:
            GalleryError: there is no result of that name in the folder.
        """
        path = self._own(name)
        return self._item(path, path.stat().st_mtime)

    def thumbnail(self, name: str) -> Path:
        """Return a small JPEG of a result, made once and again when the result changes.

        Returns:
            Path of the thumbnail, at most `THUMBNAIL_SIZE` pixels on its longer side.

        Raises:
            GalleryError: there is no such result, it is no readable picture, or the folder cannot be written.
        """
        source = self._own(name)
        target = self._thumbnail_of(source)
        with self.gallery.reported("make a thumbnail in"):
            if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
                return target
            target.parent.mkdir(exist_ok=True)
            small = _first_frame(source) if source.suffix == VIDEO_SUFFIX else _picture(source)
            small.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
            partial = unfinished(target.parent, ".jpg")
            try:
                small.save(partial, format="JPEG", quality=88)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
        return target

    def trash(self, name: str) -> Path:
        """Move a result, with what belongs to it, into the trash folder, from where it can be taken back by hand.

        Returns:
            Where it is now.

        Raises:
            GalleryError: there is no such result, or it cannot be moved.
        """
        source = self._own(name)
        folder = self.gallery.output_dir / TRASH_FOLDER
        with self.gallery.reported("delete from"):
            folder.mkdir(exist_ok=True)
            endings = COMPANIONS if source.suffix == VIDEO_SUFFIX else ()
            for path in (source, *(source.with_suffix(ending) for ending in endings)):
                if path.exists():
                    shutil.move(path, folder / path.name)
            self._thumbnail_of(source).unlink(missing_ok=True)
        with self._reading.lock:
            self._reading.items.pop(source, None)
        return folder / source.name

    def _files(self) -> list[tuple[float, Path]]:
        if not self.gallery.output_dir.is_dir():
            return []
        with self.gallery.reported("read"), os.scandir(self.gallery.output_dir) as entries:
            return [
                (entry.stat().st_mtime, Path(entry.path))
                for entry in entries
                if _is_result(entry.name) and entry.is_file()
            ]

    def _item(self, path: Path, modified: float) -> BoardItem:
        with self._reading.lock:
            known = self._reading.items.get(path)
        if known is None or known.modified != modified:
            known = BoardItem(path, modified, *_contents(path))
            with self._reading.lock:
                self._reading.items[path] = known
        return known

    def _read_in_background(self, files: list[tuple[float, Path]]) -> None:
        thread = self._reading.thread
        if thread is None or not thread.is_alive():
            read = lambda: [self._item(path, modified) for modified, path in files]  # noqa: E731 - the thread's one line
            thread = self._reading.thread = threading.Thread(target=read, name="board", daemon=True)
            thread.start()
        thread.join(timeout=0.5)  # a few hundred results are read by then, and nothing is missing

    def _thumbnail_of(self, source: Path) -> Path:
        """Where a result's thumbnail is; a picture and a video may share a stem."""
        return self.gallery.output_dir / THUMBNAIL_FOLDER / f"{source.name.removesuffix('.png')}.jpg"

    def _own(self, name: str) -> Path:
        """Check that a name is that of a result in this very folder: the page's input never reaches another file."""
        source = self.gallery.output_dir / name
        if Path(name).name != name or not _is_result(name) or not source.is_file() or source.is_symlink():
            raise GalleryError(f"There is no result {name[:80]!r} any more; it may have been deleted.")
        return source


def differences(first: BoardItem, second: BoardItem) -> list[tuple[str, str, str]]:
    """Compare the recipes of two results.

    Returns:
        Field, its value in the first and in the second, for each field that differs; `adherence` comes first.
    """
    values = [_flat(item) for item in (first, second)]
    names = list(dict.fromkeys(name for one in values for name in one))
    return [
        (name, values[0].get(name, ""), values[1].get(name, ""))
        for name in names
        if values[0].get(name, "") != values[1].get(name, "")
    ]


def _flat(item: BoardItem) -> dict[str, str]:
    recipe = {} if item.recipe is None else item.recipe.model_dump(mode="json")
    score = "" if item.score is None else f"{item.score:.3f}"
    return {"adherence": score} | {name: str(value) for name, value in recipe.items() if name not in _UNSAID}


def _wanted(path: Path, query: BoardQuery) -> bool:
    if query.names is not None and path.name not in query.names:
        return False
    return query.videos is None or query.videos == (path.suffix == VIDEO_SUFFIX)


def _is_result(name: str) -> bool:
    return name.endswith((".png", VIDEO_SUFFIX)) and not name.endswith(COMPANIONS) and not name.startswith(".")


def _contents(path: Path) -> tuple[Recipe | VideoRecipe | None, Mapping[str, Any]]:
    """The recipe inside of a result, None where it cannot be read, and what was measured on it."""
    try:
        if path.suffix != VIDEO_SUFFIX:
            return read_png(path), read_facts(path)
        from controlnext.recipes.mp4 import read_contents
        from controlnext.recipes.video_recipe import read_video_recipe

        facts = read_contents(path).get(FACTS_KEY)
        return read_video_recipe(path), facts if isinstance(facts, dict) else {}
    except RecipeError:
        return None, {}


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
    except (VideoError, StopIteration):
        raise GalleryError(f"{source.name} is not a readable video; delete it or replace it.") from None
