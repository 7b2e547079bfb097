"""`python -m controlnext app|generate|enhance|sweep|score|repair|project|verify|animate|annotate|batch|train|models|loras|convert|bench`: the studio at a terminal.

Whatever goes wrong on purpose ends in one sentence and exit status 2. Torch and the annotators are imported by the command
that needs them.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from annotators.base import AnnotatorError
from controlnext import __version__
from controlnext.bench import BENCHES
from controlnext.cli import (
    animate,
    annotate,
    app,
    batch,
    convert,
    enhance,
    generate,
    lists,
    project,
    score,
    sweep,
    train,
)
from controlnext.cli.terminal import UsageError
from controlnext.errors import ControlNeXtError

_CONTROLBENCH = "controlbench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program; None takes the process's own.

    Returns:
        Exit status: 0 done, 2 something was wrong and a sentence on the error stream says what, 130 stopped.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments[:1] == [_CONTROLBENCH]:
            return _bench(*arguments[:1], arguments[1:])
        if arguments[:1] == ["bench"] and len(arguments) > 1 and not arguments[1].startswith("-"):
            return _bench(arguments[1], arguments[2:])
        options = _parser().parse_args(arguments)
        return options.run(options)
    except (ControlNeXtError, AnnotatorError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _program_name() -> str:
    """Name of this program as it was started: `controlnext` where the installed command was, else the module."""
    return "controlnext" if Path(sys.argv[0]).stem == "controlnext" else "python -m controlnext"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_program_name(), description="Controlled pictures and videos from the command line."
    )
    parser.add_argument("--version", action="version", version=f"controlnext {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (app, generate, enhance, sweep, score, project, animate, batch, annotate, lists, convert, train):
        command.add_parser(commands)

    commands.add_parser(_CONTROLBENCH, help="measure how well a model follows its conditions, by published metrics")
    listing = "\n".join(f"  {name:14}{bench.measures}" for name, bench in BENCHES.items())
    bench = commands.add_parser(
        "bench", help="measure", description=listing, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    bench.add_argument("name", choices=BENCHES, metavar="NAME", help="what to measure; its own options follow")
    return parser


def _bench(name: str, arguments: Sequence[str]) -> int:
    if name not in BENCHES:
        raise UsageError(f"There is no bench {name!r}; choose one of {', '.join(BENCHES)}.")
    try:
        return importlib.import_module(BENCHES[name].module, "controlnext.bench").main(arguments) or 0
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("controlnext.starter"):
            raise
        raise UsageError(
            f"The bench {name!r} needs the tools that made the starter, which an installed package leaves out: "
            "run it in a checkout of the project."
        ) from error
