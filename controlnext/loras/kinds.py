"""Kinds of LoRA files: plain, LoCon with a CP middle, LoHa, LoKr, and DoRA on top of any of them, as two matrices.

Each change of a weight is written as a product of two matrices without loss, so that all kinds take the one way that plain
LoRAs take: with weights, several at once, and taken back bit for bit.

Source:
    KohakuBlueleaf/LyCORIS `lycoris/modules/{locon,loha,lokr}.py`, comfyanonymous/ComfyUI `comfy/weight_adapter/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from controlnext.errors import ControlNeXtError

if TYPE_CHECKING:
    from torch import Tensor

Pair = tuple["Tensor", "Tensor", int]
"""down `(rank, in, ...)`, up `(out, rank, ...)`, and the rank that alpha is divided by; 0 where alpha has no meaning."""

ENDINGS = (
    (".lora_mid.weight", "mid"),
    (".hada_w1_a", "h1a"), (".hada_w1_b", "h1b"), (".hada_w2_a", "h2a"), (".hada_w2_b", "h2b"),
    (".hada_t1", "ht1"), (".hada_t2", "ht2"),
    (".lokr_w1", "k1"), (".lokr_w1_a", "k1a"), (".lokr_w1_b", "k1b"),
    (".lokr_w2", "k2"), (".lokr_w2_a", "k2a"), (".lokr_w2_b", "k2b"), (".lokr_t2", "kt2"),
    (".dora_scale", "magnitude"), (".lora_magnitude_vector", "magnitude"), (".lora_magnitude_vector.weight", "magnitude"),
)  # fmt: skip
"""End of a key -> its part of a layer."""


class LayerError(ControlNeXtError, ValueError):
    """Matrices of one layer that do not go together; the text says which."""


def is_whole(parts: Sequence[str] | Mapping[str, object]) -> bool:
    """Tell whether a layer has all that its kind needs."""
    have = set(parts)
    kron = ("k1" in have or {"k1a", "k1b"} <= have) and ("k2" in have or {"k2a", "k2b"} <= have)
    return {"down", "up"} <= have or {"h1a", "h1b", "h2a", "h2b"} <= have or kron


def rank_and_width(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int] | None:
    """Return rank and input width of a layer by the shapes of its parts; None where they do not say."""
    if len(shapes.get("down", ())) > 1:
        return shapes["down"][0], shapes["down"][1]
    if len(shapes.get("h1b", ())) > 1:
        return shapes["h1b"][0], shapes["h1b"][1]
    first, second = shapes.get("k1", shapes.get("k1b", ())), shapes.get("k2", shapes.get("k2b", ()))
    if len(first) > 1 and len(second) > 1:
        return shapes.get("k2b", shapes.get("k1b", (0,)))[0], first[1] * second[1]
    return None


def as_pair(parts: Mapping[str, Tensor]) -> Pair:
    """Write a layer of any kind as two matrices.

    Args:
        parts: tensors by part; a magnitude is left to `with_magnitude`.

    Raises:
        LayerError: shapes that do not go together.
    """
    try:
        if "up" in parts:
            return _plain(parts)
        return _hadamard(parts) if "h1a" in parts else _kronecker(parts)
    except (RuntimeError, IndexError, ValueError) as error:
        shapes = ", ".join("x".join(map(str, tensor.shape)) for tensor in parts.values())
        raise LayerError(f"its matrices ({shapes}) do not go together") from error


def _plain(parts: Mapping[str, Tensor]) -> Pair:
    down, up = parts["down"], parts["up"]
    rank = len(down)
    if "mid" in parts:  # (rank, rank, height, width) between two convolutions of 1 x 1
        import torch

        down = torch.einsum("rshw,si->rihw", parts["mid"].float(), down.float().flatten(1))
    if up.ndim < 2 or down.ndim < 2 or up.shape[1] != len(down):
        raise ValueError("ranks differ")
    return down, up, rank


def _hadamard(parts: Mapping[str, Tensor]) -> Pair:
    """(a1 b1) * (a2 b2), element by element: every product of a column of a1 with one of a2 is a column of the result."""
    import torch

    a1, b1, a2, b2 = (parts[name].float() for name in ("h1a", "h1b", "h2a", "h2b"))
    rank = len(b1)
    if "ht1" in parts:
        halves = [
            torch.einsum("ijkl,jr,ip->prkl", t.float(), b, a)
            for t, a, b in ((parts["ht1"], a1, b1), (parts["ht2"], a2, b2))
        ]
        return *_dense(halves[0] * halves[1]), rank
    if len(b1) * len(b2) >= min(len(a1), b1.shape[1]):
        return *_dense((a1 @ b1) * (a2 @ b2)), rank
    down = torch.einsum("in,jn->ijn", b1, b2).flatten(0, 1)
    up = torch.einsum("mi,mj->mij", a1, a2).flatten(1)
    return down, up, rank


def _kronecker(parts: Mapping[str, Tensor]) -> Pair:
    import torch

    first = parts["k1"].float() if "k1" in parts else parts["k1a"].float() @ parts["k1b"].float()
    rank = len(parts["k2b"]) if "k2" not in parts else len(parts["k1b"]) if "k1" not in parts else 0
    if "k2" in parts:
        second = parts["k2"].float()
    elif "kt2" in parts:
        second = torch.einsum("ijkl,ip,jr->prkl", parts["kt2"].float(), parts["k2a"].float(), parts["k2b"].float())
    else:
        a, b = parts["k2a"].float(), parts["k2b"].float()
        if first.shape[1] * len(b) < min(len(first) * len(a), first.shape[1] * b.shape[1]):
            return torch.kron(torch.eye(first.shape[1]), b), torch.kron(first, a), rank
        second = a @ b
    whole = torch.kron(first[(...,) + (None,) * (second.ndim - 2)].contiguous(), second.contiguous())
    return *_dense(whole), rank


def _dense(change: Tensor) -> tuple[Tensor, Tensor]:
    """Write a change as a product with the identity, on the side where it is smaller."""
    import torch

    flat = change.flatten(1)
    out, into = flat.shape
    if out <= into or change.ndim > 2:
        return change, torch.eye(out)[(...,) + (None,) * (change.ndim - 2)]
    return torch.eye(into), flat


def with_magnitude(down: Tensor, up: Tensor, magnitude: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the change that a DoRA makes to a weight, scale included.

    Args:
        down: `(rank, in, ...)`.
        up: `(out, rank, ...)`, multiplied by alpha / rank.
        magnitude: one number for each output, or for each input (`(1, in, ...)`).
        weight: of the base model, `(out, in, ...)`.

    Returns:
        down and up; their product is the whole change.

    Raises:
        LayerError: as many numbers as neither outputs nor inputs.
    """
    import torch

    base = weight.detach().float().cpu()
    moved = base + (up.float().flatten(1) @ down.float().flatten(1)).reshape(base.shape)
    ones = [1] * (base.ndim - 2)
    by_input = magnitude.ndim > 1 and magnitude.shape[0] == 1 != len(base)
    if magnitude.numel() != base.shape[1 if by_input else 0]:
        raise LayerError(f"it has {magnitude.numel()} magnitudes for a weight of {'x'.join(map(str, base.shape))}")
    if by_input:
        norm = moved.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, -1, *ones)
        size = magnitude.float().reshape(1, -1, *ones)
    else:
        norm = moved.flatten(1).norm(dim=1).reshape(-1, 1, *ones)
        size = magnitude.float().reshape(-1, 1, *ones)
    return _dense(moved * (size / (norm + torch.finfo(torch.float32).eps)) - base)
