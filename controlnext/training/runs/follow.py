"""What a run has told so far, read bit by bit: asking for news costs as much as there is news."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from controlnext.training.runs.run_folder import RunFolder


class Follow:
    """Reads the events of a run, each once. Safe to ask from several threads.

    Attributes:
        run: whose events.
        version: grows whenever there was news.
        losses: step and loss of each step.
        validations: `validation` events.
        asked: rows that are drawn each time, with `name` and `prompt`.
        skipped: why rows were left out, by their names.
        trainable: what learns, in words; empty until it is known.
        rows: rows that are learned from; 0 until it is known.
    """

    def __init__(self, run: RunFolder) -> None:
        """Read nothing yet."""
        self.run, self.version = run, 0
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._place, self._identity = 0, 0
        self.losses: list[tuple[int, float]] = []
        self.validations: list[dict[str, Any]] = []
        self.asked: list[dict[str, str]] = []
        self.skipped: dict[str, str] = {}
        self.trainable, self.rows = "", 0

    def look(self) -> int:
        """Read what is new; return the version."""
        with self._lock:
            try:
                with self.run.events_file.open("rb") as file:
                    self._read(file)
            except OSError:
                if self._place:
                    self._forget()
                    self.version += 1
            return self.version

    def _read(self, file: Any) -> None:  # noqa: ANN401 - a binary file
        status = os.fstat(file.fileno())
        if status.st_size < self._place or self._identity not in (0, status.st_ino):
            self._forget()
        self._identity = status.st_ino
        if status.st_size == self._place:
            return
        file.seek(self._place)
        new = file.read()
        whole = new[: new.rfind(b"\n") + 1]  # the last line may be in the middle of being written
        self._place += len(whole)
        for line in whole.splitlines():
            try:
                event = json.loads(line)
                self._take(event["event"], event)
            except (ValueError, KeyError, TypeError):  # a line that was being written when the power went
                continue
        self.version += bool(whole)

    def _take(self, name: str, event: dict[str, Any]) -> None:
        if name == "step":
            self.losses.append((int(event["step"]), float(event["loss"])))
        elif name == "validation":
            self.validations.append(event)
        elif name == "skipped":
            self.skipped[str(event["name"])] = str(event["reason"])
        elif name == "asked":
            self.asked = list(event["rows"])
        elif name == "trainable":
            self.trainable, self.rows = str(event["text"]), int(event["rows"])
        elif name == "resumed":
            self.losses = [pair for pair in self.losses if pair[0] <= event["step"]]
            self.validations = [one for one in self.validations if one["step"] <= event["step"]]
