"""Samplers as rows: a diffusers class and what differs from the base model's own configuration.

Everything that belongs to the base (its noise schedule, what it predicts, how its timesteps are spaced) is taken from the
base; a row only says what makes the sampler the one of that name. Importing this file imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Scheduler:
    """One sampler.

    Attributes:
        label: how the page calls it.
        kind: class of diffusers.
        overrides: values that differ from the base model's scheduler configuration.
        most_steps: most steps it can take; None for no limit.
        fresh_noise: whether it adds new noise at each step.
    """

    label: str
    kind: str
    overrides: Mapping[str, bool | str | int] = field(default_factory=dict)
    most_steps: int | None = None
    fresh_noise: bool = False


_MULTISTEP: Mapping[str, bool | str | int] = {"algorithm_type": "dpmsolver++", "solver_order": 2}
_DPM = "DPMSolverMultistepScheduler"

SCHEDULERS: Mapping[str, Scheduler] = MappingProxyType(
    {
        "ddim": Scheduler("DDIM", "DDIMScheduler"),
        # As few-step models are made here: each of few steps is a jump over many of a finer schedule.
        "ddim_trailing": Scheduler(
            "DDIM, trailing (few steps)", "DDIMScheduler", {"timestep_spacing": "trailing", "clip_sample": False}
        ),
        "unipc": Scheduler("UniPC", "UniPCMultistepScheduler", {"use_karras_sigmas": False}),
        "dpmpp": Scheduler("DPM++ 2M", _DPM, {**_MULTISTEP, "use_karras_sigmas": False}),
        "dpmpp_karras": Scheduler("DPM++ 2M Karras", _DPM, {**_MULTISTEP, "use_karras_sigmas": True}),
        "euler": Scheduler("Euler", "EulerDiscreteScheduler", {"use_karras_sigmas": False}),
        "euler_a": Scheduler("Euler a", "EulerAncestralDiscreteScheduler", fresh_noise=True),
        # Distilled from 50 steps of DDIM (arXiv 2310.04378), and cannot take more; made for an LCM-LoRA and 4 to 8 steps.
        "lcm": Scheduler("LCM (with an LCM-LoRA)", "LCMScheduler", most_steps=50, fresh_noise=True),
    }
)
"""Name in a recipe -> sampler. A recipe that names none keeps the base model's own."""
