"""What each page last made in full: a live picture of the same recipe does not replace it."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controlnext.recipes.recipe import Recipe

MOST_PAGES = 256
"""Pages that are remembered; of an older one a live picture may replace the full one until the next change."""


class FullPictures:
    """The last recipe that each page generated, until another one is drawn live."""

    def __init__(self) -> None:
        """Begin with no page."""
        self._recipes: OrderedDict[str, Recipe] = OrderedDict()

    def note(self, session: str, recipe: Recipe, seed: int | None = None) -> None:
        """Note that a page generates `recipe`, whose random seed turned out to be `seed`."""
        self._recipes[session] = recipe.replace(num_images=1, seed=recipe.seed if seed is None else seed)
        self._recipes.move_to_end(session)
        while len(self._recipes) > MOST_PAGES:
            self._recipes.popitem(last=False)

    def covers(self, session: str, recipe: Recipe) -> bool:
        """Return whether `recipe`, of one picture, is what the page generated last."""
        return self._recipes.get(session) == recipe

    def forget(self, session: str) -> None:
        """Note that the page asks for something else now."""
        self._recipes.pop(session, None)
