"""The training loop that all parts of the starter share: a time budget, EMA weights, gradient averaging, checkpoints, resume."""

import copy
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

logger = logging.getLogger(__name__)
LIGHT = "light.pt"
"""Name of a light checkpoint."""


@dataclass(frozen=True)
class Plan:
    """How long and how to train.

    `minutes` of wall clock; `warm_up` steps; the learning rate is constant for the share `hold` of the time and then
    falls to zero along a cosine; `ema` is the decay of the averaged weights; a checkpoint every `checkpoint` seconds of wall
    clock, and a report (samples, measures) with the first one after `report` seconds, 0 with each.
    A `light` plan also writes `light.pt`, the averaged weights alone in float16, and resumes from it where there is no checkpoint. With `clock` "cpu" the minutes are of this process's CPU time, which other work on the machine does not use up.
    """

    minutes: float
    warm_up: int = 100
    hold: float = 0.6
    ema: float = 0.998
    clip: float = 1.0
    checkpoint: float = 420.0
    report: float = 0.0
    light: bool = False
    clock: Literal["wall", "cpu"] = "wall"

    def now(self) -> float:
        """Return seconds on the plan's clock."""
        return time.process_time() if self.clock == "cpu" else time.monotonic()


def rank() -> int:
    """Return this process's number among those that train together, 0 when alone."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    """Return how many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def start_processes() -> None:
    """Join the gloo group named by the environment, if any; one thread per process, which is fastest on few cores."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if processes() > 1 and not dist.is_initialized():
        dist.init_process_group("gloo")


class Loop:
    """Trains modules on a loss for a time budget and can be killed and resumed at any moment.

    Args:
        folder: Where `checkpoint.pt` lives; made if missing. A checkpoint found there is resumed.
        modules: Modules by name; their trainable parameters are trained and averaged.
        groups: `(parameters, learning rate)` pairs.
        plan: Time budget and schedule.
    """

    def __init__(
        self,
        folder: Path,
        modules: dict[str, nn.Module],
        groups: Sequence[tuple[list[nn.Parameter], float]],
        plan: Plan,
    ) -> None:
        """Prepare the optimiser and the averaged weights, or resume them."""
        self.folder, self.modules, self.plan = folder, modules, plan
        folder.mkdir(parents=True, exist_ok=True)
        self.parameters = [p for parameters, _ in groups for p in parameters]
        self.optimizer = torch.optim.AdamW(
            [{"params": parameters, "lr": lr, "peak": lr} for parameters, lr in groups],
            betas=(0.9, 0.99),
            weight_decay=1e-3,
        )
        self.averages = [p.detach().clone() for p in self.parameters]
        self.step, self.elapsed = 0, 0.0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        torch.manual_seed(100 + rank())
        self._resume()

    @property
    def checkpoint(self) -> Path:
        """The file that holds everything a resume needs."""
        return self.folder / "checkpoint.pt"

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            if self.plan.light:
                self._resume_light()
            return
        state = torch.load(self.checkpoint, weights_only=True, map_location="cpu")
        for parameter, value, average, saved in zip(
            self.parameters, state["parameters"], self.averages, state["averages"], strict=True
        ):
            parameter.data.copy_(value)
            average.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        torch.manual_seed(100 + rank() + 1000 * self.step)
        if "rng" in state and rank() == 0:
            torch.set_rng_state(state["rng"])
        logger.info("resumed at step %d after %.1f minutes", self.step, self.elapsed / 60)

    def _resume_light(self) -> None:
        path = self.folder / LIGHT
        if not path.exists():
            return
        state = torch.load(path, weights_only=True, map_location="cpu")
        for parameter, average, saved in zip(self.parameters, self.averages, state["averages"], strict=True):
            parameter.data.copy_(saved)
            average.copy_(saved)
        self.step, self.elapsed = state["step"], state["elapsed"]
        torch.manual_seed(100 + rank() + 1000 * self.step)

    def save(self) -> None:
        """Write the checkpoint atomically."""
        if self.plan.light:
            halves = [average.half() for average in self.averages]
            torch.save({"averages": halves, "step": self.step, "elapsed": self.elapsed}, self.folder / LIGHT)
        state = {
            "parameters": [p.detach() for p in self.parameters],
            "averages": self.averages,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
            "rng": torch.get_rng_state(),
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def averaged(self) -> dict[str, nn.Module]:
        """Return copies of the modules with the averaged weights, in evaluation mode."""
        kept = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.averages)
            copies = {name: copy.deepcopy(module).eval() for name, module in self.modules.items()}
            torch._foreach_copy_(self.parameters, kept)
        return copies

    def _share(self) -> float:
        return min(1.0, self.elapsed / (self.plan.minutes * 60))

    def _set_rates(self) -> None:
        share, hold = self._share(), self.plan.hold
        factor = 1.0 if share < hold else 0.5 + 0.5 * math.cos(math.pi * (share - hold) / (1 - hold))
        factor *= min(1.0, (self.step + 1) / self.plan.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor

    def _average_gradients(self) -> None:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        pieces = flat.split([g.numel() for g in gradients])
        torch._foreach_copy_(gradients, [piece.view_as(g) for piece, g in zip(pieces, gradients, strict=True)])

    def _agree_on_time(self) -> None:
        if self.world > 1:
            clock = torch.tensor([self.elapsed])
            dist.broadcast(clock, 0)
            self.elapsed = clock.item()

    def run(self, loss: Callable[[int], Tensor], on_checkpoint: Callable[[], None] | None = None) -> None:
        """Train until the time is used up.

        Args:
            loss: Gets the step, returns a scalar to minimise.
            on_checkpoint: Called by process 0 after a checkpoint, as often as the plan says, and at the end, e.g. to draw samples.
        """
        started, already = self.plan.now(), self.elapsed
        next_save, next_log, recent = time.monotonic() + self.plan.checkpoint, self.elapsed + 30, []
        next_report = time.monotonic() + self.plan.report
        while self.elapsed < self.plan.minutes * 60:
            self._set_rates()
            value = loss(self.step)
            value.backward()
            if self.world > 1:
                self._average_gradients()
            nn.utils.clip_grad_norm_(self.parameters, self.plan.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.step += 1
            decay = min(self.plan.ema, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - decay)
            recent.append(value.item())
            self.elapsed = already + self.plan.now() - started
            self._agree_on_time()
            if rank() == 0 and self.elapsed > next_log:
                logger.info("%4.1f min step %d loss %.4f", self.elapsed / 60, self.step, sum(recent) / len(recent))
                next_log, recent = self.elapsed + 30, []
            if rank() == 0 and time.monotonic() > next_save:
                next_save = time.monotonic() + self.plan.checkpoint
                self.save()
                if on_checkpoint and time.monotonic() > next_report:
                    on_checkpoint()
                    next_report = time.monotonic() + self.plan.report
        if rank() == 0:
            self.save()
            if on_checkpoint:
                on_checkpoint()
