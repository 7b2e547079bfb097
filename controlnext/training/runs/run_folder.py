"""The folder of a run: status, events, the request to stop, and the paths of its results.

    run = RunFolder("runs/mine")
    run.status()            # {"state": "training", "step": 120, "steps": 1000, "loss": 0.08, "seconds_left": 310, ...}
    run.events()            # every step and validation
    run.request_stop()      # it saves a checkpoint and ends

Reading imports nothing heavy, so that a page can follow a run in another process or thread.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows: two trainings in one folder are not detected
    fcntl = None  # type: ignore[assignment]

STATES = ("preparing", "training", "validating", "stopped", "done", "failed")
"""States of a status; a killed run has one of the first three and is not `alive`."""

_GLANCE = 0.5  # seconds; a page that checks a lock holds it, shared, for far less


@dataclass(frozen=True)
class RunFolder:
    """Paths and messages of one run.

    Attributes:
        path: the folder.
    """

    path: Path

    def __init__(self, path: str | Path) -> None:
        """Set the path; nothing is created."""
        object.__setattr__(self, "path", Path(path))

    @property
    def config_file(self) -> Path:
        """The complete configuration of the run."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """Folder of the result."""
        return self.path / "adapter"

    @property
    def preset(self) -> Path:
        """A preset with the base model and the result; copied into `presets/`, it is a model of the page and the command line."""
        return self.path / "preset.yaml"

    @property
    def validation(self) -> Path:
        """Folder of the validations' pictures: a folder a step, and `asked` with the conditions."""
        return self.path / "validation"

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.path / "report.html"

    @property
    def events_file(self) -> Path:
        """Every event, a JSON object a line."""
        return self.path / "events.jsonl"

    def add_event(self, event: str, **facts: Any) -> None:
        """Append an event as one line."""
        line = json.dumps({"event": event, "time": round(time.time(), 2), **facts}, ensure_ascii=False)
        with self.events_file.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else f"\n{line}"  # the process was killed while it wrote a line
            file.write(f"{line}\n".encode())

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Read the valid events of some names, all by default.

        A killed run resumes before its last steps; its earlier events of those steps are left out.
        """
        found: list[dict[str, Any]] = []
        with suppress(OSError):
            for line in self.events_file.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):  # a line that was never finished
                    event = json.loads(line)
                    if event["event"] == "resumed":
                        found = [old for old in found if old.get("step", 0) <= event["step"]]
                    found.append(event)
        return [event for event in found if not names or event["event"] in names]

    def set_status(self, state: str, **facts: Any) -> None:
        """Write the status atomically.

        `step` and `elapsed` keep their values if they are not given, such as during the preparation or after a failure.
        """
        before = self._read_status()
        kept = {name: before[name] for name in ("step", "elapsed") if name in before}
        status: dict[str, object] = {
            **kept,
            "state": state,
            "pid": os.getpid(),
            "time": round(time.time(), 2),
            **facts,
        }
        partial = self.path / "status.json.partial"
        partial.write_text(json.dumps(status, ensure_ascii=False), encoding="utf-8")
        partial.replace(self.path / "status.json")

    def status(self) -> dict[str, Any]:
        """Read the status; empty if the run never started. `alive` is whether a process is running it."""
        status = self._read_status()
        return {**status, "alive": self.locked()} if status else {}

    def _read_status(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            status = json.loads((self.path / "status.json").read_text(encoding="utf-8"))
            return status if isinstance(status, dict) else {}
        return {}

    def request_stop(self) -> None:
        """Ask the run to save and stop."""
        if self.path.is_dir():
            (self.path / "stop").touch()

    def stop_requested(self) -> bool:
        """Return whether a stop was requested."""
        return (self.path / "stop").exists()

    def forget_stop(self) -> None:
        """Withdraw the request to stop."""
        (self.path / "stop").unlink(missing_ok=True)

    def lock(self) -> IO[str] | None:
        """Claim the folder for this process until the returned object is closed; None if another has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        file = (self.path / "lock").open("a")
        until = time.monotonic() + _GLANCE
        while not _claimed(file, exclusive=True):
            if time.monotonic() > until:
                file.close()
                return None
            time.sleep(_GLANCE / 20)
        return file

    def locked(self) -> bool:
        """Return whether a training is running in it; a running one is not disturbed."""
        try:
            with (self.path / "lock").open("rb") as file:
                return not _claimed(file, exclusive=False)
        except OSError:  # there is no lock, or it belongs to another user
            return False


def _claimed(file: IO[Any], *, exclusive: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def seconds_left(
    step: int, steps: int, first: int, seconds: float, *, elapsed: float, minutes: float | None
) -> float | None:
    """Estimate the seconds that a run still takes; None before its first step.

    Args:
        step: steps done.
        steps: total steps.
        first: step from which it resumed.
        seconds: since then.
        elapsed: seconds of the whole run.
        minutes: it may take; None without a limit.
    """
    if step <= first:
        return None
    left = (steps - step) * seconds / (step - first)
    if minutes is not None:
        left = min(left, minutes * 60 - elapsed)
    return max(0.0, left)
