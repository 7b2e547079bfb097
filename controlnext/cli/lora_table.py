"""Text table of the LoRAs of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_HEADER = ("LoRA", "state", "rank", "keys", "MB", "weight", "conflict", "trigger words")


def lora_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Align rows of `Catalogue.loras` in columns; below them, the reason of each that cannot be used."""
    rows = list(rows)
    lines = [_HEADER, *(_line(row) for row in rows)]
    shown = [column for column in range(len(_HEADER)) if any(line[column] for line in lines[1:])]
    widths = {column: max(len(line[column]) for line in lines) for column in shown}
    text = ["  ".join(line[column].ljust(widths[column]) for column in shown).rstrip() for line in lines]
    text += [f"{row['name']}: {row['reason']}" for row in rows if not row["usable"]]
    text += [
        f"{row['name']}: {row['conflict']['reason']}"
        for row in rows
        if row.get("conflict") and row["conflict"]["reason"]
    ]
    return "\n".join(text)


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["name"],
        "usable" if row["usable"] else "not usable",
        str(row["rank"] or ""),
        row["style"],
        f"{row['size'] / 1e6:.1f}",
        f"{row['weight']:g}",
        _conflict(row.get("conflict")),
        row["trigger"],
    )


def _conflict(conflict: Mapping[str, Any] | None) -> str:
    if conflict is None:
        return ""
    if conflict["word"] in ("none", "unknown"):
        return conflict["word"]
    return (
        f"{conflict['word']} (ratio {conflict['ratio']:.2f}, cosine {conflict['cosine']:+.2f}, "
        f"{conflict['share']:.0%} of its layers)"
    )
