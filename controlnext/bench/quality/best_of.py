"""`python -m controlnext bench best-of`: what choosing the best of several seeds is worth.

Held-out scenes are drawn under one control with several seeds each. The adherence of a single picture is compared with that of
the best of them; intervals are percentiles of a bootstrap over scenes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from controlnext.bench.command import bench_parser, log_progress, publish, whole
from controlnext.bench.quality.scenes import held_out_scenes, logger
from controlnext.bench.tables import markdown
from controlnext.recipes.inputs import Inputs
from controlnext.starter.world.conditions import CONDITIONS, condition

BOOTSTRAPS = 10_000
_LEVELS = (2.5, 97.5)


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the mean by a bootstrap.

    Args:
        values: (N,) one a scene.
        seed: of the draws.
    """
    draws = np.random.default_rng(seed).integers(0, len(values), (BOOTSTRAPS, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), _LEVELS)
    return float(low), float(high)


def compare(scores: np.ndarray) -> dict[str, Any]:
    """Return the figures of one control.

    Args:
        scores: (scenes, seeds) adherence.

    Returns:
        Mean and interval of `single` (the mean over the seeds of a scene), `best`, and their difference `gain`.
    """
    single, best = scores.mean(axis=1), scores.max(axis=1)
    rows = {"single": single, "best": best, "gain": best - single}
    return {name: {"mean": float(values.mean()), "interval": interval(values)} for name, values in rows.items()}


def table(runs: Mapping[str, Mapping[str, Any]], seeds: int) -> str:
    """Format the figures as a Markdown table."""

    def cell(figure: Mapping[str, Any]) -> str:
        low, high = figure["interval"]
        return f"{figure['mean']:.3f} ({low:.3f} to {high:.3f})"

    rows = [[kind, *(cell(run[name]) for name in ("single", "best", "gain"))] for kind, run in runs.items()]
    return markdown(["control", "single picture", f"best of {seeds}", "gain"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit status."""
    import annotators
    from controlnext.studio.studio import Studio

    parser = bench_parser("best-of", __doc__, scenes=32, gamma=1.0)
    parser.add_argument("--seeds", type=whole(2), default=4, help="pictures a scene, at most 16")
    parser.add_argument("--steps", type=whole(), default=20, help="denoising steps")
    parser.add_argument("--only", choices=CONDITIONS, nargs="*", default=["pose", "canny"], help="these controls")
    options = parser.parse_args(arguments)
    log_progress()
    samples, runs = held_out_scenes(options.scenes), {}
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(output_dir=Path(folder), annotators=annotators)
        for kind in options.only:
            rows = []
            for number, sample in enumerate(samples):
                recipe = studio.catalogue.resolve(
                    "starter", adapter=kind, prompt=sample.caption(), seed=1000 * number, num_images=options.seeds,
                    gamma=options.gamma, num_inference_steps=options.steps,
                )  # fmt: skip
                asked = Image.fromarray(condition(kind, sample.picture))
                result = studio.generate(recipe, Inputs((asked,)))
                rows.append([0.0 if value is None else value for value in result.adherence])
                for file in result.files:
                    file.unlink()
                logger.info("%s: %d of %d", kind, number + 1, len(samples))
            runs[kind] = compare(np.array(rows))
    facts = {
        "scenes": options.scenes,
        "seeds": options.seeds,
        "steps": options.steps,
        "gamma": options.gamma,
        "runs": runs,
    }
    return publish(options, facts, table(runs, options.seeds))
