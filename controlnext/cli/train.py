"""`python -m controlnext train CONFIG.yaml [key=value ...]`: train an adapter.

Many GPUs and machines: `accelerate launch ... -m controlnext train CONFIG.yaml`; several processes on a CPU:
`torchrun --nproc_per_node 2 -m controlnext train CONFIG.yaml` or `accelerate launch --multi_gpu --num_processes 2 ...` with
`learning.device=cpu`, since accelerate's own `--cpu` starts only one there.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.cli.terminal import UsageError, stoppable

if TYPE_CHECKING:
    from controlnext.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command to the others."""
    parser = commands.add_parser(
        "train", help="train a ControlNeXt on a condition of yours",
        description="Trains an adapter, or resumes where that was stopped (Ctrl+C saves and stops). Its result is the folder "
        "`adapter` in the training's output.",
    )  # fmt: skip
    parser.add_argument("config", nargs="?", metavar="CONFIG.yaml", help="a training; see presets/training/")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="changes of it, such as data.folder=photos")
    parser.add_argument("--defaults", action="store_true", help="print every field with its default and meaning")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train.

    Returns:
        Exit status: 0 done, 130 stopped.

    Raises:
        ControlNeXtError: the configuration is wrong, or the training cannot continue.
    """
    from controlnext.training.config import load_config
    from controlnext.training.documented import documented_defaults

    if options.defaults:
        sys.stdout.write(documented_defaults())
        return 0
    given = [text for text in (options.config, *options.changes) if text is not None]
    path = Path(given.pop(0)) if given and "=" not in given[0] else None
    if path is None and not given:
        raise UsageError("Give a training, such as presets/training/starter.yaml data.folder=photos output=runs/mine.")
    config = load_config(path, given)

    from controlnext.training.start import train

    def report(text: str) -> None:
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    with stoppable(signal.SIGINT, signal.SIGTERM) as stop:
        outcome = train(config, stop, report)
    if os.environ.get("RANK", "0") == "0":
        verb = "Stopped after" if outcome.stopped else "Trained"
        sys.stdout.write(
            f"{verb} {outcome.step} steps in {outcome.seconds / 60:.1f} minutes: {config.output / 'adapter'}\n"
        )
    # Of several processes a status other than 0 would be reported as a crash of all.
    return 130 if outcome.stopped and os.environ.get("WORLD_SIZE", "1") == "1" else 0
