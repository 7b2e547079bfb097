"""Pictures with captions and conditions as samples; conditions, latents and texts are made once and kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import annotators
from annotators.base import AnnotatorError
from controlnext.pictures import fit_condition
from controlnext.run import Cancelled
from controlnext.training.config import TrainConfig
from controlnext.training.encoders import PictureEncoder
from controlnext.training.errors import TrainingError
from controlnext.training.frames import Frame, buckets, frame_for, nearest_bucket
from controlnext.training.rows import BadRow, Row, split
from controlnext.training.samples import Sample, States
from controlnext.training.store import Store

_ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class Item:
    """A row as it is shown: cut and mirrored in one way."""

    row: Row
    frame: Frame


@dataclass(frozen=True)
class Shown:
    """A row held out, to be drawn in each validation.

    Attributes:
        name: of the row.
        prompt: its caption.
        condition: what is asked for.
        picture: the picture it was taken from.
        sample: the same as a sample, for a loss that can be compared.
        start: for a clip its reference picture.
    """

    name: str
    prompt: str
    condition: Image.Image
    picture: Image.Image
    sample: Sample
    start: Image.Image | None = None


class PictureData:
    """A `controlnext.training.samples.Data` of pictures; `prepare` comes first."""

    def __init__(self, config: TrainConfig, rows: Sequence[Row], encoder: PictureEncoder, store: Store) -> None:
        """Take rows.

        Args:
            config: with every null filled in.
            rows: from `read_rows`.
            encoder: of the base model.
            store: keeps what is made.

        Raises:
            TrainingError: rows lack conditions, and there is no annotator that makes them.
        """
        self.config, self.rows, self.encoder, self.store = config, list(rows), encoder, store
        self.empty: States = {}
        self._items: list[Item] = []
        self._shown: list[Item] = []
        self._given = any(row.condition is not None for row in rows)
        lacking = next((row.name for row in rows if row.condition is None), None)
        if lacking is not None:
            check_annotator(config, lacking)

    def __len__(self) -> int:
        """Return how many items there are."""
        return len(self._items)

    def shape(self, index: int) -> Hashable:
        """Return the item's size."""
        return self._items[index].frame.size

    def prepare(
        self, report: Callable[[str, int, int], None], stop: threading.Event, share: tuple[int, int] = (0, 1)
    ) -> list[BadRow]:
        """Open every picture once, and make what is kept of it.

        Args:
            report: told what is done, how many of how many.
            stop: ends it between two pictures.
            share: this process's number and how many there are; each makes its share.

        Returns:
            Rows that cannot be used.

        Raises:
            TrainingError: there are more of them than allowed.
            Cancelled: it was stopped.
        """
        bad, items = [], []
        mine = self.rows[share[0] :: share[1]]
        for number, row in enumerate(mine):
            if stop.is_set():
                raise Cancelled("The training was stopped while pictures were prepared; what was made is kept.")
            report("Preparing pictures", number, len(mine))
            try:
                made = self._frames(row)
                for item in made:
                    self._condition(item)
                items += made
            except (AnnotatorError, OSError, ValueError, SyntaxError) as error:
                bad.append(BadRow(row.name, " ".join(str(error).split())))
                self._too_many(bad)
        if self.config.data.cache_latents:
            self._encode_all(items, report, stop)
        if self.config.data.cache_text:
            captions = sorted({row.text for row in mine} | {""})
            for number, caption in enumerate(captions):
                if stop.is_set():
                    raise Cancelled("The training was stopped while pictures were prepared; what was made is kept.")
                report("Encoding captions", number, len(captions))
                self._states(caption)
        return bad

    def settle(self, bad: Sequence[BadRow]) -> None:
        """Leave out the rows that no process could use, and hold some out for validation."""
        self._too_many(bad)
        names = {row.name for row in bad}
        rows = [row for row in self.rows if row.name not in names]
        if not rows:
            raise TrainingError(f"None of the {len(self.rows)} rows can be used; {bad[0].name}: {bad[0].reason}")
        learned, shown = split(range(len(rows)), self.config.validation.rows, self.config.seed)
        self._items = [item for place in learned for item in self._frames(rows[place])]
        self._shown = [self._frames(rows[place])[0] for place in shown]
        self.empty = self._states("")

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        """See `controlnext.training.samples.Data.sample`."""
        item = self._items[index]
        if self.config.data.crop == "random":
            frame = item.frame
            item = Item(item.row, frame_for(frame.original, frame.size, mirrored=frame.mirrored, generator=generator))
        return self._sample(item)

    def shown(self) -> list[Shown]:
        """The rows held out."""
        return [
            Shown(
                item.row.name, item.row.text, Image.fromarray(self._cut(item)), self._picture(item), self._sample(item)
            )
            for item in self._shown
        ]

    def _too_many(self, bad: Sequence[BadRow]) -> None:
        if len(bad) > self.config.data.max_bad_rows:
            raise TrainingError(
                f"{len(bad)} rows cannot be used, more than data.max_bad_rows={self.config.data.max_bad_rows}; the last is "
                f"{bad[-1].name}: {bad[-1].reason}"
            )

    def _frames(self, row: Row) -> list[Item]:
        """The ways in which a row is shown."""
        data = self.config.data
        size = self._original(row)
        wanted = (data.width, data.height)
        if data.aspect == "buckets":
            wanted = nearest_bucket(size, buckets(*wanted))
        return [
            Item(row, frame_for(size, wanted, mirrored=mirrored))
            for mirrored in ((False, True) if data.flip else (False,))
        ]

    def _original(self, row: Row) -> tuple[int, int]:
        def measure() -> dict[str, Tensor]:
            return {"size": torch.tensor(_open(row.picture).size)}

        return tuple(self.store.tensors("sizes", row.key, measure)["size"].tolist())

    def _picture(self, item: Item) -> Image.Image:
        return item.frame.scale(_open(item.row.picture)).crop(item.frame.box)

    def _condition(self, item: Item) -> np.ndarray:
        """The condition of the whole scaled picture, `(H, W, 3)` uint8."""
        frame, kind = item.frame, self.config.condition
        data = self.config.data
        how = f"{data.annotator}{sorted(data.annotator_settings.items())}" if item.row.condition is None else "given"

        def make() -> Image.Image:
            if item.row.condition is not None:
                given = _open(item.row.condition)
                if frame.mirrored:
                    given = given.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                return fit_condition(given, *frame.scaled, kind)
            picture = frame.scale(_open(item.row.picture))
            return annotators.annotate(data.annotator, picture, **data.annotator_settings).image

        return self.store.picture(f"{item.row.key}:{frame.scaled}{frame.mirrored}:{kind}:{how}", make)

    def _cut(self, item: Item) -> np.ndarray:
        left, top, right, bottom = item.frame.box
        return self._condition(item)[top:bottom, left:right]

    def _latents_key(self, item: Item) -> str:
        return f"{item.row.key}:{item.frame.key}:{self.encoder.picture_name}"

    def _latents(self, item: Item) -> Tensor:
        def make() -> dict[str, Tensor]:
            return {"latents": self.encoder.latents([np.asarray(self._picture(item))])[0]}

        if not self.config.data.cache_latents:
            return make()["latents"]
        return self.store.tensors("latents", self._latents_key(item), make)["latents"]

    def _encode_all(
        self, items: Sequence[Item], report: Callable[[str, int, int], None], stop: threading.Event
    ) -> None:
        """Encode what is not kept yet, several pictures of one size at once."""
        missing = [item for item in items if not self.store.has("latents", self._latents_key(item))]
        done = 0
        for group in _groups(missing):
            if stop.is_set():
                raise Cancelled("The training was stopped while pictures were prepared; what was made is kept.")
            report("Encoding pictures", done, len(missing))
            encoded = self.encoder.latents([np.asarray(self._picture(item)) for item in group])
            for item, latents in zip(group, encoded, strict=True):
                self.store.tensors(
                    "latents", self._latents_key(item), lambda latents=latents: {"latents": latents.clone()}
                )
            done += len(group)

    def _states(self, caption: str) -> States:
        def make() -> States:
            return self.encoder.states([caption])[0]

        key = f"{caption}:{self.encoder.text_name}"
        made = self.store.tensors("texts", key, make, on_disk=self.config.data.cache_text)
        return {name: tensor.float() for name, tensor in made.items()}

    def _sample(self, item: Item) -> Sample:
        states = dict(self._states(item.row.text))
        if "text_embeds" in states:
            states["time_ids"] = item.frame.time_ids()
        return Sample(self._latents(item).float(), as_condition(self._cut(item)), states)


def as_condition(rgb: np.ndarray) -> Tensor:
    """Turn `(..., H, W, 3)` uint8 into `(..., 3, H, W)` float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(rgb)).movedim(-1, -3).float() / 255


def check_annotator(config: TrainConfig, row: str) -> None:
    """Raise a `TrainingError` if rows lack conditions and nothing can make them, naming one."""
    name = config.data.annotator
    if name not in annotators.ANNOTATORS or name == "none":
        known = ", ".join(other for other in annotators.ANNOTATORS if other != "none")
        raise TrainingError(
            f"{row} has no condition, and there is no annotator {name!r} to make it: give conditions in metadata.jsonl, or "
            f"set data.annotator to one of {known}."
        )


def _open(source: Any) -> Image.Image:  # noqa: ANN401 - a Source
    """Open a picture upright and in RGB, however it is given."""
    return annotators.load_picture(source() if callable(source) else source)


def _groups(items: Sequence[Item]) -> Iterator[list[Item]]:
    by_size: dict[tuple[int, int], list[Item]] = {}
    for item in items:
        by_size.setdefault(item.frame.size, []).append(item)
    for group in by_size.values():
        for start in range(0, len(group), _ENCODED_AT_ONCE):
            yield group[start : start + _ENCODED_AT_ONCE]
