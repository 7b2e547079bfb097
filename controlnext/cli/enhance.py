"""`python -m controlnext enhance`: a saved result with faces and hands in detail, or larger."""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.cli.options import (
    EMBEDDINGS,
    LORAS,
    OUTPUTS,
    RECIPE_OPTIONS,
    WILDCARDS,
    add_extra_options,
    extra_folders,
)
from controlnext.cli.terminal import UsageError, clear_progress, note, print_line, show_progress, stoppable

if TYPE_CHECKING:
    from controlnext.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command to the others."""
    parser = commands.add_parser("enhance", help="draw faces and hands of a saved result in detail, or make it larger")
    parser.add_argument("image", type=Path, metavar="RESULT", help="a PNG as this program saved it")
    for name, kind, text in RECIPE_OPTIONS:
        if name in ("detail", "upscale", "upscaler"):
            parser.add_argument(f"--{name}", type=kind, help=text)
    add_extra_options(parser)
    parser.add_argument("--output", type=Path, default=OUTPUTS, help="folder for results (default: outputs)")
    parser.add_argument("--lora-dir", action="append", type=Path, default=[], metavar="DIR", help="repeatable")
    parser.add_argument("--device", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Enhance the picture, and say where the new one is."""
    import annotators
    from controlnext.studio.enhance import enhanced
    from controlnext.studio.studio import Studio
    from controlnext.studio.wording import WordFolders

    if not options.image.is_file():
        raise UsageError(f"There is no file {options.image}.")
    recipe, inputs = enhanced(options.image, options.detail or (), options.upscale or 1, options.upscaler or "")
    studio = Studio(
        output_dir=options.output,
        lora_dirs=options.lora_dir or [LORAS],
        device=options.device,
        threads=options.threads,
        annotators=annotators,
        words=WordFolders([EMBEDDINGS], [WILDCARDS]),
        extras=extra_folders(options),
    )
    with stoppable(signal.SIGINT) as cancel:
        result = studio.generate(recipe, inputs, on_progress=show_progress, cancel=cancel)
    clear_progress()
    for text in result.notes:
        note(text)
    size = result.images[0].size
    if options.json:
        print_line(json.dumps({"file": str(result.files[0]), "size": size, "notes": result.notes}))
    else:
        print_line(f"{result.files[0]}  {size[0]}x{size[1]}")
    return 0
