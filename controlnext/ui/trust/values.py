"""What a value of a request may be, by the component it is for: checked before Gradio or an event looks at it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from gradio.components.api_component import Api

from controlnext.errors import ControlNeXtError, shorten
from controlnext.ui.trust.gate import is_file

LONGEST_TEXT = 100_000
"""Characters of a text that is taken at all; each field has its own, smaller limit."""

LARGEST_NUMBER = 2**63
"""Numbers are smaller than this: JSON is written with 64 bits."""


class ValueSentError(ControlNeXtError):
    """A value of a request that is of the wrong kind for its field."""


def check_plain(value: Any, name: str) -> None:  # noqa: ANN401 - whatever JSON gave
    """Refuse texts and numbers that nothing can work with, however deep they lie in a value.

    Args:
        value: of one field.
        name: of the field.

    Raises:
        ValueSentError: a number is not finite or too large, a text is far too long or holds half a character.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_plain(key, name)
            check_plain(item, name)
    elif isinstance(value, list):
        for item in value:
            check_plain(item, name)
    elif isinstance(value, str):
        _check_text(value, name)
    elif isinstance(value, int | float) and not -LARGEST_NUMBER < value < LARGEST_NUMBER:
        raise ValueSentError(f"A number of {_called(name)} is out of every range: send one below 2^63.")


def check_kind(value: Any, component: gr.components.Component, name: str) -> None:  # noqa: ANN401 - whatever JSON gave
    """Refuse a value that is not of its component's kind.

    Args:
        value: as the client sent it, files already checked.
        component: of the page, or the parameter of an endpoint.
        name: what people call it.

    Raises:
        ValueSentError: it is of another kind; the sentence says which is wanted.
    """
    if isinstance(component, Api):
        kind = component.api_info().get("type", "")
        if value is None and component.value is None:
            return
        check, wanted = _PARAMETERS.get(kind, (lambda value: True, ""))
        if not check(value):
            raise ValueSentError(f"{_called(name)} is {wanted}; got {shorten(value)}.")
        return
    for classes, check, wanted in _COMPONENTS:
        if isinstance(component, classes):
            if value is not None and not check(value):
                raise ValueSentError(f"{_called(name)} is {wanted}; got {shorten(value)}.")
            break
    if isinstance(component, gr.Radio | gr.Dropdown) and value is not None:
        _check_choice(value, component, name)


def _check_choice(value: Any, component: gr.Radio | gr.Dropdown, name: str) -> None:  # noqa: ANN401
    if isinstance(component, gr.Dropdown) and component.allow_custom_value:
        return
    choices = [choice for _, choice in component.choices]
    for one in value if isinstance(value, list) else [value]:
        if one not in choices:
            known = ", ".join(map(str, choices[:6])) or "none"
            more = "" if len(choices) <= 6 else " ..."
            raise ValueSentError(
                f"{_called(name)} has no choice {shorten(one)}: take one of {shorten_list(known)}{more}."
            )


def shorten_list(text: str, limit: int = 120) -> str:
    """Return names in a row, cut where they fill a sentence."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _check_text(value: str, name: str) -> None:
    if len(value) > LONGEST_TEXT:
        raise ValueSentError(
            f"A text of {_called(name)} has {len(value):,} characters, and {LONGEST_TEXT:,} are taken at most: shorten it."
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueSentError(
            f"A text of {_called(name)} holds half a character (a lone surrogate): send it again."
        ) from error


def _called(name: str) -> str:
    return f"“{name[:60]}”"


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _one(value: object) -> bool:
    return isinstance(value, str) or _number(value)


def _files(value: object) -> bool:
    return is_file(value) or (isinstance(value, list) and bool(value) and all(map(is_file, value)))


def _objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) for one in value)


def _text(value: object) -> bool:
    return isinstance(value, str)


def _truth(value: object) -> bool:
    return isinstance(value, bool)


A_FILE = "a file that was uploaded, as an object with its path (handle_file in Python)"

_COMPONENTS: tuple[tuple[Any, Callable[[Any], bool], str], ...] = (
    (gr.Checkbox, _truth, "true or false"),
    (gr.Slider | gr.Number, _number, "a number"),
    (gr.Textbox, _text, "a text"),
    (gr.Radio, _one, "one of its choices"),
    (
        gr.Dropdown,
        lambda value: _one(value) or (isinstance(value, list) and all(map(_one, value))),
        "one of its choices",
    ),
    (gr.File | gr.UploadButton, _files, A_FILE),
    (gr.Image | gr.Video, is_file, A_FILE),
    (gr.ImageEditor, lambda value: isinstance(value, Mapping), A_FILE),
    (gr.Gallery, _objects, A_FILE),
)

_PARAMETERS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "string": (_text, "a text"),
    "boolean": (_truth, "true or false"),
    "object": (lambda value: isinstance(value, Mapping), "an object with names and values, or null"),
    "array": (lambda value: isinstance(value, list), "a list, or null"),
}
"""Kinds of an endpoint's parameters by their JSON type; what a number may be is said where it is used."""
