"""What there is to choose from: models, their adapters and LoRAs, and what a choice means where a person said nothing."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controlnext.conflicts import Conflict, Conflicts
from controlnext.limits import shorten
from controlnext.lora import LoraError, LoraLibrary
from controlnext.lora_file import TEXT_WIDTHS, BaseShape, LoraInfo
from controlnext.presets import DEFAULT_MODEL, PRESETS_DIR, AdapterRow, Preset, PresetError, load_presets
from controlnext.recipe import LoraUse, Recipe, RecipeError

RANDOM_SEEDS = 2**32
"""Drawn seeds are below this, short enough to be read out; a recipe takes larger ones too."""

MADE_AS_GIVEN = "none"
"""The annotator of an upload that already is a condition."""

_DEFAULTED = {"seed": -1, "width": 0, "height": 0}
_CONTROL_FILES = ("controlnet.safetensors", "controlnext.safetensors")


class Catalogue:
    """Presets and LoRAs on disk; files may come and go while the app runs."""

    def __init__(self, presets_dir: str | Path | None = None, lora_dirs: Sequence[str | Path] = ()) -> None:
        """Name the places.

        Args:
            presets_dir: folder of preset files; None takes the project's.
            lora_dirs: folders of LoRAs for any model, beside those the presets name.
        """
        self.presets_dir = PRESETS_DIR if presets_dir is None else Path(presets_dir).expanduser()
        self.lora_dirs = tuple(lora_dirs)
        self._stamp: tuple | None = None
        self._presets: dict[str, Preset] = {}
        self._broken: dict[str, str] = {}
        self._failed: dict[str, str] = {}
        self._libraries: dict[tuple, LoraLibrary] = {}
        self._conflicts = Conflicts()

    def models(self) -> list[dict[str, Any]]:
        """List every preset as plain data.

        Returns:
            Rows with `name`, `label`, `description`, `family`, `licence`, `source`, `usable`, `reason`, `annotators` (kinds
            whose adapter is there), `missing` (kind -> why), `defaults` (with `gamma` by kind) and `sizes`.
        """
        presets = self._read()
        rows = [self._row(preset) for preset in presets.values()]
        empty = {"annotators": [], "missing": {}, "defaults": {}, "sizes": {}}
        rows += [
            {"name": name, "label": name, "family": "", "licence": "", "usable": False, "reason": reason, **empty}
            for name, reason in self._broken.items()
        ]
        return rows

    def loras(self, model: str, annotator: str = "") -> list[dict[str, Any]]:
        """List the LoRAs as plain data, each with whether it is usable with a model and if not why.

        Args:
            model: name of a preset.
            annotator: kind of condition; then usable rows have `conflict` with its adapter, at the LoRA's own weight.
        """
        preset = self.preset(model)
        rows = self._library(preset).rows(self._shape(preset), preset.title)
        for row in rows if annotator else ():
            if row["usable"]:
                row["conflict"] = self.conflict(model, annotator, row["name"], row["weight"]).row()
        return rows

    def conflict(self, model: str, annotator: str, lora: str, weight: float = 1.0) -> Conflict:
        """Tell how much a LoRA works on the same weights as an adapter, from the files alone.

        Raises:
            ControlNeXtError: there is no such model, adapter or LoRA, or the LoRA does not fit the model.
        """
        preset = self.preset(model)
        row = self._adapter_row(preset, annotator)
        info = self._library(preset).find(lora, self._shape(preset), preset.title)
        places = (_on_disk(preset.located(row)), _on_disk(preset.located(preset.base), preset.base.revision))
        return self._conflicts.measure(info.path, *places, weight=weight)

    def add_lora(self, model: str, source: str | Path, name: str | None = None) -> str:
        """Copy a LoRA file into the user's own folder, the first of `lora_dirs`.

        Args:
            model: name of the preset it has to fit.
            source: the file.
            name: its file name where `source` is called something else.

        Returns:
            Its name in the library.

        Raises:
            ControlNeXtError: it is no LoRA for this model, or cannot be copied.
        """
        preset = self.preset(model)
        if not self.lora_dirs:
            raise LoraError("There is no folder for your LoRAs; start the app with one (--loras DIR).")
        return self._library(preset).add(source, self._shape(preset), preset.title, name).name

    def preset(self, name: str) -> Preset:
        """Return a preset by name.

        Raises:
            PresetError: there is none of that name, or its file is wrong.
        """
        presets = self._read()
        if name in presets:
            return presets[name]
        if name in self._broken:
            raise PresetError(self._broken[name])
        raise PresetError(
            f"There is no model {shorten(name)}; choose one of {', '.join(presets) or 'none: no preset was found'}."
        )

    def require(self, preset: Preset) -> None:
        """Raise a `PresetError` if the base model's files are not there."""
        reason = _missing_base(preset)
        if reason and preset.base.path is not None:
            raise PresetError(reason)

    def failed(self, preset: Preset, reason: str) -> None:
        """Remember that a model could not be loaded, so that `models` says so; an empty reason takes it back."""
        self._failed[preset.name] = reason

    def resolve(self, model: str = DEFAULT_MODEL, annotator: str = MADE_AS_GIVEN, **values: object) -> Recipe:
        """Make a recipe of what a person gave and the model's defaults for the rest.

        Args:
            model: name of a preset.
            annotator: what makes the condition; `none` takes the upload as it is, and `adapter` then says what it is.
            **values: fields of a recipe. None means the default, as do a seed of -1 (drawn) and a width or height of 0.
                `loras` may be names, (name, weight) pairs, objects with both, or a mapping of name to weight.

        Returns:
            The checked recipe.

        Raises:
            ControlNeXtError: a value is wrong, or the model does not have what was asked for; one sentence.
        """
        preset = self.preset(model)
        given = {key: value for key, value in values.items() if value is not None and not _is_default(key, value)}
        adapter = str(given.pop("adapter", ""))
        kind = adapter or ("" if annotator == MADE_AS_GIVEN else annotator)
        row = self._adapter_row(preset, kind) if kind else AdapterRow()
        if "loras" in given:
            given["loras"] = _lora_uses(given["loras"])
        filled = {
            "seed": secrets.randbelow(RANDOM_SEEDS),
            "width": preset.sizes.width,
            "height": preset.sizes.height,
            **preset.defaults.values(),
            **({"gamma": self._gamma(preset, row)} if kind else {}),
            **row.values(),
            **given,
        }
        recipe = Recipe(
            model=preset.name, annotator=annotator, adapter=adapter if adapter != annotator else "", **filled
        )
        self.check(recipe, preset)
        return recipe

    def check(self, recipe: Recipe, preset: Preset) -> list[tuple[LoraInfo, float]]:
        """Check a recipe against its model, and find its LoRAs.

        Returns:
            LoRA files and weights.

        Raises:
            ControlNeXtError: a size, kind of condition or LoRA this model does not have.
        """
        try:
            preset.sizes.check(recipe.width, recipe.height, preset.title)
        except ValueError as error:
            raise RecipeError(str(error)) from None
        if recipe.condition_kind:
            self._adapter_row(preset, recipe.condition_kind)
        shape, library = self._shape(preset), self._library(preset)
        return [(library.find(use.name, shape, preset.title), use.weight) for use in recipe.loras]

    def _row(self, preset: Preset) -> dict[str, Any]:
        missing = {kind: _missing_adapter(preset, kind) for kind in preset.adapters}
        reason = _missing_base(preset) or self._failed.get(preset.name, "")
        defaults = Recipe().model_dump(
            include={"num_inference_steps", "guidance_scale", "control_start", "control_end"}
        )
        sizes = preset.sizes
        return {
            "name": preset.name,
            "label": preset.title,
            "description": preset.description,
            "family": preset.family,
            "licence": preset.base.licence,
            "source": preset.base.source,
            "usable": not reason,
            "reason": reason,
            "annotators": [kind for kind, why in missing.items() if not why],
            "missing": {kind: why for kind, why in missing.items() if why},
            "defaults": {
                **defaults,
                **preset.defaults.values(),
                "width": sizes.width,
                "height": sizes.height,
                "gamma": {kind: self._gamma(preset, row) for kind, row in preset.adapters.items()},
            },
            "sizes": sizes.model_dump(mode="json"),
        }

    def _adapter_row(self, preset: Preset, kind: str) -> AdapterRow:
        if kind not in preset.adapters:
            have = f"choose one of {', '.join(preset.adapters)}" if preset.adapters else "it has none at all"
            raise RecipeError(f"{preset.title} has no adapter for {shorten(kind)}; {have}.")
        return preset.adapters[kind]

    def _gamma(self, preset: Preset, row: AdapterRow) -> float:
        """Default strength: the preset's row, else what the adapter's maker recommends, else the preset's, else 1."""
        if row.gamma is not None:
            return row.gamma
        place = preset.located(row)
        if isinstance(place, Path):
            try:
                return float(json.loads((place / "config.json").read_text(encoding="utf-8"))["gamma"])
            except (OSError, ValueError, LookupError, TypeError):
                pass  # a folder without a word on it; a damaged one says so when it is loaded
        return 1.0 if preset.defaults.gamma is None else preset.defaults.gamma

    def _read(self) -> dict[str, Preset]:
        """The presets as they are on disk now."""
        files = sorted(self.presets_dir.glob("*.y*ml"))
        stamp = tuple((file.name, file.stat().st_mtime_ns) for file in files)
        if stamp != self._stamp:
            self._presets, self._broken = load_presets(self.presets_dir)
            self._stamp, self._failed = stamp, {}
        return self._presets

    def _library(self, preset: Preset) -> LoraLibrary:
        folders = (*self.lora_dirs, *preset.lora_dirs())
        if folders not in self._libraries:
            self._libraries[folders] = LoraLibrary(folders)
        return self._libraries[folders]

    def _shape(self, preset: Preset) -> BaseShape:
        place = preset.located(preset.base)
        if isinstance(place, Path):
            return BaseShape.of_folder(place)
        return BaseShape(next((width for width, family in TEXT_WIDTHS.items() if family == preset.family), None))


def _is_default(key: str, value: object) -> bool:
    return key in _DEFAULTED and not isinstance(value, bool) and value == _DEFAULTED[key]


def _missing_base(preset: Preset) -> str:
    place = preset.located(preset.base)
    if isinstance(place, Path):
        if (place / "model_index.json").is_file():
            return ""
        return f"The weights of {preset.title} are not there: {place} holds no model_index.json."
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(place, "model_index.json", revision=preset.base.revision), str):
        return ""
    return f"The weights of {preset.title} are not on this machine; the first picture downloads them from the hub: {place}."


def _missing_adapter(preset: Preset, kind: str) -> str:
    place = preset.located(preset.adapters[kind])
    if isinstance(place, str) or any((place / name).is_file() for name in _CONTROL_FILES):
        return ""
    return f"The {kind} adapter of {preset.title} is not there: {place} holds no control file."


def _on_disk(place: Path | str, revision: str | None = None) -> Path | None:
    """Folder of a base or an adapter if it is on this machine; the network is not asked."""
    if isinstance(place, Path):
        return place if place.is_dir() else None
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(place, revision=revision, local_files_only=True))
    except (OSError, ValueError):
        return None


def _lora_uses(value: Any) -> list[LoraUse]:  # noqa: ANN401 - whatever a person or a client sent
    """Understand LoRAs in any of the ways they are named."""
    if isinstance(value, Mapping):
        value = [{"name": name, "weight": weight} for name, weight in value.items()]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise RecipeError(f"LoRAs are a list of names, or of names with weights, but were given as {shorten(value)}.")
    uses = []
    for one in value:
        if isinstance(one, LoraUse):
            uses.append(one)
        elif isinstance(one, str):
            uses.append(LoraUse(name=one))
        elif isinstance(one, Mapping):
            uses.append(LoraUse(**{str(key): part for key, part in one.items()}))
        elif isinstance(one, Sequence) and len(one) == 2:
            uses.append(LoraUse(name=one[0], weight=one[1]))
        else:
            raise RecipeError(f"A LoRA is a name, or a name with a weight, but one was given as {shorten(one)}.")
    return uses
