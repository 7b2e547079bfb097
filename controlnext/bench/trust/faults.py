"""`python -m controlnext bench faults`: broken machines, on scratch folders: each a sentence, nothing lost, and the app goes on.

Kills at random moments while pictures, videos, LoRAs and checkpoints are saved; then apps of its own whose port is taken, whose
folders vanish, fill up or hold damaged files, that lack ffmpeg or memory, that are ended in the middle of work, or share a folder.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from controlnext.assets import IMPORT_ROOT
from controlnext.bench.command import BenchError, bench_parser, publish, whole
from controlnext.bench.tables import markdown
from controlnext.bench.trust.broken_apps import FAULTS_OF_APPS, need
from controlnext.bench.trust.savers import KINDS
from controlnext.scratch import PREFIX, sweep_unfinished


@dataclass(frozen=True)
class FaultRow:
    """One fault: what it was, whether it was borne, and what was seen."""

    fault: str
    passed: bool
    seen: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Break things and print; return 0 if everything was borne."""
    parser = bench_parser("faults", __doc__)
    parser.add_argument("--kills", type=whole(4), default=50, help="kills in total, shared between the kinds")
    parser.add_argument("--only", default="", help="only faults whose name holds this text")
    options = parser.parse_args(arguments)
    rows: list[FaultRow] = []
    for name, check in faults(options.kills).items():
        if options.only not in name:
            continue
        with tempfile.TemporaryDirectory(prefix="controlnext-faults-") as folder:
            try:
                rows.append(FaultRow(name, True, check(Path(folder))))
            except (BenchError, httpx.HTTPError, OSError) as error:
                rows.append(FaultRow(name, False, " ".join(str(error).split())[:200]))
    text = markdown(
        ["fault", "borne", "seen"],
        [(row.fault, "yes" if row.passed else "NO", row.seen.replace("|", "/")) for row in rows],
    )
    return publish(options, [asdict(row) for row in rows], text, passed=bool(rows) and all(row.passed for row in rows))


def faults(kills: int) -> dict[str, Callable[[Path], str]]:
    """Return what is tried, by name; each raises `BenchError` where it is not borne, and returns what was seen."""
    share = math.ceil(kills / len(KINDS))
    tried: dict[str, Callable[[Path], str]] = {
        f"{share} kills while {kind} are saved": lambda folder, kind=kind: _kills(folder, kind, share)
        for kind in KINDS
    }
    return tried | FAULTS_OF_APPS


# Kills


def _kills(folder: Path, kind: str, count: int) -> str:
    place, draw = folder / "results", random.Random(0)
    place.mkdir()
    for _ in range(count):
        saver = subprocess.Popen(
            [sys.executable, "-m", "controlnext.bench.trust.savers", kind, str(place)],
            cwd=IMPORT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        first = saver.stdout.readline().strip()
        if not first:
            raise BenchError(f"The saver did not begin: {saver.stderr.read()[-200:]}")
        time.sleep(float(first) * draw.uniform(0.0, 2.0))  # at any moment of a save
        saver.kill()
        saver.wait()
    left = len([path for path in place.rglob("*") if path.name.startswith(PREFIX) or path.name.endswith(".partial")])
    whole_ones = _CHECKS[kind](place)
    return f"{whole_ones} whole, 0 damaged; {left} half-written ones swept"


def _pictures_whole(place: Path) -> int:
    from PIL import Image

    from controlnext.recipes.png import read_png

    found = sorted(path for path in place.glob("*.png") if not path.name.startswith("."))
    for path in found:
        with Image.open(path) as image:
            image.load()
        need(read_png(path) is not None, f"{path.name} has no recipe")
    return _swept(place, len(found))


def _videos_whole(place: Path) -> int:
    from controlnext.recipes.mp4 import read_contents
    from controlnext.video import open_clip

    found = sorted(path for path in place.glob("*.mp4") if not path.name.startswith("."))
    for path in found:
        need(open_clip(path).seconds > 0 and "controlnext" in read_contents(path), f"{path.name} is damaged")
    return _swept(place, len(found))


def _loras_whole(place: Path) -> int:
    from controlnext.loras.file import BaseShape
    from controlnext.loras.library import LoraLibrary

    rows = LoraLibrary([place]).rows(BaseShape(), "the model")
    need(all(row["usable"] for row in rows), "; ".join(row["reason"] for row in rows if row["reason"]))
    return _swept(place, len(rows))


def _checkpoints_whole(place: Path) -> int:
    import torch

    from controlnext.training.checkpoints import Checkpoint, latest, save, steps

    newest = latest(place)
    if newest is not None:
        need(newest.step == steps(place)[-1], f"the newest checkpoint, of step {steps(place)[-1]}, is damaged")
        count = len(steps(place))
        save(place, Checkpoint(newest.step + 1, {"layer.weight": torch.zeros(2, 2)}, None, {}, {}), 3)
    else:
        count = 0
    need(not list(place.glob("*.partial")), "an unfinished checkpoint was not removed by the next one")
    return count


def _swept(place: Path, count: int) -> int:
    sweep_unfinished(place)
    left = [path.name for path in place.iterdir() if path.name.startswith(PREFIX)]
    need(not left, f"not swept: {', '.join(left[:3])}")
    return count


_CHECKS: dict[str, Callable[[Path], int]] = {
    "pictures": _pictures_whole, "videos": _videos_whole, "LoRAs": _loras_whole, "checkpoints": _checkpoints_whole,
}  # fmt: skip
