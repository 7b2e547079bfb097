"""Exact floating-point operations of a denoising step with and without control, counted on shapes alone: runs anywhere.

What counts is what `torch.utils.flop_counter` counts: matrix products, convolutions and attention, two operations for a
multiplication and its addition. Everything else (norms, activations, pooling, cross normalisation, sums) it leaves out, so a
second ratio adds one operation for each element that each of those functions reads or writes, whichever is more.

Attention is counted in its plain form, two matrix products and a softmax. Which fused kernel torch would choose depends on
its version and on the machine, and it has no count for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from controlnext.bench.cost.rig import Rig

if TYPE_CHECKING:
    from controlnext.bench.cost.configs import Family
    from controlnext.bench.cost.rig import Row

_FREE = {"copy_", "_to_copy", "clone", "cat", "empty", "detach", "empty_like", "_local_scalar_dense", "arange"}
"""Functions that move or make elements without computing on them."""


@dataclass(frozen=True)
class Count:
    """Operations of one step.

    Attributes:
        name: short name of the row.
        title: for people.
        flops: matrix products, convolutions and attention.
        elements: all other work, an operation an element.
        ratio: times the FLOPs of the base alone.
        ratio_with_elements: the same with all other work added on both sides.
        bar: what `ratio` may be at most; None = no bar.
    """

    name: str
    title: str
    flops: int
    elements: int
    ratio: float
    ratio_with_elements: float
    bar: float | None

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        return None if self.bar is None else self.ratio <= self.bar


class ElementCounter(TorchDispatchMode):
    """Counts the elements that functions work on which `FlopCounterMode` leaves out."""

    def __init__(self) -> None:
        """Start at zero."""
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(  # the name is torch's
        self,
        func: Any,  # noqa: ANN401 - torch's signature
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - torch's signature
        """Run the function and add its larger side."""
        result = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet not in flop_registry and not func.is_view and packet.__name__ not in _FREE:
            given, made = (
                sum(leaf.numel() for leaf in tree_leaves(side) if isinstance(leaf, torch.Tensor))
                for side in ((args, kwargs), result)
            )
            self.elements += max(given, made)
        return result


def count_family(family: Family, size: int | None = None) -> list[Count]:
    """Count every row of a family.

    Args:
        family: what to count.
        size: short side in pixels; None = the family's own.

    Returns:
        Counts, the base alone first.
    """
    counts: list[Count] = []
    base = (0, 0)
    with torch.no_grad():
        for row in Rig(family, size=size).rows():
            flops, elements = count_row(row)
            base = base if counts else (flops, elements)
            bar = family.bars[row.bar] if row.bar is not None and family.bars and size is None else None
            ratios = flops / base[0], (flops + elements) / sum(base)
            counts.append(Count(row.name, row.title, flops, elements, *ratios, bar))
    return counts


def count_row(row: Row) -> tuple[int, int]:
    """Count one step: FLOPs as torch counts them, and elements of all other work.

    The figures do not depend on the attention kernel that torch would choose here, nor on one that the caller chose.
    """
    row.before()
    plain = sdpa_kernel(SDPBackend.MATH)
    with plain, ElementCounter() as others, FlopCounterMode(display=False) as counter:
        row.step()
    return counter.get_total_flops(), others.elements


def table(family: Family, counts: Sequence[Count], size: int | None = None) -> str:
    """Return the counts as a Markdown table."""
    lines = [
        f"{family.title}, {family.described(size)}, with guidance; FLOPs of one step, base = 1",
        "",
        "| | TFLOP | ratio | bar | met | ratio with elementwise work |",
        "|---|---:|---:|---:|---|---:|",
    ]
    for count in counts:
        bar, met = ("–", "") if count.bar is None else (f"{count.bar:.3f}", "yes" if count.met else "**no**")
        lines.append(
            f"| {count.title} | {count.flops / 1e12:.3f} | {count.ratio:.4f} | {bar} | {met} | "
            f"{count.ratio_with_elements:.4f} |"
        )
    return "\n".join(lines) + "\n"
