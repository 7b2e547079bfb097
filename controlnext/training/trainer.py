"""The training loop: any `Method` on any `Data`, one process or many, stopped and resumed exactly."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import accelerate
import torch
from accelerate.utils import gather_object
from diffusers.training_utils import EMAModel
from torch import Tensor

from controlnext.training import checkpoints
from controlnext.training.accelerator import make_accelerator
from controlnext.training.checkpoints import Checkpoint
from controlnext.training.config import TrainConfig, TrainingError
from controlnext.training.data.samples import Batch, Data, Dropping, Loader, Order
from controlnext.training.losses import NoiseProcess, weighted_error
from controlnext.training.methods import Method
from controlnext.training.optimizers import make_optimizer, rate_factor
from controlnext.training.resume_settings import EARLIER_DEFAULTS, settings_of
from controlnext.training.runs.run_folder import RunFolder, seconds_left
from controlnext.training.watch import FORECAST_STEPS, START_SAMPLES, WINDOW, ZERO_STEPS, TrainingWatch, forecast

logger = logging.getLogger(__name__)

_STATUS_SECONDS = 1.0  # between two writings of the status
_RISE = 0.01  # of the peak rate; a smaller rise is not mentioned

Validate = Callable[[int], Mapping[str, Any]]
"""Draws and measures after so many steps; its result becomes a `validation` event."""


@dataclass(frozen=True)
class TrainingOutcome:
    """How a training ended.

    Attributes:
        step: total steps done.
        stopped: whether somebody stopped it.
        seconds: it took so far, over all its runs.
    """

    step: int
    stopped: bool
    seconds: float


class Trainer:
    """Trains a method. Everything random follows from the seed and the step, so that resuming is exact."""

    def __init__(
        self,
        config: TrainConfig,
        method: Method,
        data: Data,
        process: NoiseProcess,
        *,
        accelerator: accelerate.Accelerator | None = None,
        dropping: Dropping | None = None,
        validate: Validate | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare a training, or resume from the last checkpoint in `config.output`.

        Args:
            config: with every null of the used sections filled in; see `controlnext.training.start.filled`.
            method: what learns.
            data: what is learned from.
            process: how latents are noised.
            accelerator: None makes one.
            dropping: how often prompts and control are left out; None never.
            validate: called on the first process every `config.validation.every` steps and at the end.
            log: receives the forecast and warnings on the first process; None takes the log.

        Raises:
            TrainingError: the checkpoint there belongs to another training, or not all processes see it.
        """
        self.config, self.method, self.process, self.validate = config, method, process, validate
        self.log = log or logger.info
        self.accelerator = accelerator or make_accelerator(config)
        self.run_folder = RunFolder(config.output)
        self.run_folder.path.mkdir(parents=True, exist_ok=True)
        self.groups = method.groups()
        self.parameters = {name: parameter for group in self.groups for name, parameter in group.parameters.items()}
        learning, world = config.learning, self.accelerator.num_processes
        self.order = Order(data, learning.batch * learning.accumulation * world, config.seed)
        self.loader = Loader(
            data, self.order, dropping or Dropping(), batch=learning.batch,
            share=(self.accelerator.process_index, world), workers=config.data.workers,
        )  # fmt: skip
        self.watch = TrainingWatch(self.groups)
        method.train()
        method.to(self.accelerator.device)
        self.step, self.elapsed, self.last_loss = 0, 0.0, math.nan
        optimizer = make_optimizer(self.groups, config.optimizer)
        ema = config.optimizer.ema
        self.ema = EMAModel(self.parameters.values(), decay=ema, foreach=True) if ema else None
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        self._resume()
        self._begin_together()
        self.model = self.accelerator.prepare_model(method) if world > 1 else method

    @property
    def first(self) -> bool:
        """Whether this process writes and reports for all."""
        return self.accelerator.is_main_process

    @property
    def averages(self) -> dict[str, Tensor] | None:
        """Averaged weights by name; None if weights are not averaged."""
        return None if self.ema is None else dict(zip(self.parameters, self.ema.shadow_params, strict=True))

    def run(self, stop: threading.Event | None = None) -> TrainingOutcome:
        """Train until the steps or the minutes are over, or it is stopped; a checkpoint is written at the end.

        Args:
            stop: set it to stop after the current step; so do `RunFolder.request_stop` and a SIGTERM to the command.

        Returns:
            How it ended.

        Raises:
            TrainingError: the loss is not finite or has exploded, or a checkpoint cannot be written.
        """
        began, already, first_step = time.monotonic(), self.elapsed, self.step
        saved, validated, status_at = self.step, -1, 0.0
        saved_at, stopped = self.elapsed, False
        batches = self.loader.steps(self.step, self.config.steps)
        self.accelerator.init_trackers("tensorboard")  # none, unless the configuration asks for it
        if not self.step:
            self.watch.start_loss = self._start_loss()
        try:
            while not self._over() and not stopped:
                loss, stopped, self.elapsed = self._agree(
                    self._learn(next(batches)), stop, already + time.monotonic() - began
                )
                self._check(loss)
                if self.step - first_step == FORECAST_STEPS and not self._over():
                    self._forecast((self.elapsed - already) / FORECAST_STEPS)
                if self.first:
                    rate = self.optimizer.param_groups[0]["lr"]
                    self.run_folder.add_event(
                        "step", step=self.step, loss=loss, rate=rate, elapsed=round(self.elapsed, 2)
                    )
                    self.accelerator.log({"loss": loss, "rate": rate}, step=self.step)
                    if time.monotonic() - status_at > _STATUS_SECONDS:
                        status_at = time.monotonic()
                        self._set_status("training", self._left(first_step, self.elapsed - already))
                ended = stopped or self._over()
                checkpoint = self.config.checkpoints
                late = checkpoint.minutes is not None and self.elapsed - saved_at > checkpoint.minutes * 60
                if ended or ((self.step % checkpoint.every == 0 or late) and not self.watch.high):
                    self.save()
                    saved, saved_at = self.step, self.elapsed
                every = self.config.validation.every
                if every and self.step % every == 0:
                    self._validate()
                    validated = self.step
                    self.elapsed = self._agree(0.0, stop, already + time.monotonic() - began)[2]
            if saved != self.step:
                self.save()
            if not stopped and validated != self.step:
                self._validate()
        finally:
            self.loader.close()
            for tracker in self.accelerator.trackers:
                tracker.finish()
        return TrainingOutcome(self.step, stopped, self.elapsed)

    def _over(self) -> bool:
        minutes = self.config.minutes
        return self.step >= self.config.steps or (minutes is not None and self.elapsed >= minutes * 60)

    def _share(self) -> float:
        by_time = 0.0 if self.config.minutes is None else self.elapsed / (60 * self.config.minutes)
        return min(1.0, max(self.step / self.config.steps, by_time))

    def _last_factor(self) -> float:
        """Return the factor of the rates in the last step, which checkpoints keep; 1 if there was none."""
        group = self.optimizer.param_groups[0]
        return group["lr"] / group["peak"]

    def resume_note(self) -> str:
        """Describe where it resumes, and whether rates that have fallen rise again; empty if it is new."""
        if not self.step:
            return ""
        if self._over():
            return f"This training was finished after {self.step} steps: give it more `steps` (and `minutes`) to continue."
        config, before = self.config.optimizer, self._last_factor()
        wanted, pace = rate_factor(config, self.step, self._share()), 1 / (config.warm_up or math.inf)
        if wanted - before < max(_RISE, 1.5 * pace):
            return f"Resumes after step {self.step}."
        how = f"within about {math.ceil((wanted - before) / pace)} steps" if pace else "at once"
        return (
            f"Resumes after step {self.step} with more time than before: the learning rates, which had fallen to {before:.0%} "
            f"of their peak, rise to {wanted:.0%} {how}, and fall again towards the end."
        )

    def _left(self, first: int, seconds: float) -> float | None:
        limit = self.config.minutes
        return seconds_left(self.step, self.config.steps, first, seconds, elapsed=self.elapsed, minutes=limit)

    def _learn(self, batches: list[Batch]) -> float:
        """Do one step; return its loss in this process."""
        torch.manual_seed(
            self.config.seed + 7919 * self.step
        )  # for a method with random numbers of its own, such as dropout
        factor = rate_factor(self.config.optimizer, self.step, self._share(), self._last_factor())
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        total = torch.zeros((), device=self.accelerator.device)
        for part, batch in enumerate(batches):
            last = part == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                loss = self.loss(batch, self.model) / len(batches)
                self.accelerator.backward(loss)
            total += loss.detach()
        for group in self.watch.without_gradient():
            self.warn(
                f"The gradients of the {group} have been zero for {ZERO_STEPS} steps: it learns nothing; look at the "
                "conditions, learning.nothing and trainable.subset."
            )
        if self.config.optimizer.clip:
            self.accelerator.clip_grad_norm_(list(self.parameters.values()), self.config.optimizer.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if self.ema is not None:
            self.ema.step(self.parameters.values())
        return total.item()

    @torch.no_grad()
    def _start_loss(self) -> float:
        """Return the mean loss of the first batches before anything is learned."""
        count = -(-START_SAMPLES // self.order.size)
        losses = [self.loss(batch).item() for batches in self.loader.steps(0, count) for batch in batches]
        return self._agree(sum(losses) / len(losses), None, 0.0)[0]

    def loss(self, batch: Batch, model: Callable[..., Tensor] | None = None) -> Tensor:
        """Compute the loss of a batch, a scalar.

        Args:
            batch: on any device.
            model: predicts; None takes the method itself.
        """
        batch = batch.to(self.accelerator.device)
        noised = self.process.noised(batch.latents, batch.noise, batch.share)
        with self.accelerator.autocast():
            predicted = (model or self.method)(
                noised.sample, noised.timestep, batch.states, batch.condition, batch.keep
            )
        return weighted_error(predicted, noised, batch.weight)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the method the averaged weights inside the block, if weights are averaged, and evaluation mode."""
        if self.ema is not None:
            self.ema.store(self.parameters.values())
            self.ema.copy_to(self.parameters.values())
        self.method.eval()
        try:
            yield
        finally:
            self.method.train()
            if self.ema is not None:
                self.ema.restore(self.parameters.values())

    def _agree(self, loss: float, stop: threading.Event | None, elapsed: float) -> tuple[float, bool, float]:
        """Return the mean loss, whether any process was asked to stop, and the first process's clock."""
        asked = (stop is not None and stop.is_set()) or (self.first and self.run_folder.stop_requested())
        world = self.accelerator.num_processes
        if world == 1:
            return loss, asked, elapsed
        mine = torch.tensor([loss / world, float(asked), elapsed if self.first else 0.0], dtype=torch.float64)
        mine = mine.to(self.accelerator.device, torch.float32 if self.accelerator.device.type == "mps" else None)
        mean, stopped, clock = self.accelerator.reduce(mine, reduction="sum").tolist()
        return mean, stopped > 0, clock

    def _check(self, loss: float) -> None:
        self.last_loss = loss
        if not math.isfinite(loss):
            raise self._diverged(f"The loss is {loss}")
        if (mean := self.watch.exploded(loss)) is not None:
            raise self._diverged(
                f"The loss exploded from {self.watch.start_loss:.3g} to {mean:.3g}, the mean of {WINDOW} steps,"
            )

    def _diverged(self, what: str) -> TrainingError:
        kept = checkpoints.steps(self.run_folder.checkpoints)
        return TrainingError(
            f"{what} at step {self.step}: choose another output and a lower optimizer.rate than {self.config.optimizer.rate:g}, "
            f"or learning.mixed_precision=no; {f'the checkpoint of step {kept[-1]} is kept' if kept else 'no checkpoint was written'}."
        )

    def warn(self, text: str) -> None:
        """Log a warning, and add it to the run's events."""
        if self.first:
            self.log(text)
            self.run_folder.add_event("warning", step=self.step, text=text)

    def _forecast(self, seconds_a_step: float) -> None:
        """Report how long the rest takes, once the speed is known."""
        minutes = self.config.minutes
        left = None if minutes is None else max(0.0, minutes * 60 - self.elapsed)
        text = forecast(self.step, self.config.steps, seconds_a_step, left)
        if self.first:
            self.log(text)
            self.run_folder.add_event("forecast", step=self.step, text=text, seconds_a_step=round(seconds_a_step, 4))

    def _set_status(self, state: str, left: float | None = None) -> None:
        if self.first:
            self.run_folder.set_status(
                state, step=self.step, steps=self.config.steps, loss=self.last_loss if math.isfinite(self.last_loss) else None,
                elapsed=round(self.elapsed, 1), seconds_left=None if left is None else round(left),
            )  # fmt: skip

    def _validate(self) -> None:
        if self.validate is not None and self.first:
            self._set_status("validating")
            began = time.monotonic()
            with self.averaged():
                facts = self.validate(self.step)
            self.run_folder.add_event(
                "validation", step=self.step, seconds=round(time.monotonic() - began, 1), **facts
            )
        self.accelerator.wait_for_everyone()

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            TrainingError: a weight is NaN or infinite, or the disk is full.
        """
        if not all(bool(parameter.isfinite().all()) for parameter in self.parameters.values()):
            raise self._diverged("A weight is NaN or infinite")
        if self.first:
            scaler = getattr(self.accelerator, "scaler", None)
            optimizer = {"optimizer": self.optimizer.state_dict(), "scaler": scaler.state_dict() if scaler else None}
            facts = {
                "elapsed": self.elapsed,
                "start_loss": self.watch.start_loss,
                "settings": settings_of(self.config, self.order, self.method),
            }
            path = checkpoints.save(
                self.run_folder.checkpoints,
                Checkpoint(self.step, self.parameters, self.averages, optimizer, facts),
                self.config.checkpoints.keep,
            )
            self.run_folder.add_event("checkpoint", step=self.step, path=path.name)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        found = checkpoints.latest(self.run_folder.checkpoints)
        if found is None:
            return
        settings = settings_of(self.config, self.order, self.method)
        before = EARLIER_DEFAULTS | found.facts["settings"]
        changed = [name for name, value in settings.items() if before.get(name) != value]
        if changed:
            was, now = (values.get(changed[0]) for values in (before, settings))
            raise TrainingError(
                f"The training in {self.config.output} was started with another {changed[0]} ({was} instead of {now}): "
                "set it back to resume, or choose another output for a new training."
            )
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(found.weights[name])
            for name, average in (self.averages or {}).items():
                average.copy_(found.averages[name])
        self.optimizer.load_state_dict(found.optimizer["optimizer"])
        if found.optimizer["scaler"] and getattr(self.accelerator, "scaler", None):
            self.accelerator.scaler.load_state_dict(found.optimizer["scaler"])
        self.step, self.elapsed = found.step, found.facts["elapsed"]
        self.watch.start_loss = found.facts.get("start_loss")
        if self.ema is not None:
            self.ema.optimization_step = self.step  # all the state that it has besides the averages
        if self.first:
            self.run_folder.add_event("resumed", step=self.step)

    def _begin_together(self) -> None:
        steps = gather_object([self.step]) if self.accelerator.num_processes > 1 else [self.step]
        if len(set(steps)) > 1:
            raise TrainingError(
                f"The processes of this training see different checkpoints in {self.config.output} (steps "
                f"{', '.join(map(str, steps))}): let `output` be a folder that all machines share."
            )
