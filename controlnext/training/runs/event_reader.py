"""Incremental reading of a run's events: a look costs only as much as there are new events."""

from __future__ import annotations

import json
import os
import threading
from typing import Any, BinaryIO

from controlnext.training.runs.run_folder import RunFolder


class EventReader:
    """Reads each event of a run once. Safe for several threads.

    Attributes:
        run: whose events.
        version: grows with every new event.
        losses: step and loss of each step.
        validations: `validation` events.
        asked: rows that are drawn each time, with `name` and `prompt`.
        notes: texts of warnings, as keys in their order.
        skipped: reasons of skipped rows by their names.
        trainable: description of the weights that learn; empty until it is known.
        rows: number of rows to learn from; 0 until it is known.
    """

    def __init__(self, run: RunFolder) -> None:
        """Set the run; nothing is read."""
        self.run, self.version = run, 0
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._place, self._identity = 0, 0
        self.losses: list[tuple[int, float]] = []
        self.validations: list[dict[str, Any]] = []
        self.asked: list[dict[str, str]] = []
        self.skipped: dict[str, str] = {}
        self.notes: dict[str, None] = {}
        self.trainable, self.rows = "", 0

    def look(self) -> int:
        """Read new events; return the version."""
        with self._lock:
            try:
                with self.run.events_file.open("rb") as file:
                    self._read(file)
            except OSError:
                if self._place:
                    self._forget()
                    self.version += 1
            return self.version

    def _read(self, file: BinaryIO) -> None:
        status = os.fstat(file.fileno())
        if status.st_size < self._place or self._identity not in (0, status.st_ino):
            self._forget()
        self._identity = status.st_ino
        if status.st_size == self._place:
            return
        file.seek(self._place)
        new = file.read()
        whole = new[: new.rfind(b"\n") + 1]  # the last line may be unfinished
        self._place += len(whole)
        for line in whole.splitlines():
            try:
                event = json.loads(line)
                self._take(event["event"], event)
            except (ValueError, KeyError, TypeError):  # a line that was never finished
                continue
        self.version += bool(whole)

    def _take(self, name: str, event: dict[str, Any]) -> None:
        if name == "step":
            self.losses.append((int(event["step"]), float(event["loss"])))
        elif name == "validation":
            self.validations.append(event)
        elif name == "skipped":
            self.skipped[str(event["name"])] = str(event["reason"])
        elif name == "warning":
            self.notes[str(event["text"])] = None
        elif name == "asked":
            self.asked = list(event["rows"])
        elif name == "trainable":
            self.trainable, self.rows = str(event["text"]), int(event["rows"])
        elif name == "resumed":
            self.losses = [pair for pair in self.losses if pair[0] <= event["step"]]
            self.validations = [one for one in self.validations if one["step"] <= event["step"]]
