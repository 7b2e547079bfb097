"""Values of the image tab, as a page sends them to its handlers."""

from __future__ import annotations

from types import SimpleNamespace

from controlnext.ui.image.events import ImageEvents

PAGE = SimpleNamespace(session_hash="page")


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
