"""The example pictures: a folder of PNGs, and words of the same name beside them."""

from __future__ import annotations

from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "assets" / "examples"


def example_pictures(folder: Path = EXAMPLES) -> list[Path]:
    """Return the example pictures; a text file of the same name holds the words to go with one."""
    return sorted(folder.glob("*.png")) if folder.is_dir() else []


def example_prompts(folder: Path = EXAMPLES) -> dict[str, str]:
    """Return the words that go with each example picture, by its path; empty where there are none."""
    words = {path: path.with_suffix(".txt") for path in example_pictures(folder)}
    return {
        str(path): text.read_text(encoding="utf-8").strip() if text.is_file() else "" for path, text in words.items()
    }
