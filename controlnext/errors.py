"""The one exception that people are meant to read."""


class ControlNeXtError(Exception):
    """Base of every error this package raises on purpose.

    The text is one sentence: what was wrong, the values involved, and what to do about it.
    """
