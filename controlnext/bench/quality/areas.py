"""`python -m controlnext bench areas`: what a mask of a control does inside and outside of it.

Held-out scenes are drawn under edges that act in the left half, with the same seed without control, with control everywhere and
with both orders of mask and cross normalisation: the mask after the statistics, as the product does it, and before them.
Inside counts the F1 of the edges in that half; outside counts how far pixels are from those without control, in percent of
full scale.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from controlnext.adherence.measure import Asked
from controlnext.adherence.score import score
from controlnext.bench.command import bench_parser, log_progress, publish, whole
from controlnext.bench.quality.scenes import held_out_scenes, logger
from controlnext.bench.tables import markdown
from controlnext.recipes.areas import area_text
from controlnext.recipes.inputs import Inputs
from controlnext.starter.world.conditions import condition

if TYPE_CHECKING:
    from torch import Tensor

    from controlnext.method.variants import Variant

KIND = "canny"
WITHOUT, WHOLE, AFTER, BEFORE = "without control", "everywhere", "left half, mask after", "left half, mask before"
SOFT = 8.0
"""Blur of the mask's edge, in pixels."""


def masked_before(
    hidden: Tensor, control: Tensor, strength: Tensor, variant: Variant, reference: Tensor | None = None
) -> Tensor:
    """Add a control that was masked before its statistics were taken; arguments as of `add_control`."""
    from torch.nn.functional import interpolate

    from controlnext.method.cross_norm import add_control

    most = strength.amax(dim=(2, 3), keepdim=True)
    mask = strength / most.clamp_min(1e-12)
    control = control * interpolate(mask.to(control.dtype), control.shape[-2:], mode="area")
    return add_control(hidden, control, most, variant, reference)


@contextmanager
def mask_before() -> Iterator[None]:
    """Let masks act before the statistics."""
    from controlnext.method import injection

    kept, injection.add_control = injection.add_control, masked_before
    try:
        yield
    finally:
        injection.add_control = kept


def figures(
    pictures: Mapping[str, np.ndarray], asked: np.ndarray, edges: Callable[[np.ndarray], np.ndarray]
) -> dict[str, Any]:
    """Measure the pictures of one scene.

    Args:
        pictures: (H, W, 3) uint8 by run.
        asked: edges, likewise.
        edges: reads those of a picture.

    Returns:
        By run, `inside` (F1 in the left half) and `outside` (mean distance in the right half to `WITHOUT`, in percent).
    """
    middle = asked.shape[1] // 2
    rest = middle + int(3 * SOFT)  # beyond the soft edge
    bare = pictures[WITHOUT].astype(float)

    def left(map_: np.ndarray) -> Asked:
        return Asked(Image.fromarray(map_[:, :middle].copy()))

    return {
        run: {
            "inside": score(KIND, left(asked), left(edges(picture))),
            "outside": float(100 / 255 * np.abs(picture.astype(float) - bare)[:, rest:].mean()),
        }
        for run, picture in pictures.items()
    }


def table(rows: Sequence[Mapping[str, Mapping[str, float | None]]]) -> str:
    """Format the means of all scenes as a Markdown table."""
    means = {run: mean_of([row[run] for row in rows]) for run in rows[0]}
    return markdown(
        ["control", "inside: edge F1", "outside: change (%)"],
        [[run, f"{one['inside']:.3f}", f"{one['outside']:.2f}"] for run, one in means.items()],
    )


def mean_of(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """Return the mean of each figure over the scenes where it could be measured."""
    return {
        name: float(np.mean([row[name] for row in rows if row[name] is not None])) for name in ("inside", "outside")
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit status."""
    import annotators
    from controlnext.studio.studio import Studio

    parser = bench_parser("areas", __doc__, scenes=8, gamma=1.0)
    parser.add_argument("--steps", type=whole(), default=10, help="denoising steps")
    options = parser.parse_args(arguments)
    log_progress()

    def edges(picture: np.ndarray) -> np.ndarray:
        return np.asarray(annotators.annotate(KIND, Image.fromarray(picture)).image)

    samples, rows = held_out_scenes(options.scenes), []
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(output_dir=Path(folder))
        for number, sample in enumerate(samples):
            map_ = condition(KIND, sample.picture)
            mask = np.zeros(map_.shape[:2], np.uint8)
            mask[:, : mask.shape[1] // 2] = 255
            area = area_text(Image.fromarray(mask), mask.shape[::-1], soft=SOFT)
            recipe = studio.catalogue.resolve(
                "starter", adapter=KIND, prompt=sample.caption(), seed=number, num_inference_steps=options.steps,
                width=mask.shape[1], height=mask.shape[0],
            )  # fmt: skip
            pictures = {}
            for run, gamma, own in (
                (WITHOUT, 0.0, ""), (WHOLE, options.gamma, ""), (AFTER, options.gamma, area), (BEFORE, options.gamma, area)
            ):  # fmt: skip
                with mask_before() if run == BEFORE else nullcontext():
                    result = studio.generate(recipe.replace(gamma=gamma, area=own), Inputs((Image.fromarray(map_),)))
                pictures[run] = np.asarray(result.images[0])
            rows.append(figures(pictures, map_, edges))
            logger.info("%d of %d", number + 1, len(samples))
    facts = {"scenes": options.scenes, "steps": options.steps, "gamma": options.gamma, "rows": rows}
    return publish(options, facts, table(rows))
