"""The errors whose text people are meant to read, and the parts of such a text."""

from __future__ import annotations

from typing import NoReturn


class ControlNeXtError(Exception):
    """Base of every error this package raises on purpose.

    The text is one sentence: what was wrong, the values involved, and what to do about it.
    """


class StudioError(ControlNeXtError, RuntimeError):
    """A recipe that this machine could not run; the text says why and what helps."""


def add_sentence(error: ControlNeXtError, sentence: str) -> None:
    """Append a sentence to the text of an error; its class and attributes stay."""
    error.args = (f"{error} {sentence}",)


def fail(sentence: str) -> NoReturn:
    """Raise the `ValueError` that pydantic carries out of a validator."""
    raise ValueError(sentence)


def shorten(value: object, limit: int = 40) -> str:
    """Show a value inside a sentence without letting it fill the page."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more than 4,300 digits
        text = "a number too long to show"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
