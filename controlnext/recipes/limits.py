"""Ranges of the numbers in a recipe, with the error for a value outside."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from controlnext.errors import fail, shorten


@dataclass(frozen=True)
class Limit:
    """Range of one number of a recipe, with the words of its error.

    Attributes:
        label: how the page calls it.
        minimum: smallest allowed value.
        maximum: largest allowed value.
        advice: what a sensible value is, ends the sentence.
        whole: whether only whole numbers make sense.
        multiple: the number must divide by this.
    """

    label: str
    minimum: float
    maximum: float
    advice: str = ""
    whole: bool = False
    multiple: int = 1

    def check(self, value: object) -> float | int:
        """Return the number as int or float, or raise a `ValueError` whose text is the sentence to show."""
        number = cast("float", value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else None
        if number is not None and self.minimum <= number <= self.maximum:
            if not self.whole:
                return float(number)
            if number == int(number) and int(number) % self.multiple == 0:
                return int(number)
        kind = "a whole number" if self.whole else "a number"
        steps = f" and a multiple of {self.multiple}" if self.multiple > 1 else ""
        shown = "not a number (NaN)" if number is not None and number != number else shorten(value)
        advice = f" {self.advice}" if self.advice else ""
        low, high = (f"{bound:,}" if abs(bound) < 1e6 else f"{bound}" for bound in (self.minimum, self.maximum))
        fail(f"{self.label} must be {kind} between {low} and {high}{steps}, but it is {shown}.{advice}")


LIMITS: Mapping[str, Limit] = MappingProxyType(
    {
        "seed": Limit("The seed", 0, 2**63 - 1, "-1 in the page and the API draws one.", whole=True),
        "num_images": Limit("The number of pictures", 1, 16, whole=True),
        "width": Limit("The width", 64, 2048, whole=True, multiple=8),
        "height": Limit("The height", 64, 2048, whole=True, multiple=8),
        "num_inference_steps": Limit("The number of steps", 1, 150, "20 is a good start.", whole=True),
        "guidance_scale": Limit("Guidance", 1, 30, "1 turns guidance off; 3 to 8 is usual."),
        "gamma": Limit("Control strength (gamma)", 0, 4, "0 turns the control off, 1 is usual."),
        "alpha": Limit("Adapter weight (alpha)", 0, 1.5, "1 is usual."),
        "control_start": Limit("The control's start", 0, 1, "0 is the first step."),
        "control_end": Limit("The control's end", 0, 1, "1 is the last step."),
    }
)
"""Allowed range of every number in a recipe; the page takes its sliders from here. A model may narrow width and height."""

RESOLUTION = Limit("The resolution of a condition", 64, 2048, "It is its short side in pixels.", whole=True)

STRENGTH = Limit("Strength", 0, 1, "It is the share of the start picture that is redrawn; 0.75 is usual.")

REFERENCE_SCALE = Limit("The weight of the reference", 0, 2, "0.6 is usual.")

LORA_WEIGHT = Limit("The weight of a LoRA", -4, 4, "1 is usual; a negative weight pushes the other way.")

CUT_LIMITS: Mapping[str, Limit] = MappingProxyType(
    {
        "start": Limit("The start", 0, 86_400, "It is in seconds."),
        "end": Limit("The end", 0, 86_400, "It is in seconds; 0 is the clip's own end."),
        "fps": Limit("The number of frames a second", 0, 120, "0 is the clip's own."),
        "stride": Limit("The stride", 1, 120, "1 takes every frame.", whole=True),
        "max_side": Limit("The longer side", 0, 4096, "0 keeps the size as far as the bounds allow.", whole=True),
        "max_frames": Limit("The number of frames", 0, 100_000, "0 takes all that the bounds allow.", whole=True),
    }
)
"""Allowed range of every number that selects a part of a clip."""
