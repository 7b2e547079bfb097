"""`python -m controlnext generate|annotate|batch|train|models|loras|convert|bench`: the studio without a page.

Whatever goes wrong on purpose ends in one sentence and exit status 2. Torch and the annotators are imported by the command
that needs them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotators.base import AnnotatorError
from controlnext.batch import MAX_ERRORS
from controlnext.bench import BENCHES
from controlnext.commands import pictures
from controlnext.commands.convert import add_parser as add_convert
from controlnext.commands.train import add_parser as add_train
from controlnext.errors import ControlNeXtError
from controlnext.inputs import Inputs

if TYPE_CHECKING:
    from controlnext.progress import Progress
    from controlnext.recipe import Recipe
    from controlnext.studio import Result, Studio

OUTPUTS = Path("outputs")
_RECIPE_OPTIONS = (
    ("prompt", str, "what to draw"),
    ("negative_prompt", str, "what to avoid"),
    ("gamma", str, "control strength; 0 is none, 1 is usual; or over the steps: 'linear 1 to 0', '0:1, 0.5:0.3'"),
    ("alpha", float, "share of the adapter's UNet weights"),
    ("num_inference_steps", int, "denoising steps"),
    ("guidance_scale", float, "weight of the prompt"),
    ("seed", int, "first seed; -1 draws one"),
    ("num_images", int, "how many pictures"),
    ("width", int, "pixels; 0 is the model's own"),
    ("height", int, "pixels; 0 is the model's own"),
    ("control_start", float, "fraction of the steps at which the control sets in"),
    ("control_end", float, "fraction of the steps at which it ends"),
    ("strength", float, "share of a start picture that is drawn anew"),
    ("scheduler", str, "sampler, instead of the model's own"),
    ("adapter", str, "kind of condition the picture is, with --annotator none"),
)


class UsageError(ControlNeXtError, ValueError):
    """Options that make no sense together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program; None takes the process's own.

    Returns:
        Exit status: 0 done, 2 something was wrong and a sentence on the error stream says what, 130 stopped.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments[:1] == ["bench"] and len(arguments) > 1 and not arguments[1].startswith("-"):
            return _bench(arguments[1], arguments[2:])
        options = _parser().parse_args(arguments)
        return options.run(options)
    except (ControlNeXtError, AnnotatorError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m controlnext", description="Controlled pictures from the command line."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    generate = commands.add_parser("generate", help="make pictures that follow a picture and a prompt")
    generate.add_argument("--image", type=Path, help="picture to take the condition from")
    generate.add_argument(
        "--recipe", type=Path, help="a result (PNG) or a recipe (JSON) to start from; options change it"
    )
    _add_picture_options(generate)
    pictures.add_options(generate)
    generate.add_argument("--json", action="store_true", help="print the recipe and the results as JSON")
    generate.set_defaults(run=_generate)

    batch = commands.add_parser("batch", help="make pictures from a folder or a list, and go on where it was stopped")
    batch.add_argument("jobs", type=Path, metavar="JOBS", help="folder of pictures, or JSON lines: image, prompt, ...")
    batch.add_argument("--recipe", type=Path, help="a result (PNG) or a recipe (JSON) to start each job from")
    _add_picture_options(batch)
    batch.add_argument(
        "--max-errors", type=int, default=MAX_ERRORS, help=f"failed jobs before it gives up (default: {MAX_ERRORS})"
    )
    batch.set_defaults(run=_batch)

    annotate = commands.add_parser("annotate", help="turn a picture into a condition picture")
    annotate.add_argument("--image", type=Path, required=True)
    annotate.add_argument("--annotator", default="canny", help="canny (default), depth, pose, segmentation, none")
    annotate.add_argument(
        "--resolution", type=int, default=pictures.RESOLUTION, help="short side in pixels; 0 keeps the size"
    )
    annotate.add_argument("--output", type=Path, required=True, help="PNG to write")
    annotate.add_argument("--keypoints", type=Path, help="JSON to write the people to (pose)")
    annotate.set_defaults(run=_annotate)
    for command in (generate, batch, annotate):
        command.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", help="setting of the annotator; repeatable"
        )

    models = commands.add_parser("models", help="list models, adapters and LoRAs, and what is missing")
    models.add_argument("--json", action="store_true", help="print everything as JSON")
    models.set_defaults(run=_models)

    loras = commands.add_parser("loras", help="list the LoRAs: rank, key style, size, trigger words, conflicts")
    loras.add_argument("--model", default="starter", help="preset they should go with (default: starter)")
    loras.add_argument("--annotator", default="", help="also say how much each gets in the way of this adapter")
    loras.add_argument("--lora-dir", action="append", type=Path, default=[], metavar="DIR", help="repeatable")
    loras.add_argument("--json", action="store_true", help="print everything as JSON")
    loras.set_defaults(run=_loras)

    add_convert(commands)
    add_train(commands)

    listing = "\n".join(f"  {name:12}{text}" for name, text in BENCHES.items())
    bench = commands.add_parser(
        "bench", help="measure", description=listing, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    bench.add_argument("name", choices=BENCHES, metavar="NAME", help="what to measure; its own options follow")
    return parser


def _add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Options of every command that makes pictures."""
    parser.add_argument("--model", help="preset (default: starter)")
    parser.add_argument("--annotator", help="canny, depth, pose, segmentation, or none (default: pose)")
    for name, kind, text in _RECIPE_OPTIONS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    parser.add_argument(
        "--control", action="append", type=pictures.Further.parse, metavar="KIND[:GAMMA][=IMAGE]", default=[],
        help="a further control, of the same picture or its own; repeatable",
    )  # fmt: skip
    parser.add_argument("--lora", action="append", metavar="NAME[:WEIGHT]", help="repeatable")
    parser.add_argument("--lora-dir", action="append", type=Path, default=[], metavar="DIR", help="repeatable")
    parser.add_argument("--output", type=Path, default=OUTPUTS, help="folder for results (default: outputs)")
    parser.add_argument("--device", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    parser.add_argument("--threads", type=int, help="CPU threads")


def _batch(options: argparse.Namespace) -> int:
    from controlnext.commands import batch

    return batch.run(options)


def _generate(options: argparse.Namespace) -> int:
    import annotators
    from controlnext.studio import Studio

    studio = Studio(
        output_dir=options.output,
        lora_dirs=options.lora_dir,
        device=options.device,
        threads=options.threads,
        annotate=annotators.annotate,
    )
    recipe, kept = _recipe(options, studio)
    there = dict(zip([control.condition_kind for control in recipe.all_controls], kept.conditions, strict=False))
    inputs = pictures.inputs_of(options.image, recipe, options.control, there)
    for made in inputs.conditions:
        _note(getattr(made, "note", ""))
    inputs = pictures.with_start(inputs, options, kept)
    with stoppable(signal.SIGINT) as cancel:
        result = studio.generate(recipe, inputs, on_progress=_show_progress, cancel=cancel)
    _clear_progress()
    for note in result.notes:
        _note(note)
    _print_result(result, as_json=options.json)
    return 130 if result.stopped else 0


def given_values(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of a recipe that the command line gives."""
    values = {name: getattr(options, name) for name, _, _ in _RECIPE_OPTIONS if getattr(options, name) is not None}
    if options.set:
        values["annotator_settings"] = _settings(options.set)
    if "gamma" in values:
        values |= pictures.gamma_values(values["gamma"])
    if options.control:
        values["controls"] = [one.values() for one in options.control]
    if options.lora is not None:
        values["loras"] = [_lora(text) for text in options.lora]
    return values


def _recipe(options: argparse.Namespace, studio: Studio) -> tuple[Recipe, Inputs]:
    """The recipe that the options describe, and the pictures that came with a saved result."""
    from controlnext.recipe import Recipe
    from controlnext.recipe_png import read_inputs, read_png

    values = given_values(options)
    if options.recipe is None:
        annotator = options.annotator or ("pose" if options.image is not None else "none")
        return studio.resolve(options.model or "starter", annotator, **values), Inputs()
    try:
        recipe = read_png(options.recipe)
        if recipe is None:
            recipe = Recipe.from_json(options.recipe.read_bytes())
    except OSError as error:
        raise UsageError(f"The recipe {options.recipe} cannot be read: {error.strerror}.") from None
    kept = read_inputs(options.recipe)
    if options.image is not None or options.control:  # a new picture for all, or a condition for the first alone
        kept = replace(kept, conditions=() if options.image is not None else kept.conditions[:1])
    if options.image is None and not kept.conditions and recipe.condition_kind:
        raise UsageError(f"{options.recipe.name} holds no condition; give the picture it was made from with --image.")
    dropped = {"version", "model", "annotator"}
    if not kept.conditions:
        dropped |= {"condition_sha256"}
        recipe = recipe.replace(controls=[one.model_copy(update={"condition_sha256": ""}) for one in recipe.controls])
    dropped |= {"init_sha256", "mask_sha256"} if options.init_image is not None else set()
    dropped |= {"mask_sha256"} if options.mask is not None else set()
    dropped |= {"weights"} if options.model else set()
    dropped |= {"adapter", "annotator_settings"} if options.annotator else set()
    values = {**recipe.model_dump(exclude=dropped), **values}
    return studio.resolve(options.model or recipe.model, options.annotator or recipe.annotator, **values), kept


def _annotate(options: argparse.Namespace) -> int:
    import annotators

    picture = annotators.load_picture(options.image)
    resolution = options.resolution or None
    made = annotators.annotate(options.annotator, picture, resolution=resolution, **_settings(options.set))
    if options.keypoints is not None and not (made.data or {}).get("people"):
        raise UsageError(f"The annotator {options.annotator} found no people to write to {options.keypoints}.")
    try:
        made.image.save(options.output, format="PNG")
        if options.keypoints is not None:
            options.keypoints.write_text(annotators.people_to_json(made.data), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"The condition cannot be written to {options.output}: {error.strerror or error}.") from None
    _note(made.note)
    _print(f"{options.output}  {made.image.width}x{made.image.height}  by {made.backend}")
    return 0


def _models(options: argparse.Namespace) -> int:
    from controlnext.studio import Studio

    studio = Studio(output_dir=OUTPUTS, lora_dirs=["loras"])
    rows = studio.models()
    if options.json:
        _print(json.dumps({row["name"]: {**row, "loras": _loras_of(studio, row)} for row in rows}, indent=2))
        return 0
    for row in rows:
        _print(f"{row['name']}  {row['state']}{': ' + row['reason'] if row['reason'] else ''}")
        for kind in row["annotators"]:
            _print(f"  control  {kind}, gamma {row['defaults']['gamma'][kind]:g}")
        for reason in row["missing"].values():
            _print(f"  missing  {reason}")
        for lora in _loras_of(studio, row):
            _print(f"  LoRA     {lora['name']}{'' if lora['usable'] else ': ' + lora['reason']}")
    return 0


def _loras(options: argparse.Namespace) -> int:
    from controlnext.catalogue import Catalogue
    from controlnext.lora_table import lora_table

    rows = Catalogue(lora_dirs=["loras", *options.lora_dir]).loras(options.model, options.annotator)
    if options.json:
        _print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        _print(lora_table(rows) if rows else "There are no LoRAs; put .safetensors files into loras/.")
    return 0


def _loras_of(studio: Studio, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return studio.loras(row["name"]) if row["family"] else []


def _bench(name: str, arguments: Sequence[str]) -> int:
    if name not in BENCHES:
        raise UsageError(f"There is no bench {name!r}; choose one of {', '.join(BENCHES)}.")
    return importlib.import_module(f"controlnext.bench.{name.replace('-', '_')}").main(arguments) or 0


def _settings(pairs: Sequence[str]) -> dict[str, bool | int | float | str]:
    """Read NAME=VALUE pairs; numbers and true/false are what they look like, everything else is text."""
    settings: dict[str, bool | int | float | str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise UsageError(f"A setting is written NAME=VALUE, but one was given as {pair!r}.")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        settings[name] = value if isinstance(value, bool | int | float) else text
    return settings


def _lora(text: str) -> tuple[str, float]:
    name, colon, weight = text.rpartition(":")
    try:
        return (name, float(weight)) if colon else (text, 1.0)
    except ValueError:
        return text, 1.0


@contextmanager
def stoppable(*signals: signal.Signals) -> Iterator[threading.Event]:
    """Turn the first of some signals, such as Ctrl+C, into a stop after the current step; a second one ends the program."""
    cancel = threading.Event()

    def stop(number: int, frame: object) -> None:
        cancel.set()
        signal.signal(number, signal.default_int_handler)

    main_thread = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop) for number in signals} if main_thread else {}
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
        _print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    further = list(result.adherences.items())[1:]
    for index, (path, seed, value) in enumerate(zip(result.files, result.seeds, result.adherence, strict=True)):
        follows = "" if value is None else f"  {result.adherence_name} {value:.2f}"
        follows += "".join(f", {kind} {scores[index]:.2f}" for kind, scores in further if scores[index] is not None)
        _print(f"{path}  seed {seed}{follows}")


def _show_progress(progress: Progress) -> None:
    if sys.stderr.isatty():
        left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
        sys.stderr.write(f"\r\x1b[K{progress.stage} {progress.counted}{left}")
        sys.stderr.flush()


def _clear_progress() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")


def _note(text: str) -> None:
    if text:
        sys.stderr.write(f"{text}\n")


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
