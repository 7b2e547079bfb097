"""`python -m controlnext animate REFERENCE CLIP`: animate the character of a picture by a clip."""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlnext.animation.choice import choice_of
from controlnext.cli.options import (
    OUTPUTS,
    add_area_options,
    add_run_options,
    add_word_options,
    area_of,
    read_lora,
    run_options,
    word_folders,
)
from controlnext.cli.pictures import gamma_values
from controlnext.cli.terminal import UsageError, clear_progress, note, print_line, show_progress, stoppable

if TYPE_CHECKING:
    from controlnext.animation import VideoRecipe, VideoResult
    from controlnext.cli.options import Commands

_OPTIONS = (
    ("start", float, "seconds of the clip at which the part begins"),
    ("end", float, "seconds at which it ends; 0 is the clip's end"),
    ("fps", float, "frames a second; 0 is the clip's own"),
    ("max_frames", int, "frames at most; 0 takes all that are allowed"),
    ("person", int, "who of the clip is followed; 0 is the most prominent"),
    ("prompt", str, "what to draw, for image models (default of the starter: the reference's colours)"),
    ("negative_prompt", str, "what to avoid, for image models"),
    ("gamma", str, "control strength; 0 is none, 1 is usual; or over the steps: 'linear 1 to 0'"),
    ("num_inference_steps", int, "denoising steps"),
    ("guidance_scale", float, "weight of the reference, or of the prompt"),
    ("seed", int, "-1 draws one"),
    ("width", int, "pixels; 0 is the model's own for the reference's shape"),
    ("height", int, "pixels; 0 is the model's own for the reference's shape"),
    ("window", int, "frames that a video model draws at once"),
    ("overlap", int, "frames that two windows share"),
    ("motion_bucket_id", int, "how much motion a video model is asked for"),
    ("noise_aug_strength", float, "noise on the reference"),
    ("shared_noise", float, "share of the initial noise that all frames have in common"),
    ("reader", str, "what reads the poses: mediapipe, dwpose, starter, or drawing for ready-made pose frames"),
    ("drawing", str, "how they are drawn for the model: classic, or svd as the released SVD adapters learned it"),
)
_SWITCHES = (
    ("fit", "place the poses on the figure of the reference"),
    ("limbs", "give limbs the reference's lengths, too"),
    ("smooth", "take jitter out"),
    ("follow", "let the camera follow the person from side to side"),
    ("hands", "read and draw hands"),
    ("face", "read and draw faces"),
    ("keep_sound", "keep the clip's sound"),
    ("micro_conditioning", "pass tempo, motion and noise to a video model; the released code does not"),
)


def add_parser(commands: Commands) -> None:
    """Add the command to the others."""
    parser = commands.add_parser("animate", help="move the character of a picture as somebody in a clip does")
    parser.add_argument("reference", type=Path, metavar="REFERENCE", help="picture of the character")
    parser.add_argument(
        "clip", type=Path, metavar="CLIP", help="video file, folder of pictures, or poses that --poses wrote as JSON"
    )
    parser.add_argument("--model", help="preset (default: starter-video); image models draw frame by frame")
    parser.add_argument(
        "--recipe", type=Path, help="a video (MP4) or a recipe (JSON) to start from; options change it"
    )
    for name, kind, text in _OPTIONS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    for name, text in _SWITCHES:
        parser.add_argument(f"--{name.replace('_', '-')}", action=argparse.BooleanOptionalAction, help=text)
    parser.add_argument("--lora", action="append", metavar="NAME[:WEIGHT]", help="for image models; repeatable")
    parser.add_argument("--lora-dir", action="append", type=Path, default=[], metavar="DIR", help="repeatable")
    parser.add_argument("--beside", action="store_true", help="also write it next to its poses and the clip")
    parser.add_argument("--poses", action="store_true", help="also write the poses alone, as a video and as JSON")
    add_area_options(parser)
    add_run_options(parser)
    add_word_options(parser)
    parser.add_argument("--output", type=Path, default=OUTPUTS, help="folder for results (default: outputs)")
    parser.add_argument("--device", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--json", action="store_true", help="print the recipe and the result as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make the video and say where it is.

    Returns:
        Exit status: 0 done, 130 stopped.
    """
    import annotators
    from controlnext.studio.studio import Studio

    studio = Studio(
        output_dir=options.output,
        lora_dirs=options.lora_dir,
        device=options.device,
        threads=options.threads,
        annotators=annotators,
        words=word_folders(options),
        run_options=run_options(options),
    )
    reference = annotators.load_picture(options.reference)
    note(reference.info.get("note", ""))
    model, values = _values(options)
    recipe = studio.animator.resolve(model, reference, **values)
    if (area := area_of(options, (recipe.width, recipe.height))) is not None:
        recipe = recipe.replace(area=area)
    note(studio.animator.clip_reader.use(options.clip, choice_of(recipe)).sentence)
    with stoppable(signal.SIGINT) as cancel:
        try:
            made = studio.animate(
                recipe,
                reference,
                options.clip,
                beside=options.beside,
                poses=options.poses,
                on_progress=show_progress,
                cancel=cancel,
            )
        finally:
            clear_progress()
    for text in made.notes:
        note(text)
    _print_result(made, as_json=options.json)
    return 130 if made.stopped else 0


def _values(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The model and the fields of a recipe that the command line gives, over those of a recipe to start from."""
    from controlnext.animation.animator import DEFAULT_VIDEO_MODEL
    from controlnext.models.defaults import for_another_model

    names = [name for name, *_ in (*_OPTIONS, *_SWITCHES)]
    values = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if "gamma" in values:
        values |= gamma_values(values["gamma"])
    if options.lora is not None:
        values["loras"] = [read_lora(text) for text in options.lora]
    if options.recipe is None:
        return options.model or DEFAULT_VIDEO_MODEL, values
    recipe = _recipe(options.recipe)
    dropped = {"version", "model"} | ({"weights", "drawing"} if options.model else set())
    kept = recipe.model_dump(exclude=dropped)
    if options.model not in (None, recipe.model):
        kept = for_another_model(kept)
    return options.model or recipe.model, {**kept, **values}


def _recipe(path: Path) -> VideoRecipe:
    from controlnext.animation import VideoRecipe, read_video_recipe

    try:
        return read_video_recipe(path) or VideoRecipe.from_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"The recipe {path} cannot be read: {error.strerror}.") from None


def _print_result(made: VideoResult, *, as_json: bool) -> None:
    if as_json:
        names = ("file", "beside", "poses", "pose_data")
        files = {name: str(path) for name in names if (path := getattr(made, name)) is not None}
        print_line(json.dumps({**made.facts(), **files}, indent=2, ensure_ascii=False))
        return
    follows = "" if made.adherence is None else f"  {made.adherence_name} {made.adherence:.2f}"
    stopped = ", stopped" if made.stopped else ""
    print_line(f"{made.file}  {made.frames} frames at {made.fps:.4g} a second  seed {made.seed}{follows}{stopped}")
    for path in (made.beside, made.poses, made.pose_data):
        if path is not None:
            print_line(str(path))
