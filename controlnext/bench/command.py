"""The command line of a bench: options that several benches share, workers, and how figures are printed and saved."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from controlnext.errors import ControlNeXtError

_STDOUT = Path("-")


class BenchError(ControlNeXtError, RuntimeError):
    """A bench that cannot run: what is missing or wrong, and what to do."""


def whole(minimum: int = 1, step: int = 1) -> Callable[[str], int]:
    """Return an option type: a whole number, at least `minimum`, a multiple of `step`."""

    def parse(text: str) -> int:
        value = int(text)
        if value < minimum or value % step:
            rule = f"at least {minimum}" + (f" and a multiple of {step}" if step > 1 else "")
            raise argparse.ArgumentTypeError(f"{value} must be {rule}")
        return value

    parse.__name__ = "whole number"  # what argparse calls the type of a value that is no number
    return parse


_SHARED: dict[str, tuple[Callable[[str], object], str]] = {
    "scenes": (whole(), "held-out scenes"),
    "gamma": (float, "control strength"),
    "assets": (Path, "folder of the starter"),
    "sheets": (Path, "also write contact sheets to this folder"),
    "jobs": (whole(), "processes, one CPU thread each"),
    "threads": (whole(), "CPU threads"),
}


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the description's lines and names every default that is a value."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        bare = action.default in (None, False, [])
        return action.help if bare else super()._get_help_string(action)


def bench_parser(
    name: str, description: str | None, *, json: bool = True, **shared: object
) -> argparse.ArgumentParser:
    """Make the parser of a bench.

    Args:
        name: of the bench.
        description: the module's docstring.
        json: whether it takes `--json`.
        shared: default of each shared option, by its name.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m controlnext bench {name}", description=description, formatter_class=_Formatter
    )
    for option, default in shared.items():
        kind, text = _SHARED[option]
        parser.add_argument(f"--{option}", type=kind, default=default, help=text)
    if json:
        parser.add_argument(
            "--json", type=Path, nargs="?", const=_STDOUT, metavar="FILE",
            help="write the figures to FILE as well; without FILE print them instead of the table",
        )  # fmt: skip
    return parser


def publish(options: argparse.Namespace, figures: object, text: str, *, passed: bool = True) -> int:
    """Print a bench's table, and write its figures as JSON where `--json` asks for them.

    Args:
        options: parsed by `bench_parser`.
        figures: plain data.
        text: Markdown.
        passed: whether every bar is met.

    Returns:
        Exit status: 0, or 1 if a bar is missed.
    """
    data = json.dumps(figures, indent=2) + "\n"
    if options.json is not None and options.json != _STDOUT:
        options.json.write_text(data, encoding="utf-8")
    sys.stdout.write(data if options.json == _STDOUT else text)
    return 0 if passed else 1


def log_progress() -> None:
    """Write progress to the error stream, each line with its time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def prepare_worker() -> None:
    """Set up a process with one CPU thread: on few cores several such processes are quicker than one with more threads."""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    log_progress()


def default_jobs() -> int:
    """Return the number of CPU cores."""
    return os.cpu_count() or 1
