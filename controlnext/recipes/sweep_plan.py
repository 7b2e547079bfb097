"""A sweep: one recipe and one or two axes along which it changes, as one file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from controlnext.errors import ControlNeXtError, shorten
from controlnext.recipes.kinds import POSE
from controlnext.recipes.limits import LIMITS, LORA_WEIGHT, Limit
from controlnext.recipes.recipe import LoraUse, Recipe, RecipeError

MOST_VALUES, FEWEST_VALUES = 9, 2
"""Values of one axis."""

LORA = "lora:"
"""Beginning of the name of an axis that changes the weight of a LoRA; the LoRA's name follows."""

_VERSION = 1
_LONGEST = 200

AXES: Mapping[str, str] = MappingProxyType(
    {
        "gamma": "Control strength (gamma)",
        "seed": "Seed",
        "num_inference_steps": "Steps",
        "guidance_scale": "Guidance",
        "alpha": "Adapter weight (alpha)",
        "control_start": "Control from",
        "control_end": "Control until",
        "model": "Model",
        "annotator": "Kind of control",
    }
)
"""Axes and what the page calls them; the weight of each LoRA is another one."""

SAME_REFERENCE = frozenset({"gamma", "control_start", "control_end"})
"""Axes along which the picture without control is the same for all cells."""

Value: TypeAlias = float | int | str

_USUAL: Mapping[str, tuple[Value, ...]] = MappingProxyType(
    {
        "gamma": (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5),
        "num_inference_steps": (5, 10, 15, 20, 30),
        "guidance_scale": (1, 2, 3, 5, 7.5),
        "alpha": (0, 0.25, 0.5, 0.75, 1),
        "control_start": (0, 0.1, 0.2, 0.3, 0.5),
        "control_end": (0.2, 0.4, 0.6, 0.8, 1),
    }
)
_USUAL_SEEDS = 6


class SweepError(ControlNeXtError, ValueError):
    """A sweep that cannot be run, or a file that should hold one and does not."""


@dataclass(frozen=True)
class SweepAxis:
    """What changes, and the values that it takes.

    Attributes:
        name: a key of `AXES`, or `lora:` with the name of a LoRA.
        values: 2 to 9 different ones; text for model and annotator, numbers otherwise.
    """

    name: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        """Check name and values."""
        if not isinstance(self.name, str) or not (
            self.name in AXES or self.name.removeprefix(LORA) != self.name != LORA
        ):
            raise SweepError(
                f"There is no axis {shorten(self.name)}; choose one of {', '.join(AXES)}, or lora:NAME for a LoRA's weight."
            )
        if not FEWEST_VALUES <= len(self.values) <= MOST_VALUES:
            raise SweepError(
                f"The axis {self.name} has {len(self.values)} values; give {FEWEST_VALUES} to {MOST_VALUES}."
            )
        values = tuple(self._checked(value) for value in self.values)
        if len(set(values)) < len(values):
            raise SweepError(f"The axis {self.name} has a value twice; give each once.")
        object.__setattr__(self, "values", values)

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers, so that a curve can be drawn over them."""
        return self.name not in ("model", "annotator")

    @property
    def label(self) -> str:
        """What people call it."""
        return AXES.get(self.name) or f"Weight of {self.name.removeprefix(LORA)}"

    @classmethod
    def parse(cls, name: str, text: str) -> SweepAxis:
        """Read an axis as people write it.

        Args:
            name: as of the class.
            text: values with commas between them, or `first:last:count` for equal steps.

        Raises:
            SweepError: there is no such axis, or the values cannot be read.
        """
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if name in ("model", "annotator"):
            return cls(name, tuple(parts))
        try:
            if len(parts) == 1 and parts[0].count(":") == 2:
                first, last, count = parts[0].split(":")
                return cls(name, _even(float(first), float(last), int(count)))
            return cls(name, tuple(_number(part) for part in parts))
        except (ValueError, OverflowError) as error:
            if isinstance(error, SweepError):
                raise
            raise SweepError(
                f"The values {shorten(text)} cannot be read: write numbers with commas between them, or first:last:count, such as "
                "0:1.5:7."
            ) from None

    def of(self, recipe: Recipe) -> Value:
        """Return the value of a recipe on this axis."""
        if self.name.startswith(LORA):
            weights = {use.name: use.weight for use in recipe.loras}
            return weights.get(self.name.removeprefix(LORA), 0.0)
        return recipe.condition_kind if self.name == "annotator" else getattr(recipe, self.name)

    def applied(self, recipe: Recipe, value: Value) -> Recipe:
        """Return a recipe with one of the values.

        Raises:
            RecipeError: the value does not go together with the rest of the recipe.
        """
        if value == self.of(recipe):
            return recipe
        if self.name.startswith(LORA):
            name = self.name.removeprefix(LORA)
            uses = [use for use in recipe.loras if use.name != name]
            return recipe.replace(loras=[*uses, *([LoraUse(name=name, weight=float(value))] if value else [])])
        changes: dict[str, Any] = {self.name: value}
        if self.name == "annotator":
            changes |= {
                "adapter": "",
                "annotator_settings": {},
                "condition_sha256": "",
                "pose": recipe.pose if value == POSE else "",
            }
        return recipe.replace(**changes)

    def _checked(self, value: object) -> Value:
        if not self.numeric:
            if not isinstance(value, str) or not value or len(value) > _LONGEST:
                raise SweepError(f"The values of the axis {self.name} are names, not {shorten(value)}.")
            return value
        limit: Limit = LORA_WEIGHT if self.name.startswith(LORA) else LIMITS[self.name]
        try:
            return limit.check(value)
        except ValueError as error:
            raise SweepError(str(error)) from None


@dataclass(frozen=True)
class SweepCell:
    """One picture of a sweep.

    Attributes:
        column: place on the first axis.
        row: place on the second one; 0 where there is none.
        values: value by axis.
        recipe: what makes it; None where the values do not go together.
        problem: why they do not.
    """

    column: int
    row: int
    values: Mapping[str, Value]
    recipe: Recipe | None
    problem: str = ""

    @property
    def label(self) -> str:
        """The values in words, such as `gamma 0.5, seed 3`."""
        return ", ".join(f"{name} {shown(value)}" for name, value in self.values.items())


@dataclass(frozen=True)
class SweepPlan:
    """A recipe, and the axes along which it changes.

    Attributes:
        recipe: what all cells share; one picture.
        axes: one or two different ones; the first runs along the columns.
        distance: whether each cell is compared with its picture without control (gamma 0), which has to be made for that. None
            does it where one such picture serves many cells.
    """

    recipe: Recipe
    axes: tuple[SweepAxis, ...]
    distance: bool | None = None

    def __post_init__(self) -> None:
        """Check the axes."""
        names = [axis.name for axis in self.axes]
        if not 1 <= len(names) <= 2 or len(set(names)) < len(names):
            raise SweepError("A sweep has one axis, or two different ones.")
        if self.recipe.num_images != 1:
            object.__setattr__(self, "recipe", self.recipe.replace(num_images=1))

    def cells(self) -> tuple[SweepCell, ...]:
        """Return the pictures, row after row."""
        first, second = self.axes[0], self.axes[1] if len(self.axes) > 1 else None
        cells = []
        for row, other in enumerate(second.values if second else (None,)):
            for column, value in enumerate(first.values):
                values = {first.name: value} | ({second.name: other} if second and other is not None else {})
                cells.append(self._cell(column, row, values))
        return tuple(cells)

    def _cell(self, column: int, row: int, values: Mapping[str, Value]) -> SweepCell:
        recipe = self.recipe
        try:
            for axis in self.axes:
                recipe = axis.applied(recipe, values[axis.name])
        except RecipeError as error:
            return SweepCell(column, row, values, None, str(error))
        return SweepCell(column, row, values, recipe)

    @property
    def measures_distance(self) -> bool:
        """Whether pictures without control are made to compare with."""
        if not self.recipe.condition_kind and "annotator" not in [axis.name for axis in self.axes]:
            return False
        if self.distance is not None:
            return self.distance
        return any(axis.name in SAME_REFERENCE for axis in self.axes)

    def digest(self) -> str:
        """Hash what stays the same when values are added to the axes, in hexadecimal."""
        fixed = json.loads(self.recipe.to_json())
        for axis in self.axes:
            fixed.pop(axis.name, None)
        content = json.dumps([fixed, [axis.name for axis in self.axes]], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def to_json(self) -> str:
        """Write as the one file that a sweep is."""
        return json.dumps(
            {
                "controlnext_sweep": _VERSION,
                "axes": [{"name": axis.name, "values": list(axis.values)} for axis in self.axes],
                "distance": self.distance,
                "recipe": json.loads(self.recipe.to_json()),
            },
            ensure_ascii=False,
            indent=2,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> SweepPlan:
        """Read what `to_json` wrote.

        Raises:
            SweepError: it is no sweep, or one of another version.
            RecipeError: its recipe is wrong.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise SweepError("This is not a sweep: it is not valid JSON.") from None
        if not isinstance(values, dict) or values.get("controlnext_sweep") != _VERSION:
            raise SweepError(f"This is not a sweep of version {_VERSION}; give the file sweep.json of a sweep.")
        axes, recipe, distance = values.get("axes"), values.get("recipe"), values.get("distance")
        if not isinstance(axes, list) or not isinstance(recipe, dict) or not isinstance(distance, bool | None):
            raise SweepError("This sweep is damaged: it lacks its recipe or its axes.")
        return cls(Recipe(**recipe), tuple(_read_axis(axis) for axis in axes), distance)


def usual_values(name: str, recipe: Recipe, names: Sequence[str] = ()) -> tuple[Value, ...]:
    """Return the values of an axis where nobody named any.

    Args:
        name: of the axis.
        recipe: gives the first of the seeds.
        names: models or kinds of control that there are.
    """
    if name == "seed":
        return tuple(range(recipe.seed, recipe.seed + _USUAL_SEEDS))
    if name in ("model", "annotator"):
        return tuple(names[:MOST_VALUES])
    return _USUAL.get(name, (0, 0.25, 0.5, 0.75, 1))


def without_control(recipe: Recipe) -> Recipe:
    """Return the recipe of the same picture with the control turned off."""
    off = {"gamma": 0.0, "gamma_curve": "", "control_start": 0.0, "control_end": 1.0}
    return recipe.replace(**off, controls=[control.model_copy(update=off) for control in recipe.controls])


def shown(value: Value) -> str:
    """Write a value as people do."""
    return value if isinstance(value, str) else f"{value:.10g}"


def _read_axis(values: object) -> SweepAxis:
    if not isinstance(values, dict) or not isinstance(values.get("values"), list):
        raise SweepError("This sweep is damaged: an axis is an object with name and values.")
    return SweepAxis(str(values.get("name")), tuple(values["values"]))


def _number(text: str) -> float | int:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _even(first: float, last: float, count: int) -> tuple[float | int, ...]:
    if not FEWEST_VALUES <= count <= MOST_VALUES:
        raise SweepError(f"{count} values are asked for; give {FEWEST_VALUES} to {MOST_VALUES}.")
    values: Iterable[float] = (first + index * (last - first) / (count - 1) for index in range(count))
    return tuple(int(value) if value == int(value) else round(value, 6) for value in values)
