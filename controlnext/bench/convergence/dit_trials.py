"""A run of the convergence bench on the starter's transformer instead of its UNet."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from controlnext.bench.command import BenchError
from controlnext.bench.convergence.dit_ways import build
from controlnext.bench.convergence.trials import Scenery, Trial, TrialSetup
from controlnext.quiet import quiet_loading
from controlnext.training.losses import FlowProcess, NoiseProcess
from controlnext.training.methods import Method

SHIFT = 0.3
"""Of the logit-normal sigmas, as the transformer was trained with."""


class DitSetup(TrialSetup):
    """The transformer with the starter's words and autoencoder; in float32, which is as quick on most CPUs."""

    component, dtype = "transformer", None

    def __init__(self, transformer: Path, assets: Path, data: Path, kind: str, scenery: Scenery) -> None:
        """Load the base; see `TrialSetup`.

        Raises:
            BenchError: there is no transformer.
        """
        if not (transformer / "config.json").is_file():
            raise BenchError(
                f"There is no transformer in {transformer}: make one with `python -m controlnext.starter dit`, and name its folder "
                "by --transformer."
            )
        self.folder = transformer
        super().__init__(assets, data, kind, scenery)

    def load(self, assets: Path) -> tuple[NoiseProcess, Callable[[list[str]], dict[str, Tensor]]]:
        """See `TrialSetup.load`."""
        from controlnext.starter.train.dit import load_pipeline

        with quiet_loading():
            self.pipeline = load_pipeline(assets, self.folder)

        @torch.no_grad()
        def states(captions: list[str]) -> dict[str, Tensor]:
            made = self.pipeline.encode_prompt(captions, None, None, do_classifier_free_guidance=False)
            return {"encoder_hidden_states": made[0], "pooled_projections": made[2]}

        return FlowProcess(SHIFT), states

    def build(self, trial: Trial) -> Method:
        """See `TrialSetup.build`."""
        return build(trial.way, copy.deepcopy(self.unet), trial.rate)


@lru_cache(maxsize=2)
def setup_for(transformer: Path, assets: Path, data: Path, kind: str, scenery: Scenery) -> DitSetup:
    """Return the setup of a condition, made once a process."""
    return DitSetup(transformer, assets, data, kind, scenery)
