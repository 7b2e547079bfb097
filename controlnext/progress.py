"""How far a generation is, and how long it will still take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controlnext.errors import ControlNeXtError

if TYPE_CHECKING:
    import threading

    from PIL import Image

_NEWEST = 0.3  # weight of the newest step in the running mean: follows a machine that slows down within a few steps


class Cancelled(ControlNeXtError, RuntimeError):
    """Stopped before a picture was finished."""


@dataclass(frozen=True)
class Progress:
    """One report of a running generation.

    Attributes:
        stage: what is being done, in a word or two for the page.
        step: denoising steps done, over all batches; bytes while something is downloaded.
        total: how many in all; 0 while nothing countable goes on.
        seconds_left: estimated time to the end; None while there is nothing to estimate from.
        preview: cheap look at the pictures so far, side by side; None where there is none.
        unit: what is counted: `step`, `window` (over all steps), `frame` or `byte`.
    """

    stage: str
    step: int = 0
    total: int = 0
    seconds_left: float | None = None
    preview: Image.Image | None = None
    unit: str = "step"

    @property
    def counted(self) -> str:
        """How far it is in words, such as `step 3 of 20` or `1.2 GB of 6.9 GB`; empty while nothing is counted."""
        if not self.total:
            return ""
        if self.unit == "byte":
            return f"{data_size(self.step)} of {data_size(self.total)}"
        return f"{self.unit} {self.step} of {self.total}"


@dataclass(frozen=True)
class Pace:
    """How fast a kind of run was.

    Attributes:
        step_seconds: time of one denoising step of a batch.
        after_seconds: time between a batch's last step and its pictures being saved.
    """

    step_seconds: float
    after_seconds: float = 0.0


class Clock:
    """Estimate of the time left, from the steps seen so far and from an earlier run of the same kind."""

    def __init__(
        self, steps: int, batches: int, pace: Pace | None = None, now: Callable[[], float] = time.perf_counter
    ) -> None:
        """Plan a run.

        Args:
            steps: denoising steps of a batch.
            batches: batches to be made.
            pace: how fast an earlier run like this one was, if there was one.
            now: clock in seconds.
        """
        self.steps = steps
        self.batches = batches
        self.pace = pace
        self._step = 0
        self._step_at_batch = 0
        self._measured = False
        self._now = now
        self._last = now()

    @property
    def done(self) -> int:
        """Steps done of the batch that goes on, and of those before it."""
        return self._step

    @property
    def total(self) -> int:
        """Steps in all."""
        return self._step_at_batch + self.steps * self.batches

    @property
    def seconds_left(self) -> float | None:
        """Seconds until everything is saved; None before anything is known."""
        if self.pace is None:
            return None
        return self.pace.step_seconds * (self.total - self._step) + self.pace.after_seconds * self.batches

    def begin_batch(self) -> None:
        """Start the next step's time here: what came before it was no step."""
        self._last = self._now()

    def tick(self) -> None:
        """Count one step."""
        took = self._lap()
        if self._measured and self.pace is not None:
            took = self.pace.step_seconds + _NEWEST * (took - self.pace.step_seconds)
        self.pace = Pace(took, self.pace.after_seconds if self.pace else 0.0)
        self._measured = True  # an earlier run only served until there was a step of this one
        self._step += 1

    def end_batch(self) -> None:
        """Count one batch: what came after its last step is the time that saving takes."""
        if self.pace is not None:
            self.pace = Pace(self.pace.step_seconds, self._lap())
        self.batches -= 1
        self._step_at_batch = self._step

    def replan(self, batches: int) -> None:
        """Forget the batch that went on, and plan so many from here."""
        self.batches = batches
        self._step = self._step_at_batch

    def _lap(self) -> float:
        now = self._now()
        took, self._last = now - self._last, now
        return took


def stop_if(cancel: threading.Event) -> None:
    """Raise `Cancelled` if someone asked to stop."""
    if cancel.is_set():
        raise Cancelled("Stopped before a picture was finished.")


def data_size(count: int) -> str:
    """Say a number of bytes as people do: `6.9 GB`, `21 MB`, `340 kB`; powers of ten, as the hub lists them."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if unit == "GB" else f"{count / size:.0f} {unit}"
    return f"{count} bytes"
