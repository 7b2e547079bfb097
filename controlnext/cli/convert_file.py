"""Conversion of pickled weight files to safetensors, without running code in them."""

from __future__ import annotations

from pathlib import Path

from controlnext.errors import ControlNeXtError
from controlnext.method.original_names import diffusers_names
from controlnext.method.weights import as_kind, read_tensors, write_tensors


class ConvertError(ControlNeXtError, ValueError):
    """A conversion that would overwrite something or write the wrong kind of file."""


def convert(source: str | Path, target: str | Path, kind: str | None = None) -> int:
    """Write a weight file as safetensors.

    Args:
        source: `.bin`, `.pt`, `.pth` of which only tensors are accepted, or `.safetensors`.
        target: a `.safetensors` file that is not there yet.
        kind: what the UNet weights in it are, `delta` or `subset`, kept in the header; None keeps what it says itself.

    Returns:
        Number of tensors written.

    Raises:
        ConvertError: the target is there already, or is named otherwise.
        WeightsError: the source cannot be read, holds more than tensors, or the kind is neither of both.
    """
    target = Path(target)
    if target.suffix != ".safetensors":
        raise ConvertError(f"{target.name} is written as safetensors; let its name end in .safetensors.")
    if target.exists():
        raise ConvertError(f"There is {target} already; remove it, or choose another name.")
    tensors, metadata = read_tensors(source)
    header = {"format": "pt", **metadata}
    if kind is not None:
        header["kind"] = as_kind(kind, what=Path(source).name)
    try:
        write_tensors(target, {key: tensor.clone() for key, tensor in diffusers_names(tensors).items()}, header)
    except OSError as error:
        raise ConvertError(f"{target} cannot be written: {error.strerror or error}.") from None
    return len(tensors)
