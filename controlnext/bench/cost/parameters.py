"""`python -m controlnext bench parameters`: how many parameters each way of control adds, and how many it trains.

The real configurations are built on the meta device, where weights take no memory, and counted. A ReferenceNet is a copy of
the whole UNet, all of it trained. SVD has no ControlNet in diffusers: its row counts what one would be, a copy of the UNet's
encoder and middle with a zero convolution after each of their outputs and diffusers' embedding of the condition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from controlnext.bench.command import bench_parser, publish
from controlnext.bench.cost.base_models import BenchModel, count_parameters, get_model, on_meta
from controlnext.bench.cost.transformers import count_transformers, parameter_table
from controlnext.bench.tables import markdown

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
"""(family, way) -> millions in total and learnable, from memory of the paper (arXiv 2408.06070)."""
_SPATIAL_ENCODER = ("conv_in", "time_embedding", "add_embedding", "down_blocks", "mid_block")


@dataclass(frozen=True)
class Parameters:
    """One way of control on one base model.

    Attributes:
        family: row of `base_models.BENCH_MODELS`.
        way: `base`, `controlnet`, `t2i-adapter`, `referencenet` or `controlnext`.
        title: for people.
        total: parameters of the UNet and of all that is added.
        trained: those that learn.
        paper: millions in total and learnable, from memory of the paper; None where it says nothing.
    """

    family: str
    way: str
    title: str
    total: int
    trained: int
    paper: tuple[int, int] | None = None


def subset_size(unet: nn.Module, pattern: str) -> int:
    """Count the parameters of a UNet whose whole name matches a regular expression."""
    return count_parameters(value for name, value in unet.named_parameters() if re.fullmatch(pattern, name))


def count_family(model: BenchModel) -> list[Parameters]:
    """Count every way of control on one base model, the base alone first.

    Args:
        model: with its configuration on this machine.

    Returns:
        One row a way; ways that do not exist for it are left out.
    """
    import diffusers

    from controlnext.bench.cost.rig import make_unet
    from controlnext.method.model import ControlNeXtModel

    unet = on_meta(lambda: make_unet(model))
    base = count_parameters(unet.parameters())
    rows = []

    def row(way: str, title: str, added: int, trained: int) -> None:
        rows.append(Parameters(model.name, way, title, base + added, trained, PAPER.get((model.name, way))))

    row("base", "base UNet alone", 0, 0)
    if model.controlnet:
        branch = on_meta(lambda: diffusers.ControlNetModel.from_unet(unet, load_weights_from_unet=False))
        branch_size = count_parameters(branch.parameters())
        row("controlnet", "ControlNet", branch_size, branch_size)
    else:
        branch_size = _copied_branch(unet)
        row("controlnet", "ControlNet (as it would be)", branch_size, branch_size)
    if model.t2i_adapter is not None:
        adapter = on_meta(lambda: diffusers.T2IAdapter(**model.t2i_adapter))
        size = count_parameters(adapter.parameters())
        row("t2i-adapter", "T2I-Adapter", size, size)
    row("referencenet", "ReferenceNet (a copy of the UNet)", base, base)
    module = count_parameters(on_meta(lambda: ControlNeXtModel.from_variant(model.variant)).parameters())
    trained = module + subset_size(unet, SUBSETS[model.name])
    row("controlnext", f"ControlNeXt, {model.title.partition(', ')[2] or 'released module'}", module, trained)
    return rows


def _copied_branch(unet: nn.Module) -> int:
    """Count a ControlNet of a video UNet: encoder, middle, a zero convolution after each output, and the embedding."""
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
    """Count the families of `names`; rows other than ControlNeXt stand once for a base model that two families share."""
    rows, seen = [], set()
    for name in names:
        model = get_model(name)
        base = (model.unet_class, str(model.unet_folder or model.unet))
        rows += [row for row in count_family(model) if row.way == "controlnext" or base not in seen]
        seen.add(base)
    return rows


def table(rows: Sequence[Parameters]) -> str:
    """Format the counts as a Markdown table, in millions."""
    cells = [
        [get_model(row.family).title.partition(",")[0], row.title, f"{row.total / MILLION:,.1f}",
         f"{row.trained / MILLION:,.1f}" if row.trained else None,
         *([None, None] if row.paper is None else [f"{value:,}" for value in row.paper])]
        for row in rows
    ]  # fmt: skip
    columns = ["base model", "control", "total, M", "learnable, M", "paper: total", "paper: learnable"]
    note = "The paper's figures (arXiv 2408.06070) are from memory, in millions."
    return markdown(columns, cells, notes=[note])


def main(arguments: Sequence[str] | None = None) -> int:
    """Count and print; return the exit status."""
    parser = bench_parser("parameters", __doc__)
    parser.add_argument("--family", choices=SUBSETS, nargs="*", help="these instead of all")
    parser.add_argument("--transformers", action="store_true", help="FLUX, SD3.5, Qwen-Image, Z-Image and Wan instead")
    options = parser.parse_args(arguments)
    if options.transformers:
        costs = count_transformers()
        return publish(options, [asdict(cost) for cost in costs], parameter_table(costs))
    rows = count_all(options.family or list(SUBSETS))
    return publish(options, [asdict(row) for row in rows], table(rows))
