"""The words of a run: choices drawn for each picture, and the LoRAs that its prompts name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.models.embeddings import Embeddings
from controlnext.recipes.prompts import Wildcards, resolve_prompts

if TYPE_CHECKING:
    from controlnext.loras.file import LoraInfo
    from controlnext.models.catalogue import Catalogue
    from controlnext.models.presets import Preset
    from controlnext.recipes.recipe import LoraUse, Recipe

LorasOf = Mapping[tuple["LoraUse", ...], list[tuple["LoraInfo", float]]]


@dataclass(frozen=True)
class WordFolders:
    """Where words of prompts may have files.

    Attributes:
        embeddings: folders of textual-inversion embeddings.
        wildcards: folders of wildcard files.
    """

    embeddings: Sequence[str | Path] = ()
    wildcards: Sequence[str | Path] = ()

    def vectors(self) -> Embeddings:
        """Return the embeddings."""
        return Embeddings(self.embeddings)


@dataclass(frozen=True)
class Wording:
    """What the pictures of a run are made from.

    Attributes:
        recipes: of each picture alone, drawn by its own seed.
        loras: LoRA files and weights by the `loras` of a recipe.
        notes: what was not understood, one sentence each.
    """

    recipes: list[Recipe]
    loras: LorasOf
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, recipe: Recipe, preset: Preset, catalogue: Catalogue, wildcards: Wildcards) -> Wording:
        """Draw the words of all pictures of a recipe.

        Raises:
            ControlNeXtError: a LoRA does not fit the model, or its weight is out of range.
        """
        notes: list[str] = []
        recipes: list[Recipe] = []
        for index in range(recipe.num_images):
            one = resolve_prompts(
                recipe.alone(index), recipe.seed + index, wildcards, lambda name: catalogue.has_lora(preset, name)
            )
            recipes.append(one.recipe)
            notes += one.notes
        loras = {one.loras: catalogue.check(one, preset) for one in recipes}
        return cls(recipes, loras, tuple(dict.fromkeys(notes)))

    @property
    def all_loras(self) -> list[tuple[LoraInfo, float]]:
        """Every LoRA that any picture uses, once."""
        return list({info.name: (info, weight) for uses in self.loras.values() for info, weight in uses}.values())

    def batches(self, size: int) -> int:
        """Count the batches of at most `size` pictures with the same words."""
        return count_batches(self.recipes, size)

    def final(self, recipe: Recipe) -> list[Recipe]:
        """Return the recipes that the pictures carry.

        Args:
            recipe: of all together, with its digests.
        """
        final = []
        for index, one in enumerate(self.recipes):
            used = {f"lora:{use.name}" for use in one.loras}
            weights = {
                key: value for key, value in recipe.weights.items() if not key.startswith("lora:") or key in used
            }
            words = {name: getattr(one, name) for name in ("prompt", "negative_prompt", "loras")}
            final.append(recipe.alone(index).replace(**words, weights=weights))
        return final


def same_words(one: Recipe, other: Recipe) -> bool:
    """Tell whether two pictures can be made in one batch."""
    return all(getattr(one, name) == getattr(other, name) for name in ("prompt", "negative_prompt", "loras"))


def count_batches(recipes: Sequence[Recipe], size: int) -> int:
    """Count the batches of some pictures: one for each row of equal words and each `size` pictures of it."""
    rows = groupby(recipes, key=lambda recipe: (recipe.prompt, recipe.negative_prompt, recipe.loras))
    return sum(-(-len(list(row)) // size) for _, row in rows)
