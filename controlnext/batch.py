"""Many pictures from one list of jobs, each made exactly once, by one process or by many on several machines.

What is known about a job lies in small files beside the results, named by the job's digest: a record once it is done, a
reason if it failed, and a lock that the operating system lets go of when the process holding it dies. So a run that was
stopped, killed or started twice goes on with what is left, and processes need not talk to each other.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from controlnext.errors import ControlNeXtError
from controlnext.limits import shorten
from controlnext.run import Cancelled

try:
    import fcntl
except ImportError:  # Windows: each process keeps to its own share, and nobody helps out
    fcntl = None

log = logging.getLogger(__name__)

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
"""Endings of the files that a folder of jobs is made of."""
MANIFEST = "manifest.jsonl"
MAX_ERRORS = 20
RECORDS = ".batch"

_IMAGE = "image"
_NAME_LENGTH = 80  # characters of a picture's name that its results carry on


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
        further: pictures of further controls, by kind, for those that do not take `image`.
    """

    label: str
    number: int
    image: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    repeat: int = 0
    problem: str = ""
    further: Mapping[str, Path] = field(default_factory=dict)

    def digest(self) -> str:
        """Name the job by its content: its pictures' bytes, the first one's name, the values, which of equal jobs it is."""
        content = hashlib.sha256()
        name = "" if self.image is None else self.image.name
        content.update(json.dumps([name, self.values, self.repeat], sort_keys=True, default=str).encode())
        pictures = {} if self.image is None else {"": self.image}
        for kind, path in sorted({**pictures, **self.further}.items()):
            content.update(kind.encode())
            with suppress(OSError), path.open("rb") as file:  # a job without its picture fails by itself
                content.update(hashlib.file_digest(file, "sha256").digest())
        return content.hexdigest()


@dataclass(frozen=True)
class Made:
    """What running a job gave.

    Attributes:
        files: pictures, in the folder the job was to write to.
        seeds: seed of each.
        facts: what the manifest says beside: recipe, adherence, seconds; plain data.
        stopped: whether it was stopped before all were made.
    """

    files: Sequence[Path]
    seeds: Sequence[int]
    facts: Mapping[str, Any]
    stopped: bool = False


@dataclass
class Summary:
    """What became of the jobs that one process looked at.

    Attributes:
        done: jobs it finished.
        skipped: jobs that were finished before.
        failed: label and reason of each that could not be run.
        stopped: whether it was stopped.
        gave_up: whether there were more failures than allowed.
    """

    done: int = 0
    skipped: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    stopped: bool = False
    gave_up: bool = False


Make = Callable[[Job, int, Path], Made]
"""Runs a job: the job, the seed to use where it names none, and the folder to write to."""


def read_jobs(place: Path, common: Mapping[str, Any], further: Mapping[str, Path] = MappingProxyType({})) -> list[Job]:
    """Read a list of jobs.

    Args:
        place: a folder of pictures, or a file with a JSON object a line: `image`, relative to the file, and fields of a
            recipe.
        common: values of every job; a line's own win.
        further: pictures of every job's further controls, by kind.

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
            f"There are no jobs in {place}: give a folder of pictures, or a file with a JSON object a line."
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
            label, number, values={"text": text}, problem="It is no JSON object with an image, a prompt and so on."
        )
    image = row.pop(_IMAGE, None)
    if image is not None and (not isinstance(image, str) or not image):
        return Job(label, number, values=row, problem=f"Its image is the name of a file, not {shorten(image)}.")
    path = None if image is None else folder / Path(image).expanduser()
    return Job(label if path is None else f"{label} ({path.name})", number, path, {**common, **row})


def _numbered(jobs: Sequence[Job]) -> list[Job]:
    """Tell equal jobs apart, so that a list with one row twice makes two results."""
    seen: dict[str, int] = {}
    numbered = []
    for job in jobs:
        key = json.dumps([str(job.image), job.values], sort_keys=True, default=str)
        repeat = seen.get(key, 0)
        seen[key] = repeat + 1
        numbered.append(replace(job, repeat=repeat))
    return numbered


class Ledger:
    """What is known about jobs, in the folder `.batch` of the results; safe for many processes at once."""

    def __init__(self, output: Path) -> None:
        """Name the folder of the results; nothing is written yet.

        Args:
            output: where results go.
        """
        self.output = output
        self.folder = output / RECORDS
        self.started = 0.0
        self.locks = fcntl is not None

    def begin(self) -> None:
        """Make the folder, and count failures from now on.

        Raises:
            BatchError: it cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f"probe-{uuid4().hex}"
            probe.touch()
            self.started = (
                probe.stat().st_mtime
            )  # by the clock of the disk, which the other processes write to as well
            probe.unlink()
        except OSError as error:
            raise BatchError(
                f"The output folder {self.output} cannot be written to: {error.strerror or error}."
            ) from None

    def done(self, digest: str) -> bool:
        """Whether a job is finished."""
        return (self.folder / f"{digest}.json").is_file()

    def failed(self, digest: str) -> bool:
        """Whether a job has failed in this run, here or in another process."""
        try:
            return (self.folder / f"{digest}.failed").stat().st_mtime >= self.started
        except OSError:
            return False

    def failures(self) -> int:
        """Count the jobs that have failed in this run, in all processes."""
        return sum(self.failed(path.stem) for path in self.folder.glob("*.failed"))

    @contextmanager
    def claim(self, digest: str) -> Iterator[bool]:
        """Hold a job while it is run; False if another process holds it, or it is over."""
        if self.done(digest) or self.failed(digest):
            yield False
            return
        if not self.locks:
            yield True
            return
        with (self.folder / f"{digest}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            except OSError as error:
                log.warning("The output folder knows no locks (%s), so processes cannot help each other out.", error)
                self.locks = False
            over = self.done(digest) or self.failed(digest)  # asked again: it may have ended before the lock was ours
            yield not over
            if (
                over or self.done(digest) or self.failed(digest)
            ):  # whoever still gets the old lock sees that it is over
                (self.folder / f"{digest}.lock").unlink(missing_ok=True)

    def finish(self, job: Job, digest: str, made: Made) -> None:
        """Move a job's pictures to their names and record that it is done, in this order: no record without pictures."""
        stem = "words" if job.image is None else re.sub(r"[^\w.-]+", "_", job.image.stem)[:_NAME_LENGTH]
        names = []
        for file, seed in zip(made.files, made.seeds, strict=True):
            names.append(f"{stem}-{digest[:10]}-{seed}.png")
            file.replace(self.output / names[-1])
        image = None if job.image is None else str(job.image)
        row = {"number": job.number, "job": job.label, "image": image, "digest": digest, "files": names, **made.facts}
        _write(self.folder / f"{digest}.json", json.dumps(row, ensure_ascii=False))
        (self.folder / f"{digest}.failed").unlink(missing_ok=True)

    def fail(self, job: Job, digest: str, reason: str) -> None:
        """Record why a job could not be run; the next run tries it again."""
        _write(self.folder / f"{digest}.failed", json.dumps({"job": job.label, "reason": reason}, ensure_ascii=False))

    def write_manifest(self) -> Path:
        """Write all records as JSON lines in the order of the list; the last process to end writes the whole."""
        rows = []
        for path in self.folder.glob("*.json"):
            with suppress(OSError, ValueError):
                rows.append(json.loads(path.read_text(encoding="utf-8")))
        rows.sort(key=lambda row: (row["number"], row["digest"]))
        path = self.output / MANIFEST
        _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return path


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def run_jobs(
    jobs: Sequence[Job],
    ledger: Ledger,
    make: Make,
    *,
    share: tuple[int, int] = (0, 1),
    max_errors: int = MAX_ERRORS,
    cancel: threading.Event | None = None,
    tell: Callable[[str], None] = log.info,
) -> Summary:
    """Run what is left of a list: first this process's own share, then whatever of the others' nobody has taken up.

    Args:
        jobs: the whole list, the same in every process.
        ledger: begun.
        make: runs one job.
        share: number of this process and how many there are.
        max_errors: failures of all processes together after which it gives up, >= 0.
        cancel: stops after the current step once it is set; the job that was at work is run again next time.
        tell: told a line about every job.

    Returns:
        What became of them; failures are in it, not raised.
    """
    summary, cancel = Summary(), cancel or threading.Event()
    rank, world = share
    own = [job for job in jobs if job.number % world == rank]
    others = [
        job for job in reversed(jobs) if job.number % world != rank
    ]  # from the end, where their owners come last
    for job in [*_by_model(own), *others]:
        if cancel.is_set():
            summary.stopped = True
            break
        mine = job.number % world == rank
        if not mine and not ledger.locks:
            break
        digest = job.digest()
        with ledger.claim(digest) as claimed:
            if claimed:
                _run(job, digest, ledger, make, summary, tell)
            elif mine and ledger.done(digest):
                summary.skipped += 1
        if summary.stopped:
            break
        if summary.failed and ledger.failures() > max_errors:
            summary.gave_up = True
            break
    ledger.write_manifest()
    return summary


def _by_model(jobs: Sequence[Job]) -> list[Job]:
    """One model after the other, each loaded once; otherwise in order."""
    return sorted(jobs, key=lambda job: str(job.values.get("model", "")))


def _run(job: Job, digest: str, ledger: Ledger, make: Make, summary: Summary, tell: Callable[[str], None]) -> None:
    """Run one job that this process holds."""
    work = ledger.folder / f"work-{digest}"
    shutil.rmtree(work, ignore_errors=True)  # of a process that died
    begun = time.perf_counter()
    try:
        if job.problem:
            raise BatchError(job.problem)
        made = make(job, int(digest[:8], 16), work)
        if made.stopped:
            summary.stopped = True
        else:
            ledger.finish(job, digest, made)
            summary.done += 1
            tell(f"{job.label}: {len(made.files)} made in {time.perf_counter() - begun:.1f} s")
    except Cancelled:
        summary.stopped = True
    except Exception as error:  # a batch of a night does not end at one bad row
        if not isinstance(error, ControlNeXtError):
            log.exception("Unexpected at %s", job.label)
        reason = str(error) or type(error).__name__
        ledger.fail(job, digest, reason)
        summary.failed.append((job.label, reason))
        tell(f"{job.label}: {reason}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
