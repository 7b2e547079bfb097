"""One control of a recipe, and what all parts of recipes share: errors that are sentences, and checked fields."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    Strict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from controlnext.errors import ControlNeXtError, fail, shorten
from controlnext.method.gamma import parse_gamma
from controlnext.recipes.areas import area_picture
from controlnext.recipes.explain import explain
from controlnext.recipes.kinds import READY_MADE
from controlnext.recipes.limits import LIMITS, RESOLUTION


class RecipeError(ControlNeXtError, ValueError):
    """A recipe that cannot be run, or a file that should hold one and does not."""


Setting = Annotated[bool, Strict()] | Annotated[int, Strict()] | Annotated[float, Strict()] | Annotated[str, Strict()]
"""Value of one annotator setting; strict, so that True stays a switch and 1 a number."""


class CheckedModel(BaseModel):
    """A frozen model whose errors are sentences."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: object) -> None:
        """Check the values; what is wrong with them is a `RecipeError`."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise RecipeError(explain(error, "recipe")) from None


class Controlled(CheckedModel):
    """Checks of the fields that a recipe and each of its additional controls share."""

    if TYPE_CHECKING:  # said by those that have them, in the order of their JSON
        annotator: str
        adapter: str
        gamma: float
        gamma_curve: str
        control_start: float
        control_end: float
        area: str

    @field_validator("gamma", "alpha", "control_start", "control_end", mode="before", check_fields=False)
    @classmethod
    def _control_number_in_range(cls, value: object, info: ValidationInfo) -> float | int:
        return LIMITS[str(info.field_name)].check(value)

    @field_validator("gamma_curve", check_fields=False)
    @classmethod
    def _readable_curve(cls, value: str) -> str:
        if value:
            parse_gamma(value)
        return value.strip()

    @field_validator("area", check_fields=False)
    @classmethod
    def _area_is_a_picture(cls, value: str) -> str:
        if value:
            area_picture(value)
        return value

    @field_validator("resolution", mode="before", check_fields=False)
    @classmethod
    def _resolution_in_range(cls, value: object) -> int | None:
        return None if value is None else int(RESOLUTION.check(value))

    @field_validator("annotator_settings", check_fields=False)
    @classmethod
    def _finite_settings(cls, value: dict[str, Setting]) -> dict[str, Setting]:
        for name, setting in value.items():
            if isinstance(setting, float) and not math.isfinite(setting):
                fail(f"The annotator setting {shorten(name)} is not a finite number.")
            if isinstance(setting, int) and not -(2**63) <= setting < 2**63:
                fail(f"The annotator setting {shorten(name)} is {shorten(setting)}, which no annotator takes.")
        return value

    @model_validator(mode="after")
    def _control_acts(self) -> Self:
        if self.control_start >= self.control_end:
            fail(
                f"The control starts at {self.control_start:g} and ends at {self.control_end:g}, so it would never act; "
                "let it end after it starts, or set the control strength to 0."
            )
        highest = LIMITS["gamma"].maximum
        if self.gamma_curve and self.gamma * parse_gamma(self.gamma_curve).peak > highest:
            fail(
                f"Gamma {self.gamma:g} times the curve's highest value is more than {highest:g}; the curve multiplies "
                "gamma, so lower one of the two."
            )
        return self

    @property
    def condition_kind(self) -> str:
        """Which condition the adapter reads: `adapter`, or the annotator's name."""
        return self.adapter or ("" if self.annotator == READY_MADE else self.annotator)


class ControlUse(Controlled):
    """One control in addition to the first; fields as in `Recipe`."""

    annotator: str = READY_MADE
    adapter: str = ""
    annotator_settings: dict[str, Setting] = {}
    gamma: float = 1.0
    gamma_curve: str = ""
    alpha: float = 1.0
    control_start: float = 0.0
    control_end: float = 1.0
    condition_sha256: str = ""
    resolution: int | None = None
    area: str = ""

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what came after the first release and is not used, so that older recipes stay the same to the byte."""
        unused = {"resolution": None, "area": ""}
        return {key: value for key, value in handler(self).items() if key not in unused or value != unused[key]}

    @model_validator(mode="after")
    def _has_a_kind(self) -> Self:
        if not self.condition_kind:
            fail("An additional control needs a kind: name an annotator, or an adapter for a ready-made map.")
        return self
