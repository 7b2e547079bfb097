r"""The language of prompts: weights, breaks, choices, wildcards and LoRA tags, as plain text without a model.

`(red shirt:1.3)` weighs words, `((x))` by 1.1 a pair, `[x]` by 1 / 1.1; `\(` is a bracket itself. `BREAK` begins a new
stretch of tokens. `{red|blue}` and `__colour__` are drawn by the seed, `<lora:ink:0.8>` sets a LoRA. What is not understood
stays in the text as it is, and a note says so.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from controlnext.errors import shorten
from controlnext.recipes.recipe import PROMPT_LENGTH, LoraUse, Recipe

STEP = 1.1
"""Factor of a pair of round brackets without a number; square ones divide by it. As in AUTOMATIC1111's web UI."""
HIGHEST = 10.0
"""Largest size of a weight; far beyond what any picture survives, far below what overflows float16."""
BREAK = "BREAK"

_PIECE = re.compile(
    r"\\[()\[\]{}|<>_\\]|[(\[\])]|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)|\bBREAK\b|[^\\()\[\]:B]+|.", re.DOTALL
)
_LORA = re.compile(r"<lora:([^<>:]+)(?::\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*)?>", re.IGNORECASE)
_WILDCARD = re.compile(r"__([\w./-]+?)__")
_CHOICE = re.compile(r"(?<!\\)\{([^{}]*)(?<!\\)\}")
_SPECIAL = re.compile(r"[()\[\]\\]|(?<!\S)BREAK(?!\S)")
_DEPTH = 20  # choices and wildcards inside of each other


@dataclass(frozen=True)
class Weighted:
    """A stretch of words and its weight; `text` is `BREAK` and `breaks` true where a new stretch of tokens begins."""

    text: str
    weight: float = 1.0
    breaks: bool = False


def is_plain(text: str) -> bool:
    """Tell whether nothing in a prompt weighs, breaks or escapes words, so that a stock pipeline reads it the same."""
    return not _SPECIAL.search(text)


def weighted_parts(text: str) -> list[Weighted]:
    """Split a prompt into stretches with weights.

    Args:
        text: the prompt; brackets without a partner are words.

    Returns:
        Stretches in order; neighbours of equal weight are one. Weights are within `HIGHEST`.
    """
    pieces, factors, loose = _read(text)
    parts: list[Weighted] = []
    weights = [1.0]
    for index, piece in enumerate(pieces):
        if index in factors:
            factor = factors[index]
            weights = weights[:-1] if factor is None else [*weights, weights[-1] * factor]
            continue
        breaks = piece == BREAK
        words = piece[1] if len(piece) == 2 and piece[0] == "\\" and index not in loose else piece
        weight = 1.0 if breaks else max(-HIGHEST, min(HIGHEST, weights[-1]))
        if parts and not breaks and not parts[-1].breaks and parts[-1].weight == weight:
            words = parts.pop().text + words
        parts.append(Weighted(words, weight, breaks))
    return parts or [Weighted("")]


def unmatched(text: str) -> str:
    """Return the brackets of a prompt that have no partner, in order; empty where all are understood."""
    pieces, _, loose = _read(text)
    return "".join(pieces[index][-1] for index in sorted(loose))


def _read(text: str) -> tuple[list[str], dict[int, float | None], set[int]]:
    """Split a text into pieces; also the factor of each opening piece (None for a closing one), and loose brackets."""
    pieces = _PIECE.findall(text)
    factors: dict[int, float | None] = {}
    loose: set[int] = set()
    waiting: list[int] = []
    for index, piece in enumerate(pieces):
        if piece in ("(", "["):
            waiting.append(index)
        elif piece[-1] in ")]" and piece[0] != "\\":
            partner = "(" if piece[-1] == ")" else "["
            factor = 1 / STEP if piece == "]" else STEP if piece == ")" else float(piece[1:-1])
            while waiting and pieces[waiting[-1]] != partner and partner in (pieces[one] for one in waiting):
                loose.add(waiting.pop())
            if waiting and pieces[waiting[-1]] == partner and abs(factor) <= HIGHEST:
                factors[waiting.pop()], factors[index] = factor, None
            else:
                loose.add(index)
    return pieces, factors, loose | set(waiting)


@dataclass
class Wildcards:
    """Folders of wildcard files: `NAME.txt` with one text on each line; empty lines and those with `#` first are left out."""

    folders: Sequence[str | Path] = ()

    def lines(self, name: str) -> list[str]:
        """Read the texts of a wildcard; empty where there is no such file, or none inside of the folders."""
        for folder in self.folders:
            root = Path(folder).expanduser().resolve()
            file = (root / f"{name}.txt").resolve()
            if not file.is_relative_to(root):
                continue
            try:
                rows = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            except (OSError, ValueError):
                continue
            return [row.strip() for row in rows if row.strip() and not row.lstrip().startswith("#")]
        return []

    def names(self) -> list[str]:
        """List the wildcards by name, sorted."""
        found = set()
        for folder in self.folders:
            root = Path(folder).expanduser()
            found |= {file.relative_to(root).with_suffix("").as_posix() for file in root.rglob("*.txt")}
        return sorted(found)


@dataclass
class ResolvedPrompts:
    """A recipe whose prompts are drawn, and what was not understood.

    Attributes:
        recipe: without choices, wildcards and LoRA tags that are known.
        notes: one sentence for each thing that was left as it is.
    """

    recipe: Recipe
    notes: list[str] = field(default_factory=list)


def resolve_prompts(
    recipe: Recipe, seed: int, wildcards: Wildcards, has_lora: Callable[[str], bool]
) -> ResolvedPrompts:
    """Draw the choices of a recipe's prompts by a seed, and take the LoRAs out of them.

    Args:
        recipe: as a person wrote it.
        seed: of the picture; equal seeds draw equal words.
        wildcards: where `__name__` is looked up.
        has_lora: tells whether the library has a LoRA of a name.

    Returns:
        The recipe to run; the very same object where its prompts hold nothing of this kind.

    Raises:
        ControlNeXtError: a LoRA's weight is out of range, or there are too many.
    """
    notes: list[str] = []
    uses = {use.name: use for use in recipe.loras}
    texts = {}
    for name in ("prompt", "negative_prompt"):
        text = choose_words(getattr(recipe, name), f"{name}:{seed}", wildcards, notes)
        texts[name] = _without_loras(text, uses, has_lora, notes)
    loras = tuple(uses.values())
    changes: dict[str, object] = {key: text for key, text in texts.items() if text != getattr(recipe, key)}
    if loras != recipe.loras:
        changes["loras"] = loras
    return ResolvedPrompts(recipe.replace(**changes) if changes else recipe, notes)


def choose_words(text: str, seed: str, wildcards: Wildcards, notes: list[str]) -> str:
    """Replace choices and wildcards of a prompt.

    Args:
        text: the prompt.
        seed: equal texts with equal seeds become equal texts.
        wildcards: where names are looked up.
        notes: sentences about what is unknown are added here.

    Returns:
        The text; what is unknown stays in it.
    """
    if not (_CHOICE.search(text) or _WILDCARD.search(text)):
        return text
    dice = random.Random(seed)  # a text as seed is hashed the same on every machine
    unknown: dict[str, str] = {}

    def of_file(match: re.Match[str]) -> str:
        lines = wildcards.lines(match[1])
        if lines:
            return dice.choice(lines)
        unknown[match[0]] = f"There is no wildcard file {shorten(match[1] + '.txt')}, so {match[0]} stays as it is."
        return match[0]

    def of_choices(match: re.Match[str]) -> str:
        choices: list[str] = match[1].split("|")
        if len(choices) > 1 and "$$" not in match[1]:
            return dice.choice(choices).strip()
        unknown[match[0]] = f"{shorten(match[0])} is no choice, which is written {{a|b}}, so it stays as it is."
        return match[0]

    for _ in range(_DEPTH):
        before = text
        text = _CHOICE.sub(of_choices, _WILDCARD.sub(of_file, text))
        if text == before or len(text) > PROMPT_LENGTH:  # a file that names itself twice grows without end
            break
    notes += unknown.values()
    return text


def _without_loras(text: str, uses: dict[str, LoraUse], has_lora: Callable[[str], bool], notes: list[str]) -> str:
    """Take the tags of known LoRAs out of a text and note their weights; a tag wins over the list."""

    def take(match: re.Match[str]) -> str:
        name = match[1].strip()
        if not has_lora(name):
            notes.append(f"There is no LoRA {shorten(name)}, so {match[0]} stays as it is.")
            return match[0]
        uses[name] = LoraUse(name=name, weight=float(match[2] or 1.0))
        return ""

    taken = _LORA.sub(take, text)
    return text if taken == text else re.sub(r"\s*,\s*(?=,)", "", re.sub(r" {2,}", " ", taken)).strip(" ,")
