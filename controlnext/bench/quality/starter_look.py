"""`python -m controlnext bench starter-look FOLDER --sheets DIR`: pictures of a starter to judge by eye, alone or against another's.

The skeletons of photographs (folders as `starter-photos` takes them) come first, then held-out scenes under pose, edges and depth. Picture i
is drawn from seed i; none is left out. With `--against` both starters draw each with the same words, side by side in an order that
only `key.txt` tells, each from a condition of its own size, as the page makes it of the photograph; `--judged` then counts: L or R for the better side of each pair in turn, = for neither.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from controlnext.assets import STARTER
from controlnext.bench.command import BenchError, bench_parser, log_progress, prepare_worker, publish, whole
from controlnext.bench.quality.starter_photos import GUIDANCE, PROMPT, STEPS, asked_of, photographs
from controlnext.bench.tables import markdown

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)
KINDS = ("pose", "canny", "depth")
KEY = "key.txt"
CELL, PAIRS = 256, 10
"""Pixels of a picture on a sheet, and trials on one."""


@dataclass(frozen=True)
class LookTrial:
    """What is to be drawn: a kind of condition and words, and either a photograph's path or the seed of a held-out scene."""

    kind: str
    prompt: str
    photo: Path | None = None
    scene: int = 0

    def condition(self, side: int) -> Image.Image:
        """Return the condition, (side, side) pixels."""
        from PIL import Image

        from annotators import load_picture
        from controlnext.starter.scenes.conditions import condition_of
        from controlnext.starter.scenes.shards import make_example

        if self.photo is None:
            return Image.fromarray(condition_of(self.kind, make_example(self.scene, (side, side)).view))
        asked = asked_of(load_picture(self.photo), side)
        return asked[0] if asked else Image.new("RGB", (side, side))


def looks(folder: Path, photos: int, scenes: int) -> list[LookTrial]:
    """Return what is drawn: of `photos` photographs, spread over all kinds of framing, and of `scenes` held-out scenes."""
    from controlnext.starter.scenes.shards import make_example

    paths = [path for _, path in photographs(folder)] if photos else []
    chosen = [paths[i * len(paths) // photos] for i in range(min(photos, len(paths)))]
    found = [LookTrial("pose", PROMPT, path) for path in chosen]
    return found + [LookTrial(KINDS[n % 3], make_example(n, (64, 64)).caption(), scene=n) for n in range(scenes)]


def drawn(assets: Path, wanted: Sequence[LookTrial], guidance: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield condition and picture of each look, (CELL, CELL, 3) uint8, drawn by the starter in `assets` at its own size."""
    import torch
    from PIL import Image

    from controlnext.bench.quality.scenes import load_pipeline, own_side

    side, pipelines = own_side(assets), {}
    for seed, look in enumerate(wanted):
        if look.kind not in pipelines:
            pipelines[look.kind] = load_pipeline(assets, look.kind)
        condition = look.condition(side)
        with torch.inference_mode():
            made = pipelines[look.kind](
                look.prompt,
                control_image=condition,
                num_inference_steps=STEPS,
                guidance_scale=guidance,
                generator=torch.Generator().manual_seed(seed),
            ).images[0]
        small = (
            picture.convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS) for picture in (condition, made)
        )
        yield tuple(map(np.asarray, small))
        logger.info("%s: %d of %d", assets.name, seed + 1, len(wanted))


def sides(count: int, rng: np.random.Generator) -> str:
    """Draw on which side of each pair the judged starter is, a letter each."""
    return "".join("LR"[i] for i in rng.integers(0, 2, count))


def counted(key: str, judged: str) -> dict[str, int]:
    """Count pairs of which the starter was better, the other was, or neither.

    Raises:
        BenchError: there are not as many judgements as pairs, or other letters than L, R and =.
    """
    if len(judged) != len(key) or set(judged) - set("LR="):
        raise BenchError(f"There are {len(key)} pairs: give L, R or = for each, {len(key)} letters in all.")
    better = sum(a == b for a, b in zip(key, judged, strict=True))
    return {
        "pairs": len(key),
        "better": better,
        "equal": judged.count("="),
        "worse": len(key) - better - judged.count("="),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, or count what was judged; return the exit code."""
    parser = bench_parser("starter-look", __doc__, assets=STARTER, sheets=None)
    parser.add_argument("folder", type=Path, help="folder of the folders head, bust, half and whole")
    parser.add_argument("--against", type=Path, help="folder of another starter")
    parser.add_argument("--photos", type=whole(0), default=24, help="skeletons of photographs")
    parser.add_argument("--scenes", type=whole(0), default=16, help="held-out scenes")
    parser.add_argument(
        "--guidance",
        type=float,
        nargs="+",
        default=(GUIDANCE,),
        help="of the starter, and of the other one if it differs",
    )
    parser.add_argument("--judged", help="count these letters")
    options = parser.parse_args(argv)
    if options.sheets is None:
        raise BenchError("Name a folder for the sheets with --sheets.")
    log_progress()
    return _count(options) if options.judged else _draw(options)


def _count(options: argparse.Namespace) -> int:
    path = options.sheets / KEY
    if not path.exists():
        raise BenchError(f"There is no {KEY} in {options.sheets.name}: draw the pairs first, with --against.")
    found = counted(path.read_text(encoding="utf-8").strip(), options.judged)
    return publish(options, found, markdown(tuple(found), [tuple(found.values())]))


def _draw(options: argparse.Namespace) -> int:
    from controlnext.starter.world.sheets import save_sheet

    prepare_worker()
    wanted = looks(options.folder, options.photos, options.scenes)
    rows = [list(pair) for pair in drawn(options.assets, wanted, options.guidance[0])]
    options.sheets.mkdir(parents=True, exist_ok=True)
    if options.against:
        key = sides(len(wanted), np.random.default_rng())  # never the same, so that nobody knows it
        for row, side, (_, other) in zip(rows, key, drawn(options.against, wanted, options.guidance[-1]), strict=True):
            row.insert(2 if side == "L" else 1, other)
        (options.sheets / KEY).write_text(key + "\n", encoding="utf-8")
    for first in range(0, len(rows), PAIRS):
        shown = rows[first : first + PAIRS]
        lines = [a + b for a, b in zip(shown[::2], [*shown[1::2], []], strict=False)]
        save_sheet(options.sheets / f"look-{first // PAIRS}.png", lines)
    return publish(options, {"pictures": len(rows)}, f"{len(rows)} rows of pictures are in {options.sheets.name}.\n")
