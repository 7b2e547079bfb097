"""What one person of a pose is drawn with: words of their own, and a strength of their own."""

from __future__ import annotations

import re

from pydantic import field_validator

from controlnext.errors import fail
from controlnext.recipes.controls import CheckedModel
from controlnext.recipes.limits import LIMITS

MOST_PEOPLE = 8
_STRENGTH = re.compile(r"\s*(\d*\.?\d+)\s*:\s*(.*)", re.DOTALL)


class PersonUse(CheckedModel):
    """One person of the pose condition, counted from left to right.

    Attributes:
        prompt: what is drawn there in place of the recipe's prompt; empty keeps that.
        gamma: multiplies the strength of the pose control there.
    """

    prompt: str = ""
    gamma: float = 1.0

    @field_validator("gamma", mode="before")
    @classmethod
    def _gamma_in_range(cls, value: object) -> float:
        return LIMITS["gamma"].check(value)

    @field_validator("prompt")
    @classmethod
    def _short_words(cls, value: str) -> str:
        if len(value) > 500:
            fail(f"The words for one person have {len(value):,} characters; shorten them to at most 500.")
        return value.strip()

    @classmethod
    def parse(cls, text: str) -> PersonUse:
        """Read `words`, or `strength: words` such as `1.3: a knight in armour`."""
        found = _STRENGTH.fullmatch(text)
        return cls(prompt=found[2], gamma=float(found[1])) if found else cls(prompt=text)

    def line(self) -> str:
        """Write what `parse` reads."""
        return self.prompt if self.gamma == 1 else f"{self.gamma:g}: {self.prompt}"


def people_of(lines: str) -> list[PersonUse]:
    """Read one person a line; empty lines at the end do not count, others are people that keep the recipe's words."""
    return [PersonUse.parse(line) for line in lines.rstrip().splitlines()]
