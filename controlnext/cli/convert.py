"""`python -m controlnext convert FILE OUT.safetensors`: a released `.bin` file as safetensors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controlnext.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command to the others."""
    parser = commands.add_parser("convert", help="write a pickled weight file (.bin, .pt) as safetensors")
    parser.add_argument("source", type=Path, metavar="FILE", help="file to read; code in it is never run")
    parser.add_argument("target", type=Path, metavar="OUT.safetensors", help="file to write")
    parser.add_argument("--kind", choices=("delta", "subset"), help="what the UNet weights in it are")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Convert one file and say what was written."""
    from controlnext.cli.convert_file import convert

    count = convert(options.source, options.target, options.kind)
    sys.stdout.write(f"{options.target}  {count} tensors, {options.target.stat().st_size:,} bytes\n")
    return 0
