"""Jobs of a batch: read from a folder of pictures or from JSON lines, and identified by their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from controlnext.errors import ControlNeXtError, shorten

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
"""Endings of the pictures that a folder of jobs may hold."""
_IMAGE = "image"


class BatchError(ControlNeXtError, ValueError):
    """A list of jobs that cannot be read, or a job that cannot be run."""


@dataclass(frozen=True)
class Job:
    """One picture to start from and what to do with it.

    Attributes:
        label: how messages name it: the file's name, or `line 7`.
        number: place in the list.
        image: the picture; None makes pictures from words alone.
        values: fields of a recipe, with `model` and `annotator`.
        repeat: how many jobs before it are the same.
        problem: why the row cannot be run; empty if it can.
        further: pictures of additional controls, by kind, for those that do not take `image`.
        stem: how the files of its results begin; empty takes the picture's name.
    """

    label: str
    number: int
    image: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    repeat: int = 0
    problem: str = ""
    further: Mapping[str, Path] = field(default_factory=dict)
    stem: str = ""

    def digest(self) -> str:
        """Hash the job: bytes of its pictures, name of the first one, values, and its number among equal jobs."""
        content = hashlib.sha256()
        name = "" if self.image is None else self.image.name
        content.update(json.dumps([name, self.values, self.repeat], sort_keys=True, default=str).encode())
        pictures = {} if self.image is None else {"": self.image}
        for kind, path in sorted({**pictures, **self.further}.items()):
            content.update(kind.encode())
            with suppress(OSError), path.open("rb") as file:  # a job without its picture fails when it is run
                content.update(hashlib.file_digest(file, "sha256").digest())
        return content.hexdigest()


def read_jobs(place: Path, common: Mapping[str, Any], further: Mapping[str, Path] = MappingProxyType({})) -> list[Job]:
    """Read a list of jobs.

    Args:
        place: a folder of pictures, or a file with a JSON object a line: `image`, relative to the file, and fields of a
            recipe.
        common: values of every job; a line's own win.
        further: pictures of every job's additional controls, by kind.

    Returns:
        Jobs in order; lines that cannot be read are jobs with a `problem`.

    Raises:
        BatchError: there is no such place, or it holds no jobs.
    """
    if place.is_dir():
        files = sorted(path for path in place.iterdir() if path.suffix.lower() in PICTURES and path.is_file())
        jobs = [Job(path.name, number, path, dict(common)) for number, path in enumerate(files)]
    else:
        try:
            lines = place.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise BatchError(f"The jobs {place} cannot be read: {reason}.") from None
        rows = [(line, text) for line, text in enumerate(lines, 1) if text.strip()]
        jobs = [_job(line, number, text, place.parent, common) for number, (line, text) in enumerate(rows)]
    if not jobs:
        raise BatchError(
            f"There are no jobs in {place}: give a folder of pictures, or a file with one JSON object on each line."
        )
    return _numbered([replace(job, further=dict(further)) for job in jobs])


def _job(line: int, number: int, text: str, folder: Path, common: Mapping[str, Any]) -> Job:
    label = f"line {line}"
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Job(label, number, values={"text": text}, problem=f"It is not valid JSON ({error}).")
    if not isinstance(row, dict):
        return Job(
            label, number, values={"text": text}, problem="It is no JSON object with fields such as image and prompt."
        )
    image = row.pop(_IMAGE, None)
    if image is not None and (not isinstance(image, str) or not image):
        return Job(label, number, values=row, problem=f"Its image is the name of a file, not {shorten(image)}.")
    path = None if image is None else folder / Path(image).expanduser()
    return Job(label if path is None else f"{label} ({path.name})", number, path, {**common, **row})


def _numbered(jobs: Sequence[Job]) -> list[Job]:
    """Number equal jobs, so that a list with one row twice makes two results."""
    seen: dict[str, int] = {}
    numbered = []
    for job in jobs:
        key = json.dumps([str(job.image), job.values], sort_keys=True, default=str)
        repeat = seen.get(key, 0)
        seen[key] = repeat + 1
        numbered.append(replace(job, repeat=repeat))
    return numbered
