"""`python -m controlnext models` and `loras`: list models and LoRAs with their states."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlnext.cli.options import LORAS, OUTPUTS
from controlnext.cli.terminal import print_line

if TYPE_CHECKING:
    from controlnext.cli.options import Commands
    from controlnext.studio.studio import Studio


def add_parser(commands: Commands) -> None:
    """Add both commands to the others."""
    models = commands.add_parser("models", help="list models, adapters and LoRAs, and what is missing")
    models.add_argument("--json", action="store_true", help="print everything as JSON")
    models.set_defaults(run=run_models)

    loras = commands.add_parser("loras", help="list the LoRAs: rank, key style, size, trigger words, conflicts")
    loras.add_argument("--model", default="starter", help="preset they should go with (default: starter)")
    loras.add_argument("--annotator", default="", help="also say how much each gets in the way of this adapter")
    loras.add_argument("--lora-dir", action="append", type=Path, default=[], metavar="DIR", help="repeatable")
    loras.add_argument("--json", action="store_true", help="print everything as JSON")
    loras.set_defaults(run=run_loras)


def run_models(options: argparse.Namespace) -> int:
    """List the models."""
    from controlnext.studio.studio import Studio

    studio = Studio(output_dir=OUTPUTS, lora_dirs=[LORAS])
    rows = studio.catalogue.models()
    if options.json:
        print_line(json.dumps({row["name"]: {**row, "loras": _loras_of(studio, row)} for row in rows}, indent=2))
        return 0
    for row in rows:
        print_line(f"{row['name']}  {row['state']}{': ' + row['reason'] if row['reason'] else ''}")
        for kind in row["annotators"]:
            print_line(f"  control  {kind}, gamma {row['defaults']['gamma'][kind]:g}")
        for reason in row["missing"].values():
            print_line(f"  missing  {reason}")
        for lora in _loras_of(studio, row):
            print_line(f"  LoRA     {lora['name']}{'' if lora['usable'] else ': ' + lora['reason']}")
    return 0


def run_loras(options: argparse.Namespace) -> int:
    """List the LoRAs."""
    from controlnext.cli.lora_table import lora_table
    from controlnext.models.catalogue import Catalogue

    rows = Catalogue(lora_dirs=[LORAS, *options.lora_dir]).loras(options.model, options.annotator)
    if options.json:
        print_line(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        print_line(lora_table(rows) if rows else "There are no LoRAs; put .safetensors files into loras/.")
    return 0


def _loras_of(studio: Studio, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return studio.catalogue.loras(row["name"]) if row["family"] else []
