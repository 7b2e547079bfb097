"""Options shared by several commands, and the recipe fields they set."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlnext.cli.pictures import ExtraControl, gamma_values
from controlnext.cli.terminal import UsageError
from controlnext.models.extras import REFERENCES, UPSCALERS, ExtraFolders
from controlnext.models.run_options import INDUCTOR, TINY_USES, WEIGHTS, RunOptions

if TYPE_CHECKING:
    from controlnext.studio.wording import WordFolders

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # argparse keeps this type to itself

OUTPUTS = Path("outputs")
LORAS = Path("loras")
EMBEDDINGS = Path("embeddings")
WILDCARDS = Path("wildcards")


def names(text: str) -> list[str]:
    """Read names with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


RECIPE_OPTIONS = (
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
    ("strength", float, "share of a start picture that is redrawn"),
    ("scheduler", str, "sampler, instead of the model's own"),
    ("adapter", str, "kind of condition the picture is already, so that no annotator makes it"),
    ("ip_adapter", str, "file of an IP-Adapter that --reference acts through"),
    ("ip_adapter_scale", float, "weight of the reference; 0.6 is usual"),
    ("detail", names, "parts of people to draw again at full size: face, hands or both with a comma"),
    ("upscale", int, "times that a finished picture is enlarged: 2 or 4"),
    ("upscaler", str, "file of an upscaling model that enlarges it; without one Lanczos"),
)


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Options of every command that makes pictures."""
    parser.add_argument("--model", help="preset (default: starter)")
    parser.add_argument(
        "--annotator", help="canny, depth, pose, segmentation, none, or a kind of the model's own (default: pose)"
    )
    for name, kind, text in RECIPE_OPTIONS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    parser.add_argument(
        "--control", action="append", type=ExtraControl.parse, metavar="KIND[:GAMMA][=IMAGE]", default=[],
        help="an additional control, of the same picture or its own; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--person", action="append", metavar="[STRENGTH:]WORDS",
        help="what the next person of the pose is drawn with, from left to right; repeatable",
    )  # fmt: skip
    parser.add_argument("--lora", action="append", metavar="NAME[:WEIGHT]", help="repeatable")
    parser.add_argument("--lora-dir", action="append", type=Path, default=[], metavar="DIR", help="repeatable")
    add_word_options(parser)
    parser.add_argument("--output", type=Path, default=OUTPUTS, help="folder for results (default: outputs)")
    parser.add_argument("--device", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    parser.add_argument("--threads", type=int, help="CPU threads")


def add_word_options(parser: argparse.ArgumentParser) -> None:
    """Options of every command whose prompts may name files."""
    for name, folder, what in (
        ("embeddings", EMBEDDINGS, "textual-inversion embeddings"),
        ("wildcards", WILDCARDS, "wildcard files"),
    ):
        parser.add_argument(
            f"--{name}", type=Path, action="append", default=[], metavar="DIR",
            help=f"one more folder of {what}, besides {folder}/ (repeatable)",
        )  # fmt: skip


def word_folders(options: argparse.Namespace, home: Path = Path()) -> WordFolders:
    """Return the folders of these options, after those of `home`."""
    from controlnext.studio.wording import WordFolders

    return WordFolders([home / EMBEDDINGS, *options.embeddings], [home / WILDCARDS, *options.wildcards])


def add_area_options(parser: argparse.ArgumentParser) -> None:
    """Options of commands whose control may act in a part of the picture."""
    parser.add_argument("--area", type=Path, metavar="MASK", help="picture, white where the control acts")
    parser.add_argument("--area-outside", action="store_true", help="the control acts where the mask is black")
    parser.add_argument("--area-soft", type=float, default=0.0, metavar="PIXELS", help="blur of the mask's edge")


def area_of(options: argparse.Namespace, size: tuple[int, int], *, crop: bool = False) -> str | None:
    """Return the area of these options as a recipe has it; None where there is none."""
    import annotators
    from controlnext.recipes.areas import area_text

    if options.area is None:
        return None
    mask = annotators.load_picture(options.area)
    return area_text(mask, size, outside=options.area_outside, soft=options.area_soft, crop=crop)


def add_extra_options(parser: argparse.ArgumentParser) -> None:
    """Options of commands that enlarge pictures or take references."""
    for folder, what in ((UPSCALERS, "upscaling models"), (REFERENCES, "IP-Adapters")):
        parser.add_argument(
            f"--{folder}", type=Path, action="append", default=[], metavar="DIR",
            help=f"one more folder of {what}, besides {folder}/ (repeatable)",
        )  # fmt: skip


def extra_folders(options: argparse.Namespace, home: Path = Path()) -> ExtraFolders:
    """Return the folders of these options, after those of `home`."""
    return ExtraFolders([home / UPSCALERS, *options.upscalers], [home / REFERENCES, *options.ip_adapters])


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Options of commands that may keep models in less memory, or run them faster."""
    parser.add_argument(
        "--weights", choices=WEIGHTS, default="full",
        help="how the UNet's weights are kept: fp8 takes half the memory, int8 (needs torchao) half of the linear layers'",
    )  # fmt: skip
    parser.add_argument(
        "--tiny", choices=TINY_USES, default="none", help="draw previews, or results too, by a tiny autoencoder"
    )
    parser.add_argument(
        "--tiny-autoencoder", default="", metavar="PLACE",
        help="folder or hub repository of the tiny autoencoder (default: the usual one of SD1.5 and SDXL)",
    )  # fmt: skip
    parser.add_argument(
        "--compile", nargs="?", const=INDUCTOR, default="", metavar="BACKEND", help="run the UNet by torch.compile"
    )


def run_options(options: argparse.Namespace) -> RunOptions:
    """Return what these options say."""
    return RunOptions(options.weights, options.tiny, options.tiny_autoencoder, options.compile)


def add_settings_option(parser: argparse.ArgumentParser) -> None:
    """Option of every command that runs an annotator."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="setting of the annotator; repeatable"
    )


def given_values(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of a recipe that the command line gives."""
    values = {name: getattr(options, name) for name, _, _ in RECIPE_OPTIONS if getattr(options, name) is not None}
    if options.set:
        values["annotator_settings"] = read_settings(options.set)
    if "gamma" in values:
        values |= gamma_values(values["gamma"])
    if options.control:
        values["controls"] = [one.values() for one in options.control]
    if options.person is not None:
        from controlnext.recipes.person_use import PersonUse

        values["people"] = [PersonUse.parse(text) for text in options.person]
    if options.lora is not None:
        values["loras"] = [read_lora(text) for text in options.lora]
    return values


def read_settings(pairs: Sequence[str]) -> dict[str, bool | int | float | str]:
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


def read_lora(text: str) -> tuple[str, float]:
    """Read NAME or NAME:WEIGHT."""
    name, colon, weight = text.rpartition(":")
    try:
        return (name, float(weight)) if colon else (text, 1.0)
    except ValueError:
        return text, 1.0
