"""Handlers that report, made safe for pages that are slower than their reports.

Gradio 6 sends a report as changes of single properties. A page that has not shown one yet when the next arrives may take the older value
back wherever the next does not name it: a button keeps its old label, a gallery its first picture. So what was just said of buttons and
texts is said again with the next reports, and the last report also names the pictures that it left out. Fields that a visitor fills in and
states, which the server keeps, are never said again, since they may have been changed meanwhile.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from functools import wraps
from typing import Any

import gradio as gr

from controlnext.ui.shared import Updates

FRESH_SECONDS = 2.0
"""So long after it was said something is said again: the slowest page has shown it by then, and a visitor may have pressed Stop."""

_TEXTS = (gr.Button, gr.HTML, gr.Markdown)
_SHOWN = (*_TEXTS, gr.DownloadButton, gr.Gallery, gr.JSON, gr.Plot)

Handler = Callable[..., Generator[Any, None, None]]
"""A generator function that yields updates by component, or lists."""


def steady(handler: Handler) -> Handler:
    """Wrap a handler so that what it said still holds after its last report.

    Args:
        handler: what it yields other than updates by component, such as lists, is passed on.

    Returns:
        One of the same signature.
    """

    @wraps(handler)
    def repeating(*args: Any, **options: Any) -> Generator[Any, None, None]:
        said: Updates = {}
        times: dict[gr.blocks.Block, float] = {}
        last: Updates = {}
        with closing(handler(*args, **options)) as reports:
            for report in reports:
                if not isinstance(report, Mapping) or "__type__" in report:
                    yield report
                    continue
                now = time.monotonic()
                for part, new in _copied(report).items():
                    said[part], times[part] = _merged(said.get(part), new), now
                fresh = {part for part, at in times.items() if now - at < FRESH_SECONDS and isinstance(part, _TEXTS)}
                last = {**report, **{part: said[part] for part in fresh}}
                yield _copied(last)
        lost = {part: value for part, value in said.items() if _is_shown(part) and _is_lost(value, last.get(part))}
        if lost:
            yield _copied(last | lost)

    return repeating


def make_steady(page: gr.Blocks) -> None:
    """Make all handlers of a page that report steady; the endpoints of the API stay as they are."""
    for function in page.fns.values():
        if inspect.isgeneratorfunction(function.fn) and function.api_visibility != "public":
            function.fn = steady(function.fn)


def _is_shown(part: gr.blocks.Block) -> bool:
    return isinstance(part, _SHOWN) or getattr(part, "interactive", None) is False


def _is_lost(said: Any, last: Any) -> bool:  # noqa: ANN401 - values of components
    """Return whether the last report of a component leaves its value out."""
    if not _is_update(said):
        return last is None
    return (
        "value" in said
        and said.get("visible") is not False
        and (last is None or (_is_update(last) and "value" not in last))
    )


def _copied(updates: Updates) -> Updates:
    """Copy the updates, since Gradio takes the values out of those that it is given."""
    return {part: {**new} if _is_update(new) else new for part, new in updates.items()}


def _merged(old: Any, new: Any) -> Any:  # noqa: ANN401 - values of components
    """Return an update that says what both say; the newer one wins."""
    if _is_update(new):
        return {**(old if _is_update(old) else {} if old is None else {"value": old}), **new}
    return {**old, "value": new} if _is_update(old) else new


def _is_update(value: object) -> bool:
    return isinstance(value, Mapping) and value.get("__type__") == "update"
