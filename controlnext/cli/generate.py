"""`python -m controlnext generate`: pictures that follow a picture and a prompt."""

from __future__ import annotations

import argparse
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.cli import pictures
from controlnext.cli.options import (
    add_area_options,
    add_extra_options,
    add_picture_options,
    add_run_options,
    add_settings_option,
    area_of,
    extra_folders,
    given_values,
    run_options,
    word_folders,
)
from controlnext.cli.terminal import UsageError, clear_progress, note, print_line, show_progress, stoppable
from controlnext.recipes.inputs import Inputs

if TYPE_CHECKING:
    from controlnext.cli.options import Commands
    from controlnext.recipes.recipe import Recipe
    from controlnext.studio.studio import Result, Studio


def add_parser(commands: Commands) -> None:
    """Add the command to the others."""
    parser = commands.add_parser("generate", help="make pictures that follow a picture and a prompt")
    parser.add_argument("--image", type=Path, help="picture to take the condition from")
    parser.add_argument(
        "--recipe",
        type=Path,
        help="a result (PNG, also of another program) or a recipe (JSON) to start from; options change it",
    )
    add_picture_options(parser)
    pictures.add_options(parser)
    parser.add_argument(
        "--best-of", type=int, metavar="N", help="make N pictures, and name the one that follows best first"
    )
    parser.add_argument("--json", action="store_true", help="print the recipe and the results as JSON")
    add_extra_options(parser)
    add_run_options(parser)
    add_area_options(parser)
    add_settings_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make the pictures and say where they are.

    Returns:
        Exit status: 0 done, 130 stopped.
    """
    import annotators
    from controlnext.studio.best_of import ranked
    from controlnext.studio.studio import Studio

    studio = Studio(
        output_dir=options.output,
        lora_dirs=options.lora_dir,
        device=options.device,
        threads=options.threads,
        annotators=annotators,
        words=word_folders(options),
        extras=extra_folders(options),
        run_options=run_options(options),
    )
    options.num_images = options.best_of or options.num_images
    recipe, kept = recipe_of(options, studio)
    if (area := area_of(options, (recipe.width, recipe.height), crop=recipe.crop)) is not None:
        recipe = recipe.replace(area=area)
    if options.reference and not recipe.ip_adapter:
        recipe = recipe.replace(ip_adapter=studio.references.first(studio.catalogue.preset(recipe.model)))
    there = dict(zip([control.condition_kind for control in recipe.all_controls], kept.conditions, strict=False))
    inputs = pictures.inputs_of(options.image, recipe, options.control, there)
    for made in inputs.conditions:
        note(getattr(made, "note", ""))
    inputs = pictures.with_start(inputs, options, kept)
    with stoppable(signal.SIGINT) as cancel:
        result = studio.generate(recipe, inputs, on_progress=show_progress, cancel=cancel)
    clear_progress()
    result = ranked(result) if options.best_of else result
    for text in result.notes:
        note(text)
    _print_result(result, as_json=options.json)
    return 130 if result.stopped else 0


def recipe_of(options: argparse.Namespace, studio: Studio, start: Recipe | None = None) -> tuple[Recipe, Inputs]:
    """Return the recipe that the options describe, and the pictures that came with a saved result.

    Args:
        options: of the command line.
        studio: says what models there are.
        start: recipe to start from, where `--recipe` is no recipe itself.
    """
    import annotators
    from controlnext.models.defaults import for_another_model
    from controlnext.recipes.foreign import read_foreign
    from controlnext.recipes.png import read_inputs, read_png
    from controlnext.recipes.recipe import Recipe
    from controlnext.studio.conditions import drawn_pose

    values = given_values(options)
    if options.recipe is None:
        annotator, values["adapter"] = pictures.made_by(options.annotator, options.adapter, options.image)
        return studio.catalogue.resolve(options.model or "starter", annotator, **values), Inputs()
    try:
        recipe = start or read_png(options.recipe)
        if recipe is None and (foreign := read_foreign(options.recipe)) is not None:
            note(foreign.sentence())
            annotator, values["adapter"] = pictures.made_by(options.annotator, options.adapter, options.image)
            return studio.catalogue.resolve(
                options.model or "starter", annotator, **{**foreign.values, **values}
            ), Inputs()
        if recipe is None:
            recipe = Recipe.from_json(options.recipe.read_bytes())
    except OSError as error:
        raise UsageError(f"The recipe {options.recipe} cannot be read: {error.strerror}.") from None
    kept = read_inputs(options.recipe)
    if options.image is not None or options.control:  # a new picture for all, or a condition for the first alone
        kept = replace(kept, conditions=() if options.image is not None else kept.conditions[:1])
    new_first = options.image is not None or options.annotator not in (None, recipe.annotator)
    if recipe.pose and not kept.conditions and not new_first:
        kept = replace(kept, conditions=(drawn_pose(annotators, recipe.pose).annotation,))
    if options.image is None and not kept.conditions and recipe.condition_kind:
        raise UsageError(f"{options.recipe.name} holds no condition; give the picture it was made from with --image.")
    dropped = {"version", "model", "annotator"}
    if not kept.conditions:
        dropped |= {"condition_sha256"}
        recipe = recipe.replace(controls=[one.model_copy(update={"condition_sha256": ""}) for one in recipe.controls])
    dropped |= {"init_sha256", "mask_sha256"} if options.init_image is not None else set()
    dropped |= {"mask_sha256"} if options.mask is not None else set()
    dropped |= {"reference_sha256"} if options.reference is not None else set()
    dropped |= {"weights"} if options.model else set()
    dropped |= {"pose"} if new_first else set()
    dropped |= {"adapter", "annotator_settings"} if options.annotator else set()
    kept_values = recipe.model_dump(exclude=dropped)
    if options.model not in (None, recipe.model):
        kept_values = for_another_model(kept_values)
    values = {**kept_values, **values}
    return studio.catalogue.resolve(
        options.model or recipe.model, options.annotator or recipe.annotator, **values
    ), kept


def _print_result(result: Result, *, as_json: bool) -> None:
    if as_json:
        facts = {
            "recipe": json.loads(result.recipe.to_json()),
            "files": [str(path) for path in result.files],
            "seeds": result.seeds,
            "adherence": result.adherence,
            "adherence_name": result.adherence_name,
            "adherences": dict(result.adherences),
            "seconds": round(result.seconds, 3),
            "stopped": result.stopped,
        }
        print_line(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    others = list(result.adherences.items())[1:]
    for index, (path, seed, value) in enumerate(zip(result.files, result.seeds, result.adherence, strict=True)):
        follows = "" if value is None else f"  {result.adherence_name} {value:.2f}"
        follows += "".join(f", {kind} {scores[index]:.2f}" for kind, scores in others if scores[index] is not None)
        print_line(f"{path}  seed {seed}{follows}")
