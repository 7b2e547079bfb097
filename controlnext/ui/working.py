"""The frame of an event that works for a while: it begins, reports, and leaves the page at rest whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator

import gradio as gr

from controlnext.ui.shared import Updates, reported_errors
from controlnext.ui.worker import Runs

Work = Callable[[threading.Event], Generator[Updates, None, Updates]]
"""Is given the event that asks it to stop; yields updates of the page, and returns the last ones."""


def working(runs: Runs, page: str, work: Work, *, idle: Updates, stopped: Updates) -> Iterator[Updates]:
    """Do the work of an event.

    Args:
        runs: where Stop finds it.
        page: session hash of the page.
        work: what is done.
        idle: the page at rest, with which it ends.
        stopped: what the page says besides where it was stopped before there was anything to show.

    Yields:
        The updates of the work; in the end the page at rest with what the work returned.

    Raises:
        gr.Error: what went wrong, in one sentence; the page is at rest then, too.
    """
    cancel = runs.start(page)
    try:
        with reported_errors():
            last = yield from work(cancel)
        yield idle | last
    except gr.Error:
        yield idle | (stopped if cancel.is_set() else {})
        if not cancel.is_set():  # a stop was asked for, so it is no error
            raise
    finally:
        runs.finish(page, cancel)
