"""`python -m controlnext bench starter-photos FOLDER`: does the starter follow people's own photographs?

FOLDER has the folders `head`, `bust`, `half` and `whole`, each with photographs of one person. Each goes the way of a new user: the page's
default pose reader, the page's default settings, the prompt "a person". The pictures made are read by MediaPipe, which saw neither
world, and compared with what was asked; heads are counted by the starter's own reader.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from controlnext.adherence.score import pose_pck
from controlnext.assets import STARTER
from controlnext.bench.command import BenchError, bench_parser, log_progress, prepare_worker, publish, whole
from controlnext.bench.quality.people import PersonReader, count_heads, shown
from controlnext.bench.tables import markdown

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)
KINDS = ("head", "bust", "half", "whole")
PROMPT = "a person"
STEPS, GUIDANCE = 20, 3.0
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_BAR = 0.85, 0.7


@dataclass(frozen=True)
class PhotoTrial:
    """One picture made from a photograph: which, with which seed, joints asked for and lacking, PCK@0.1, heads counted.

    `own` is the PCK@0.1 as the starter's own reader sees it, which is what the page shows.
    """

    kind: str
    photo: str
    seed: int
    joints: int
    missing: int
    pck: float | None
    heads: int | None
    own: float | None = None


def photographs(folder: Path) -> list[tuple[str, Path]]:
    """Return kind and path of each photograph.

    Raises:
        BenchError: there are none.
    """
    found = [(kind, path) for kind in KINDS for path in sorted((folder / kind).glob("*")) if path.suffix in _ENDINGS]
    if not found:
        raise BenchError(
            f"There are no photographs in the folders {', '.join(KINDS)} of {folder.name}; put some there."
        )
    return found


def asked_of(photo: Image.Image, side: int) -> tuple[Image.Image, np.ndarray] | None:
    """Return the condition of `side` pixels that the page makes of a photograph and its people (n, 18, 3) in its pixels, or None."""
    from annotators import AnnotatorError, annotate
    from controlnext.adherence.measure import fitted

    try:
        found = annotate("pose", photo, resolution=side)
    except AnnotatorError:
        return None
    asked = fitted(found, "pose", (side, side))
    return asked.image, shown((asked.data or {}).get("people", []), 1)


def run(options: argparse.Namespace) -> tuple[list[PhotoTrial], list[list[np.ndarray]]]:
    """Make and read the pictures of all photographs; return the trials, and rows of photograph, condition and pictures."""
    import torch
    from PIL import Image

    from annotators import load_picture
    from controlnext.bench.quality.scenes import load_pipeline, own_side

    pipeline = load_pipeline(options.assets, "pose")
    side = options.side or own_side(options.assets)
    reader, trials, rows = PersonReader.of(options.assets), [], []
    for kind, path in photographs(options.folder):
        photo = load_picture(path)
        asked = asked_of(photo, side)
        small = np.asarray(photo.resize((side, side), Image.Resampling.LANCZOS))
        if asked is None:
            trials += [PhotoTrial(kind, path.name, seed, 0, 18, None, None) for seed in range(options.seeds)]
            continue
        condition, people = asked
        row = [small, np.asarray(condition.convert("RGB"))]
        joints = int((people[..., 2] >= 0.3).sum())
        for seed in range(options.seeds):
            with torch.inference_mode():
                made = pipeline(
                    PROMPT,
                    control_image=condition,
                    num_inference_steps=STEPS,
                    guidance_scale=options.guidance,
                    generator=torch.Generator().manual_seed(seed),
                    output_type="np",
                ).images[0]
            rgb = (made * 255 + 0.5).astype(np.uint8)
            value, own = pose_pck(list(people), reader.people(rgb)), reader.read(rgb)
            trials.append(
                PhotoTrial(
                    kind,
                    path.name,
                    seed,
                    joints,
                    18 * len(people) - joints,
                    float(value),
                    count_heads(own.parts, reader.names),
                    float(pose_pck(list(people), own.people)),
                )
            )
            row.append(rgb)
            logger.info("%s/%s seed %d: %.2f, %d heads", kind, path.name, seed, value, trials[-1].heads)
        rows.append(row)
    return trials, rows


def summary(trials: Sequence[PhotoTrial]) -> dict[str, dict[str, float]]:
    """Return of each kind and of all: mean adherence (0 where no condition came about), share with one head, joints missing."""
    groups = {kind: [t for t in trials if t.kind == kind] for kind in KINDS} | {"all": list(trials)}
    return {
        name: {
            "pictures": len(group),
            "adherence": float(np.mean([t.pck or 0.0 for t in group])),
            "own": float(np.mean([t.own or 0.0 for t in group])),
            "one_head": float(np.mean([t.heads == 1 for t in group])),
            "missing": float(np.mean([t.missing / 18 for t in group if t.joints] or [1.0])),
        }
        for name, group in groups.items()
        if group
    }


def table(figures: dict[str, dict[str, float]]) -> str:
    """Format the summary as Markdown."""
    rows = []
    for name, row in figures.items():
        bar = _BAR[0] if name == "all" else _BAR[1]
        rows.append(
            (
                name,
                row["pictures"],
                f"{row['adherence']:.3f}",
                f">= {bar:g}",
                f"{row['own']:.3f}",
                f"{row['one_head']:.3f}",
                f"{row['missing']:.3f}",
            )
        )
    return markdown(
        ("photographs", "pictures", "PCK@0.1", "bar", "own reader", "one head", "joints the reader lacks"), rows
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit code."""
    parser = bench_parser("starter-photos", __doc__, assets=STARTER, sheets=None)
    parser.add_argument("folder", type=Path, help="folder of the folders head, bust, half and whole")
    parser.add_argument("--seeds", type=whole(), default=2, help="pictures a photograph")
    parser.add_argument(
        "--guidance", type=float, default=GUIDANCE, help="guidance (default: %(default)s, the starter's)"
    )
    parser.add_argument(
        "--side", type=whole(), help="width and height of the pictures (default: what the base learned)"
    )
    options = parser.parse_args(argv)
    log_progress()
    prepare_worker()
    trials, rows = run(options)
    if options.sheets:
        from controlnext.starter.world.sheets import save_sheet

        save_sheet(options.sheets / "photos.png", rows)
    figures = summary(trials)
    met = figures["all"]["adherence"] >= _BAR[0] and all(
        figures[k]["adherence"] >= _BAR[1] for k in KINDS if k in figures
    )
    return publish(options, {"summary": figures, "trials": [asdict(t) for t in trials]}, table(figures), passed=met)
