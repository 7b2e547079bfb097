"""`python -m controlnext annotate`: a picture into a condition picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.cli.options import add_settings_option, read_settings
from controlnext.cli.terminal import UsageError, note, print_line

if TYPE_CHECKING:
    from controlnext.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command to the others."""
    parser = commands.add_parser("annotate", help="turn a picture into a condition picture")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--annotator", default="canny", help="canny (default), depth, pose, segmentation, none")
    parser.add_argument("--resolution", type=int, default=512, help="short side in pixels; 0 keeps the size")
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    parser.add_argument("--keypoints", type=Path, help="JSON to write the people to (pose)")
    add_settings_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the condition, and the people in it where that is asked for."""
    import annotators

    picture = annotators.load_picture(options.image)
    resolution = options.resolution or None
    made = annotators.annotate(options.annotator, picture, resolution=resolution, **read_settings(options.set))
    if options.keypoints is not None and not (made.data or {}).get("people"):
        raise UsageError(f"The annotator {options.annotator} found no people to write to {options.keypoints}.")
    try:
        made.image.save(options.output, format="PNG")
        if options.keypoints is not None:
            options.keypoints.write_text(annotators.people_to_json(made.data), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"The condition cannot be written to {options.output}: {error.strerror or error}.") from None
    note(made.note)
    print_line(f"{options.output}  {made.image.width}x{made.image.height}  by {made.backend}")
    return 0
