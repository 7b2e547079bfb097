"""Validation: fixed pictures drawn during the training, their adherence, and the loss with and without control."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

import annotators
from controlnext.adherence.measure import Asked, fitted, reading_options
from controlnext.adherence.score import SCORES, score
from controlnext.recipes.kinds import kind_of
from controlnext.training.base_model import base_preset, write_preset
from controlnext.training.config import CLASSIC
from controlnext.training.data.encoders import rest
from controlnext.training.data.row_data import Shown
from controlnext.training.data.samples import Dropping, draw, stacked
from controlnext.training.methods import DrawRequest
from controlnext.training.model_card import write_card
from controlnext.training.runs.report import HELD_OUT, LEARNED, facts_of, write_report
from controlnext.training.subset import count
from controlnext.training.watch import ALIKE, COLLAPSED, variation

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from controlnext.training.trainer import Trainer

logger = logging.getLogger(__name__)

_AT_ONCE = 4  # pictures drawn in one batch
_QUESTIONS = 4  # noise levels at which each fixed row's loss is measured


class _Rows:
    """Fixed rows as data, so that their loss is drawn as in training."""

    def __init__(self, shown: Sequence[Shown]) -> None:
        self.shown, self.empty = shown, {}

    def __len__(self) -> int:
        return len(self.shown)

    def shape(self, index: int) -> object:
        return tuple(self.shown[index].sample.latents.shape)

    def sample(self, index: int, generator: torch.Generator) -> object:
        return self.shown[index].sample


class Validation:
    """Called by the trainer every so many steps, with the averaged weights in place; also saves the adapter."""

    def __init__(
        self,
        trainer: Trainer,
        pipeline: DiffusionPipeline,
        shown: Sequence[Shown],
        *,
        held_out: bool = True,
    ) -> None:
        """Write the fixed rows to the run's folder.

        Args:
            trainer: whose method is drawn with.
            pipeline: whose UNet is being trained.
            shown: rows to draw.
            held_out: whether the training leaves them out.
        """
        self.trainer, self.pipeline, self.shown = trainer, pipeline, shown
        self.config, self.run_folder = trainer.config, trainer.run_folder
        self._loss_name = HELD_OUT if held_out else LEARNED
        self.figures: dict[str, float | None] = {}
        if not shown:
            return
        asked = self.run_folder.validation / "asked"
        asked.mkdir(parents=True, exist_ok=True)
        for index, row in enumerate(shown):
            row.condition.save(asked / f"{index}.png")
            row.picture.save(asked / f"{index}-picture.png")
        prompts = [{"name": row.name, "prompt": row.prompt} for row in shown]
        self.run_folder.add_event("asked", rows=prompts, held_out=held_out)

    def __call__(self, step: int) -> dict[str, Any]:
        """Draw, measure, write the pictures and the adapter; return the facts of the event."""
        with torch.no_grad():
            pictures = self._draw()
            losses = self._losses()
        folder = self.run_folder.validation / f"step-{step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        for index, picture in enumerate(pictures):
            picture.save(folder / f"{index}.png")
        scores = [self._score(row, picture) for row, picture in zip(self.shown, pictures, strict=True)]
        known = [value for value in scores if value is not None]
        mean = sum(known) / len(known) if known else None
        self.figures = {"adherence": mean, **losses}
        self.save(step)
        facts = {"adherence": mean, "scores": scores, "measure": kind_of(self.config.condition).score, **losses}
        write_report(self.run_folder, {"step": step, **facts})
        accelerator = self.trainer.accelerator
        accelerator.log({name: value for name, value in self.figures.items() if value is not None}, step=step)
        for tracker in accelerator.trackers:
            for index, picture in enumerate(pictures):
                tracker.log_images(
                    {f"picture {index}": np.asarray(picture.convert("RGB"))[None]}, step, dataformats="NHWC"
                )
        return facts

    def save(self, step: int) -> None:
        """Write the adapter as it is after so many steps."""
        facts = facts_of(self.config, step, self.trainer.order.size, self.trainer.elapsed, self.figures)
        dtype = getattr(torch, self.config.trainable.save_dtype)
        self.trainer.method.save(self.run_folder.adapter, facts, dtype)
        weights = sum(count(group.parameters.values()) for group in self.trainer.groups if group.name != "module")
        write_card(self.config, self.run_folder.adapter, facts, weights)
        write_preset(self.config, self.run_folder.adapter, self.run_folder.preset)

    def _draw(self) -> list[Image.Image]:
        settings, made = self.config.validation, {}
        device = self.trainer.accelerator.device
        self.pipeline.to(device)
        for places in self._batches():
            rows = [self.shown[place] for place in places]
            request = DrawRequest(
                [row.prompt for row in rows],
                torch.stack([row.sample.condition for row in rows]).to(device),
                [settings.seed + place for place in places],
                steps=settings.steps, guidance_scale=settings.guidance_scale, start=rows[0].start,
            )  # fmt: skip
            with self.trainer.accelerator.autocast():
                drawn = self.trainer.method.pictures(self.pipeline, request)
            if rows[0].start is not None:
                self._check_frames(rows[0], drawn)
                drawn = [drawn[rows[0].frame]]
            made |= dict(zip(places, drawn, strict=True))
        if self.config.data.cache_latents and self.config.data.cache_text:
            rest(self.pipeline)
        return [made[place] for place in range(len(self.shown))]

    def _check_frames(self, row: Shown, drawn: Sequence[Image.Image]) -> None:
        """Warn if the frames of a clip have collapsed to one picture although their conditions differ."""
        asked = row.sample.condition.movedim(-3, -1).numpy() * 255
        if variation(np.stack([np.asarray(frame) for frame in drawn])) < COLLAPSED and variation(asked) > ALIKE:
            self.trainer.warn(
                f"The frames drawn for {row.name} have collapsed to one picture, though their conditions differ: lower "
                "optimizer.rate, or train longer with learning.gamma higher."
            )

    def _batches(self) -> list[list[int]]:
        """Rows that are drawn together: pictures of one size, clips alone."""
        groups: dict[object, list[int]] = {}
        for place, row in enumerate(self.shown):
            groups.setdefault(tuple(row.sample.condition.shape) if row.start is None else place, []).append(place)
        return [
            group[start : start + _AT_ONCE] for group in groups.values() for start in range(0, len(group), _AT_ONCE)
        ]

    def _losses(self) -> dict[str, float | None]:
        """Return the loss of the fixed rows, with control and without, at the same noise each time."""
        if not self.shown:
            return {}
        rows, totals = _Rows(self.shown), {self._loss_name: 0.0, "loss_without_control": 0.0}
        for index in range(len(rows)):
            batch = stacked(
                [
                    draw(rows, index, Dropping(), self.config.seed, (question << 20) + index)
                    for question in range(_QUESTIONS)
                ]
            )
            for name, keep in zip(totals, (1.0, 0.0), strict=True):
                batch.keep.fill_(keep)
                totals[name] += self.trainer.loss(batch).item() / len(rows)
        return totals

    def _score(self, row: Shown, picture: Image.Image) -> float | None:
        """Return the adherence of a picture; None if the kind has no measure, or no annotator can read the picture."""
        kind, config = self.config.condition, self.config
        if not config.validation.adherence or kind not in SCORES:
            return None
        settings = config.data.annotator_settings if kind == config.data.annotator else {}
        options = reading_options(kind, settings, base_preset(config).adherence_backend)
        known = None if row.people is None else {"people": row.people}
        if known is None and config.data.drawing not in (None, CLASSIC):
            return None  # joints are read from the classic drawing alone
        asked = fitted(Asked(row.condition, known), kind, picture.size)
        try:
            return score(kind, Asked(asked.image, asked.data), annotators.annotate(kind, picture, **options))
        except annotators.NobodyFound:
            return 0.0
        except Exception as error:  # a measure must not end the training
            logger.info("The adherence to %s could not be measured: %s", kind, error)
            return None
