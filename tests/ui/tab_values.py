"""Values of the image tab, as a page sends them to its handlers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import gradio as gr
import pytest

from controlnext.ui.image.events import ImageEvents

PAGE = SimpleNamespace(session_hash="page")


@contextmanager
def refused(kind: type[Exception], *values: object) -> Iterator[None]:
    """The page refuses with one message: raised by an error of this class, which names the values."""
    with pytest.raises(gr.Error) as caught:
        yield
    assert isinstance(caught.value.__cause__, kind), repr(caught.value.__cause__)
    assert [value for value in values if str(value) not in caught.value.message] == [], caught.value.message


def data_of(events: ImageEvents, **values) -> dict:
    """Values of the page as it opens, with some changed, by the names of the tab's fields."""
    data = {component: component.value for component in events.tab.inputs() | {events.tab.files}}
    return data | {getattr(events.tab, name): value for name, value in values.items()}


def applied(events: ImageEvents, updates: dict) -> dict:
    """Values of the page after the updates."""
    data = data_of(events)
    for component, update in updates.items():
        if component in data:
            data[component] = update.get("value", component.value) if isinstance(update, dict) else update
    return data
