"""`python -m controlnext.starter.remake.channels`: how many latent channels the autoencoder needs, by a short comparison.

Each candidate starts from the same older autoencoder, sees the same crops for the same CPU time, and is measured on the same
held-out scenes.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from controlnext.assets import STARTER
from controlnext.starter.remake.autoencoder import train
from controlnext.starter.train.loop import Plan, start_processes


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and measure the candidates; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m controlnext.starter.remake.channels", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--minutes", type=float, default=4.0, help="CPU minutes a candidate")
    parser.add_argument("--channels", type=int, nargs="*", default=[4, 8, 16])
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    start_processes()
    kept = options.runs / "channels" / "figures.json"
    lines = {int(k): v for k, v in json.loads(kept.read_text()).items()} if kept.exists() else {}
    for channels in options.channels:
        out = options.runs / "channels" / str(channels)
        plan = Plan(options.minutes, warm_up=30, ema=0.98, checkpoint=1e9, clock="cpu")
        lines[channels] = train(options.runs / "data", out, plan, start=STARTER / "base" / "vae", channels=channels)
        kept.write_text(json.dumps(lines, indent=1) + "\n")
    for channels, found in lines.items():
        sys.stdout.write(
            f"{channels} channels: {found['psnr']:.2f} dB, heads {found['heads']:.2f} dB, {found['step']} steps\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
