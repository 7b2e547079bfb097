"""The board: pictures, videos and sweeps in an output folder, listed, searched and sorted by the recipes inside of them."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from controlnext.recipes.png import FACTS_KEY, read_facts, read_png
from controlnext.recipes.recipe import Recipe, RecipeError
from controlnext.recipes.sweep_plan import SweepAxis, SweepError, shown
from controlnext.results.gallery import COMPANIONS, VIDEO_SUFFIX, Gallery, GalleryError
from controlnext.results.saved_sweeps import FOLDER, SavedSweep, is_sweep, written
from controlnext.results.sweep_pictures import draw_tile
from controlnext.scratch import unfinished

if TYPE_CHECKING:
    from controlnext.recipes.video_recipe import VideoRecipe

THUMBNAIL_FOLDER, TRASH_FOLDER = ".thumbnails", ".trash"
THUMBNAIL_SIZE = 256
"""Longer side of a thumbnail in pixels."""

Kind = Literal["picture", "video", "sweep"]
Order = Literal["newest", "oldest", "adherence"]

_UNSAID = ("version", "weights")  # fields of a recipe that say nothing about how two results differ


@dataclass(frozen=True)
class BoardItem:
    """One saved result.

    Attributes:
        path: the PNG, the MP4, or the folder of a sweep.
        modified: time of writing, seconds since 1970.
        recipe: how it was made, of a sweep what its pictures share; None for a result without a (readable) recipe.
        facts: what was measured on it, such as `adherence`, of a sweep the best of its pictures.
        axes: of a sweep.
    """

    path: Path
    modified: float
    recipe: Recipe | VideoRecipe | None
    facts: Mapping[str, Any]
    axes: tuple[SweepAxis, ...] = ()

    @property
    def name(self) -> str:
        """Name inside the output folder, which stands for the result on the page."""
        return result_name(self.path)

    @property
    def kind(self) -> Kind:
        """What it is."""
        return _kind(self.path)

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
        text = f"{self.day} {self.name} {' '.join(axis.label for axis in self.axes)}"
        if recipe is not None:
            text += f" {recipe.prompt} {recipe.model} {recipe.condition_kind}"
        return all(word in text.lower() for word in words.lower().split())


@dataclass(frozen=True)
class BoardQuery:
    """What is looked for.

    Attributes:
        words: each must stand in prompt, model, kind of control or date.
        kind: of the results; None for all.
        order: newest first, oldest first, or the best adherence first (results without one come last).
        names: the only results that may be shown; None shows all.
    """

    words: str = ""
    kind: Kind | None = None
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
        return self._item(path, _modified(path))

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
            if target.exists() and target.stat().st_mtime >= _modified(source):
                return target
            target.parent.mkdir(exist_ok=True)
            small = _SMALL[_kind(source)](source)
            small.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
            partial = unfinished(target.parent, ".jpg")
            try:
                small.save(partial, format="JPEG", quality=88)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
        return target

    def sweep(self, name: str) -> SavedSweep:
        """Read a sweep by its name.

        Raises:
            GalleryError: there is no sweep of that name in the folder.
            SweepError, RecipeError: it is damaged.
        """
        source = self._own(name)
        if _kind(source) != "sweep":
            raise GalleryError(f"{name[:80]} is no sweep; choose one on the wall.")
        return SavedSweep.read(source)

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
            target, number = folder / source.name, 1
            while target.is_dir():  # a sweep that was made again since it was deleted
                number += 1
                target = folder / f"{source.name}_{number}"
            shutil.move(source, target)
            for ending in COMPANIONS if source.suffix == VIDEO_SUFFIX else ():
                if (path := source.with_suffix(ending)).exists():
                    shutil.move(path, folder / path.name)
            self._thumbnail_of(source).unlink(missing_ok=True)
        with self._reading.lock:
            self._reading.items.pop(source, None)
        return target

    def _files(self) -> list[tuple[float, Path]]:
        folder = self.gallery.output_dir
        if not folder.is_dir():
            return []
        with self.gallery.reported("read"):
            with os.scandir(folder) as entries:
                files = [
                    (entry.stat().st_mtime, Path(entry.path))
                    for entry in entries
                    if _is_result(entry.name) and entry.is_file()
                ]
            sweeps = folder / FOLDER
            if sweeps.is_dir() and not sweeps.is_symlink():
                files += [(written(path), path) for path in sweeps.iterdir() if is_sweep(path)]
        return files

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
        """Where a result's thumbnail is; a picture, a video and a sweep may share a stem."""
        name = result_name(source).replace("/", "-").removesuffix(".png")
        return self.gallery.output_dir / THUMBNAIL_FOLDER / f"{name}.jpg"

    def _own(self, name: str) -> Path:
        """Check that a name is that of a result in this very folder: the page's input never reaches another file."""
        folder, file = self.gallery.output_dir, name.removeprefix(f"{FOLDER}/")
        source = folder / name
        plain = file not in ("", ".", "..") and Path(file).name == file and "\0" not in file
        if plain and file != name:  # a sweep
            there = is_sweep(source) and not (folder / FOLDER).is_symlink()
        else:
            there = plain and _is_result(name) and source.is_file() and not source.is_symlink()
        if not there:
            raise GalleryError(f"There is no result {name[:80]!r} any more; it may have been deleted.")
        return source


def result_name(path: Path) -> str:
    """Return the name of a result inside the output folder, such as `a.png` or `sweeps/gamma-1f`."""
    return f"{FOLDER}/{path.name}" if _kind(path) == "sweep" else path.name


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
    axes = {f"swept {axis.label.lower()}": ", ".join(map(shown, axis.values)) for axis in item.axes}
    return {"adherence": score} | axes | {name: str(value) for name, value in recipe.items() if name not in _UNSAID}


def _wanted(path: Path, query: BoardQuery) -> bool:
    if query.names is not None and result_name(path) not in query.names:
        return False
    return query.kind in (None, _kind(path))


def _kind(path: Path) -> Kind:
    kinds: dict[str, Kind] = {VIDEO_SUFFIX: "video", "": "sweep"}
    return kinds.get(path.suffix, "picture")


def _modified(path: Path) -> float:
    return written(path) if _kind(path) == "sweep" else path.stat().st_mtime


def _is_result(name: str) -> bool:
    return name.endswith((".png", VIDEO_SUFFIX)) and not name.endswith(COMPANIONS) and not name.startswith(".")


def _contents(path: Path) -> tuple[Recipe | VideoRecipe | None, Mapping[str, Any], tuple[SweepAxis, ...]]:
    """The recipe inside of a result, None where it cannot be read, what was measured on it, and the axes of a sweep."""
    try:
        if _kind(path) == "picture":
            return read_png(path), read_facts(path), ()
        if _kind(path) == "sweep":
            saved = SavedSweep.read(path)
            best = saved.table.best
            counts: dict[str, Any] = {"made": saved.table.done, "cells": len(saved.table.cells)}
            return saved.plan.recipe, counts | ({"adherence": best.adherence} if best else {}), saved.plan.axes
        from controlnext.recipes.mp4 import read_contents
        from controlnext.recipes.video_recipe import read_video_recipe

        facts = read_contents(path).get(FACTS_KEY)
        return read_video_recipe(path), facts if isinstance(facts, dict) else {}, ()
    except (RecipeError, SweepError):
        return None, {}, ()


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


def _tile(source: Path) -> Image.Image:
    try:
        return draw_tile(SavedSweep.read(source).pictures)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise GalleryError(f"{source.name} is not a readable sweep; delete it or make it again.") from None


_SMALL: Mapping[Kind, Callable[[Path], Image.Image]] = {"picture": _picture, "video": _first_frame, "sweep": _tile}
