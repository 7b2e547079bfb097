"""Rows of a data set: pictures or clips with captions and, optionally, conditions; unusable rows with the reason."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from controlnext.training.config import DataConfig, TrainingError

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif"})
CLIPS = frozenset(
    (".mp4", ".m4v", ".webm", ".mov", ".mkv", ".avi", ".gif", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp")
)  # fmt: skip
UNREAD_PICTURES = frozenset(
    {".gif", ".heic", ".heif", ".jxl", ".jp2", ".jfif", ".svg", ".psd", ".ico", ".tga", ".ppm", ".exr", ".hdr",
     ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"}
)  # fmt: skip
"""Suffixes of pictures that are not read from a folder; `metadata.jsonl` may still name such files."""
UNREAD_CLIPS = frozenset({".braw", ".r3d", ".rmvb", ".swf"})
METADATA, METADATA_CSV = "metadata.jsonl", "metadata.csv"
RUN_MARK = "events.jsonl"
"""File by which the folder of a run is recognised, which is no data."""
_NAMED = 3  # unread files named in the reason

Source = Path | Callable[[], Image.Image]
"""A file (or for a clip a folder of frames), or a function that gives a picture."""


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        name: in messages: the file's name, or `row 7`.
        key: cache key of its content.
        picture: picture or clip.
        text: its caption.
        condition: its condition; None lets an annotator make it.
    """

    name: str
    key: str
    picture: Source
    text: str
    condition: Source | None = None


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: its name and a sentence that says why."""

    name: str
    reason: str


def read_rows(config: DataConfig, *, video: bool = False) -> tuple[list[Row], list[BadRow]]:
    """List the rows of a data set; pictures are not opened.

    Folders are read as Hugging Face's imagefolder reads them: nested ones, too, each metadata file (`metadata.jsonl` or
    `metadata.csv`) for its own folder, and a folder named as `data.split` alone where there are splits.

    Args:
        config: where they are.
        video: whether a row is a clip.

    Returns:
        The rows in order, and those that cannot be used.

    Raises:
        TrainingError: the data are missing, empty, or have too many unusable rows.
    """
    if config.dataset is not None:
        found = list(_of_dataset(config))
    else:
        folder = _split_folder(config, video)
        paths = list(_walk(folder, config.cache))
        metadata = [path for path in paths if path.name in (METADATA, METADATA_CSV)]
        if metadata:
            found = [row for file in metadata for row in _of_metadata(file, folder, config, video)]
        else:
            found = list(_of_folder(paths, folder, config.caption, video))
    rows = [row for row in found if isinstance(row, Row)][: config.limit]
    bad = [row for row in found if isinstance(row, BadRow)]
    if not rows:
        why = f" ({bad[0].name}: {bad[0].reason})" if bad else ""
        wanted = "clips or folders of frames" if video else "pictures"
        raise TrainingError(f"{config.folder or config.dataset} holds no {wanted} to learn from{why}.")
    refuse_too_many(bad, config.max_bad_rows)
    return rows, bad


def refuse_too_many(bad: Sequence[BadRow], most: int) -> None:
    """Raise a TrainingError if more than `most` rows cannot be used."""
    if len(bad) > most:
        raise TrainingError(
            f"{len(bad)} rows cannot be used, more than data.max_bad_rows={most}; the last is {bad[-1].name}: {bad[-1].reason}"
        )


def _split_folder(config: DataConfig, video: bool) -> Path:
    """Return the folder of the split: `data.split` in the given folder if that holds only folders, else the given one."""
    folder = (config.folder or Path()).expanduser()
    if not folder.is_dir():
        raise TrainingError(f"There is no folder {config.folder}: correct data.folder.")
    inner = folder / config.split
    with suppress(OSError):
        if inner.is_dir() and not any(path.is_file() for path in folder.iterdir() if not path.name.startswith(".")):
            return folder if video and _has_pictures(inner) else inner
    return folder


def _has_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in PICTURES for path in folder.iterdir())


def _walk(folder: Path, cache: Path | None) -> Iterator[Path]:
    """List files and folders in order, without hidden ones, caches and the runs of trainings."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise TrainingError(f"The folder {folder} cannot be read ({error.strerror}): choose another.") from error
    for path in paths:
        if path.name.startswith("."):
            continue
        yield path
        is_run = (path / RUN_MARK).is_file()
        if path.is_dir() and not is_run and not (cache is not None and path.resolve() == cache.expanduser().resolve()):
            yield from _walk(path, cache)


def _of_folder(paths: Sequence[Path], folder: Path, caption: str, video: bool) -> Iterator[Row | BadRow]:
    read, known, saved = (CLIPS, UNREAD_CLIPS, "MP4") if video else (PICTURES, UNREAD_PICTURES, "PNG or JPEG")
    unread, frames = [], {path.parent for path in paths if video and path.suffix.lower() in PICTURES}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in known and path.is_file():
            unread.append(name)
        if (path.suffix.lower() in read and not path.is_dir()) or (path in frames and path != folder):
            text = path.with_suffix(".txt")
            try:
                yield Row(name, key_of(path), path, _read_caption(text) if text.is_file() else caption)
            except UnicodeDecodeError:
                yield BadRow(name, f"Its caption {text.name} is not UTF-8 text: save it as UTF-8 text.")
            except OSError as error:
                yield BadRow(name, _unopened(error))
    if unread:  # counts as one row: folders often hold both the phone's originals and copies for the web
        more = f" and {len(unread) - _NAMED} more" if len(unread) > _NAMED else ""
        files = "1 file" if len(unread) == 1 else f"{len(unread)} files"
        reason = f"An ending such as {Path(unread[0]).suffix} is not read ({', '.join(unread[:_NAMED])}{more}): save as {saved}."
        yield BadRow(files, reason)


def _read_caption(file: Path) -> str:
    """Read UTF-8, or UTF-16 with a byte order mark, which some editors call Unicode."""
    raw = file.read_bytes()
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return raw.decode("utf-16" if wide else "utf-8-sig").strip()


def _unopened(error: OSError) -> str:
    return f"{Path(error.filename or '').name[:80]} cannot be opened ({error.strerror})."


def _is_text(value: object) -> bool:
    """Return whether a value is text that can be encoded: a lone half of a surrogate pair cannot."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _of_metadata(file: Path, folder: Path, config: DataConfig, video: bool) -> Iterator[Row | BadRow]:
    """Read the rows of one metadata file, whose paths are relative to its own folder."""
    inside, seen = file.parent.relative_to(folder), set()
    for number, values in _lines(file):
        name = f"{(inside / file.name).as_posix()} line {number}"
        if isinstance(values, ValueError):
            yield BadRow(name, f"It is not valid JSON ({values}).")
            continue
        if not isinstance(values, dict) or not _is_text(values.get("file_name")) or not values["file_name"].strip():
            yield BadRow(name, 'It names no picture: write {"file_name": "...", "text": "..."}.')
            continue
        given, text = values.get(config.condition_column) or None, values.get(config.text_column)
        wrong = next((key for key, value in ((config.condition_column, given), (config.text_column, text))
                      if value is not None and not _is_text(value)), None)  # fmt: skip
        if wrong is not None:
            yield BadRow(name, f"Its {wrong} is not text.")
            continue
        picture, condition = file.parent / values["file_name"], None if given is None else file.parent / given
        try:
            reason = next(
                filter(None, (_unusable(path, video) for path in (picture, condition) if path is not None)), ""
            )
            key = "" if reason else key_of(picture, condition)
        except OSError as error:  # such as a name that is too long
            reason = _unopened(error)
        if reason:
            yield BadRow(name, reason)
            continue
        # A picture may have several conditions; an unusable one must not exclude the others.
        title = (inside / values["file_name"]).as_posix()
        yield Row(
            f"{title} (line {number})" if title in seen else title, key, picture,
            config.caption if text is None else text, condition,
        )  # fmt: skip
        seen.add(title)


def _lines(file: Path) -> Iterator[tuple[int, Any]]:
    """Yield the number and the values of each line of a metadata file; a ValueError where a line is not JSON."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise TrainingError(f"{file} cannot be read ({reason}): save it as UTF-8 text.") from error
    if file.name == METADATA_CSV:
        reader = csv.DictReader(text.splitlines(keepends=True))
        yield from ((reader.line_num, row) for row in reader)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                yield number, error


def _unusable(path: Path, video: bool) -> str:
    """Return why a path is no picture or clip; empty if it may be one."""
    if not path.exists():
        return f"There is no file {path.name}."
    return f"{path.name} is a folder, not a picture." if path.is_dir() and not video else ""


def _of_dataset(config: DataConfig) -> Iterator[Row | BadRow]:
    try:
        import datasets
    except ImportError:
        raise TrainingError(
            "data.dataset needs a package that is missing: pip install datasets, or give the pictures as data.folder."
        ) from None
    place = Path(config.dataset).expanduser()
    try:
        if place.is_dir():
            found: Any = datasets.load_from_disk(str(place))
            found = found[config.split] if isinstance(found, datasets.DatasetDict) else found
        else:
            found = datasets.load_dataset(config.dataset, split=config.split)
    except Exception as error:  # the package's many errors share no base class
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"The dataset {config.dataset!r} cannot be opened ({reason}): correct data.dataset."
        ) from error
    if config.image_column not in found.column_names:
        raise TrainingError(
            f"The dataset {config.dataset!r} has no column {config.image_column!r}, but {', '.join(found.column_names)}: set "
            "data.image_column."
        )
    with_condition = config.condition_column in found.column_names
    texts = found[config.text_column] if config.text_column in found.column_names else None
    identity = getattr(found, "_fingerprint", str(place))
    for index in range(len(found)):
        text = config.caption if texts is None or texts[index] is None else str(texts[index])
        condition = _cell(found, index, config.condition_column) if with_condition else None
        picture = _cell(found, index, config.image_column)
        yield Row(
            f"row {index}",
            f"{identity}:{index}:{config.image_column}:{config.condition_column}",
            picture,
            text,
            condition,
        )


def _cell(found: Any, index: int, column: str) -> Callable[[], Image.Image]:  # noqa: ANN401 - a datasets.Dataset
    return lambda: found[index][column]


def key_of(*paths: Path | None) -> str:
    """Return a cache key of files from path, size and time, which is quick for many large ones."""
    parts = []
    for path in paths:
        if path is not None:
            status = path.stat()
            parts.append(f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}")
    return "|".join(parts)


def split(rows: Sequence[int], held_out: int, seed: int) -> tuple[list[int], list[int]]:
    """Hold rows out for validation, unless they are more than a fifth: then they are also learned from.

    Returns:
        Rows to learn from, and rows to draw.
    """
    import numpy as np

    drawn = sorted(np.random.default_rng([seed, 1]).permutation(len(rows))[:held_out].tolist())
    shown = [rows[place] for place in drawn]
    if 5 * held_out > len(rows):
        return list(rows), shown
    return [row for place, row in enumerate(rows) if place not in set(drawn)], shown
