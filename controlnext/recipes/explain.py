"""What pydantic complains about, as a sentence for people."""

from __future__ import annotations

from pydantic import ValidationError

from controlnext.errors import shorten


def explain(error: ValidationError, what: str) -> str:
    """Turn pydantic's first complaint into a sentence: our own text where there is one, else field and reason."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    where = where if len(where) <= 60 else f"{where[:57]}..."
    if first["type"] == "extra_forbidden":
        return f"The {what} has an unknown field {where!r}; remove it or correct its name."
    if first["type"] == "missing":
        return f"The {what} lacks the field {where!r}."
    if "error" in first.get("ctx", {}):
        return str(first["ctx"]["error"])
    return f"The {what}'s field {where!r} is {shorten(first.get('input'))}, which is not right: {first['msg']}."
