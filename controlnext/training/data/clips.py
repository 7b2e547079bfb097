"""Clips with poses (or another condition a frame) as samples for video models."""

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
from controlnext.training.base import CLASSIC
from controlnext.training.config import TrainConfig, TrainingError
from controlnext.training.data.encoders import ClipEncoder
from controlnext.training.data.frames import Frame, frame_for
from controlnext.training.data.row_data import Report, RowData, Shown, as_condition, go_on
from controlnext.training.data.rows import Row, Source
from controlnext.training.data.samples import Sample, States
from controlnext.training.data.store import Store
from controlnext.video import Cut, VideoError, open_clip, plan_cut, read_frames

TIME_IDS = (6.0, 128.0, 0.02)
"""Frames a second less one, motion bucket, noise on the reference: the authors' training and inference always say these."""
MOST_FRAMES = 240
"""Frames read of a clip, after the stride; as many as the authors' inference takes."""
_NOBODY = 0.5  # share of frames in which nobody is found from which on a clip is of no use


@dataclass(frozen=True)
class ClipItem:
    """A clip as it is shown.

    Attributes:
        row: the row.
        frame: the cut of every frame.
        count: frames in all.
    """

    row: Row
    frame: Frame
    count: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.frame.size


class ClipData(RowData):
    """A `controlnext.training.data.samples.Data` of clips: some frames in a row, and any frame as the reference."""

    def __init__(self, config: TrainConfig, rows: Sequence[Row], encoder: ClipEncoder, store: Store) -> None:
        """Take rows; see `RowData`. The encoder is the base model's.

        Raises:
            TrainingError: the configuration asks for what clips do not have.
        """
        super().__init__(config, rows, store)
        self.encoder = encoder
        data = config.data
        for name, given, needed in (
            ("cache_latents", data.cache_latents, True), ("flip", data.flip, False), ("aspect", data.aspect, "fixed")
        ):  # fmt: skip
            if given != needed:
                raise TrainingError(f"Clips are trained with data.{name}={str(needed).lower()} alone: set it so.")

    def look(self, row: Row) -> list[ClipItem]:
        """See `RowData.look`."""
        data = self.config.data

        def measure() -> dict[str, Tensor]:
            frames = list(self._read(row.picture))
            return {"size": torch.tensor([*frames[0].shape[1::-1], len(frames)])}

        width, height, count = self.store.tensors("sizes", f"{row.key}:{data.stride}", measure)["size"].tolist()
        if count < data.frames:
            raise ValueError(
                f"It has {count} frames at data.stride={data.stride}, fewer than data.frames={data.frames}."
            )
        return [ClipItem(row, frame_for((width, height), (data.width, data.height)), count)]

    def make_condition(self, item: ClipItem) -> None:
        """Make the condition of every frame; one in which nobody is found asks for nothing."""
        missing = [index for index in range(item.count) if not self._has_condition(item, index)]
        if not missing:
            return
        nobody = 0
        source = item.row.condition or item.row.picture
        for index, frame in enumerate(self._read(source)):
            if index >= item.count:
                raise ValueError(f"The clip of its conditions is longer than its {item.count} frames.")
            picture = Image.fromarray(frame)
            if item.row.condition is not None:
                made = fit_condition(picture, *item.frame.scaled, self.config.condition)
            else:
                try:
                    made = self._annotated(item.frame.scale(picture)).image
                except annotators.NobodyFound:
                    made = Image.new("RGB", item.frame.scaled)
                    nobody += 1
            self.store.picture(self._key(item, index), lambda made=made: made.crop(item.frame.box))
        if index + 1 < item.count:
            raise ValueError(f"The clip of its conditions has {index + 1} frames for {item.count}.")
        if nobody > _NOBODY * item.count:
            raise ValueError(f"Nobody is found in {nobody} of its {item.count} frames.")

    def make_rest(self, items: Sequence[ClipItem], report: Report, stop: threading.Event) -> None:
        """Encode the frames."""
        for number, item in enumerate(items):
            report("Encoding clips", number, len(items))
            go_on(stop)
            self._encoded(item)

    def make_empty(self) -> States:
        """Zeros, as the pipeline gives the unconditional half."""
        if not self._items:
            return {}
        encoded = self._encoded(self._items[0])
        return {
            "encoder_hidden_states": torch.zeros_like(encoded["embeddings"][0], dtype=torch.float32),
            "image_latents": torch.zeros_like(encoded["stills"][0], dtype=torch.float32),
        }

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        """Draw where the frames begin, and which frame is the reference."""
        item = self._items[index]
        start = int(torch.randint(item.count - self.config.data.frames + 1, (), generator=generator))
        return self._sample(item, start, int(torch.randint(item.count, (), generator=generator)))

    def show(self, item: ClipItem) -> Shown:
        """The first frames, with the first as the reference; one in the middle stands for all."""
        frames = list(self._read(item.row.picture))
        middle = self.config.data.frames // 2
        pictures = [item.frame.scale(Image.fromarray(frames[index])).crop(item.frame.box) for index in (0, middle)]
        return Shown(
            item.row.name, item.row.text, Image.fromarray(self._condition(item, middle)), pictures[1],
            self._sample(item, 0, 0), start=pictures[0], frame=middle, people=self._people(item, frames[middle]),
        )  # fmt: skip

    def _people(self, item: ClipItem, frame: np.ndarray) -> list[np.ndarray] | None:
        """The people of a condition, in its pixels, where its drawing does not tell them and they are known."""
        if self._classic or item.row.condition is not None:
            return None
        try:
            found = self._annotated(item.frame.scale(Image.fromarray(frame))).data["people"]
        except annotators.NobodyFound:
            return []
        return [np.asarray(person) - (*item.frame.corner, 0.0) for person in found]

    def _sample(self, item: ClipItem, start: int, reference: int) -> Sample:
        encoded = self._encoded(item)
        places = range(start, start + self.config.data.frames)
        states = {
            "encoder_hidden_states": encoded["embeddings"][reference].float(),
            "image_latents": encoded["stills"][reference].float(),
            "added_time_ids": torch.tensor(TIME_IDS),
        }
        conditions = np.stack([self._condition(item, index) for index in places])
        return Sample(encoded["latents"][start : places.stop].float(), as_condition(conditions), states)

    def _read(self, source: Source) -> Iterator[np.ndarray]:
        if callable(source):
            raise VideoError("A clip is a video file or a folder of frames, not a picture.")
        clip = open_clip(source)
        stride = self.config.data.stride
        with read_frames(clip, plan_cut(clip, Cut(stride=stride, max_frames=MOST_FRAMES))) as frames:
            yield from frames

    @property
    def _classic(self) -> bool:
        return self.config.data.drawing in (None, CLASSIC)

    def _annotated(self, picture: Image.Image) -> annotators.Annotation:
        data = self.config.data
        made = annotators.annotate(data.annotator, picture, **data.annotator_settings)
        return made if self._classic else annotators.draw_pose(made.data, drawing=data.drawing)

    def _key(self, item: ClipItem, index: int) -> str:
        data = self.config.data
        drawn = "" if self._classic else data.drawing
        how = "given" if item.row.condition else f"{data.annotator}{sorted(data.annotator_settings.items())}{drawn}"
        return f"{item.row.key}:{data.stride}:{index}:{item.frame.key}:{self.config.condition}:{how}"

    def _has_condition(self, item: ClipItem, index: int) -> bool:
        return self.store.has("conditions", self._key(item, index), ".png")

    def _condition(self, item: ClipItem, index: int) -> np.ndarray:
        def gone() -> Image.Image:
            raise TrainingError(f"A condition of {item.row.name} is gone from the cache: start the training again.")

        return self.store.picture(self._key(item, index), gone)

    def _encoded(self, item: ClipItem) -> dict[str, Tensor]:
        def make() -> dict[str, Tensor]:
            frames = (
                item.frame.scale(Image.fromarray(frame)).crop(item.frame.box) for frame in self._read(item.row.picture)
            )
            return self.encoder.frames([np.asarray(frame) for frame in frames])

        key = f"{item.row.key}:{self.config.data.stride}:{item.frame.key}:{self.encoder.picture_name}"
        return dict(self.store.tensors("clips", key, make))
