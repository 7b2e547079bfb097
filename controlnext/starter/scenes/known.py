"""`python -m controlnext.starter.scenes.known FILE`: which words of people's prompts, one a line, do the captions know?"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from controlnext.starter.scenes.captions import vocabulary


@dataclass(frozen=True)
class KnownWords:
    """What was counted: words that captions know and others, each with how often it was said; prompts of known words alone."""

    known: Counter[str]
    unknown: Counter[str]
    prompts: int
    whole: int

    @property
    def share(self) -> float:
        """Share of all words said that are known."""
        return self.known.total() / max(1, self.known.total() + self.unknown.total())


def count_known(prompts: Iterable[str]) -> KnownWords:
    """Count the words of prompts; case and punctuation do not matter, and a prompt without a word is left out."""
    words, known, unknown, count, whole = set(vocabulary()), Counter[str](), Counter[str](), 0, 0
    for prompt in prompts:
        said = re.findall(r"[a-z]+(?:['-][a-z]+)*", prompt.lower())
        count += bool(said)
        whole += bool(said) and words.issuperset(said)
        known.update(word for word in said if word in words)
        unknown.update(word for word in said if word not in words)
    return KnownWords(known, unknown, count, whole)


def main(arguments: Sequence[str] | None = None) -> int:
    """Count and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m controlnext.starter.scenes.known", description=__doc__)
    parser.add_argument("file", type=Path, help="text file with one prompt a line")
    found = count_known(parser.parse_args(arguments).file.read_text(encoding="utf-8").splitlines())
    print(f"{found.known.total()} of {found.known.total() + found.unknown.total()} words known ({found.share:.3f})")  # noqa: T201
    print(f"{found.whole} of {found.prompts} prompts of known words alone")  # noqa: T201
    print("unknown:", ", ".join(f"{word} ({times})" for word, times in found.unknown.most_common(40)))  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
