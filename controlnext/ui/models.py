"""Labels of models: name, state, and the reason why one cannot be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controlnext.models.readiness import WORDS
from controlnext.progress import data_size


def state_word(row: Mapping[str, Any]) -> str:
    """Return the state of a model in a word or two, with the size of a download; `ready` for one that is."""
    if row["usable"]:
        return "ready"
    word = WORDS.get(row.get("state", ""), WORDS["missing"])
    size = row.get("download_bytes") if row.get("state") == "download" else 0
    return f"{word} {data_size(size)}" if size else word


def model_choices(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the choices of the model dropdown; those that are not ready say so."""
    return [(row["label"] if row["usable"] else f"{row['label']} ({state_word(row)})", row["name"]) for row in rows]


def model_info(row: Mapping[str, Any]) -> str:
    """Return the line at the models: what is in the way of the chosen one, or what it is."""
    licence = f"Licence: {row['licence']}." if row.get("licence") else ""
    return " ".join(part for part in (row["reason"] or row.get("description", ""), licence) if part)
