"""Captions of the starter's world, the words a prompt may use, and the tokenizer made from them."""

import itertools
import json
from pathlib import Path

import numpy as np

from controlnext.starter.world.world import OBJECT_COLOURS, OBJECTS, SHIRTS, TROUSERS, Look, Stage

MAX_TOKENS = 40
# Each list is one meaning; the first phrase is the canonical one, the others are ways in which people say it.
_GROUND = {
    "grass": ("green grass", "grass", "a meadow"),
    "sand": ("sand", "yellow sand", "a beach"),
    "snow": ("snow", "white snow"),
    "road": ("a grey road", "a road", "asphalt"),
}
_SKY = {
    "day": ("at day", "by day", "under a blue sky"),
    "sunset": ("at sunset", "under an orange sky", "in the evening"),
    "night": ("at night", "under a dark sky", "by night"),
    "dawn": ("at dawn", "under a pink sky", "in the morning"),
}
_BOTTOMS = ("trousers", "pants", "jeans")
_TOPS = ("shirt", "sweater", "top")
_BESIDE = ("beside", "next to", "near")


def _article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def caption(stage: Stage, look: Look, *, object_seen: bool = True, rng: np.random.Generator | None = None) -> str:
    """Describe a scene in words.

    Args:
        stage: Pose and objects.
        look: Colours.
        object_seen: Whether the object is inside the picture; what cannot be seen is not named.
        rng: Varies the wording and drops clauses, as people do. None gives the canonical caption.

    Returns:
        One line without punctuation, e.g. "a person with blond hair in a red shirt and blue trousers waving on sand at day".
    """
    say = (
        (lambda ways: ways[0])
        if rng is None
        else (lambda ways: ways[0] if rng.random() < 0.6 else str(rng.choice(ways)))
    )
    keep = (lambda share: True) if rng is None else (lambda share: rng.random() < share)
    words = ["a person"]
    if keep(0.75):
        words.append(f"with {'long ' if stage.long_hair else ''}{look.hair} hair")
        if stage.hat:
            words.append(f"and {_article(look.hat)} hat")
    elif stage.hat and keep(0.7):
        words.append(f"with {_article(look.hat)} hat")
    shirt, trousers = f"{_article(look.shirt)} {say(_TOPS)}", f"{look.trousers} {say(_BOTTOMS)}"
    clothes = [phrase for phrase, share in ((shirt, 0.93), (trousers, 0.93)) if keep(share)]
    if clothes:
        words.append("in " + " and ".join(clothes))
    if keep(0.7):
        words.append(stage.action)
    if stage.object != "nothing" and object_seen and keep(0.85):
        thing = stage.object if stage.object in ("tree", "pine") else f"{look.object} {stage.object}"
        words.append(f"{say(_BESIDE)} {_article(thing)}")
    if keep(0.88):
        words.append(f"on {say(_GROUND[look.ground])}")
    if keep(0.92):
        words.append(say(_SKY[look.sky]))
    return " ".join(words)


def vocabulary() -> list[str]:
    """Return every word a caption can hold and common words of prompts about people, sorted."""
    phrases = [p for group in (_GROUND, _SKY) for ways in group.values() for p in ways] + list(
        _BESIDE + _TOPS + _BOTTOMS
    )
    phrases += [
        *SHIRTS,
        *TROUSERS,
        *OBJECTS,
        *OBJECT_COLOURS,
        "a an person with long black brown blond red hair and hat in on",
    ]
    phrases += ["standing waving walking running dancing cheering pointing kicking jumping gesturing"]
    phrases += ["man woman girl boy the of wearing photo picture clay style"]
    return sorted({word for phrase in phrases for word in phrase.split()})


def _pieces(word: str, merges: list[tuple[str, str]], known: set[tuple[str, str]]) -> list[str]:
    pieces = [*word[:-1], word[-1] + "</w>"]
    while True:
        found = [(merges.index(pair), i) for i, pair in enumerate(itertools.pairwise(pieces)) if pair in known]
        if not found:
            return pieces
        _, i = min(found)
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]


def write_tokenizer(folder: Path, words: list[str] | None = None, length: int = MAX_TOKENS) -> None:
    """Write `vocab.json`, `merges.txt` and the configuration of a `CLIPTokenizer` in which each known word is one token.

    Unknown words fall apart into letters, as in any byte-pair vocabulary.

    Args:
        folder: where to; made if it is not there.
        words: the known words; None takes this world's `vocabulary()`.
        length: the most tokens of a prompt.
    """
    words = words or vocabulary()
    tokens = ["<|startoftext|>", "<|endoftext|>"]
    letters = sorted(set("abcdefghijklmnopqrstuvwxyz0123456789-.,'!") | set("".join(words)))
    tokens += [piece for letter in letters for piece in (letter, f"{letter}</w>")]
    merges: list[tuple[str, str]] = []
    known: set[tuple[str, str]] = set()
    for word in words:
        pieces = _pieces(word, merges, known)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            known.add(merges[-1])
            tokens.append(pieces[0] + pieces[1])
            pieces = _pieces(word, merges, known)
    folder.mkdir(parents=True, exist_ok=True)
    ids = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(ids, indent=0))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    config = special | {
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": length,
        "do_lower_case": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    (folder / "special_tokens_map.json").write_text(json.dumps(special | {"pad_token": "<|endoftext|>"}, indent=2))
