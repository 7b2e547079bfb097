"""Few steps: a student learns to take each of its steps as many guided steps of its teacher.

The teacher is the base model with an adapter, run with guidance on a DDIM schedule; the student is the same with weights that
learn, run once a step without guidance. Its schedule is every n-th point of the teacher's (trailing spacing), so a jump of n
steps is one step of the student, and what it should predict for that follows from the jump exactly. The teacher's runs are
made once, kept on the disk, and learned from by the ordinary trainer, which resumes as always.

Source:
    Salimans and Ho, arXiv 2202.00512 (progressive distillation); Meng et al., arXiv 2210.03142 (guidance folded in). Here all
    jumps are learned at once from runs of one teacher.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from controlnext.hashes import weights_digest
from controlnext.recipes.schedulers import SCHEDULERS
from controlnext.training.base_model import start_adapter
from controlnext.training.config import TrainConfig, TrainingError
from controlnext.training.data.row_data import Report, RowData, Shown, check_stop
from controlnext.training.data.samples import Batch, Sample, States, generator_for, stacked
from controlnext.training.losses import DiscreteProcess, Noised

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

    from controlnext.training.methods import ControlNeXtMethod

SAMPLER = "ddim_trailing"
"""Sampler of the student, by its name in a recipe."""

KIND = "teacher"  # folder of the cache
_SMALLEST = 1e-6  # coefficient of a prediction below which a step says nothing about it


def few_steps_scheduler(scheduler: SchedulerMixin) -> DDIMScheduler:
    """Return the schedule of teacher and student on a base model's noise levels."""
    return DDIMScheduler.from_config(scheduler.config, **SCHEDULERS[SAMPLER].overrides)


class Jumps:
    """DDIM steps between points of a schedule, as `next = keep * now + move * prediction`.

    Attributes:
        timesteps: of the student's steps, in order.
        fine: of the teacher's steps, in order; each of the student's begins with one of them.
    """

    def __init__(self, scheduler: DDIMScheduler, steps: int, teacher_steps: int) -> None:
        """Choose the points.

        Raises:
            TrainingError: the teacher's steps are no multiple of the student's.
        """
        if teacher_steps % steps:
            raise TrainingError(
                f"distill.teacher_steps={teacher_steps} is no multiple of distill.steps={steps}: choose one, such as {5 * steps}."
            )
        self._scheduler = scheduler
        scheduler.set_timesteps(teacher_steps)
        self.fine = scheduler.timesteps.tolist()
        scheduler.set_timesteps(steps)
        self.timesteps = scheduler.timesteps.tolist()
        self.each = teacher_steps // steps
        if self.timesteps != self.fine[:: self.each]:
            raise TrainingError(
                f"{len(scheduler.alphas_cumprod)} noise levels cannot be divided into {teacher_steps} and {steps} steps: "
                "choose distill.teacher_steps that divides their number."
            )

    def step(self, start: int, end: int | None) -> tuple[float, float]:
        """Return the factors `keep` and `move` of a step between two timesteps; an end of None is the clean picture."""
        alphas = self._scheduler.alphas_cumprod.double()
        now = alphas[start]
        then = self._scheduler.final_alpha_cumprod.double() if end is None else alphas[end]
        a, s, a2, s2 = (
            float(value) for value in (now.sqrt(), (1 - now).sqrt(), then.sqrt(), (1 - then).clamp(min=0).sqrt())
        )
        kind = self._scheduler.config.prediction_type
        if kind == "epsilon":
            return a2 / a, s2 - a2 * s / a
        if kind == "v_prediction":
            return a2 * a + s2 * s, s2 * a - a2 * s
        return s2 / s, a2 - s2 * a / s

    def of_teacher(self) -> list[tuple[int, float, float]]:
        """Return timestep, keep and move of each of the teacher's steps."""
        ends = [*self.fine[1:], None]
        return [(start, *self.step(start, end)) for start, end in zip(self.fine, ends, strict=True)]

    def of_student(self) -> list[tuple[int, float, float]]:
        """Return timestep, keep and move of each of the student's steps."""
        ends = [*self.timesteps[1:], None]
        return [(start, *self.step(start, end)) for start, end in zip(self.timesteps, ends, strict=True)]


class TrajectoryProcess:
    """The student's inputs and targets from runs of the teacher; plain latents are noised as in any training."""

    def __init__(self, scheduler: SchedulerMixin, jumps: Jumps) -> None:
        """Take the base model's schedule, and the jumps."""
        self._plain, self._rows = DiscreteProcess(scheduler), jumps.of_student()

    def noised(self, latents: Tensor, noise: Tensor, share: Tensor) -> Noised:
        """See `NoiseProcess.noised`; runs are `(B, steps + 1, 4, h, w)`, and `share` chooses the step."""
        if latents.ndim == 4:
            return self._plain.noised(latents, noise, share)
        step = (share * len(self._rows)).long().clamp(max=len(self._rows) - 1).to(latents.device)
        times, keep, move = (
            torch.tensor(column, device=latents.device)[step] for column in zip(*self._rows, strict=True)
        )
        rows = torch.arange(len(latents), device=latents.device)
        now, then = latents[rows, step], latents[rows, step + 1]
        wide_keep, wide_move = keep.view(-1, 1, 1, 1).float(), move.view(-1, 1, 1, 1).float()
        sign = torch.where(wide_move < 0, -1.0, 1.0)
        target = (then - wide_keep * now) / (sign * wide_move.abs().clamp(min=_SMALLEST))
        return Noised(now, times, target, move.float() ** 2)  # weighed so that the error is that of the next latents


class TrajectoryData:
    """Runs of the teacher, `distill.noises` for each row; a `controlnext.training.data.samples.Data`."""

    def __init__(self, config: TrainConfig, data: RowData, jumps: Jumps) -> None:
        """Take the prepared rows; `prepare` makes the runs."""
        self.config, self.data, self.jumps = config, data, jumps
        self.empty: States = {}
        self.held_out = data.held_out
        start = start_adapter(config)
        settings = [
            config.base,
            config.family,
            config.variant,
            config.distill.model_dump(),
            config.learning.gamma,
            config.seed,
        ]
        self._key = f"{settings} {weights_digest(start) if start else ''}"

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.data) * self.config.distill.noises

    def shape(self, index: int) -> Hashable:
        """Return the size."""
        return self.data.shape(index // self.config.distill.noises)

    def shown(self) -> list[Shown]:
        """Return the rows that each validation draws."""
        return self.data.shown()

    def warnings(self) -> list[str]:
        """Return what is wrong with the rows."""
        return self.data.warnings()

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        """Return a run as latents `(steps + 1, 4, h, w)`, with its condition and its words."""
        row = self._row(index)
        found = self.data.store.tensors(KIND, self._name(index, row), _missing)
        return Sample(found["run"].float(), row.condition, row.states)

    def prepare(
        self,
        teach: Callable[[Batch], Tensor],
        report: Report,
        stop: threading.Event,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Make the runs that are not on the disk yet.

        Args:
            teach: runs the teacher on a batch whose noise starts it.
            report: receives the progress.
            stop: ends it between two batches.
            share: this process's number and how many there are; each makes its share.

        Raises:
            Cancelled: it was stopped; finished runs are kept.
        """
        rank, world = share
        mine = range(rank, len(self), world)
        size = self.config.learning.batch
        groups: dict[Hashable, list[int]] = {}
        for index in mine:
            groups.setdefault(self.shape(index), []).append(index)
        done = 0
        for group in groups.values():
            for first in range(0, len(group), size):
                check_stop(stop)
                rows = {index: self._row(index) for index in group[first : first + size]}
                names = {index: self._name(index, row) for index, row in rows.items()}
                todo = [index for index, name in names.items() if not self.data.store.has(KIND, name)]
                if todo:
                    runs = teach(stacked([self._start(index, rows[index]) for index in todo])).cpu()
                    for index, run in zip(todo, runs, strict=True):
                        self.data.store.tensors(KIND, names[index], lambda run=run: {"run": run.half()})
                done += len(rows)
                report("Runs of the teacher", done, len(mine))

    def _row(self, index: int) -> Sample:
        return self.data.sample(index // self.config.distill.noises, generator_for(self.config.seed, index))

    def _start(self, index: int, row: Sample) -> Batch:
        noise = torch.randn(row.latents.shape, generator=generator_for(self.config.seed, index, 1))
        return Batch(row.latents, row.condition, row.states, noise, torch.tensor(0.0), torch.tensor(1.0), None)

    def _name(self, index: int, row: Sample) -> str:
        """What a run depends on: the teacher, the condition and the words, and the number of its noise."""
        content = hashlib.blake2b(row.condition.numpy().tobytes(), digest_size=16)
        for name in sorted(row.states):
            content.update(row.states[name].float().contiguous().numpy().tobytes())
        return f"{self._key} {content.hexdigest()} {index}"


class Teacher:
    """The untrained method with guidance, many steps."""

    def __init__(
        self, method: ControlNeXtMethod, jumps: Jumps, empty: States, guidance_scale: float, device: torch.device
    ) -> None:
        """Take what it runs with.

        Args:
            method: with the adapter it starts from; nothing has learned yet.
            jumps: the schedule.
            empty: states of a sample without prompt.
            guidance_scale: weight of the prompt; 1 runs without guidance.
            device: where the method is.
        """
        self.method, self.jumps, self.empty, self.scale, self.device = method, jumps, empty, guidance_scale, device

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """Return the latents before the first and after each of the student's steps, `(B, steps + 1, 4, h, w)`."""
        batch = batch.to(self.device)
        count, now = len(batch.noise), batch.noise
        empty = {name: value.to(self.device).expand(count, *value.shape) for name, value in self.empty.items()}
        without = {**batch.states, **empty}
        uncontrolled = batch.keep if self.method.variant.control_on_uncond else torch.zeros_like(batch.keep)
        found = [now]
        for number, (timestep, keep, move) in enumerate(self.jumps.of_teacher(), 1):
            times = torch.full((count,), timestep, device=self.device)
            predicted = self.method.predict(now, times, batch.states, batch.condition, batch.keep).float()
            if self.scale > 1:
                plain = self.method.predict(now, times, without, batch.condition, uncontrolled).float()
                predicted = plain + self.scale * (predicted - plain)
            now = keep * now + move * predicted
            if number % self.jumps.each == 0:
                found.append(now)
        if not all(torch.isfinite(latents).all() for latents in found):
            raise TrainingError("The teacher's numbers overflowed: set learning.mixed_precision=no.")
        return torch.stack(found, 1)


def _missing() -> States:
    raise TrainingError(
        "A run of the teacher is gone from data.cache: start the training again, which makes it again."
    )
