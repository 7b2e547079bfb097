"""Training pictures: uploads put into a folder, rows checked, and the first ones with their conditions."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from annotators.base import AnnotatorError, BackendMissing
from controlnext.recipes.pictures import fit_condition
from controlnext.training.config import TrainingError
from controlnext.training.data.rows import METADATA, PICTURES, BadRow, Row, read_rows

if TYPE_CHECKING:
    from controlnext.studio.protocols import Annotators
    from controlnext.training.config import TrainConfig

LEAST = 4
"""Fewer pictures teach nothing but themselves."""

SHOWN = 8
"""Pictures that are shown with their conditions."""

_BAD = (AnnotatorError, TrainingError, OSError, ValueError, SyntaxError, Image.DecompressionBombError)
_TRIED = 40  # pictures whose condition is tried before those that cannot be used have shown what is wrong
_SECONDS = 3.0  # so long pictures are opened fully; of the rest only the head is read, until the training opens them


@dataclass(frozen=True)
class Pair:
    """A picture as it will be learned: cut to size, with what is to steer it."""

    name: str
    text: str
    picture: Image.Image
    condition: Image.Image


@dataclass(frozen=True)
class Looked:
    """What was found out about the pictures so far.

    Attributes:
        pairs: the first usable ones.
        usable: how many can be used, as far as was looked.
        heads: how many of these were not opened fully.
        bad: those that cannot be used.
        note: what the annotator says about the first pictures.
    """

    pairs: list[Pair] = field(default_factory=list)
    usable: int = 0
    heads: int = 0
    bad: list[BadRow] = field(default_factory=list)
    note: str = ""


def put_together(uploads: Sequence[str], folder: Path, *, linked: bool = False) -> list[BadRow]:
    """Put uploaded files into a folder that a training reads.

    A `metadata.jsonl` among them may name nothing but files uploaded with it: its paths are cut down to their names.

    Args:
        uploads: paths of the files; their names are kept.
        folder: where they go; made if it is not there.
        linked: link them where that is possible, which is quick, instead of copying them.

    Returns:
        Files that were left out, with the reason.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left_out, metadata, names = [], None, set()
    for path in map(Path, uploads):
        suffix = path.suffix.lower()
        if path.name == METADATA:
            metadata = path
        elif suffix not in PICTURES | {".txt"}:
            left_out.append(
                BadRow(path.name, f"It is no picture: the ending {suffix or '(none)'} is not one of theirs.")
            )
        elif path.name.lower() in names:
            left_out.append(BadRow(path.name, "A file of the same name was uploaded with it; give it another one."))
        else:
            names.add(path.name.lower())
            _put(path, folder / path.name, linked)
    if metadata is not None:
        # Lines are told apart as in `read_rows`, which skips a byte order mark: none gets past that was not looked at here.
        text = metadata.read_text(encoding="utf-8", errors="replace").lstrip("\ufeff")
        (folder / METADATA).write_text("\n".join(map(_without_paths, text.split("\n"))) + "\n", encoding="utf-8")
    return left_out


def _put(path: Path, place: Path, linked: bool) -> None:
    if linked:
        try:
            place.symlink_to(path.resolve())
            return
        except OSError:  # a system or disk without links
            pass
    shutil.copyfile(path, place)


def _without_paths(line: str) -> str:
    try:
        values = json.loads(line)
    except ValueError:
        return line
    if not isinstance(values, dict):
        return line
    for key in ("file_name", "conditioning_image"):
        if isinstance(values.get(key), str):
            name = re.split(r"[\\/]", values[key])[-1]
            values[key] = name if name.strip(".") else "?"
    return json.dumps({key: values[key] for key in ("file_name", "text", "conditioning_image") if key in values})


def rows_of(config: TrainConfig) -> tuple[list[Row], list[BadRow]]:
    """List the rows that a training would read.

    Raises:
        TrainingError: the folder is not there, cannot be read or holds nothing to learn from.
    """
    try:
        return read_rows(config.data)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(f"The folder {config.data.folder} cannot be read ({reason}): choose another.") from error


def look_over(annotators: Annotators, rows: Sequence[Row], config: TrainConfig) -> Iterator[Looked]:
    """Make the conditions of the first pictures as the training will, then look at the others.

    Args:
        annotators: the studio's.
        rows: what `rows_of` gave.
        config: filled in; names annotator, settings and size.

    Yields:
        What is known so far; the last one is final.

    Raises:
        AnnotatorError: the annotator cannot be used at all.
    """
    pairs, bad, notes, place = [], [], [], 0
    while place < len(rows) and len(pairs) < SHOWN and place < _TRIED:
        try:
            pair, note = _pair(annotators, rows[place], config)
            pairs.append(pair)
            notes += [note] if note and note not in notes else []
        except BackendMissing:
            raise
        except _BAD as error:
            bad.append(BadRow(rows[place].name, " ".join(str(error).split())))
        place += 1
        yield Looked(list(pairs), len(pairs), 0, list(bad), " ".join(notes))
    usable, heads, until = len(pairs), 0, time.monotonic() + _SECONDS
    for row in rows[place:]:
        fully = time.monotonic() < until
        try:
            _open(annotators, row, config, fully)
            usable, heads = usable + 1, heads + (not fully)
        except _BAD as error:
            bad.append(BadRow(row.name, " ".join(str(error).split())))
    yield Looked(pairs, usable, heads, bad, " ".join(notes))


def _pair(annotators: Annotators, row: Row, config: TrainConfig) -> tuple[Pair, str]:
    """Cut a picture and make its condition, as `controlnext.training.data.picture_data.PictureData` does."""
    from controlnext.training.data.crops import buckets, crop_for, nearest_bucket

    data, picture = config.data, annotators.load_picture(row.picture)
    size = (data.width, data.height)
    if data.aspect == "buckets":
        size = nearest_bucket(picture.size, buckets(*size))
    frame = crop_for(picture.size, size)
    scaled, note = frame.scale(picture), ""
    if row.condition is not None:
        condition = fit_condition(annotators.load_picture(row.condition), *frame.scaled, config.condition)
    else:
        _check_annotator(annotators, config)
        made = annotators.annotate(data.annotator, scaled, **data.annotator_settings)
        condition, note = made.image, made.note
    return Pair(row.name, row.text, scaled.crop(frame.box), condition.crop(frame.box)), note


def _open(annotators: Annotators, row: Row, config: TrainConfig, fully: bool) -> None:
    """Raise what is wrong with a row, as far as is seen without its condition; not `fully` reads the files' heads alone."""
    if row.condition is None:
        _check_annotator(annotators, config)
    for source in filter(None, (row.picture, row.condition)):
        if fully:
            annotators.load_picture(source)
        else:
            Image.open(source).close()


def _check_annotator(annotators: Annotators, config: TrainConfig) -> None:
    if config.data.annotator not in annotators.ANNOTATORS:
        raise TrainingError(f"It has no condition of its own: name one as conditioning_image in {METADATA}.")
