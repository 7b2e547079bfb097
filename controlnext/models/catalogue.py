"""The catalogue: models with their adapters and LoRAs, and recipes filled with their defaults."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import yaml

from controlnext.assets import PRESETS
from controlnext.errors import shorten
from controlnext.loras.conflicts import Conflict, Conflicts
from controlnext.loras.file import BaseShape, LoraInfo
from controlnext.loras.library import LoraError, LoraLibrary
from controlnext.method.families import FAMILIES
from controlnext.models.defaults import (
    adapter_row,
    control_list,
    default_gamma,
    default_values,
    filled_control,
    is_default,
)
from controlnext.models.download_errors import DownloadError
from controlnext.models.downloads import fetch
from controlnext.models.hub import token
from controlnext.models.mismatch import check_adapter, check_base
from controlnext.models.presets import DEFAULT_MODEL, Preset, PresetError, load_preset, load_presets, stamp_of
from controlnext.models.readiness import Failure, missing_reason, readiness, refusal, video_reason
from controlnext.models.sources import adapter_of, parts_of, weights_of
from controlnext.progress import Progress
from controlnext.recipes.kinds import READY_MADE
from controlnext.recipes.recipe import Recipe, RecipeError
from controlnext.scratch import unfinished

if TYPE_CHECKING:
    from controlnext.recipes.video_recipe import VideoRecipe

RANDOM_SEEDS = 2**32
"""Drawn seeds are below this, short enough to be read out; a recipe takes larger ones too."""


class Catalogue:
    """Presets and LoRAs on disk; files may come and go while the app runs."""

    def __init__(self, presets_dir: str | Path | None = None, lora_dirs: Sequence[str | Path] = ()) -> None:
        """Name the places.

        Args:
            presets_dir: folder of preset files; None takes the project's.
            lora_dirs: folders of LoRAs for any model, in addition to those that presets name.
        """
        self.presets_dir = PRESETS if presets_dir is None else Path(presets_dir).expanduser()
        self.lora_dirs = tuple(lora_dirs)
        self._stamp: tuple[tuple[str, int], ...] | None = None
        self._presets: dict[str, Preset] = {}
        self._broken: dict[str, str] = {}
        self._failed: dict[str, Failure] = {}
        self._half = False
        self._libraries: dict[tuple[str | Path, ...], LoraLibrary] = {}
        self._conflicts = Conflicts()

    def models(self) -> list[dict[str, Any]]:
        """List every preset as plain data.

        Returns:
            Rows with `name`, `label`, `description`, `family`, `licence`, `source`, `usable`, `state` (see
            `readiness.WORDS`), `reason`, `download_bytes`, `annotators` (kinds whose adapter is there or can be
            downloaded), `styles` (kind -> how its condition is drawn), `missing` (kind -> why), `defaults` (with `gamma` and
            `loras` by kind) and `sizes`.
        """
        presets = self._read()
        rows = [self._row(preset) for preset in presets.values()]
        broken = {
            "family": "",
            "licence": "",
            "usable": False,
            "state": "broken",
            "download_bytes": 0,
            "annotators": [],
        }
        broken |= {"styles": {}, "missing": {}, "defaults": {}, "sizes": {}}
        rows += [{"name": name, "label": name, "reason": reason, **broken} for name, reason in self._broken.items()]
        return rows

    def animators(self) -> list[dict[str, Any]]:
        """List the models that make videos: those made for it, and those that can draw one frame after the other.

        Returns:
            Rows as of `models`, video models and among them the starter first, with their own state, and `frame_by_frame`: whether frames are drawn
            one by one.
        """
        presets = [preset for preset in self._read().values() if "pose" in preset.adapters]
        rows = [{**self._row(preset, video=True), "frame_by_frame": not preset.video} for preset in presets]
        for row in rows:
            if row["usable"] and "pose" in row["missing"]:
                row.update(usable=False, state="missing", reason=row["missing"]["pose"])
        return sorted(rows, key=lambda row: (row["frame_by_frame"], not row["family"].startswith(DEFAULT_MODEL)))

    def loras(self, model: str = DEFAULT_MODEL, annotator: str = "") -> list[dict[str, Any]]:
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
        """Measure how much a LoRA changes the same weights as an adapter, from the files alone.

        Raises:
            ControlNeXtError: there is no such model, adapter or LoRA, or the LoRA does not fit the model.
        """
        preset = self.preset(model)
        kind = adapter_row(preset, annotator).kind
        info = self._library(preset).find(lora, self._shape(preset), preset.title)
        places = adapter_of(preset, annotator).find(), parts_of(preset, ())[0].find()
        return self._conflicts.measure(info.path, *places, weight=weight, kind=kind)

    def has_lora(self, preset: Preset, name: str) -> bool:
        """Tell whether the library of a model has a LoRA of a name, whether or not it fits."""
        return name in self._library(preset).scan()

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

    def add_model(self, source: str | Path, name: str, note: str = "") -> str:
        """Copy a preset into the folder of presets, such as a training's; another one is never overwritten.

        Args:
            source: the preset file, with absolute paths.
            name: what the model is to be called; made fit for a file, and numbered if another model has it.
            note: sentence added to the description. A preset of the same adapters is replaced, and loaded again if it differs.

        Returns:
            Its name.

        Raises:
            PresetError: it is no preset, or the folder cannot be written.
        """
        new = load_preset(source)
        presets, wanted = self._read(), re.sub(r"[^\w-]+", "-", name).strip("-") or "model"
        for number in count(1):
            name = wanted if number == 1 else f"{wanted}-{number}"
            if name not in self._broken and (name not in presets or _same_adapters(presets[name], new)):
                break
        try:
            values = yaml.safe_load(Path(source).read_text(encoding="utf-8"))
            values["description"] = " ".join(filter(None, [new.description, note]))
            partial = unfinished(self.presets_dir, ".partial")
            partial.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
            partial.replace(self.presets_dir / f"{name}.yaml")
        except OSError as error:
            raise PresetError(
                f"The preset cannot be written to {self.presets_dir} ({error.strerror or error}): copy {source} there yourself."
            ) from error
        return name

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

    def run_in(self, *, half: bool) -> None:
        """Say whether models run in float16, which may need other files; known once a device was chosen."""
        self._half = half

    def here(self, preset: Preset) -> bool:
        """Whether all that a preset's base model needs is local, or should be: then loading downloads nothing."""
        return all(part.path is not None or part.find() for part in parts_of(preset, (), half=self._half))

    def require(self, preset: Preset, kinds: Sequence[str] = (), *, video: bool = False) -> None:
        """Check what is on this disk before anything is downloaded or loaded.

        Args:
            preset: the model.
            kinds: conditions whose adapters are wanted.
            video: whether a video is to be made.

        Raises:
            ControlNeXtError: the model makes videos where pictures are wanted, a video model is a single file, local files
                are not there, or base and adapter do not go together.
        """
        if refused := refusal(preset, video=video)[1]:
            raise PresetError(refused)
        for part in parts_of(preset, kinds, half=self._half):
            place = part.find()
            if place is None and part.path is not None:
                raise PresetError(missing_reason(preset, part))
        self._check_families(preset, kinds)

    def fetch(self, preset: Preset, kinds: Sequence[str], report: Callable[[Progress], None], cancel: Event) -> None:
        """Download what a preset lacks of its base model and some adapters; see `downloads.fetch`.

        Raises:
            Cancelled: stopped; what was downloaded so far is kept.
            ControlNeXtError: it cannot be downloaded, or what came does not go together.
        """
        parts = parts_of(preset, kinds, half=self._half)
        try:
            fetch(preset, parts, report, cancel)
        except DownloadError as error:
            if error.state in ("gated", "missing", "broken"):  # the other states may have passed by the next check
                self._failed[preset.name] = Failure(str(error), error.state, token())
            raise
        self._check_families(preset, kinds)

    def _check_families(self, preset: Preset, kinds: Sequence[str]) -> None:
        base = parts_of(preset, ())[0].find()
        if base is not None:
            check_base(preset, base)
        for kind in kinds:
            adapter = adapter_of(preset, kind).find()
            if adapter is not None:
                check_adapter(preset, kind, adapter)

    def failed(self, preset: Preset, reason: str) -> None:
        """Remember that a model could not be loaded, so that `models` says so; an empty reason takes it back."""
        self._failed.pop(preset.name, None)
        if reason:
            self._failed[preset.name] = Failure(reason)

    def resolve(self, model: str = DEFAULT_MODEL, annotator: str = READY_MADE, **values: object) -> Recipe:
        """Make a recipe of what a person gave and the model's defaults for the rest.

        Args:
            model: name of a preset.
            annotator: what makes the condition; `none` takes the upload as it is, and `adapter` then says what it is.
            **values: fields of a recipe. None means the default, as do a seed of -1 (drawn) and a width or height of 0.
                `loras` may be names, (name, weight) pairs, objects with both, or a mapping of name to weight. `controls`
                are objects with an annotator (or adapter) and what differs from its defaults.

        Returns:
            The checked recipe.

        Raises:
            ControlNeXtError: a value is wrong, or the model does not have what was asked for; one sentence.
        """
        preset = self.preset(model)
        given = {key: value for key, value in values.items() if value is not None and not is_default(key, value)}
        adapter = str(given.pop("adapter", ""))
        kind = adapter or ("" if annotator == READY_MADE else annotator)
        if "controls" in given:
            given["controls"] = [filled_control(preset, one) for one in control_list(given["controls"])]
        filled = {
            **self.defaults(preset, kind, given),
            "seed": secrets.randbelow(RANDOM_SEEDS),
            "width": preset.sizes.width,
            "height": preset.sizes.height,
            **{key: value for key, value in given.items() if key != "loras"},
        }
        recipe = Recipe(
            model=preset.name, annotator=annotator, adapter=adapter if adapter != annotator else "", **filled
        )
        self.check(recipe, preset)
        return recipe

    def defaults(self, preset: Preset, kind: str = "", given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the defaults of a model's recipe; see `default_values`."""
        return default_values(preset, kind, given or {}, partial(self.has_lora, preset))

    def check(self, recipe: Recipe, preset: Preset) -> list[tuple[LoraInfo, float]]:
        """Check a recipe against its model, and find its LoRAs.

        Returns:
            LoRA files and weights.

        Raises:
            ControlNeXtError: a size, kind of condition or LoRA this model does not have, or it makes videos only.
        """
        if preset.video:
            raise PresetError(video_reason(preset))
        try:
            preset.sizes.check(recipe.width, recipe.height, preset.title)
        except ValueError as error:
            raise RecipeError(str(error)) from None
        for control in recipe.all_controls:
            adapter_row(preset, control.condition_kind)
        return self.lora_files(recipe, preset)

    def lora_files(self, recipe: Recipe | VideoRecipe, preset: Preset) -> list[tuple[LoraInfo, float]]:
        """Find the LoRAs of a recipe: files and weights.

        Raises:
            LoraError: one is not there, or is made for another model.
        """
        shape, library = self._shape(preset), self._library(preset)
        return [(library.find(use.name, shape, preset.title), use.weight) for use in recipe.loras]

    def weights(self, recipe: Recipe | VideoRecipe) -> dict[str, str]:
        """Return the digests of the files that a recipe would use, as far as they are on this disk; nothing is loaded."""
        preset = self.preset(recipe.model)
        if isinstance(recipe, Recipe):
            self.check(recipe, preset)
        return weights_of(recipe, preset, self.lora_files(recipe, preset))

    def _row(self, preset: Preset, *, video: bool = False) -> dict[str, Any]:
        missing = {kind: _missing_adapter(preset, kind) for kind in preset.adapters}
        ready = readiness(preset, self._failed.get(preset.name), half=self._half, video=video)
        usual = ("num_inference_steps", "guidance_scale", "control_start", "control_end")
        sizes = preset.sizes
        return {
            "name": preset.name,
            "label": preset.title,
            "description": preset.description,
            "family": preset.family,
            "licence": preset.base.licence,
            "source": preset.base.source,
            "usable": ready.state == "ready",
            "state": ready.state,
            "reason": ready.reason,
            "download_bytes": ready.download_bytes,
            "styles": {kind: row.style for kind, row in preset.adapters.items() if row.style},
            "annotators": [kind for kind, why in missing.items() if not why],
            "missing": {kind: why for kind, why in missing.items() if why},
            "defaults": {
                **{name: Recipe.model_fields[name].default for name in usual},
                **preset.defaults.values(),
                "loras": {
                    kind: [use.name for use in self.defaults(preset, kind)["loras"]] for kind in preset.adapters
                },
                "width": sizes.width,
                "height": sizes.height,
                "gamma": {kind: default_gamma(preset, row) for kind, row in preset.adapters.items()},
            },
            "sizes": sizes.model_dump(mode="json"),
        }

    def _read(self) -> dict[str, Preset]:
        """The presets as they are on disk now."""
        stamp = stamp_of(self.presets_dir)
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
        place = parts_of(preset, ())[0].find()
        if place is not None and place.is_dir():
            return BaseShape.of_folder(place)
        return BaseShape(None if preset.video else FAMILIES[preset.family].text_width)


def _same_adapters(one: Preset, other: Preset) -> bool:
    """Whether two presets name the same adapters on this disk."""
    places = [
        {kind: row.path and preset.resolve_path(row.path) for kind, row in preset.adapters.items()}
        for preset in (one, other)
    ]
    return places[0] == places[1]


def _missing_adapter(preset: Preset, kind: str) -> str:
    part = adapter_of(preset, kind)
    return "" if part.path is None or part.find() else missing_reason(preset, part)
