"""How soon the results tab has its first screen, by the number of results in the folder."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from controlnext.bench.machine import machine_facts, machine_line
from controlnext.bench.tables import markdown
from controlnext.recipes.recipe import Recipe
from controlnext.results.board import Board, BoardQuery
from controlnext.results.gallery import Gallery

DIFFERENT = 64
"""Pictures that are really written; the others are links to them, so that ten thousand fit on any disk."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench.

    Args:
        arguments: of the command line.

    Returns:
        Exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m controlnext bench board", description=__doc__)
    parser.add_argument("--files", type=int, default=10_000, help="results in the folder (default: 10000)")
    options = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), options.files)
        board = Board(Gallery(folder))
        for name, work in (
            ("first screen, nothing known", lambda: first_screen(board)),
            ("first screen, again", lambda: first_screen(board)),
            ("every file read, for the first search", lambda: everything(board, BoardQuery("snow"))),
            ("another search", lambda: everything(board, BoardQuery("night"))),
            ("sorted by adherence", lambda: everything(board, BoardQuery(order="adherence"))),
        ):
            rows.append((name, *(f"{value:.2f}" for value in seconds(work))))
    notes = (machine_line(machine_facts()),)
    sys.stdout.write(markdown((f"{options.files:,} results", "seconds", "of them at work"), rows, notes=notes))
    return 0


def fill(folder: Path, files: int) -> None:
    """Write a folder of results: pictures of 256 x 256 with recipe, condition and score inside."""
    gallery, rng = Gallery(folder), np.random.default_rng(0)
    words, kept = ("snow", "grass", "night"), []
    for index in range(min(files, DIFFERENT)):
        small = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).resize((256, 256))
        recipe = Recipe(seed=index, prompt=f"a person on {words[index % 3]}", annotator="pose")
        kept.append(gallery.save(small, recipe, small, {"adherence": index / DIFFERENT}))
    for index in range(len(kept), files):
        os.link(kept[index % len(kept)], folder / f"2026-01-01_00-00-00_{index:06d}.png")


def first_screen(board: Board) -> None:
    """List the newest results and make their small pictures, as the tab does when it is opened."""
    for item in board.page(BoardQuery()).items:
        board.thumbnail(item.name)


def everything(board: Board, query: BoardQuery) -> None:
    """Search, and wait until every file was read."""
    board.page(query)
    board.wait()
    for item in board.page(query).items:
        board.thumbnail(item.name)


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """Return the time that something takes, and the processor's time of it, which other programs do not lengthen."""
    begun = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun[0], time.process_time() - begun[1]
