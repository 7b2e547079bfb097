"""`python -m controlnext bench parameters`: how many parameters each way of control adds, and how many it trains.

The real configurations are built on the meta device, where nothing has content, and counted. A ReferenceNet is a copy of the
whole UNet, all of it trained. SVD has no ControlNet in diffusers: its row counts what one would be, a copy of the UNet's
encoder and middle with a zero convolution behind each of their outputs and diffusers' embedding of the condition.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from controlnext.bench.cost.configs import Family, get_family

if TYPE_CHECKING:
    from torch import nn

MILLION = 1e6
SUBSETS: Mapping[str, str] = MappingProxyType(
    {"sd15": r".*to_out.*", "sd15-train": r".*to_out.*", "sdxl": r".*attn2.*to_out.*", "svd": r".*to_out.*",
     "svd-v1": r".*to_out.*"}
)  # fmt: skip
"""Family -> the UNet weights that the released code trains with the module (spec of the training code), by their names."""

PAPER: Mapping[tuple[str, str], tuple[int, int]] = MappingProxyType(
    {
        ("sd15", "controlnet"): (1220, 361),
        ("sd15", "controlnext"): (865, 30),
        ("sdxl", "controlnet"): (3818, 1251),
        ("sdxl", "controlnext"): (2573, 108),
        ("svd", "controlnet"): (2206, 682),
        ("svd-v1", "controlnext"): (1530, 55),
    }
)
"""(family, way) -> millions in all and learnable, from memory of the paper (arXiv 2408.06070)."""
_SPATIAL_ENCODER = ("conv_in", "time_embedding", "add_embedding", "down_blocks", "mid_block")


@dataclass(frozen=True)
class Parameters:
    """One way of control on one base model.

    Attributes:
        family: row of `configs.FAMILIES`.
        way: `base`, `controlnet`, `t2i-adapter`, `referencenet` or `controlnext`.
        title: for people.
        total: parameters of the UNet and of all that is added.
        trained: those that learn.
        paper: millions in all and learnable, from memory of the paper; None where it says nothing.
    """

    family: str
    way: str
    title: str
    total: int
    trained: int
    paper: tuple[int, int] | None = None


def count_parameters(parameters: Iterable[nn.Parameter]) -> int:
    """Sum the elements of parameters."""
    return sum(parameter.numel() for parameter in parameters)


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network without content."""
    import torch

    with torch.device("meta"):
        return build()


def subset_size(unet: nn.Module, pattern: str) -> int:
    """Count the parameters of a UNet whose whole name matches a regular expression."""
    return count_parameters(value for name, value in unet.named_parameters() if re.fullmatch(pattern, name))


def count_family(family: Family) -> list[Parameters]:
    """Count every way of control on one base model, the base alone first.

    Args:
        family: with its configuration at hand.

    Returns:
        One row a way; ways that do not exist for the family are left out.
    """
    import diffusers

    from controlnext.bench.cost.rig import make_unet
    from controlnext.method.model import ControlNeXtModel

    unet = on_meta(lambda: make_unet(family))
    base = count_parameters(unet.parameters())
    rows = []

    def row(way: str, title: str, added: int, trained: int) -> None:
        rows.append(Parameters(family.name, way, title, base + added, trained, PAPER.get((family.name, way))))

    row("base", "base UNet alone", 0, 0)
    if family.controlnet:
        branch = on_meta(lambda: diffusers.ControlNetModel.from_unet(unet, load_weights_from_unet=False))
        branch_size = count_parameters(branch.parameters())
        row("controlnet", "ControlNet", branch_size, branch_size)
    else:
        branch_size = _copied_branch(unet)
        row("controlnet", "ControlNet (as it would be)", branch_size, branch_size)
    if family.t2i_adapter is not None:
        adapter = on_meta(lambda: diffusers.T2IAdapter(**family.t2i_adapter))
        size = count_parameters(adapter.parameters())
        row("t2i-adapter", "T2I-Adapter", size, size)
    row("referencenet", "ReferenceNet (a copy of the UNet)", base, base)
    module = count_parameters(on_meta(lambda: ControlNeXtModel.from_variant(family.variant)).parameters())
    trained = module + subset_size(unet, SUBSETS[family.name])
    row("controlnext", f"ControlNeXt, {family.title.partition(', ')[2] or 'released module'}", module, trained)
    return rows


def _copied_branch(unet: nn.Module) -> int:
    """Count a ControlNet of a video UNet: encoder, middle, a zero convolution behind each output, and the embedding."""
    from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding

    copied = sum(
        count_parameters(getattr(unet, name).parameters()) for name in _SPATIAL_ENCODER if hasattr(unet, name)
    )
    widths = list(unet.config.block_out_channels)
    outputs = [widths[0]]
    for index, (block, width) in enumerate(zip(unet.down_blocks, widths, strict=True)):
        outputs += [width] * len(block.resnets)
        outputs += [width] * (index < len(widths) - 1)  # the downsampler; the last block has none
    outputs.append(widths[-1])
    embedding = on_meta(lambda: ControlNetConditioningEmbedding(widths[0], block_out_channels=(16, 32, 96, 256)))
    return copied + sum(width * width + width for width in outputs) + count_parameters(embedding.parameters())


def count_all(names: Sequence[str]) -> list[Parameters]:
    """Count the families of `names`; of a base model that two of them share, what is not ControlNeXt stands there once."""
    rows, seen = [], set()
    for name in names:
        family = get_family(name)
        base = (family.unet_class, str(family.unet_folder or family.unet))
        rows += [row for row in count_family(family) if row.way == "controlnext" or base not in seen]
        seen.add(base)
    return rows


def table(rows: Sequence[Parameters]) -> str:
    """Return the counts as a Markdown table, in millions."""
    lines = [
        "| base model | control | in all, M | learnable, M | paper: in all | paper: learnable |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        base = get_family(row.family).title.partition(",")[0]
        told = ["", ""] if row.paper is None else [f"{value:,}" for value in row.paper]
        counted = [f"{row.total / MILLION:,.1f}", f"{row.trained / MILLION:,.1f}" if row.trained else "–"]
        lines.append(f"| {' | '.join([base, row.title, *counted, *told])} |")
    lines += ["", "The paper's figures (arXiv 2408.06070) are from memory of it, in millions."]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Count and print; returns 0."""
    parser = argparse.ArgumentParser(
        prog="python -m controlnext bench parameters", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--family", choices=SUBSETS, nargs="*", help="these instead of all")
    parser.add_argument("--json", type=Path, help="also write the counts to this file")
    options = parser.parse_args(arguments)
    rows = count_all(options.family or list(SUBSETS))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(table(rows))
    return 0
