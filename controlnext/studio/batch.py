"""Batches: many pictures from one list of jobs, each made exactly once, by one process or by many on several machines.

The state of a job is kept in small files next to the results, named by the job's digest: a record once it is done, a
reason if it failed, and a lock that the operating system releases when the process holding it dies. So a run that was
stopped, killed or started twice continues with what is left, and processes need not talk to each other.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from controlnext.errors import ControlNeXtError
from controlnext.progress import Cancelled
from controlnext.studio.batch_jobs import BatchError, Job

try:
    import fcntl
except ImportError:  # Windows: each process runs its own share only
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

MANIFEST = "manifest.jsonl"
MAX_ERRORS = 20
RECORDS = ".batch"

_NAME_LENGTH = 80  # characters of a picture's name that its results keep


@dataclass(frozen=True)
class Made:
    """The outcome of one job.

    Attributes:
        files: pictures, in the folder the job was to write to.
        seeds: seed of each.
        facts: what else the manifest says: recipe, adherence, seconds; plain data.
        stopped: whether it was stopped before all were made.
    """

    files: Sequence[Path]
    seeds: Sequence[int]
    facts: Mapping[str, Any]
    stopped: bool = False


@dataclass
class BatchSummary:
    """Counts of the jobs that one process ran or skipped.

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


class Ledger:
    """The state of all jobs, in the folder `.batch` of the results; safe for many processes at once."""

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
        """Lock a job while it runs; False if another process has it, or it has ended."""
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
                logger.warning(
                    "The output folder knows no locks (%s), so processes cannot help each other out.", error
                )
                self.locks = False
            over = self.done(digest) or self.failed(
                digest
            )  # checked again: it may have ended before the lock was acquired
            yield not over
            if (
                over or self.done(digest) or self.failed(digest)
            ):  # a process that still gets the old lock sees that it has ended
                (self.folder / f"{digest}.lock").unlink(missing_ok=True)

    def finish(self, job: Job, digest: str, made: Made) -> None:
        """Move a job's pictures to their names and record that it is done, in this order: no record without pictures."""
        name = job.stem or ("words" if job.image is None else job.image.stem)
        stem = re.sub(r"[^\w.-]+", "_", name)[:_NAME_LENGTH]
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
    tell: Callable[[str], None] = logger.info,
) -> BatchSummary:
    """Run what is left of a list: first this process's own share, then jobs of the others that nobody has started.

    Args:
        jobs: the whole list, the same in every process.
        ledger: begun.
        make: runs one job.
        share: number of this process and how many there are.
        max_errors: failures of all processes together after which it gives up, >= 0.
        cancel: stops after the current step once it is set; the job that was at work is run again next time.
        tell: called with a line about every job.

    Returns:
        What became of them; failures are in it, not raised.
    """
    summary, cancel = BatchSummary(), cancel or threading.Event()
    rank, world = share
    own = [job for job in jobs if job.number % world == rank]
    others = [
        job for job in reversed(jobs) if job.number % world != rank
    ]  # from the end, which their owners reach last
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


def _run(
    job: Job, digest: str, ledger: Ledger, make: Make, summary: BatchSummary, tell: Callable[[str], None]
) -> None:
    """Run one job that this process has locked."""
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
    except Exception as error:  # one bad row does not end a batch
        if not isinstance(error, ControlNeXtError):
            logger.exception("Unexpected error at %s", job.label)
        reason = str(error) or type(error).__name__
        ledger.fail(job, digest, reason)
        summary.failed.append((job.label, reason))
        tell(f"{job.label}: {reason}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
