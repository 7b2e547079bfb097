"""The command `python -m annotators`: lists annotators and fetches missing model files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from annotators.base import AnnotatorError
from annotators.weights.fetch import fetch_mediapipe, missing


def _fetchable() -> dict[str, tuple[str, str]]:
    """Word to type -> (annotator, backend); `mediapipe` stands for all that share its files."""
    from annotators.table import ANNOTATORS

    words: dict[str, tuple[str, str]] = {}
    for row in ANNOTATORS.values():
        for backend in row.backends:
            if backend.fetch is not None and (backend.fetch is not fetch_mediapipe or backend.name == "mediapipe"):
                words[backend.name] = (row.name, backend.name)
    return words


def _fetch(names: Sequence[str], wheel: Path | None) -> None:
    from annotators.table import fetch_backend

    words = _fetchable()
    for name in names or ["mediapipe"]:
        if name not in words:
            raise AnnotatorError(f"There is nothing called {name!r} to fetch; there is {', '.join(words)}.")
        if name != "mediapipe":
            fetch_backend(*words[name])
        elif wheel is not None or missing():
            fetch_mediapipe(wheel)
        _say(f"{name}: here.")


def _list() -> None:
    from annotators.table import status

    for row in status():
        _say(f"{row['name']}: {row['label']}")
        for backend in row["backends"]:
            state = "usable" if backend["usable"] else "not usable"
            _say(f"  {backend['name']}: {state}. {backend['reason']}".rstrip())


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m annotators", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is and whether it can be used now")
    fetch = commands.add_parser("fetch", help="fetch model files into the cache (default: mediapipe)")
    fetch.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(_fetchable())}")
    fetch.add_argument("--wheel", type=Path, help="a mediapipe-0.10.21 wheel already downloaded")
    options = parser.parse_args(argv)
    try:
        if options.command == "list":
            _list()
        else:
            _fetch(options.names, options.wheel)
    except AnnotatorError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
