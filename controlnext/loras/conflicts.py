"""Conflict meter: how much a LoRA changes the same weights as an adapter, measured on the files alone.

An adapter adds a change D to some layers of the UNet, a LoRA adds L = weight * alpha / rank * up @ down to others or to the
same. Where both change a layer, the ratio |L| / |D| of Frobenius norms compares the sizes of the two changes and the cosine
their directions: about 0 they are independent, below 0 the LoRA takes back what the adapter does.
Norms and products come from the small matrices: <up @ down, D> = <up, D @ down^T>, so no full matrix is ever computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from controlnext.errors import ControlNeXtError
from controlnext.loras.layers import LayerName, LoraLayer, flattened, read_layers

if TYPE_CHECKING:
    from torch import Tensor

Word = Literal["none", "low", "some", "high", "unknown"]

SOME, HIGH = 1 / 3, 1.0
"""Pressure from which a conflict is `some`, and `high`. Below 1/3 the sum of both changes points at most 20 degrees (asin
1/3) away from the adapter's own, whatever the direction of the LoRA; from 1 on the LoRA could undo all of the adapter's change."""

OPPOSED = -0.3
"""At or below this cosine the level is raised by one, since the LoRA takes back the adapter's change instead of adding
another. Unrelated matrices of thousands of numbers have a cosine within 0.05 of 0."""

WORST = 5
"""How many layers are named."""


class ConflictError(ControlNeXtError, ValueError):
    """A conflict that cannot be measured on the files that are here; the sentence says why."""


@dataclass(frozen=True)
class LayerConflict:
    """One layer that both change.

    Attributes:
        layer: its path, dots written as underscores.
        ratio: |LoRA| / |adapter|, unitless; infinite where the adapter's change is 0.
        cosine: between both changes, in [-1, 1].
    """

    layer: str
    ratio: float
    cosine: float


@dataclass(frozen=True)
class Conflict:
    """The conflict of a LoRA at some weight with an adapter.

    Attributes:
        word: `none` (no layer in common), `low`, `some`, `high`, or `unknown`.
        reason: why it is unknown; empty otherwise.
        pressure: |LoRA on common layers| / |adapter everywhere|, unitless; the word follows from it.
        ratio: |LoRA| / |adapter| over the common layers together.
        cosine: between both over the common layers together, in [-1, 1].
        layers: how many layers both change.
        share: of the adapter's weight matrices that the LoRA changes, in [0, 1].
        worst: the common layers with the highest ratios.
    """

    word: Word
    reason: str = ""
    pressure: float = 0.0
    ratio: float = 0.0
    cosine: float = 0.0
    layers: int = 0
    share: float = 0.0
    worst: tuple[LayerConflict, ...] = ()

    def at(self, weight: float) -> Conflict:
        """Return the conflict at another weight than 1: norms grow with the weight, and a negative one flips the sign."""
        if self.word in ("unknown", "none"):
            return self
        size, sign = abs(weight), math.copysign(1.0, weight)
        if size == 0:
            return Conflict("none")
        worst = tuple(replace(one, ratio=one.ratio * size, cosine=one.cosine * sign) for one in self.worst)
        pressure, cosine = self.pressure * size, self.cosine * sign
        return replace(
            self,
            word=word_for(pressure, cosine),
            pressure=pressure,
            ratio=self.ratio * size,
            cosine=cosine,
            worst=worst,
        )

    def sentence(self) -> str:
        """Return the numbers in one sentence."""
        if self.reason:
            return self.reason
        if self.word == "none":
            return "It changes no layer that the adapter changes."
        return (
            f"In the {self.layers} layers both change ({self.share:.0%} of the adapter's) the LoRA's change is "
            f"{self.ratio:.2f} times as large as the adapter's, cosine {self.cosine:+.2f}."
        )

    def row(self) -> dict[str, object]:
        """Return it as plain data that JSON can hold."""
        row = asdict(self)
        row["worst"] = [{**asdict(one), "ratio": min(one.ratio, 1e9)} for one in self.worst]
        return row


def word_for(pressure: float, cosine: float) -> Word:
    """Choose the word for a conflict that touches at least one layer."""
    words: tuple[Word, ...] = ("low", "some", "high")
    level = (pressure >= SOME) + (pressure >= HIGH)
    return words[min(level + (cosine <= OPPOSED), 2)]


@dataclass
class _Sums:
    """Sums over the common layers, float64."""

    lora: float = 0.0
    adapter: float = 0.0
    product: float = 0.0
    layers: list[LayerConflict] = field(default_factory=list)

    def add(self, name: str, lora: float, adapter: float, product: float) -> None:
        self.lora, self.adapter, self.product = self.lora + lora, self.adapter + adapter, self.product + product
        both = math.sqrt(lora * adapter)
        ratio = math.sqrt(lora / adapter) if adapter else math.inf
        self.layers.append(LayerConflict(name, ratio, product / both if both else 0.0))


def compare(layers: Iterable[LoraLayer], delta: Mapping[str, Tensor]) -> Conflict:
    """Compare a LoRA at weight 1 with an adapter's change of the UNet.

    Args:
        layers: of the LoRA; those of the UNet count.
        delta: differences by stock diffusers key, any float dtype; biases and norms, which a LoRA cannot change, are left out.

    Returns:
        The conflict.
    """
    matrices = {
        LayerName("unet", flattened(key.removesuffix(".weight"))): tensor
        for key, tensor in delta.items()
        if key.endswith(".weight") and tensor.ndim > 1
    }
    everything = sum(float(tensor.double().square().sum()) for tensor in matrices.values())
    sums = _Sums()
    for layer in layers:
        change = matrices.get(layer.name)
        if change is None:
            continue
        down, up, change = (part.double().flatten(1) for part in (layer.down, layer.up, change))
        if (len(up), down.shape[1]) != tuple(change.shape):
            continue  # of another model; loading it says so
        # |up @ down|^2 is the sum over (up^T up) * (down down^T), both rank x rank.
        norm = float(((up.T @ up) * (down @ down.T)).sum()) * layer.scale**2
        product = float(((change @ down.T) * up).sum()) * layer.scale
        sums.add(layer.name.flat, max(norm, 0.0), float(change.square().sum()), product)
    if not sums.lora:
        return Conflict("none")
    both = math.sqrt(sums.lora * sums.adapter)
    pressure, cosine = (
        math.sqrt(sums.lora / everything) if everything else math.inf,
        sums.product / both if both else 0.0,
    )
    return Conflict(
        word=word_for(pressure, cosine),
        pressure=min(pressure, 1e9),
        ratio=min(math.sqrt(sums.lora / sums.adapter), 1e9) if sums.adapter else 1e9,
        cosine=cosine,
        layers=len(sums.layers),
        share=len(sums.layers) / len(matrices),
        worst=tuple(sorted(sums.layers, key=lambda one: -one.ratio)[:WORST]),
    )


def read_delta(adapter: Path, base: Path | None, kind: str | None = None) -> dict[str, Tensor]:
    """Read what an adapter adds to the weights of the UNet.

    Args:
        adapter: its folder, or its control file, which the UNet weights are next to.
        base: folder or checkpoint file of the base model, needed where the adapter holds full values; None if it is not
            on this machine.
        kind: "delta" or "subset" for a file that does not say.

    Returns:
        Differences by stock diffusers key; empty for an adapter without UNet weights.

    Raises:
        ConflictError: the base is needed and not here, or lacks a layer.
        ControlNeXtError: a file is damaged or does not say of which kind it is.
    """
    from controlnext.method.adapter import UNET_FILES
    from controlnext.method.original_names import diffusers_names
    from controlnext.method.weights import as_kind, read_tensors

    folder = adapter if adapter.is_dir() else adapter.parent
    file = next((folder / name for name in UNET_FILES if (folder / name).is_file()), None)
    if file is None:
        return {}
    tensors, metadata = read_tensors(file)
    tensors = diffusers_names(tensors)
    if as_kind(kind or metadata.get("kind"), what=file.name) == "delta":
        return tensors
    values = {} if base is None else _base_values(base, set(tensors))
    if missing := set(tensors) - set(values):
        where = "is not on this machine" if base is None else f"in {base} lacks {len(missing)} of its layers"
        raise ConflictError(
            f"The adapter holds full values, and the base model {where}, so its change cannot be measured."
        )
    return {key: tensor.float() - values[key].float() for key, tensor in tensors.items()}


def _base_values(base: Path, keys: set[str]) -> dict[str, Tensor]:
    """Read some weights of a base model's UNet, from a diffusers folder or one checkpoint; the others are not read."""
    from safetensors import SafetensorError, safe_open

    from controlnext.method.original_names import PREFIX, KeyNameError, diffusers_name

    found: dict[str, Tensor] = {}
    shards = (base / "unet").glob("*.safetensors") if base.is_dir() else [base]
    for file in sorted(shards, key=lambda file: (len(file.name), file.name)):  # the plain file before its fp16 variant
        try:
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - this is no dictionary
                    name = diffusers_name(key) if key.startswith(PREFIX) else key
                    if name in keys and name not in found:
                        found[name] = tensors.get_tensor(key)
        except (SafetensorError, OSError, KeyNameError) as error:
            raise ConflictError(f"{file.name} of the base model cannot be read ({error}); get it again.") from error
    return found


class Conflicts:
    """Measurements of pairs of files, kept as numbers until a file changes."""

    def __init__(self) -> None:
        """Start with nothing measured."""
        self._known: dict[tuple[object, ...], Conflict] = {}

    def measure(
        self,
        lora: Path,
        adapter: Path | None,
        base: Path | None = None,
        *,
        weight: float = 1.0,
        kind: str | None = None,
    ) -> Conflict:
        """Measure a LoRA against an adapter.

        Args:
            lora: the LoRA's file.
            adapter: the adapter's folder or control file; None if it is not on this machine.
            base: the base model's folder or checkpoint, see `read_delta`.
            weight: of the LoRA.
            kind: of the adapter's UNet weights, see `read_delta`.

        Returns:
            The conflict; `unknown` with the reason where files are missing or cannot be read. Never raises for a bad file.
        """
        if adapter is None:
            return Conflict("unknown", "The adapter is not on this machine yet, so its change cannot be measured.")
        folder = adapter if adapter.is_dir() else adapter.parent
        key = (lora, _stamp(lora), folder, _stamp(folder), base, kind)
        if key not in self._known:
            try:
                delta = read_delta(adapter, base, kind)
                touched = {LayerName("unet", flattened(name.removesuffix(".weight"))) for name in delta}
                self._known[key] = compare(read_layers(lora, touched.__contains__), delta)
            except ControlNeXtError as error:
                self._known[key] = Conflict("unknown", str(error))
        return self._known[key].at(weight)


def _stamp(place: Path) -> tuple[tuple[str, int, int], ...]:
    """Return a value that changes when a file, or one of the files in a folder, changes."""
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file())
