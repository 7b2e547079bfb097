"""Samples for video models: clips with a condition, such as a pose, for each frame."""

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
from controlnext.training.config import CLASSIC, TrainConfig, TrainingError
from controlnext.training.data.crops import PictureCrop, crop_for
from controlnext.training.data.encoders import ClipEncoder
from controlnext.training.data.row_data import Report, RowData, Shown, as_condition, check_stop
from controlnext.training.data.rows import Row, Source
from controlnext.training.data.samples import Sample, States
from controlnext.training.data.store import Store
from controlnext.training.watch import ALIKE, variation
from controlnext.video import Cut, VideoError, open_clip, plan_cut, read_frames

TIME_IDS = (6.0, 128.0, 0.02)
"""Frames a second minus one, motion bucket, noise on the reference: fixed in the authors' training and inference."""
MOST_FRAMES = 240
"""Frames read of a clip, after the stride; the limit of the authors' inference."""
_COMPARED, _SMALL = 8, 64  # clips, and frames of each, whose conditions are compared; and their size in pixels
_NOBODY = 0.5  # a clip is unusable if nobody is found in more than this share of its frames


@dataclass(frozen=True)
class ClipItem:
    """A clip and its crop.

    Attributes:
        row: the row.
        crop: the crop of every frame.
        count: number of frames.
    """

    row: Row
    crop: PictureCrop
    count: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.crop.size


class ClipData(RowData):
    """A `controlnext.training.data.samples.Data` of clips: consecutive frames, and any frame as the reference."""

    def __init__(self, config: TrainConfig, rows: Sequence[Row], encoder: ClipEncoder, store: Store) -> None:
        """Take rows; see `RowData`. The encoder is the base model's.

        Raises:
            TrainingError: the configuration asks for something that clips do not support.
        """
        super().__init__(config, rows, store)
        self.encoder = encoder
        data = config.data
        for name, given, needed in (
            ("cache_latents", data.cache_latents, True), ("flip", data.flip, False), ("aspect", data.aspect, "fixed")
        ):  # fmt: skip
            if given != needed:
                raise TrainingError(f"Clips are trained only with data.{name}={str(needed).lower()}: set it.")

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
        return [ClipItem(row, crop_for((width, height), (data.width, data.height)), count)]

    def make_condition(self, item: ClipItem) -> None:
        """Make the condition of every frame; a frame in which nobody is found has an empty one."""
        self._weigh(item)
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
                made = fit_condition(picture, *item.crop.scaled, self.config.condition)
            else:
                try:
                    made = self._annotated(item.crop.scale(picture)).image
                except annotators.NobodyFound:
                    made = Image.new("RGB", item.crop.scaled)
                    nobody += 1
            self.store.picture(self._key(item, index), lambda made=made: made.crop(item.crop.box))
        if index + 1 < item.count:
            raise ValueError(f"The clip of its conditions has {index + 1} frames for {item.count}.")
        if nobody > _NOBODY * item.count:
            raise ValueError(f"Nobody is found in {nobody} of its {item.count} frames.")

    def _weigh(self, item: ClipItem) -> None:
        """Weigh hands and faces in every frame, if they weigh more."""
        if self.config.learning.detail_weight > 1:
            for index, frame in enumerate(self._read(item.row.picture)):
                scaled = item.crop.scale(Image.fromarray(frame))
                self.detail_weights(self._frame_key(item, index), lambda scaled=scaled: scaled, item.crop)

    def _frame_key(self, item: ClipItem, index: int) -> str:
        return f"{item.row.key}:{self.config.data.stride}:{index}"

    def _weights(self, item: ClipItem, places: range) -> Tensor | None:
        def gone() -> Image.Image:
            raise TrainingError(f"A frame of {item.row.name} is missing from the cache: start the training again.")

        found = [self.detail_weights(self._frame_key(item, index), gone, item.crop) for index in places]
        weights = [one for one in found if one is not None]
        return torch.stack(weights) if weights else None

    def make_rest(self, items: Sequence[ClipItem], report: Report, stop: threading.Event) -> None:
        """Encode the frames."""
        for number, item in enumerate(items):
            report("Encoding clips", number, len(items))
            check_stop(stop)
            self._encoded(item)

    def make_empty(self) -> States:
        """Return zeros, as the pipeline has for the unconditional half."""
        if not self._items:
            return {}
        encoded = self._encoded(self._items[0])
        return {
            "encoder_hidden_states": torch.zeros_like(encoded["embeddings"][0], dtype=torch.float32),
            "image_latents": torch.zeros_like(encoded["stills"][0], dtype=torch.float32),
        }

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        """Choose the first frame and the reference frame at random."""
        item = self._items[index]
        start = int(torch.randint(item.count - self.config.data.frames + 1, (), generator=generator))
        return self._sample(item, start, int(torch.randint(item.count, (), generator=generator)))

    def show(self, item: ClipItem) -> Shown:
        """Return the first frames, with the first as the reference; the middle frame is shown."""
        frames = list(self._read(item.row.picture))
        middle = self.config.data.frames // 2
        pictures = [item.crop.cut(Image.fromarray(frames[index])) for index in (0, middle)]
        return Shown(
            item.row.name, item.row.text, Image.fromarray(self._condition(item, middle)), pictures[1],
            self._sample(item, 0, 0), start=pictures[0], frame=middle, people=self._people(item, frames[middle]),
        )  # fmt: skip

    def warnings(self) -> list[str]:
        """See `RowData.warnings`: conditions that are all alike teach no movement."""
        items = self._items[:: max(1, len(self._items) // _COMPARED)][:_COMPARED]
        frames = [
            np.asarray(Image.fromarray(self._condition(item, index)).resize((_SMALL, _SMALL), Image.Resampling.BOX))
            for item in items
            for index in range(0, item.count, max(1, item.count // _COMPARED))
        ]
        differ = variation(np.stack(frames))
        if differ >= ALIKE:
            return []
        return [
            f"The conditions of the {len(self._items)} clips are all alike: their frames differ by {differ:.1%}, where a dance "
            "has 85%. No movement can be learned from them: add clips with other poses."
        ]

    def _people(self, item: ClipItem, frame: np.ndarray) -> list[np.ndarray] | None:
        """Return the people of a condition, in its pixels; None where they can be read from the drawing or are not known."""
        if self._classic or item.row.condition is not None:
            return None
        try:
            found = self._annotated(item.crop.scale(Image.fromarray(frame))).data["people"]
        except annotators.NobodyFound:
            return []
        return [np.asarray(person) - (*item.crop.corner, 0.0) for person in found]

    def _sample(self, item: ClipItem, start: int, reference: int) -> Sample:
        encoded = self._encoded(item)
        places = range(start, start + self.config.data.frames)
        states = {
            "encoder_hidden_states": encoded["embeddings"][reference].float(),
            "image_latents": encoded["stills"][reference].float(),
            "added_time_ids": torch.tensor(TIME_IDS),
        }
        conditions = np.stack([self._condition(item, index) for index in places])
        return Sample(
            encoded["latents"][start : places.stop].float(),
            as_condition(conditions),
            states,
            self._weights(item, places),
        )

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
        return f"{item.row.key}:{data.stride}:{index}:{item.crop.key}:{self.config.condition}:{how}"

    def _has_condition(self, item: ClipItem, index: int) -> bool:
        return self.store.has("conditions", self._key(item, index), ".png")

    def _condition(self, item: ClipItem, index: int) -> np.ndarray:
        def gone() -> Image.Image:
            raise TrainingError(f"A condition of {item.row.name} is missing from the cache: start the training again.")

        return self.store.picture(self._key(item, index), gone)

    def _encoded(self, item: ClipItem) -> dict[str, Tensor]:
        def make() -> dict[str, Tensor]:
            frames = (item.crop.cut(Image.fromarray(frame)) for frame in self._read(item.row.picture))
            return self.encoder.frames([np.asarray(frame) for frame in frames])

        key = f"{item.row.key}:{self.config.data.stride}:{item.crop.key}:{self.encoder.picture_name}"
        return dict(self.store.tensors("clips", key, make))
