"""Exact floating-point operations of a denoising step with and without control, counted on shapes alone.

Counted is what `torch.utils.flop_counter` counts: matrix products, convolutions and attention, two operations for a
multiplication and its addition. It leaves out everything else (norms, activations, pooling, cross normalisation, sums), so a
second ratio adds one operation for each element that each of those functions reads or writes, whichever is more.

Attention is counted in its plain form, two matrix products and a softmax. Which fused kernel torch would choose depends on
its version and on the machine, and it has no count for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from controlnext.bench.cost.rig import Rig
from controlnext.bench.tables import markdown, number

if TYPE_CHECKING:
    from controlnext.bench.cost.base_models import BenchModel
    from controlnext.bench.cost.rig import UNetStep

_FREE = {"copy_", "_to_copy", "clone", "cat", "empty", "detach", "empty_like", "_local_scalar_dense", "arange"}
"""Functions that move or make elements without computing on them."""


@dataclass(frozen=True)
class Count:
    """Operations of one step.

    Attributes:
        name: short name of the step.
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
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
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


def count_steps(model: BenchModel, size: int | None = None) -> list[Count]:
    """Count every kind of step of a base model.

    Args:
        model: what to count.
        size: short side in pixels; None = the model's own.

    Returns:
        Counts, the base alone first.
    """
    counts: list[Count] = []
    base = (0, 0)
    with torch.no_grad():
        for step in Rig(model, size=size).steps():
            flops, elements = count_step(step)
            base = base if counts else (flops, elements)
            bar = model.bars[step.bar] if step.bar is not None and model.bars and size is None else None
            ratios = flops / base[0], (flops + elements) / sum(base)
            counts.append(Count(step.name, step.title, flops, elements, *ratios, bar))
    return counts


def count_step(step: UNetStep) -> tuple[int, int]:
    """Count one step: FLOPs as torch counts them, and elements of all other work.

    The figures do not depend on the attention kernel that torch would choose here, nor on one that the caller chose.
    """
    step.before()
    plain = sdpa_kernel(SDPBackend.MATH)
    with plain, ElementCounter() as others, FlopCounterMode(display=False) as counter:
        step.run()
    return counter.get_total_flops(), others.elements


def table(model: BenchModel, counts: Sequence[Count], size: int | None = None) -> str:
    """Format the counts as a Markdown table."""
    rows = [
        (count.title, f"{count.flops / 1e12:.3f}", f"{count.ratio:.4f}", number(count.bar),
         None if count.met is None else "yes" if count.met else "**no**", f"{count.ratio_with_elements:.4f}")
        for count in counts
    ]  # fmt: skip
    columns = ["step", "TFLOP", "ratio", "bar", "met", "ratio with elementwise work"]
    title = f"{model.title}, {model.described(size)}, with guidance; FLOPs of one step, base = 1"
    return markdown(columns, rows, title=title)
