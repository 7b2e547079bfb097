"""`python -m controlnext score` and `repair`: how well a picture follows a condition, and a picture that follows it better."""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.cli.options import EMBEDDINGS, LORAS, OUTPUTS, WILDCARDS, add_settings_option, read_settings
from controlnext.cli.terminal import UsageError, clear_progress, print_line, show_progress, stoppable
from controlnext.recipes.kinds import POSE, kind_of

if TYPE_CHECKING:
    from controlnext.adherence.overlay import Overlay
    from controlnext.cli.options import Commands
    from controlnext.recipes.inputs import Inputs
    from controlnext.recipes.recipe import Recipe
    from controlnext.studio.studio import Result


def add_parser(commands: Commands) -> None:
    """Add both commands to the others."""
    parser = commands.add_parser("score", help="measure how well a picture follows a condition")
    parser.add_argument("--image", type=Path, required=True, help="the picture; a saved result brings its condition")
    parser.add_argument("--condition", type=Path, help="map of the kind --annotator")
    parser.add_argument("--annotator", help=f"canny, depth, pose or segmentation (default: {POSE})")
    parser.add_argument("--model", help="whose pictures these are (default: starter)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--overlay", type=Path, metavar="FILE", help="PNG to write, of what a saved result followed")
    add_settings_option(parser)
    parser.set_defaults(run=score)
    parser = commands.add_parser("repair", help="draw a saved result again where it drifted from its condition")
    parser.add_argument("image", type=Path, metavar="RESULT", help="a PNG as this program saved it")
    parser.add_argument("--output", type=Path, default=OUTPUTS, help="folder for results (default: outputs)")
    parser.add_argument("--lora-dir", action="append", type=Path, default=[], metavar="DIR", help="repeatable")
    parser.add_argument("--device", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.set_defaults(run=repair)


def score(options: argparse.Namespace) -> int:
    """Print the adherence."""
    import annotators
    from controlnext.models.catalogue import Catalogue
    from controlnext.recipes.png import read_inputs, read_png
    from controlnext.studio.following import following
    from controlnext.studio.scoring import ScoreError, score_picture

    recipe = read_png(options.image) if options.image.is_file() else None
    settings, condition, kind = read_settings(options.set), None, options.annotator
    if options.condition is not None:
        condition = annotators.load_picture(options.condition)
    elif recipe is not None:
        kept = read_inputs(options.image).conditions
        condition, kind = (kept[0] if kept else None), kind or recipe.condition_kind
        settings = settings or (dict(recipe.annotator_settings) if recipe.annotator == kind else {})
    if condition is None:
        raise ScoreError(f"{options.image.name} holds no condition; give the map with --condition.")
    kind = kind or POSE
    backend = Catalogue().preset(options.model or (recipe.model if recipe else "starter")).adherence_backend
    image = annotators.load_picture(options.image)
    value = score_picture(annotators.annotate, image, condition, kind, settings, backend)
    name = kind_of(kind).score
    if options.overlay is not None:
        _write_overlay(options.overlay, following(annotators.annotate, options.image, lambda model: backend))
    print_line(
        json.dumps({"adherence": value, "name": name, "annotator": kind}) if options.json else f"{value:.4f}  {name}"
    )
    return 0


def _write_overlay(file: Path, made: Overlay) -> None:
    try:
        made.image.save(file, "PNG")
    except OSError as error:
        raise UsageError(
            f"The overlay cannot be written to {file} ({error.strerror or error}); name another file."
        ) from error


def repair(options: argparse.Namespace) -> int:
    """Repair the picture, and say where the better one is.

    Returns:
        Exit status: 0, also where nothing was better.
    """
    import annotators
    from controlnext.recipes.png import read_png
    from controlnext.studio.repair import Repairer
    from controlnext.studio.studio import Studio
    from controlnext.studio.wording import WordFolders

    recipe = read_png(options.image) if options.image.is_file() else None
    if recipe is None:
        raise UsageError(f"{options.image} is no picture with a recipe; give a PNG as this program saved it.")
    studio = Studio(
        output_dir=options.output,
        lora_dirs=options.lora_dir or [LORAS],
        device=options.device,
        threads=options.threads,
        annotators=annotators,
        words=WordFolders([EMBEDDINGS], [WILDCARDS]),
    )
    with stoppable(signal.SIGINT) as cancel:

        def draw(one: Recipe, inputs: Inputs) -> Result:
            result = studio.generate(one, inputs, on_progress=show_progress, cancel=cancel)
            clear_progress()
            return result

        done = Repairer(annotators.annotate, studio.adherence_backend(recipe.model), draw).repair(options.image)
    if options.json:
        tries = [{"area": one.area, "score": one.score, "kept": one.kept} for one in done.tries]
        print_line(json.dumps({"file": str(done.file), "before": done.before, "after": done.after, "tries": tries}))
        return 0
    print_line(f"{done.file}  {done.sentence()}")
    return 0
