"""Train few steps: a LoRA for the base and all adapters learns the jumps of the guided starter, with each control and with none.

Runs of the teacher are made once and kept. The student is the same UNet with one difference of its weights, the same under every
adapter, which becomes a LoRA by singular values. See `controlnext.training.distill` for the jumps and their sources.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from controlnext.assets import STARTER
from controlnext.method.adapter import ControlNeXtAdapter
from controlnext.method.injection import attach
from controlnext.method.model import ControlNeXtModel
from controlnext.method.variants import Variant, get_variant
from controlnext.method.weights import write_tensors
from controlnext.starter.train.base import importance, tokenize
from controlnext.starter.train.dataset import FIRST_TRAINING_SEED, make_samples
from controlnext.starter.train.loop import Loop, Plan
from controlnext.starter.world.conditions import CONDITIONS, condition
from controlnext.starter.world.sheets import save_sheet
from controlnext.training.data.samples import Batch, States
from controlnext.training.distill import Jumps, Teacher, TrajectoryProcess, few_steps_scheduler
from controlnext.training.quick import quicken

logger = logging.getLogger(__name__)
RANK = 64
"""Rank of the LoRA; layers with fewer inputs or outputs get what they have."""

PLAIN = "plain"
"""Words alone, without a control."""

STEPS, TEACHER_STEPS, GUIDANCE = 4, 20, 3.0
CHUNK = 16
"""Runs of a file, which start together."""

FILES = 80
"""Files of runs of the teacher."""

SHARES = {PLAIN: 0.4, "canny": 0.2, "depth": 0.1, "pose": 0.1, "segmentation": 0.2}
"""Share of runs and of training: words alone say least about the picture, so they are the hardest to jump from."""

CLOSE = 0.2
"""Share of heads and busts."""

SHOWN = 8
"""Held-out pictures of a kind on the sheet."""

STATES = "encoder_hidden_states"
FIGURE_WEIGHT = 3.0
_LAYER = re.compile(r"unet\.(.+)\.lora_A\.weight")


def split(difference: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the product of least squares error: `down` (r, in, ...) and `up` (out, r, 1, ...) of a weight's difference.

    Args:
        difference: (out, in) of a linear layer or (out, in, k, k) of a convolution.
        rank: the largest r.
    """
    rows = difference.float().flatten(1)
    u, s, v = torch.linalg.svd(rows, full_matrices=False)
    r = min(rank, len(s))
    root = s[:r].sqrt()
    down = (root[:, None] * v[:r]).reshape(r, *difference.shape[1:])
    up = (u[:, :r] * root).reshape(len(rows), r, *[1] * (difference.dim() - 2))
    return down, up


@torch.no_grad()
def write_lora(differences: dict[str, Tensor], out: Path, rank: int = RANK) -> float:
    """Write differences of a UNet's weights, by name, as a LoRA; return the share of their energy that it holds, in [0, 1]."""
    kept = total = 0.0
    tensors: dict[str, Tensor] = {}
    for name, difference in sorted(differences.items()):
        down, up = split(difference, rank)
        layer = f"unet.{name.removesuffix('.weight')}"
        tensors |= {f"{layer}.lora_A.weight": down.half(), f"{layer}.lora_B.weight": up.half()}
        total += float(difference.square().sum())
        kept += float((up.flatten(1) @ down.flatten(1)).square().sum())
    write_tensors(out, {name: value.contiguous() for name, value in tensors.items()}, {"rank": str(rank)})
    return kept / total if total else 1.0


def read_lora(path: Path, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Return the differences of weights, of these shapes, that a LoRA of `write_lora` makes."""
    tensors, found = load_file(path), {}
    for key, down in tensors.items():
        if match := _LAYER.fullmatch(key):
            name, up = f"{match[1]}.weight", tensors[key.replace("lora_A", "lora_B")]
            found[name] = (up.float().flatten(1) @ down.float().flatten(1)).reshape(shapes[name])
    return found


class Student:
    """The starter's UNet under one of its adapters, with a difference of its weights that learns.

    Attributes:
        scheduler: of the base.
        difference: by the place of a weight in `names`.
        names: weights that can be a LoRA: matrices and kernels.
    """

    def __init__(self, assets: Path, start: Path | None) -> None:
        """Load base and adapters; the difference begins with a LoRA, or with zeros."""
        self.pipeline = StableDiffusionPipeline.from_pretrained(
            assets / "base", dtype=torch.float32, safety_checker=None
        )
        self.scheduler = self.pipeline.scheduler
        self.unet, self.text = quicken(self.pipeline.unet).train(), self.pipeline.text_encoder.eval()
        self.unet.requires_grad_(False)
        self.text.requires_grad_(False)
        weights = dict(self.unet.named_parameters())
        self.names = [name for name, weight in weights.items() if weight.dim() > 1]
        begun = read_lora(start, {name: weight.shape for name, weight in weights.items()}) if start else {}
        self.difference = nn.ParameterList(begun.get(name, torch.zeros_like(weights[name])) for name in self.names)
        adapters = {name: ControlNeXtAdapter.from_pretrained(assets / "adapters" / name) for name in CONDITIONS}
        self.modules: dict[str, ControlNeXtModel] = {
            name: quicken(adapter.module.float()).requires_grad_(False) for name, adapter in adapters.items()
        }
        self.weights = {PLAIN: weights} | {
            name: weights | {key: weights[key] + value.float() for key, value in (adapter.unet_weights or {}).items()}
            for name, adapter in adapters.items()
        }

    def under(self, kind: str, difference: nn.ParameterList | None = None) -> "UnderControl":
        """Return the UNet with the control of a kind, its weights moved by the difference if one is given."""
        return UnderControl(self, kind, difference)

    @torch.no_grad()
    def states(self, captions: list[str]) -> Tensor:
        """Return the text encoder's states (B, T, C)."""
        return self.text(tokenize(self.pipeline.tokenizer, captions)).last_hidden_state


@dataclass(frozen=True)
class UnderControl:
    """A UNet under one control, as `controlnext.training.methods.Method` predicts; it is a teacher without a difference."""

    student: Student
    kind: str
    difference: nn.ParameterList | None
    variant: ClassVar[Variant] = get_variant("starter")

    def predict(self, noisy: Tensor, timestep: Tensor, states: States, condition: Tensor, keep: Tensor) -> Tensor:
        """See `Method.predict`; without a control `condition` and `keep` are not looked at."""
        own = self.student
        weights = own.weights[self.kind]
        if self.difference is not None:
            moved = zip(own.names, self.difference, strict=True)
            weights = weights | {name: weights[name] + more for name, more in moved}
        inputs = noisy.contiguous(memory_format=torch.channels_last), timestep, states[STATES]
        if self.kind == PLAIN:
            return torch.func.functional_call(own.unet, weights, inputs).sample
        with attach(own.unet, own.modules[self.kind], self.variant, condition, keep):
            return torch.func.functional_call(own.unet, weights, inputs).sample


class TeacherRuns:
    """Runs of the teacher, in files of `CHUNK`, made where they are missing.

    A file has `run` (B, steps + 1, 4, 32, 32) latents, `states` (B, T, C), `conditions` (B, 3, 256, 256) uint8 and `weight`
    (B, 1, 32, 32) of the loss.
    """

    def __init__(self, folder: Path, student: Student, jumps: Jumps, count: int) -> None:
        """Open `count` files, shared among the kinds; at least two of each, the first of which is held out."""
        self.folder, self.student, self.jumps = folder, student, jumps
        folder.mkdir(parents=True, exist_ok=True)
        self.files = {
            kind: [self._file(kind, index) for index in range(max(2, round(count * share)))]
            for kind, share in SHARES.items()
        }

    def batch(self, rng: np.random.Generator) -> tuple[str, dict[str, Tensor]]:
        """Return a kind and `CHUNK` of its runs that are not held out."""
        kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        _, *files = self.files[kind]
        chosen = rng.integers(0, len(files) * CHUNK, CHUNK)
        rows = [{key: value[i % CHUNK] for key, value in files[i // CHUNK].items()} for i in chosen]
        return kind, {key: torch.stack([row[key] for row in rows]) for key in rows[0]}

    def _file(self, kind: str, index: int) -> dict[str, Tensor]:
        path = self.folder / f"{kind}-{index:03d}.safetensors"
        if not path.exists():
            logger.info("teacher: %s", path.stem)
            part = path.with_suffix(".part")
            save_file(self._make(kind, index), part)
            part.replace(path)
        return load_file(path)

    @torch.no_grad()
    def _make(self, kind: str, index: int) -> dict[str, Tensor]:
        first = FIRST_TRAINING_SEED + (index * (len(CONDITIONS) + 1) + (PLAIN, *CONDITIONS).index(kind)) * CHUNK
        samples = [make_samples(seed, 1, close=CLOSE)[0] for seed in range(first, first + CHUNK)]
        rng = np.random.default_rng(first)
        drawn = CONDITIONS[0] if kind == PLAIN else kind
        conditions = torch.from_numpy(np.stack([condition(drawn, s.picture, rng) for s in samples])).permute(
            0, 3, 1, 2
        )
        states = self.student.states([sample.caption(rng) for sample in samples])
        (nothing,) = self.student.states([""])
        noise = torch.randn(CHUNK, 4, 32, 32, generator=torch.Generator().manual_seed(first))
        ones = torch.ones(CHUNK)
        batch = Batch(noise, conditions.float() / 255, {STATES: states}, noise, 0 * ones, ones, None)
        teacher = Teacher(self.student.under(kind), self.jumps, {STATES: nothing}, GUIDANCE, torch.device("cpu"))
        return {
            "run": teacher(batch).half().contiguous(),
            "states": states.half().contiguous(),
            "conditions": conditions.contiguous(),
            "weight": importance(samples, FIGURE_WEIGHT),
        }


def given(rows: dict[str, Tensor]) -> tuple[States, Tensor, Tensor]:
    """Return states, conditions and shares of control of runs, as `predict` takes them."""
    return {STATES: rows["states"].float()}, rows["conditions"].float() / 255, torch.ones(len(rows["run"]))


def train(out: Path, plan: Plan, *, start: Path | None = None, count: int = FILES, assets: Path = STARTER) -> None:
    """Train the difference and write `out / "few-steps.safetensors"` at each checkpoint.

    Args:
        out: Folder of the teacher's runs, the checkpoint and the results.
        plan: Time budget.
        start: LoRA to start from.
        count: Files of `CHUNK` runs of the teacher, shared among the controls by `SHARES`.
        assets: The bundled starter.
    """
    student = Student(assets, start)
    jumps = Jumps(few_steps_scheduler(student.scheduler), STEPS, TEACHER_STEPS)
    runs, process = TeacherRuns(out / "teacher", student, jumps, count), TrajectoryProcess(student.scheduler, jumps)
    loop = Loop(out, {"difference": student.difference}, [(list(student.difference), 2e-4)], plan)
    rng = np.random.default_rng(torch.initial_seed() % 2**32)

    def error(kind: str, rows: dict[str, Tensor], share: Tensor, difference: nn.ParameterList) -> Tensor:
        latents = rows["run"].float()
        noised = process.noised(latents, torch.zeros_like(latents[:, 0]), share)
        predicted = student.under(kind, difference).predict(noised.sample, noised.timestep, *given(rows))
        square = (predicted - noised.target).square() * rows["weight"]
        return (square.mean((1, 2, 3)) * noised.weight).mean()

    def loss(_: int) -> Tensor:
        kind, batch = runs.batch(rng)
        return error(kind, batch, torch.rand(CHUNK), student.difference)

    @torch.no_grad()
    def report() -> None:
        averaged = loop.averaged()["difference"]
        share = (torch.arange(CHUNK) % STEPS + 0.5) / STEPS
        for kind, (held_out, *_) in runs.files.items():
            logger.info("held-out error of %s: %.5f", kind, error(kind, held_out, share, averaged))
        held = write_lora(dict(zip(student.names, averaged, strict=True)), out / "few-steps.safetensors")
        logger.info("the LoRA holds %.3f of the difference", held)
        sheet(student, runs, jumps, averaged, out / "sheet.png")

    loop.run(loss, report)


@torch.no_grad()
def sheet(student: Student, runs: TeacherRuns, jumps: Jumps, difference: nn.ParameterList, path: Path) -> None:
    """Draw held-out runs: for each kind a row of the teacher's pictures over a row of the student's."""
    vae, rows = student.pipeline.vae, []
    for kind, (held_out, *_) in runs.files.items():
        few = {key: value[:SHOWN] for key, value in held_out.items()}
        now = few["run"][:, 0].float()
        for timestep, keep, move in jumps.of_student():
            times = torch.full((len(now),), timestep)
            now = keep * now + move * student.under(kind, difference).predict(now, times, *given(few))
        for latents in (few["run"][:, -1].float(), now):
            pictures = vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)
            rows.append(((pictures + 1) * 127.5).permute(0, 2, 3, 1).numpy().astype(np.uint8))
    save_sheet(path, rows)
