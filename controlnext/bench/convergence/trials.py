"""A run of the convergence bench: a way of control is trained on the starter's base and measured meanwhile.

All runs share base, pictures, order, noise, loss, optimizer, warm-up, clipping and number of steps; they differ in the way, its
learning rate and the seed. Seconds are processor seconds of training alone, so that other work on the machine and the
measuring itself do not count.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from controlnext.bench.command import BenchError
from controlnext.bench.convergence.ways import Way, build
from controlnext.bench.quality.scenes import held_out_scenes, judge_all
from controlnext.quiet import quiet_loading
from controlnext.starter.train.adapter import FIGURE_WEIGHT, as_conditions
from controlnext.starter.train.base import importance, tokenize
from controlnext.starter.train.dataset import (
    FIRST_TRAINING_SEED,
    LOOKS_PER_STAGE,
    STAGES_PER_SHARD,
    SceneSample,
    Shards,
    encode,
    encode_shard,
    write_shard,
)
from controlnext.starter.world.conditions import CONDITIONS, condition
from controlnext.training.data import samples as training
from controlnext.training.family_defaults import FAMILY_DEFAULTS
from controlnext.training.losses import DiscreteProcess, NoiseProcess, weighted_error
from controlnext.training.methods import DrawRequest, Method
from controlnext.training.quick import quicken

logger = logging.getLogger(__name__)

POINTS = (0.0, 0.05, 0.1, 0.15, 0.3, 0.5, 0.75, 1.0)
"""Shares of the steps at which to measure, more of them early, where curves bend. Floats, as on the command line: a run's name
depends on how they are written."""
BETAS, WEIGHT_DECAY, CLIP = (0.9, 0.99), 1e-3, 1.0
_STARTER = FAMILY_DEFAULTS["starter"]
_HELD_OUT = 99  # names the noise of the held-out loss, the same in every run
_AT_ONCE = 8  # pictures read, encoded or drawn at once
_SAME_LATENTS = 0.15  # mean difference: rounding of the encoder's precision is far below, another encoder far above


@dataclass(frozen=True)
class Scenery:
    """How many scenes are learned from and drawn.

    Attributes:
        pictures: of the training set.
        scenes: held out, drawn at each point.
        drawing_steps: denoising steps of a drawn picture.
    """

    pictures: int = 2048
    scenes: int = 16
    drawing_steps: int = 10


@dataclass(frozen=True)
class Budget:
    """Length and size of every run.

    Attributes:
        steps: training steps.
        batch: pictures a step.
        warm_up: steps in which the learning rate rises.
        scenery: pictures and scenes.
        points: shares of the steps at which to measure.
    """

    steps: int = 200
    batch: int = 8
    warm_up: int = 20
    scenery: Scenery = Scenery()
    points: tuple[float, ...] = POINTS

    @property
    def stops(self) -> list[int]:
        """Steps after which to measure."""
        return sorted({round(self.steps * share) for share in self.points})


@dataclass(frozen=True)
class Trial:
    """Everything that a run depends on, except the weights of the base."""

    way: Way
    condition: str
    seed: int
    rate: float
    budget: Budget

    @property
    def name(self) -> str:
        """A file name; runs that differ in anything have different ones."""
        values = asdict(self)
        values["way"].pop("title")
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.way.name}-{self.condition}-{self.budget.steps}-s{self.seed}-{self.rate:g}-{digest}"


class Scenes:
    """Scenes in memory, as `controlnext.training.data.samples.Data`.

    Args:
        samples: with latents.
        kind: of condition.
        encode_text: turns captions into states by name, each `(B, ...)`.
    """

    def __init__(
        self, samples: Sequence[SceneSample], kind: str, encode_text: Callable[[list[str]], dict[str, Tensor]]
    ) -> None:
        """Draw the conditions, encode the captions, weigh the cells."""
        rng = np.random.default_rng(0)
        captions = [sample.caption(rng) for sample in samples]
        self.conditions = [condition(kind, sample.picture) for sample in samples]
        made = [encode_text(captions[i : i + 64]) for i in range(0, len(captions), 64)]
        self.states = {name: torch.cat([part[name] for part in made]) for name in made[0]}
        self.empty = {name: value[0] for name, value in encode_text([""]).items()}
        self.latents = torch.from_numpy(np.stack([sample.latent for sample in samples])).float()
        parts = [importance(samples[i : i + 64], FIGURE_WEIGHT) for i in range(0, len(samples), 64)]
        self.weights = torch.cat(parts)

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.conditions)

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the size of a scene's latents."""
        return tuple(self.latents.shape[1:])

    def sample(self, index: int, generator: torch.Generator) -> training.Sample:
        """Return a scene; nothing about it is random."""
        return training.Sample(
            self.latents[index],
            as_conditions([self.conditions[index]])[0],
            {name: value[index] for name, value in self.states.items()},
            self.weights[index],
        )


def load_base(assets: Path) -> StableDiffusionPipeline:
    """Load the starter's base as a stock pipeline, float32."""
    with quiet_loading():
        pipeline = StableDiffusionPipeline.from_pretrained(assets / "base", dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def states_of(pipeline: StableDiffusionPipeline, captions: list[str]) -> dict[str, Tensor]:
    """Encode captions to `(B, tokens, width)` states."""
    made = pipeline.text_encoder(tokenize(pipeline.tokenizer, captions)).last_hidden_state
    return {"encoder_hidden_states": made}


class TrialSetup:
    """The base, the training set and the held-out scenes that runs on one condition share in a process.

    Attributes:
        component: the pipeline's model that learns.
        dtype: precision of autocast; None runs in float32.
    """

    component = "unet"
    dtype: torch.dtype | None = torch.bfloat16

    def __init__(self, assets: Path, data: Path, kind: str, scenery: Scenery) -> None:
        """Load the base and prepare the scenes.

        Args:
            assets: folder of the starter.
            data: folder of encoded shards; see `prepare_data`.
            kind: of condition.
            scenery: how many of both.

        Raises:
            BenchError: the shards are too few or of another autoencoder.
        """
        self.kind, self.scenery = kind, scenery
        self.process, encode_text = self.load(assets)
        self.pipeline.vae.to(memory_format=torch.channels_last).requires_grad_(False)
        self.unet = getattr(self.pipeline, self.component).eval().requires_grad_(False)
        self.data = Scenes(_choose(data, scenery.pictures, self.pipeline.vae), kind, encode_text)
        self.scenes = held_out_scenes(scenery.scenes)
        held_out = Scenes(with_latents(self.pipeline.vae, self.scenes), kind, encode_text)
        rows = [training.draw(held_out, i, training.Dropping(), _HELD_OUT, i) for i in range(len(held_out))]
        self.held_out = training.stacked(rows).to(torch.device("cpu"))

    def load(self, assets: Path) -> tuple[NoiseProcess, Callable[[list[str]], dict[str, Tensor]]]:
        """Load the pipeline; return its noise process, and what encodes captions."""
        self.pipeline = load_base(assets)
        self.pipeline.text_encoder.eval().requires_grad_(False)
        quicken(self.pipeline.unet)
        process = DiscreteProcess(self.pipeline.scheduler, late=_STARTER.timesteps == "late")
        return process, partial(states_of, self.pipeline)

    def build(self, trial: Trial) -> Method:
        """Make a trial's method on a copy of the base."""
        return build(trial.way, copy.deepcopy(self.unet), trial.rate)

    def precision(self) -> torch.autocast:
        """Return the context of a forward."""
        return torch.autocast("cpu", self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def loss(self, method: Method, batch: training.Batch) -> Tensor:
        """Compute the loss of a batch."""
        noised = self.process.noised(batch.latents, batch.noise, batch.share)
        with self.precision():
            predicted = method(noised.sample, noised.timestep, batch.states, batch.condition, batch.keep)
        return weighted_error(predicted, noised, batch.weight)

    @torch.no_grad()
    def measure(self, method: Method) -> dict[str, float]:
        """Draw the held-out scenes, read them back, and compute the loss on them."""
        drawn = []
        setattr(self.pipeline, self.component, method.unet)
        for first in range(0, len(self.scenes), _AT_ONCE):
            scenes = self.scenes[first : first + _AT_ONCE]
            request = DrawRequest(
                [scene.caption() for scene in scenes],
                as_conditions([condition(self.kind, scene.picture) for scene in scenes]),
                range(first, first + len(scenes)),
                steps=self.scenery.drawing_steps,
                guidance_scale=_STARTER.guidance_scale,
            )
            with self.precision():
                drawn += [np.asarray(picture) for picture in method.pictures(self.pipeline, request)]
        setattr(self.pipeline, self.component, self.unet)
        loss = self.loss(method, self.held_out).item()
        return {"adherence": judge_all(self.scenes, np.stack(drawn))[self.kind], "loss": loss}

    def run(self, trial: Trial) -> dict[str, Any]:
        """Train and measure.

        Args:
            trial: of this setup's condition and scenery.

        Returns:
            Plain data: `trained` weights; `points` with step, seconds, adherence and held-out loss; `losses` of all steps;
            `diverged`, the step at which the loss became NaN or infinite, or None.
        """
        budget = trial.budget
        torch.manual_seed(trial.seed)
        method = self.build(trial)
        groups = method.groups()
        parameters = [value for group in groups for value in group.parameters.values()]
        rows = [{"params": list(group.parameters.values()), "lr": group.rate, "peak": group.rate} for group in groups]
        optimizer = torch.optim.AdamW(rows, betas=BETAS, weight_decay=WEIGHT_DECAY)
        dropping = training.Dropping(_STARTER.empty_prompts, _STARTER.nothing)
        loader = training.Loader(
            self.data, training.Order(self.data, budget.batch, trial.seed), dropping, batch=budget.batch
        )
        seconds, losses, points, diverged = 0.0, [], [], None
        batches = loader.steps(0, budget.steps)
        for step in range(budget.steps + 1):
            if step in budget.stops:
                method.eval()
                points.append({"step": step, "seconds": round(seconds, 3), **self.measure(method)})
                method.train()
                logger.info("%s: step %d, adherence %.3f", trial.name, step, points[-1]["adherence"])
            if step == budget.steps:
                break
            began = time.process_time()
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * min(1.0, (step + 1) / max(budget.warm_up, 1))
            loss = self.loss(method, next(batches)[0].to(torch.device("cpu")))
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                diverged, losses = step, losses[:-1]
                break
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            optimizer.zero_grad()
            seconds += time.process_time() - began
        for step in budget.stops[len(points) :]:  # a run that diverged follows nothing from then on
            points.append({"step": step, "seconds": round(seconds, 3), "adherence": 0.0, "loss": None})
        return {
            "trained": sum(value.numel() for value in parameters),
            "points": points,
            "losses": [round(value, 6) for value in losses],
            "diverged": diverged,
        }


@lru_cache(maxsize=len(CONDITIONS))
def setup_for(assets: Path, data: Path, kind: str, scenery: Scenery) -> TrialSetup:
    """Return the setup of a condition, made once a process."""
    return TrialSetup(assets, data, kind, scenery)


def prepare_data(folder: Path, pictures: int, assets: Path) -> None:
    """Render and encode shards into a folder until it has enough pictures; existing ones are kept."""
    stages = min(STAGES_PER_SHARD, -(-pictures // LOOKS_PER_STAGE))
    folder.mkdir(parents=True, exist_ok=True)
    vae = StableDiffusionPipeline.from_pretrained(
        assets / "base", dtype=torch.bfloat16, safety_checker=None
    ).vae.eval()
    for index in range(-(-pictures // (stages * LOOKS_PER_STAGE))):
        shard, first = folder / f"shard-{index:05d}", FIRST_TRAINING_SEED + index * stages
        if not shard.exists():
            logger.info("rendering %d scenes", stages * LOOKS_PER_STAGE)
            write_shard(shard, range(first, first + stages))
        encode_shard(shard, vae)


def _choose(data: Path, pictures: int, vae: torch.nn.Module) -> list[SceneSample]:
    """Return the same random pictures of a folder for every run."""
    shards = Shards(data)
    if len(shards) < pictures / 2:
        raise BenchError(
            f"The folder {data} holds {len(shards)} encoded pictures of {pictures}: make more with `python -m controlnext.starter render` "
            "and `encode`, or leave --data out."
        )
    chosen = [shards[i] for i in np.random.default_rng(0).permutation(len(shards))[:pictures]]
    first = chosen[0]
    difference = np.abs(with_latents(vae, [first])[0].latent.astype(np.float32) - first.latent).mean()
    if difference > _SAME_LATENTS:
        raise BenchError(
            f"The latents in {data} are not those of this starter's autoencoder: remove their latents.npy and run "
            "`python -m controlnext.starter encode`, or leave --data out."
        )
    return chosen


def with_latents(vae: torch.nn.Module, samples: Sequence[SceneSample]) -> list[SceneSample]:
    """Return scenes with the latents of their pictures."""
    made = []
    for first in range(0, len(samples), _AT_ONCE):
        part = samples[first : first + _AT_ONCE]
        latents = encode(vae, np.stack([sample.picture.rgb for sample in part]))
        made += [replace(sample, latent=latent) for sample, latent in zip(part, latents, strict=True)]
    return made
