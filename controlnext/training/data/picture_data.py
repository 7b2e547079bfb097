"""Samples for image models: pictures with captions and conditions; conditions, latents and texts are cached."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import annotators
from controlnext.recipes.pictures import fit_condition
from controlnext.training.config import TrainConfig
from controlnext.training.data.crops import PictureCrop, buckets, crop_for, nearest_bucket
from controlnext.training.data.encoders import PictureEncoder
from controlnext.training.data.row_data import Report, RowData, Shown, as_condition, check_stop
from controlnext.training.data.rows import Row, Source
from controlnext.training.data.samples import Sample, States
from controlnext.training.data.store import Store

_ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class PictureItem:
    """A row with one crop of its picture."""

    row: Row
    crop: PictureCrop

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.crop.size


class PictureData(RowData):
    """A `controlnext.training.data.samples.Data` of pictures."""

    def __init__(self, config: TrainConfig, rows: Sequence[Row], encoder: PictureEncoder, store: Store) -> None:
        """Take rows; see `RowData`. The encoder is the base model's."""
        super().__init__(config, rows, store)
        self.encoder = encoder

    def look(self, row: Row) -> list[PictureItem]:
        """See `RowData.look`."""
        data = self.config.data
        size = self._original(row)
        wanted = (data.width, data.height)
        if data.aspect == "buckets":
            wanted = nearest_bucket(size, buckets(*wanted))
        return [
            PictureItem(row, crop_for(size, wanted, mirrored=mirrored))
            for mirrored in ((False, True) if data.flip else (False,))
        ]

    def make_condition(self, item: PictureItem) -> None:
        """See `RowData.make_condition`."""
        self._condition(item)
        self._weights(item)

    def make_rest(self, items: Sequence[PictureItem], report: Report, stop: threading.Event) -> None:
        """Encode pictures and captions."""
        if self.config.data.cache_latents:
            self._encode_all(items, report, stop)
        if self.config.data.cache_text:
            captions = sorted({item.row.text for item in items} | {""})
            for number, caption in enumerate(captions):
                report("Encoding captions", number, len(captions))
                check_stop(stop)
                self._states(caption)

    def make_empty(self) -> States:
        """Return the states of the empty prompt."""
        return self._states("")

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        """See `controlnext.training.data.samples.Data.sample`."""
        item = self._items[index]
        if self.config.data.crop == "random":
            crop = item.crop
            item = PictureItem(
                item.row, crop_for(crop.original, crop.size, mirrored=crop.mirrored, generator=generator)
            )
        return self._sample(item)

    def show(self, item: PictureItem) -> Shown:
        """See `RowData.show`."""
        condition = Image.fromarray(self._cut(item))
        return Shown(item.row.name, item.row.text, condition, self._picture(item), self._sample(item))

    def _original(self, row: Row) -> tuple[int, int]:
        def measure() -> dict[str, Tensor]:
            return {"size": torch.tensor(_open(row.picture).size)}

        return tuple(self.store.tensors("sizes", row.key, measure)["size"].tolist())

    def _picture(self, item: PictureItem) -> Image.Image:
        return item.crop.cut(_open(item.row.picture))

    def _condition(self, item: PictureItem) -> np.ndarray:
        """Return the condition of the whole scaled picture, `(H, W, 3)` uint8."""
        crop, kind = item.crop, self.config.condition
        data = self.config.data
        how = f"{data.annotator}{sorted(data.annotator_settings.items())}" if item.row.condition is None else "given"

        def make() -> Image.Image:
            if item.row.condition is not None:
                given = _open(item.row.condition)
                if crop.mirrored:
                    given = given.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                return fit_condition(given, *crop.scaled, kind)
            picture = crop.scale(_open(item.row.picture))
            return annotators.annotate(data.annotator, picture, **data.annotator_settings).image

        return self.store.picture(f"{item.row.key}:{crop.scaled}{crop.mirrored}:{kind}:{how}", make)

    def _cut(self, item: PictureItem) -> np.ndarray:
        left, top, right, bottom = item.crop.box
        return self._condition(item)[top:bottom, left:right]

    def _latents_key(self, item: PictureItem) -> str:
        return f"{item.row.key}:{item.crop.key}:{self.encoder.picture_name}"

    def _latents(self, item: PictureItem) -> Tensor:
        def make() -> dict[str, Tensor]:
            return {"latents": self.encoder.latents([np.asarray(self._picture(item))])[0]}

        if not self.config.data.cache_latents:
            return make()["latents"]
        return self.store.tensors("latents", self._latents_key(item), make)["latents"]

    def _encode_all(self, items: Sequence[PictureItem], report: Report, stop: threading.Event) -> None:
        """Encode pictures that are not cached yet, several of one size at once."""
        missing = [item for item in items if not self.store.has("latents", self._latents_key(item))]
        done = 0
        for group in _groups(missing):
            report("Encoding pictures", done, len(missing))
            check_stop(stop)
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

    def _sample(self, item: PictureItem) -> Sample:
        states = dict(self._states(item.row.text))
        if "text_embeds" in states:
            states["time_ids"] = item.crop.time_ids()
        return Sample(self._latents(item).float(), as_condition(self._cut(item)), states, self._weights(item))

    def _weights(self, item: PictureItem) -> Tensor | None:
        return self.detail_weights(item.row.key, lambda: item.crop.scale(_open(item.row.picture)), item.crop)


def _open(source: Source) -> Image.Image:
    """Open a picture upright and in RGB."""
    return annotators.load_picture(source() if callable(source) else source)


def _groups(items: Sequence[PictureItem]) -> Iterator[list[PictureItem]]:
    by_size: dict[tuple[int, int], list[PictureItem]] = {}
    for item in items:
        by_size.setdefault(item.crop.size, []).append(item)
    for group in by_size.values():
        for start in range(0, len(group), _ENCODED_AT_ONCE):
            yield group[start : start + _ENCODED_AT_ONCE]
