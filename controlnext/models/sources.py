"""The parts of a preset, and where they are on this disk; no network is used and nothing is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from controlnext.errors import fail
from controlnext.hashes import weights_digest
from controlnext.models.presets import Base, Place, Preset

if TYPE_CHECKING:
    from controlnext.loras.file import LoraInfo
    from controlnext.recipes.recipe import Recipe
    from controlnext.recipes.video_recipe import VideoRecipe

INDEX_FILE = "model_index.json"
CONTROL_FILES = ("controlnet.safetensors", "controlnext.safetensors", "controlnet.bin", "controlnext.bin")
UNET_FILES = (
    "unet.safetensors",
    "unet_weight_increasements.safetensors",
    "unet.bin",
    "unet_fp16.bin",
    "unet_weight_increasements.bin",
)
"""Names of an adapter's files as the authors publish and save them, best first."""

WEIGHTED = ("unet", "transformer", "text_encoder_3", "text_encoder", "text_encoder_2", "image_encoder", "vae")
"""Components of a pipeline that have weights, the largest first; the safety checker is not used here."""

_COMPONENTS = (*WEIGHTED, "scheduler", "tokenizer", "tokenizer_2", "tokenizer_3", "feature_extractor")
_WEIGHTS = re.compile(r"(?:diffusion_pytorch_)?model(?:\.([\w-]+?))?(?:-\d+-of-\d+)?(?:\.([\w-]+))?\.safetensors")
_SMALL = (".json", ".txt")

Layout = Literal["pipeline", "checkpoint", "adapter", "model"]


@dataclass(frozen=True)
class Part:
    """One thing a preset needs.

    Attributes:
        label: what it is, inside a sentence: `the base model`, `the canny adapter`.
        layout: how its files are laid out: a diffusers pipeline, one checkpoint file, an adapter, or one diffusers model.
        place: where it comes from, as the preset says.
        path: the same on this disk; None for a hub repository.
    """

    label: str
    layout: Layout
    place: Place
    path: Path | None = None

    @property
    def checkpoint(self) -> str:
        """Name of the single file in its repository; empty where there is none."""
        return (self.place.checkpoint or "") if isinstance(self.place, Base) else ""

    def find(self) -> Path | None:
        """Folder or file on this disk, or None; the hub's cache counts once all files are in it."""
        if self.path is not None:
            return self.path if _there(self.path, self.layout) else None
        for repo in self.place.repos:
            for folder in repo.snapshots(self.place.revision):
                if self._complete(folder):
                    return folder / self.checkpoint if self.layout == "checkpoint" else folder
        return None

    def size(self) -> int | None:
        """Bytes of its weight files as the preset lists them; None where it does not know."""
        sizes = [size for size in self.place.files.values() if size is not None]
        return sum(sizes) if sizes and len(sizes) == len(self.place.files) else self.place.size

    def choose(self, names: Iterable[str]) -> list[str]:
        """Choose what to download of a repository.

        Args:
            names: the files it has, relative to the part's folder in it.

        Returns:
            The names that are needed: configurations, and weights as safetensors in one precision.

        Raises:
            ValueError: the repository lacks something; a sentence that names it.
        """
        names = set(names)
        if self.layout == "checkpoint":
            return _all_of([self.checkpoint], names)
        if self.layout == "pipeline":
            small = [name for name in names if name == INDEX_FILE or _is_small(name)]
            variant = self.place.file_variant if isinstance(self.place, Base) else ""
            weights = list(self.place.files) or _pipeline_weights(names, variant)
            return sorted(_all_of([INDEX_FILE, *weights], names) + [name for name in small if name != INDEX_FILE])
        if self.layout == "model":
            weights = list(self.place.files) or _component_weights("", names, "")
            return _all_of(["config.json", *weights], names)
        weights = list(self.place.files) or _first(CONTROL_FILES, names) + _first(UNET_FILES, names)
        if not weights:
            fail(f"it holds none of {', '.join(CONTROL_FILES)}")
        return _all_of(weights, names) + [name for name in ("config.json",) if name in names]

    def _complete(self, folder: Path) -> bool:
        if any(not (folder / name).is_file() for name in self.place.files):
            return False
        if self.layout == "checkpoint":
            return (folder / self.checkpoint).is_file()
        if self.layout == "pipeline":
            return _complete_pipeline(folder)
        return bool(self.place.files) or _there(folder, self.layout)


def parts_of(preset: Preset, kinds: Sequence[str] | None = None, *, half: bool = False) -> list[Part]:
    """List what a preset needs.

    Args:
        preset: the preset.
        kinds: conditions whose adapters are wanted; None takes all.
        half: whether the device runs models in float16, which may need another autoencoder.

    Returns:
        The base model first.
    """
    base = preset.base
    single = base.checkpoint or (base.path or "").endswith(".safetensors")
    found = [Part("the base model", "checkpoint" if single else "pipeline", base, _path(preset, base))]
    if half and preset.vae is not None and preset.precision != "float32":
        found.append(Part("the autoencoder for float16", "model", preset.vae, _path(preset, preset.vae)))
    return found + [adapter_of(preset, kind) for kind in (preset.adapters if kinds is None else kinds)]


def adapter_of(preset: Preset, kind: str) -> Part:
    """The adapter of one kind of condition."""
    row = preset.adapters[kind]
    return Part(f"the {kind} adapter", "adapter", row, _path(preset, row))


def _path(preset: Preset, place: Place) -> Path | None:
    return None if place.path is None else preset.resolve_path(place.path)


def _there(path: Path, layout: Layout) -> bool:
    """Whether a file or folder looks like what it should be; loading checks the rest."""
    if layout == "checkpoint":
        return path.is_file()
    if layout == "pipeline":
        return (path / INDEX_FILE).is_file()
    if layout == "adapter":
        return path.is_file() or any((path / name).is_file() for name in CONTROL_FILES)
    return (path / "config.json").is_file() and any(path.glob("*.safetensors"))


def _complete_pipeline(folder: Path) -> bool:
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    for name in _COMPONENTS:
        entry = index.get(name)
        if not isinstance(entry, list) or entry[0] is None:
            continue
        files = [path.relative_to(folder).as_posix() for path in (folder / name).glob("*") if path.is_file()]
        if not files or (name in WEIGHTED and not _whole(name, files)):
            return False
    return True


def _whole(component: str, names: Sequence[str]) -> bool:
    """Whether a component has its configuration and one full set of weights."""
    sets = _weight_sets(component, names)
    return f"{component}/config.json" in names and any(_no_gap(found) for found in sets.values())


def _no_gap(names: Sequence[str]) -> bool:
    """Whether all shards are there."""
    counts = {int(match[1]) for name in names if (match := re.search(r"-\d+-of-(\d+)", name))}
    return not counts or len(names) == max(counts)


def _weight_sets(component: str, names: Iterable[str]) -> dict[str, list[str]]:
    """Weight files of a component by their variant, the empty one being the plain files."""
    sets: dict[str, list[str]] = {}
    prefix = f"{component}/" if component else ""
    for name in sorted(names):
        if name.startswith(prefix) and (match := _WEIGHTS.fullmatch(name.removeprefix(prefix))):
            sets.setdefault(match[1] or match[2] or "", []).append(name)
    return sets


def pickled_files(adapter: Path) -> list[Path]:
    """Files of an adapter, its folder or its control file, that are pickles and would be better as safetensors."""
    if adapter.is_file():
        found = [adapter]
    else:
        groups = (CONTROL_FILES, UNET_FILES)
        found = [
            path for names in groups for path in [adapter / name for name in names if (adapter / name).is_file()][:1]
        ]
    return [path for path in found if path.suffix != ".safetensors"]


def weight_variant(folder: Path) -> str | None:
    """Which weight files of a component's folder to load: None for the plain ones, else the name of a variant."""
    sets = _weight_sets("", [path.name for path in folder.glob("*.safetensors")])
    return next((name for name in sets if name), None) if "" not in sets else None


def _pipeline_weights(names: set[str], variant: str) -> list[str]:
    here = [name for name in WEIGHTED if any(file.startswith(f"{name}/") for file in names)]
    return [file for component in here for file in _component_weights(component, names, variant)]


def _component_weights(component: str, names: set[str], variant: str) -> list[str]:
    sets = _weight_sets(component, names)
    chosen = sets.get(variant) or sets.get("")
    if not chosen:
        fail(f"its {component or 'folder'} has no safetensors files")
    return chosen


def _is_small(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return folder in _COMPONENTS and file.endswith(_SMALL)


def _first(wanted: Sequence[str], names: set[str]) -> list[str]:
    return [name for name in wanted if name in names][:1]


def _all_of(wanted: Sequence[str], names: set[str]) -> list[str]:
    missing = [name for name in wanted if name not in names]
    if missing:
        fail(f"it lacks {', '.join(missing[:3])}")
    return list(wanted)


def weights_of(
    recipe: Recipe | VideoRecipe, preset: Preset, loras: Iterable[tuple[LoraInfo, float]] = ()
) -> dict[str, str]:
    """Return the digests of the files that a recipe uses, as far as they are on this disk.

    Args:
        recipe: of a picture or a video.
        preset: of its model.
        loras: its LoRAs, with their weights.

    Returns:
        Digests by `base`, `adapter:KIND` and `lora:NAME`.
    """
    kinds = [control.condition_kind for control in getattr(recipe, "all_controls", (recipe,))]
    parts = {"base": parts_of(preset, ())[0].find()}
    parts |= {f"adapter:{kind}": adapter_of(preset, kind).find() for kind in kinds}
    parts |= {f"lora:{info.name}": info.path for info, _ in loras}
    return {name: weights_digest(place) for name, place in parts.items() if place is not None}
