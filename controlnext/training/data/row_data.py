"""Data sets of rows: preparation, unusable rows, and rows held out for validation."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import annotators
from annotators.base import AnnotatorError
from controlnext.errors import ControlNeXtError
from controlnext.progress import Cancelled
from controlnext.recipes.kinds import AUTO
from controlnext.training.base_model import base_preset
from controlnext.training.config import TrainConfig, TrainingError
from controlnext.training.data.crops import PictureCrop
from controlnext.training.data.details import read_details
from controlnext.training.data.rows import BadRow, Row, refuse_too_many, split
from controlnext.training.data.samples import Sample, States
from controlnext.training.data.store import Store

Report = Callable[[str, int, int], None]
"""Receives the stage of the preparation, how many items are done, and their total."""

_BAD = (AnnotatorError, ControlNeXtError, OSError, ValueError, SyntaxError)
_FATAL = (TrainingError, Cancelled)


@dataclass(frozen=True)
class Shown:
    """A fixed row that each validation draws.

    Attributes:
        name: of the row.
        prompt: its caption.
        condition: of the picture; of a clip that of one frame.
        picture: the original.
        sample: the row as a sample, for a loss that can be compared.
        start: reference picture of a clip.
        frame: number of the frame of a clip that `condition` and `picture` show.
        people: of `condition`, (18, 3) points each in its pixels; None where they can be read from the drawing.
    """

    name: str
    prompt: str
    condition: Image.Image
    picture: Image.Image
    sample: Sample
    start: Image.Image | None = None
    frame: int = 0
    people: Sequence[np.ndarray] | None = None


class RowData(ABC):
    """A `controlnext.training.data.samples.Data` of rows; call `prepare` and then `settle` first.

    Attributes:
        empty: states of a sample without prompt.
        held_out: whether shown rows are left out of the training; False where rows are few.
    """

    def __init__(self, config: TrainConfig, rows: Sequence[Row], store: Store) -> None:
        """Take rows.

        Args:
            config: with every null filled in.
            rows: from `read_rows`, passed by `check_conditions`.
            store: caches conditions, latents and texts.
        """
        self.config, self.rows, self.store = config, list(rows), store
        self.empty: States = {}
        self.held_out = True
        self._items: list[Any] = []
        self._shown: list[Any] = []

    @abstractmethod
    def look(self, row: Row) -> list[Any]:
        """Return the items of a row, such as its crops, each with a `size`; raises what is wrong with the row."""

    @abstractmethod
    def make_condition(self, item: Any) -> None:  # noqa: ANN401 - what `look` returns
        """Make and cache the condition of an item; raises what is wrong with it."""

    @abstractmethod
    def make_rest(self, items: Sequence[Any], report: Report, stop: threading.Event) -> None:
        """Make and cache everything else that does not change."""

    @abstractmethod
    def make_empty(self) -> States:
        """Return the states of a sample without prompt."""

    @abstractmethod
    def show(self, item: Any) -> Shown:  # noqa: ANN401 - what `look` returns
        """Return a fixed row."""

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._items)

    def shape(self, index: int) -> Hashable:
        """Return the size."""
        return self._items[index].size

    def prepare(
        self, report: Report, stop: threading.Event, share: tuple[int, int] = (0, 1), known: Sequence[BadRow] = ()
    ) -> list[BadRow]:
        """Prepare and cache every row.

        Args:
            report: receives the progress.
            stop: ends it between two rows.
            share: this process's number and how many there are; each makes its share.
            known: rows that are already known to be unusable; they count against the limit.

        Returns:
            More rows that cannot be used.

        Raises:
            TrainingError: there are more of them than allowed.
            Cancelled: it was stopped.
        """
        bad, items = [], []
        most = self.config.data.max_bad_rows
        mine = self.rows[share[0] :: share[1]]
        for number, row in enumerate(mine):
            report("Preparing rows", number, len(mine))
            check_stop(stop)
            try:
                found = self.look(row)
                for item in found:
                    self.make_condition(item)
                items += found
            except _FATAL:
                raise
            except _BAD as error:
                bad.append(BadRow(row.name, " ".join(str(error).split())))
                refuse_too_many([*known, *bad], most)
        self.make_rest(items, report, stop)
        return bad

    def settle(self, bad: Sequence[BadRow]) -> None:
        """Leave out unusable rows, and hold some rows out for validation if there are enough.

        Raises:
            TrainingError: too many rows are unusable, or all.
        """
        refuse_too_many(bad, self.config.data.max_bad_rows)
        names = {row.name for row in bad}
        rows = [row for row in self.rows if row.name not in names]
        if not rows:
            raise TrainingError(f"None of the {len(self.rows)} rows can be used; {bad[0].name}: {bad[0].reason}")
        learned, shown = split(range(len(rows)), self.config.validation.rows, self.config.seed)
        self.held_out = not set(learned) & set(shown)
        self._items = [item for place in learned for item in self.look(rows[place])]
        self._shown = [self.look(rows[place])[0] for place in shown]
        self.empty = self.make_empty()

    def detail_weights(self, key: str, picture: Callable[[], Image.Image], crop: PictureCrop) -> Tensor | None:
        """Return the cached weights `(1, h, w)` of the loss on hands and faces; None if all cells weigh the same.

        Args:
            key: names the picture.
            picture: returns it, mirrored and scaled by `crop`.
            crop: of the picture.
        """
        weight = self.config.learning.detail_weight
        if weight == 1:
            return None
        backend = base_preset(self.config).adherence_backend
        options = {} if backend == AUTO else {"backend": backend}

        def make() -> dict[str, Tensor]:
            return {"weights": read_details(picture(), crop, weight, options)}

        return self.store.tensors("details", f"{key}:{crop.key}:{weight:g}:{backend}", make)["weights"]

    def warnings(self) -> list[str]:
        """Return what makes learning from these rows unlikely, a sentence each."""
        return []

    def shown(self) -> list[Shown]:
        """Return the fixed rows."""
        return [self.show(item) for item in self._shown]


def check_stop(stop: threading.Event) -> None:
    """Raise `Cancelled` if a stop was requested."""
    if stop.is_set():
        raise Cancelled("The training was stopped during its preparation; the prepared rows are kept.")


def as_condition(rgb: np.ndarray) -> Tensor:
    """Turn `(..., H, W, 3)` uint8 into `(..., 3, H, W)` float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(rgb)).movedim(-1, -3).float() / 255


def check_conditions(config: TrainConfig, rows: Sequence[Row]) -> None:
    """Raise a `TrainingError` that names a row if conditions are missing and the annotator cannot make them."""
    row = next((row.name for row in rows if row.condition is None), None)
    if row is None:
        return
    name = config.data.annotator
    if name not in annotators.ANNOTATORS or name == "none":
        known = ", ".join(other for other in annotators.ANNOTATORS if other != "none")
        raise TrainingError(
            f"{row} has no condition, and there is no annotator {name!r} to make it: give conditions in metadata.jsonl, or "
            f"set data.annotator to one of {known}."
        )
    try:
        annotators.check(name, **config.data.annotator_settings)
    except AnnotatorError as error:
        raise TrainingError(f"{error} It comes from data.annotator_settings.") from error
