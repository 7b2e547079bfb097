"""The fields of a training as an annotated YAML file: what `python -m controlnext train --defaults` prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel

from controlnext.training.config import TrainConfig, section_of


def documented_defaults() -> str:
    """Return every field with its default as YAML, and its meaning as a comment."""
    return "\n".join(_documented(TrainConfig, "")) + "\n"


def _documented(section: type[BaseModel], indent: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        if (inner := section_of(field.annotation)) is not None:
            yield f"{indent}{name}:  # {inner.__doc__}"
            yield from _documented(inner, f"{indent}  ")
            continue
        choices = [value for value in _literals(field.annotation) if value is not None]
        shown = "" if field.is_required() else yaml.safe_dump(_plain(field.default), default_flow_style=True)
        shown = shown.removesuffix("...\n").strip()
        listed = f" ({', '.join(map(str, choices))})" if choices else ""
        yield f"{indent}{name}: {shown}  # {field.description}{listed}"


def _literals(annotation: object) -> tuple[Any, ...]:
    if getattr(annotation, "__origin__", None) is Literal:
        return get_args(annotation)
    if isinstance(annotation, UnionType):
        return tuple(value for part in get_args(annotation) for value in _literals(part))
    return ()


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
