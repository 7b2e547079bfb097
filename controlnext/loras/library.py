"""The LoRA library: folders of files, matched to a base model, loaded by name with a weight.

Every file gets a row that says whether it can be used with a model now, and if not, why. A new file is looked at by its
header, and only one that can be used is copied into the library.
"""

from __future__ import annotations

import filecmp
import hashlib
import logging
import re
import shutil
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Protocol

from controlnext.errors import ControlNeXtError
from controlnext.loras.file import PICKLES, BaseShape, LoraInfo, inspect_lora
from controlnext.loras.hot_swap import PLACE, hot_swap
from controlnext.loras.layers import LayerName, LoraFileError, LoraLayer, flattened, read_layers
from controlnext.quiet import quiet_loading
from controlnext.scratch import sweep_unfinished, unfinished

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

NAME_LENGTH = 80
"""Characters of an uploaded file's name that are kept, without its ending."""

_UNSAFE = re.compile(r"[^\w\-.+() ]|\.(?=\.)")
_COPYING = threading.Lock()


class TakesLoras(Protocol):
    """What is asked of a diffusers pipeline that takes LoRAs."""

    def get_list_adapters(self) -> dict[str, list[str]]:
        """Names of the LoRAs that are loaded, by part of the pipeline."""

    def load_lora_weights(self, tensors: dict[str, Tensor], *, adapter_name: str) -> object:
        """Load one under a name."""

    def set_adapters(self, names: list[str], adapter_weights: list[float]) -> object:
        """Make exactly these act, with these weights."""

    def delete_adapters(self, names: list[str]) -> object:
        """Take some away."""

    def unload_lora_weights(self) -> object:
        """Take all away."""


class LoraError(ControlNeXtError, ValueError):
    """A LoRA that is not there, does not fit, or cannot be read."""


class LoraLibrary:
    """Folders of LoRAs; files may come and go while the app runs."""

    def __init__(self, folders: Sequence[str | Path]) -> None:
        """Name the folders; a name in an earlier one wins.

        Args:
            folders: searched with all they contain; those that do not exist are empty.
        """
        self.folders = tuple(Path(folder).expanduser() for folder in folders)
        self._seen: dict[Path, tuple[tuple[int, int], LoraInfo]] = {}

    def scan(self) -> dict[str, LoraInfo]:
        """List every LoRA by name; headers are read once and again when a file changes."""
        found: dict[str, LoraInfo] = {}
        for folder in self.folders:
            if not folder.is_dir():
                continue
            for path in sorted(folder.rglob("*")):
                inside = path.relative_to(folder)
                if path.suffix not in (".safetensors", *PICKLES) or any(part.startswith(".") for part in inside.parts):
                    continue
                if path.is_file():
                    name = inside.with_suffix("").as_posix()
                    found.setdefault(
                        name if path.suffix == ".safetensors" else inside.as_posix(), self._info(path, name)
                    )
        return found

    def rows(self, shape: BaseShape, title: str) -> list[dict[str, Any]]:
        """List the library as plain data for one base model, usable ones first."""
        rows = []
        for name, info in self.scan().items():
            reason = info.misfit(shape, title)
            rows.append(
                {
                    "name": name,
                    "title": info.title,
                    "usable": not reason,
                    "reason": reason,
                    "family": info.family,
                    "style": info.style,
                    "rank": info.rank,
                    "weight": info.weight,
                    "trigger": info.trigger,
                    "size": info.size,
                }
            )
        return sorted(rows, key=lambda row: not row["usable"])

    def find(self, name: str, shape: BaseShape, title: str) -> LoraInfo:
        """Return a LoRA that fits.

        Raises:
            LoraError: there is none of that name, or it does not fit; the sentence says which do.
        """
        found = self.scan()
        if name not in found:
            fitting = [other for other, info in found.items() if not info.misfit(shape, title)]
            have = f"there are {', '.join(fitting)}" if fitting else f"the folder for {title} holds none"
            raise LoraError(f"There is no LoRA {name!r}; {have}.")
        reason = found[name].misfit(shape, title)
        if reason:
            raise LoraError(f"The LoRA {name!r} cannot be used. {reason}")
        return found[name]

    def add(self, source: str | Path, shape: BaseShape, title: str, name: str | None = None) -> LoraInfo:
        """Copy a file into the first folder, whole or not at all, under a name that is free.

        Args:
            source: the file; nothing but its header is read before it is accepted.
            shape: of the base model it is meant for.
            title: of that model.
            name: its file name where `source` is called something else.

        Returns:
            What the header of the copy says, or of a file with the same content that was there under that name already.

        Raises:
            LoraError: it is no LoRA for this model, or cannot be copied; nothing is left behind.
        """
        source = Path(source)
        called = Path(name or source.name)
        if not self.folders:
            raise LoraError("There is no folder for LoRAs; start the app with one (--loras DIR).")
        if called.suffix.lower() not in (".safetensors", *PICKLES):
            raise LoraError(f"{called.name!r} is no LoRA file; LoRAs end in .safetensors.")
        if called.suffix.lower() in PICKLES:
            reason = inspect_lora(called).problem
        else:
            reason = inspect_lora(source).misfit(shape, title)
        if reason:
            raise LoraError(f"{called.name!r} was not added. {reason}")
        folder, stem = self.folders[0], safe_name(called.stem)
        with _COPYING:
            taken, free, number = self.scan(), stem, 1
            while free in taken:
                if filecmp.cmp(source, taken[free].path, shallow=False):
                    return taken[free]
                number += 1
                free = f"{stem} {number}"
            target = folder / f"{free}.safetensors"
            partial = unfinished(folder, ".safetensors")  # hidden from `scan`
            try:
                folder.mkdir(parents=True, exist_ok=True)
                sweep_unfinished(folder)
                shutil.copyfile(source, partial)
                partial.replace(target)
            except OSError as error:
                partial.unlink(missing_ok=True)
                raise LoraError(
                    f"{called.name!r} could not be copied to the folder of LoRAs ({error.strerror or error}): make room, or choose "
                    "another folder with --loras DIR."
                ) from error
        return self._info(target, free)

    def _info(self, path: Path, name: str) -> LoraInfo:
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns)
        if self._seen.get(path, (None,))[0] != stamp:
            self._seen[path] = (stamp, inspect_lora(path, name))
        return self._seen[path][1]


def safe_name(text: str) -> str:
    """Turn a foreign file name into a safe one: no folders, no hidden files, no characters a shell interprets."""
    name = re.sub(r"\s+", " ", _UNSAFE.sub("_", text)).strip(" .")
    name = name[:NAME_LENGTH].strip(" .")
    return name if name.strip("_") else "lora"


def load_loras(pipeline: TakesLoras, wanted: Sequence[tuple[LoraInfo, float]]) -> None:
    """Make exactly these LoRAs act on a pipeline, with these weights; an empty list removes every trace.

    Files that are loaded already stay loaded; only their weights are set.

    Args:
        pipeline: a diffusers pipeline that takes LoRAs.
        wanted: LoRAs with weights; negative ones push the other way, 0 is left out.

    Raises:
        LoraError: a file does not match the model's layers; none is left loaded then.
    """
    weights = {_handle(info): weight for info, weight in wanted if weight != 0}
    loaded = {name for names in pipeline.get_list_adapters().values() for name in names}
    if not weights:
        if loaded:
            pipeline.unload_lora_weights()
        return
    with warnings.catch_warnings():  # several LoRAs at once, and removing one, are intended
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        warnings.filterwarnings("ignore", message="Adapter .* was active which is now deleted")
        kept = set(weights) | ({PLACE} if len(weights) == 1 else set())
        if loaded - kept:
            pipeline.delete_adapters(sorted(loaded - kept))
        if set(weights) - loaded:
            _take_adapters_out(pipeline)
        if len(weights) == 1 and _swapped(pipeline, wanted, weights):
            return
        for info, weight in wanted:
            handle = _handle(info)
            if weight != 0 and handle not in loaded:
                _load(pipeline, info, handle)
        pipeline.set_adapters(list(weights), adapter_weights=list(weights.values()))


def _swapped(pipeline: TakesLoras, wanted: Sequence[tuple[LoraInfo, float]], weights: dict[str, float]) -> bool:
    """Whether the only LoRA took the place of the one before, or waits there for the next one."""
    ((handle, weight),) = weights.items()
    info = next(info for info, _ in wanted if _handle(info) == handle)

    def load(**options: Any) -> None:
        with quiet_loading():
            pipeline.load_lora_weights(_tensors(pipeline, info), **options)

    return hot_swap(pipeline, handle, weight, load)


def _take_adapters_out(pipeline: TakesLoras) -> None:
    """Take adapters' weights out: a DoRA is measured on the base model's own; the call sets them again."""
    for attachment in getattr(pipeline, "controlnexts", {}).values():
        attachment.alpha = 0.0


def _load(pipeline: TakesLoras, info: LoraInfo, handle: str) -> None:
    try:
        tensors = _tensors(pipeline, info)
        with quiet_loading():  # most LoRAs leave the text encoder as it is, which needs no warning
            pipeline.load_lora_weights(tensors, adapter_name=handle)
    except (LoraFileError, LoraError):
        pipeline.unload_lora_weights()
        raise
    except (ValueError, RuntimeError, KeyError, IndexError, AttributeError, OSError) as error:
        pipeline.unload_lora_weights()
        reason = " ".join(str(error).split())
        reason = (
            "its layers have other sizes" if "size mismatch" in reason else shorten(reason, 120, placeholder=" ...")
        )
        raise LoraError(f"The LoRA {info.name!r} does not fit this model: {reason}.") from error


def _tensors(pipeline: TakesLoras, info: LoraInfo) -> dict[str, Tensor]:
    """Read a file in any key style as PEFT names of the pipeline's own layers, alpha / rank multiplied in.

    diffusers' loader reads files of one style alone, and with several alphas in one file (kohya's convolutions) it gives
    some layers the alpha of others.
    """
    paths = _layer_paths(pipeline)
    tensors: dict[str, Tensor] = {}
    strangers = 0

    def wanted(name: LayerName) -> bool:
        nonlocal strangers
        strangers += name not in paths
        return name in paths

    def base(name: LayerName) -> Tensor:
        return _stock_weight(pipeline, name.part, paths[name])

    for layer in read_layers(info.path, wanted, base):
        path = paths[layer.name]
        down, up = _fitted(layer, _stock_weight(pipeline, layer.name.part, path), info.name, path)
        stem = f"{layer.name.part}.{path}"
        tensors[f"{stem}.lora_A.weight"] = down
        tensors[f"{stem}.lora_B.weight"] = up if layer.scale == 1 else up.float() * layer.scale
    if not tensors:
        raise ValueError("none of its keys names a layer of this model")
    if strangers:
        logger.warning("The LoRA %r has %d layers that this model lacks; they do nothing.", info.name, strangers)
    return tensors


def _stock_weight(pipeline: TakesLoras, part: str, path: str) -> Tensor:
    """Weight of a layer of the base model, without LoRAs; adapters' weights were taken out before."""
    model = getattr(pipeline, part)
    layer = getattr(model, "_orig_mod", model).get_submodule(path)
    from controlnext.method.stored_weights import plain_weight

    return plain_weight(getattr(layer, "base_layer", layer))


def _fitted(layer: LoraLayer, weight: Tensor, name: str, path: str) -> tuple[Tensor, Tensor]:
    """Bring the matrices of a layer to the shape of a weight: 1 x 1 convolutions and linear layers are the same.

    Raises:
        LoraError: they change a weight of another shape.
    """
    down, up = layer.down, layer.up
    if down.ndim != weight.ndim and {*down.shape[2:], *weight.shape[2:]} <= {1}:
        ones = (1,) * (weight.ndim - 2)
        down, up = down.flatten(1).reshape(len(down), -1, *ones), up.flatten(1).reshape(len(up), -1, *ones)
    if (len(up), *down.shape[1:]) != tuple(weight.shape):
        own, other = ("x".join(map(str, shape)) for shape in ((len(up), *down.shape[1:]), weight.shape))
        raise LoraError(
            f"The LoRA {name!r} does not fit this model: its layer {path} changes a weight of {own}, and the model's is {other}."
        )
    return down, up


def _layer_paths(pipeline: TakesLoras) -> dict[LayerName, str]:
    """Name of each layer in any key style -> its path in the pipeline's model, whether or not a LoRA is on it already."""
    paths: dict[LayerName, str] = {}
    for part in ("unet", "text_encoder", "text_encoder_2"):
        model = getattr(pipeline, part, None)
        for path, _ in [] if model is None else getattr(model, "_orig_mod", model).named_modules():
            stock = path.replace(".base_layer", "")
            if ".lora_" in stock:
                continue
            flat = flattened(stock)
            # Releases of transformers differ in whether the text model is a layer of its own.
            others = (f"text_model_{flat}", flat.removeprefix("text_model_")) if part != "unet" else ()
            for each in (flat, *others):
                paths.setdefault(LayerName(part, each), stock)
    return paths


def _handle(info: LoraInfo) -> str:
    """Name of a LoRA inside the pipeline: PEFT allows no dots, and a changed file counts as another LoRA."""
    stamp = f"{info.path.resolve()}:{info.path.stat().st_mtime_ns}"
    return f"lora_{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
