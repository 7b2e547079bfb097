"""Sentences fit to be shown to anyone: short, and without the paths of this machine."""

from __future__ import annotations

import re

LONGEST = 300
"""Characters of a sentence that is shown; the rest would be a list, or what somebody sent."""

FAILED = (
    "The app could not do this, and its console says why. It keeps running: check the values sent, then try again."
)
"""The sentence for an exception that nobody wrote one for; what it said stays in the log."""

NO_MEMORY = "This machine has too little free memory for that, or lacks a library: close other programs, or install the app again."
"""The sentence where memory or a library is missing."""

_PART = r"[^\s/\\:“”‘’\"'`(){}\[\]<>,;|]+"
_PATH = re.compile(rf"(?<![\w.:/\\])(?:~|[A-Za-z]:)?[/\\](?:{_PART}[/\\])+({_PART})?")


def brief(text: str) -> str:
    """Return a text of at most `LONGEST` characters on one line, cut at a word where it was longer."""
    line = " ".join(text[: 8 * LONGEST].split())
    if len(line) <= LONGEST:
        return line
    return f"{line[: LONGEST - 2].rsplit(' ', 1)[0][: LONGEST - 2]} …"


def without_paths(text: str, sent: str = "") -> str:
    """Return a text with every path cut down to its last part.

    Args:
        text: of an error.
        sent: what the visitor sent, as text; paths that were part of it are no secret and stay.
    """

    def last_part(match: re.Match[str]) -> str:
        whole = match.group(0).rstrip(".")
        if sent and whole in sent:
            return match.group(0)
        return (match.group(1) or "a folder") if match.group(0) != whole or match.group(1) else "a folder"

    return _PATH.sub(last_part, text)
