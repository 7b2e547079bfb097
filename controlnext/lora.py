"""The LoRA library: folders of files, matched to a base model, loaded by name with a weight.

Every file gets a row that says whether it can be used with a model now, and if not, why.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlnext.errors import ControlNeXtError
from controlnext.lora_file import PICKLES, BaseShape, LoraInfo, inspect_lora
from controlnext.quiet import quiet_loading

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class LoraError(ControlNeXtError, ValueError):
    """A LoRA that is not there, does not fit, or cannot be read."""


class LoraLibrary:
    """Folders of LoRAs; files may come and go while the app runs."""

    def __init__(self, folders: Sequence[str | Path]) -> None:
        """Name the folders; the first one that has a name wins.

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

    def _info(self, path: Path, name: str) -> LoraInfo:
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns)
        if self._seen.get(path, (None,))[0] != stamp:
            self._seen[path] = (stamp, inspect_lora(path, name))
        return self._seen[path][1]


def load_loras(pipeline: DiffusionPipeline, wanted: Sequence[tuple[LoraInfo, float]]) -> None:
    """Make exactly these LoRAs act on a pipeline, with these weights; an empty list takes every trace away.

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
    with warnings.catch_warnings():  # several LoRAs at once, and taking one away, are what is meant here
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        warnings.filterwarnings("ignore", message="Adapter .* was active which is now deleted")
        if loaded - set(weights):
            pipeline.delete_adapters(sorted(loaded - set(weights)))
        for info, weight in wanted:
            handle = _handle(info)
            if weight != 0 and handle not in loaded:
                _load(pipeline, info, handle)
        pipeline.set_adapters(list(weights), adapter_weights=list(weights.values()))


def _load(pipeline: DiffusionPipeline, info: LoraInfo, handle: str) -> None:
    try:
        with quiet_loading():  # most LoRAs leave the text encoder alone, which is no cause for a warning
            pipeline.load_lora_weights(str(info.path.parent), weight_name=info.path.name, adapter_name=handle)
        if not any(handle in names for names in pipeline.get_list_adapters().values()):
            raise ValueError("none of its keys names a layer of this model")
    except (ValueError, RuntimeError, KeyError, IndexError, AttributeError, OSError) as error:
        pipeline.unload_lora_weights()
        reason = " ".join(str(error).split())[:300]
        raise LoraError(f"The LoRA {info.name!r} does not fit this model: {reason}.") from error


def _handle(info: LoraInfo) -> str:
    """Name inside the pipeline: PEFT allows no dots, and a file that changed is another LoRA."""
    stamp = f"{info.path.resolve()}:{info.path.stat().st_mtime_ns}"
    return f"lora_{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
