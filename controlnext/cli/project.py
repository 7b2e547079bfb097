"""`python -m controlnext project` and `verify`: results packed and opened elsewhere, and pictures made again and compared."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext import __version__
from controlnext.cli.options import EMBEDDINGS, LORAS, OUTPUTS, WILDCARDS
from controlnext.cli.terminal import UsageError, clear_progress, print_line, show_progress, stoppable

if TYPE_CHECKING:
    from controlnext.cli.options import Commands
    from controlnext.recipes.inputs import Inputs
    from controlnext.recipes.recipe import Recipe
    from controlnext.studio.studio import Result


def add_parser(commands: Commands) -> None:
    """Add both commands to the others."""
    parser = commands.add_parser("project", help="pack results with all that makes them again, or open such a ZIP")
    parser.add_argument("zip", type=Path, metavar="ZIP", help="the project")
    parser.add_argument(
        "results", type=Path, nargs="*", metavar="RESULT", help="results to pack; without any the project is opened"
    )
    parser.add_argument("--output", type=Path, default=OUTPUTS, help="folder that it is opened in (default: outputs)")
    parser.add_argument("--lora-dir", action="append", type=Path, default=[], metavar="DIR", help="repeatable")
    parser.set_defaults(run=project)
    parser = commands.add_parser("verify", help="make saved pictures again from their recipes, and compare")
    parser.add_argument("images", type=Path, nargs="+", metavar="RESULT", help="PNGs as this program saved them")
    parser.add_argument("--tolerance", type=int, default=0, help="largest difference that passes, of 255 (default: 0)")
    parser.add_argument("--lora-dir", action="append", type=Path, default=[], metavar="DIR", help="repeatable")
    parser.add_argument("--device", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.set_defaults(run=verify_pictures)


def project(options: argparse.Namespace) -> int:
    """Pack or open a project.

    Returns:
        Exit status: 0, or 1 where something that the recipes name is missing here.
    """
    from controlnext.models.catalogue import Catalogue
    from controlnext.results.gallery import Gallery
    from controlnext.results.project import open_project, write_project

    if options.results:
        gone = next((path for path in options.results if not path.is_file()), None)
        if gone is not None:
            raise UsageError(f"There is no file {gone}.")
        write_project(options.zip, options.results, __version__)
        print_line(f"{options.zip}  {len(options.results)} results")
        return 0
    catalogue = Catalogue(lora_dirs=options.lora_dir or [LORAS])
    opened = open_project(options.zip, Gallery(options.output), catalogue.weights)
    for path in opened.files:
        print_line(str(path))
    print_line(opened.sentence())
    return 1 if opened.missing else 0


def verify_pictures(options: argparse.Namespace) -> int:
    """Verify pictures.

    Returns:
        Exit status: 0 where all are within the tolerance, else 1.
    """
    import tempfile

    import annotators
    from controlnext.studio.studio import Studio
    from controlnext.studio.verify import verify
    from controlnext.studio.wording import WordFolders

    status = 0
    with tempfile.TemporaryDirectory() as folder, stoppable(signal.SIGINT) as cancel:
        studio = Studio(
            output_dir=folder,
            lora_dirs=options.lora_dir or [LORAS],
            device=options.device,
            threads=options.threads,
            annotators=annotators,
            words=WordFolders([EMBEDDINGS], [WILDCARDS]),
        )

        def draw(recipe: Recipe, inputs: Inputs) -> Result:
            result = studio.generate(recipe, inputs, on_progress=show_progress, cancel=cancel)
            clear_progress()
            return result

        for image in options.images:
            found = verify(image, draw)
            status = status or int(found.largest > options.tolerance)
            print_line(f"{image}  {found.sentence()}")
    return status
