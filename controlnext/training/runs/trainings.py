"""The trainings of one app: at most one runs at a time; each has its own folder and is found again after a restart.

A training is its own process. Closing a page does not affect it; ending the app asks it to save a checkpoint and stop. If the
app is killed, the training continues and the next app follows it.
"""

from __future__ import annotations

import atexit
import errno
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from controlnext.training.config import TrainingError
from controlnext.training.runs.event_reader import EventReader
from controlnext.training.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from controlnext.training.config import TrainConfig

ASKED = "asked.yaml"
"""The configuration given to `start_process`; a training is resumed with it."""

RUNNING = ("starting", "preparing", "training", "validating")
_STARTED = "started.json"
_NAME = re.compile(r"[\w-]{1,60}")
_SHARED_FAMILY = "starter"  # its base is small enough to be in memory twice
_COMPLAINT = re.compile(r"(\[rank\d+\]:\s*)?(?P<text>[\w.]*(Error|Exception|Killed)\b.*)")
_GOOD_ENDS = (0, 130)


class LaunchedTraining(Protocol):
    """The process of a training, such as a `subprocess.Popen`."""

    returncode: int | None

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""

    def terminate(self) -> None:
        """Ask the process to end."""


Launch = Callable[["TrainConfig", int], LaunchedTraining]
"""Starts a training in a number of processes, as `controlnext.training.start.start_process` does."""


@dataclass(frozen=True)
class TrainingStatus:
    """State of a training.

    Attributes:
        state: one of `controlnext.training.runs.run_folder.STATES`, or `starting`, `killed`, or `new` where nothing has started.
        alive: whether a process is running it.
        facts: its status, see `RunFolder.status`.
        error: why it failed or was killed; otherwise empty.
    """

    state: str
    alive: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.facts.get("step") or 0)


class Trainings:
    """The folder of all trainings, and the running one. Safe for several threads."""

    def __init__(
        self,
        folder: str | Path,
        *,
        device: str | None = None,
        launch: Launch | None = None,
        processes: int | None = None,
    ) -> None:
        """Set the folder; nothing is created or started.

        Args:
            folder: where each training gets a folder of its own.
            device: where it runs; None takes the best there is.
            launch: starts a training; None takes `start_process`.
            processes: how many share a training; None takes two for the starter on a CPU of two cores or more, else one.
        """
        self.folder = Path(folder).expanduser().absolute()
        self.device = device
        self._launch, self._processes = launch, processes
        self._starting, self._lock = threading.Lock(), threading.Lock()
        self._name, self._process, self._since, self._stopped = "", None, 0.0, False
        self._followed: dict[str, EventReader] = {}

    def names(self) -> list[str]:
        """Return the names of the trainings, the newest first."""
        found = []
        with suppress(OSError):
            for entry in self.folder.iterdir():
                with suppress(OSError):
                    if _NAME.fullmatch(entry.name) and (entry / ASKED).is_file():
                        found.append(((entry / ASKED).stat().st_mtime, entry.name))
        return [name for _, name in sorted(found, reverse=True)]

    def run(self, name: str) -> RunFolder:
        """Return the folder of a training.

        Raises:
            TrainingError: the name is not valid.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise TrainingError(
                f"A training is named by letters, digits, - and _, at most 60; not {str(name)[:80]!r}."
            )
        return RunFolder(self.folder / name)

    def free_name(self, wanted: str) -> str:
        """Return the wanted name, with a number if it is taken."""
        name, number = wanted, 1
        while (self.folder / name).exists():
            number += 1
            name = f"{wanted}-{number}"
        return name

    def follow(self, name: str) -> EventReader:
        """Return the reader of a training's events."""
        run = self.run(name)
        with self._lock:
            if name not in self._followed:
                self._followed = dict(list(self._followed.items())[-3:])
                self._followed[name] = EventReader(run)
            return self._followed[name]

    def running(self) -> str | None:
        """Return the name of the running training, which an earlier app may have started; None if none runs."""
        with self._lock:
            name, process = self._name, self._process
        if process is not None and process.poll() is None:
            return name
        return next((name for name in self.names() if self.run(name).locked()), None)

    def status_of(self, name: str) -> TrainingStatus:
        """Return the state of a training; quick enough for once a second."""
        run = self.run(name)
        with self._lock:
            mine = self._process if self._name == name else None
            since, stopped = self._since, self._stopped
        code = None if mine is None else mine.poll()
        status = run.status()
        running, fresh = mine is not None and code is None, status.get("time", 0.0) >= since
        if running and not fresh:
            return TrainingStatus("starting", True, status)
        alive = running or bool(status.get("alive"))
        if not alive and status.get("state") in RUNNING:
            status = run.status()  # it may have ended between the two checks
        state, error = status.get("state", "new"), str(status.get("error", ""))
        if mine is not None and not alive and not fresh:
            if stopped:
                state, error = "stopped", ""
            elif code not in _GOOD_ENDS:
                state, error = "failed", _last_words(run, code)
        elif not alive and state in RUNNING:
            state, error = "killed", _last_words(run, code)
        return TrainingStatus(state, alive, status, error)

    def config(self, name: str) -> TrainConfig:
        """Read the configuration of a training.

        Raises:
            ControlNeXtError: it is missing or damaged.
        """
        from controlnext.training.config import load_config

        run = self.run(name)
        return load_config(run.path / ASKED).model_copy(update={"output": run.path})

    def start(self, config: TrainConfig, prepare: Callable[[Path], None] | None = None) -> str:
        """Start a training in a new folder, which `config.output` names inside of this one.

        Args:
            config: what to train; its batch is split between processes.
            prepare: called with the new folder before the start; the folder is removed if it raises.

        Returns:
            Its name.

        Raises:
            TrainingError: one is running, the name is taken, or the folder cannot be written.
        """
        name = config.output.name
        path = self.run(name).path
        with self._only_one():
            if path.exists():
                raise TrainingError(
                    f"There is a training named {name} already: give this one another name, or resume that one."
                )
            try:
                path.mkdir(parents=True)
            except OSError as error:
                raise _unwritable(self.folder, error) from error
            try:
                if prepare is not None:
                    prepare(path)
                config, processes = self._split(config.model_copy(update={"output": path}))
                started = {"processes": processes, "steps": config.steps, "minutes": config.minutes}
                (path / _STARTED).write_text(json.dumps(started), encoding="utf-8")
                self._begin(name, config, processes)
            except OSError as error:
                shutil.rmtree(path, ignore_errors=True)
                raise _unwritable(path, error) from error
            except BaseException:
                shutil.rmtree(path, ignore_errors=True)
                raise
        return name

    def resume(self, name: str, minutes: float | None = None) -> None:
        """Resume a training exactly where it stopped; a finished one continues beyond its end.

        Args:
            name: of the training.
            minutes: how long a finished one continues; None takes its first limit again.

        Raises:
            ControlNeXtError: one is running, or this one's files are missing or damaged.
        """
        with self._only_one():
            config, standing = self.config(name), self.status_of(name)
            started: dict[str, Any] = {"processes": 1, "steps": config.steps, "minutes": config.minutes}
            with suppress(OSError, ValueError, TypeError):
                started |= json.loads((self.run(name).path / _STARTED).read_text(encoding="utf-8"))
            if standing.state == "done":
                more = minutes or started["minutes"]
                elapsed = float(standing.facts.get("elapsed") or 0.0) / 60
                by_steps = standing.step >= config.steps
                config = config.model_copy(
                    update={
                        "minutes": None if more is None else elapsed + more,
                        "steps": standing.step + started["steps"] if by_steps else config.steps,
                    }
                )
            try:
                self._begin(name, config, max(1, int(started["processes"])))
            except OSError as error:
                raise _unwritable(self.run(name).path, error) from error

    def stop(self, name: str) -> None:
        """Ask a training to save and stop; one that is still starting ends at once."""
        with self._lock:
            mine = self._process if self._name == name else None
        if mine is not None and self.status_of(name).state == "starting":
            self._stopped = True
            mine.terminate()  # a starting training withdraws requests to stop
        else:
            self.run(name).request_stop()

    def close(self) -> None:
        """Ask the training that this app has started to save and stop; called when the app ends."""
        if self._process is not None and self._process.poll() is None:
            self.stop(self._name)

    def _begin(self, name: str, config: TrainConfig, processes: int) -> None:
        launch = self._launch
        if launch is None:
            from controlnext.training.start import start_process as launch
        if self._process is None:
            atexit.register(self.close)
        since = round(time.time(), 2)
        process = launch(config, processes)
        with self._lock:
            self._name, self._process, self._since, self._stopped = name, process, since, False

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        if not self._starting.acquire(blocking=False):
            raise TrainingError("Another training is starting, and only one runs at a time: follow that one.")
        try:
            if (running := self.running()) is not None:
                raise TrainingError(f"The training {running} is running, and only one runs at a time: stop it first.")
            yield
        finally:
            self._starting.release()

    def _split(self, config: TrainConfig) -> tuple[TrainConfig, int]:
        """Set the device, and split the batch between processes."""
        learning = config.learning.model_copy(update={"device": self.device or config.learning.device})
        processes = self._processes
        if processes is None:
            from controlnext.device import choose_device

            on_cpu = choose_device(learning.device).name == "cpu"
            shared = on_cpu and config.family == _SHARED_FAMILY and _cores() > 1 and learning.batch % 2 == 0
            processes = 2 if shared else 1
        learning = learning.model_copy(update={"batch": max(1, learning.batch // processes)})
        return config.model_copy(update={"learning": learning}), processes


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _last_words(run: RunFolder, code: int | None) -> str:
    """Describe the end of a process that left no error."""
    lines: list[str] = []
    with suppress(OSError), (run.path / "log.txt").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    found = [match for line in lines if (match := _COMPLAINT.match(line)) and "ChildFailedError" not in line]
    said = found[-1]["text"] if found else ""
    status = "" if code is None else f" with status {code}"
    last = f"; its log says: {said[:200]}" if said else ""
    return f"The training ended{status} without an error, killed or crashed{last}"


def _unwritable(path: Path, error: OSError) -> TrainingError:
    if error.errno == errno.ENOSPC:
        return TrainingError(f"There is no room left on the disk of {path}: free some, then start again.")
    return TrainingError(
        f"The folder {path} cannot be written ({error.strerror or error}): start the app with another --output-dir."
    )
