"""Terminal output of the commands: lines, progress, stop on Ctrl+C and usage errors."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from controlnext.errors import ControlNeXtError

if TYPE_CHECKING:
    from controlnext.progress import Progress


class UsageError(ControlNeXtError, ValueError):
    """Options that make no sense together."""


@contextmanager
def stoppable(*signals: signal.Signals) -> Iterator[threading.Event]:
    """Turn the first of some signals, such as Ctrl+C, into a stop after the current step; a second one ends the program."""
    cancel = threading.Event()

    def stop(number: int, frame: object) -> None:
        cancel.set()
        signal.signal(number, signal.default_int_handler)

    main_thread = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop) for number in signals} if main_thread else {}
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_progress(progress: Progress) -> None:
    """Write how far it is over the line before, where somebody watches."""
    if sys.stderr.isatty():
        left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
        sys.stderr.write(f"\r\x1b[K{progress.stage} {progress.counted}{left}")
        sys.stderr.flush()


def clear_progress() -> None:
    """Take the line of the progress away."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")


def note(text: str) -> None:
    """Write a line to the error stream; nothing for an empty text."""
    if text:
        sys.stderr.write(f"{text}\n")


def print_line(text: str) -> None:
    """Write a line of the results."""
    sys.stdout.write(f"{text}\n")
