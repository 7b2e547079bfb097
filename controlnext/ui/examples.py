"""Bundled examples: pictures with prompts, and characters with clips."""

from __future__ import annotations

from pathlib import Path

from controlnext.assets import EXAMPLES


def example_pictures(folder: Path = EXAMPLES) -> list[Path]:
    """Return the example pictures; a text file of the same name holds the prompt for one."""
    found = (path for path in folder.glob("*") if path.suffix in (".png", ".jpg")) if folder.is_dir() else ()
    return sorted(found, key=lambda path: (path.suffix != ".png", path.name))  # photographs last


def example_prompts(folder: Path = EXAMPLES) -> dict[str, str]:
    """Return the prompt of each example picture, by its path; empty where there are none."""
    words = {path: path.with_suffix(".txt") for path in example_pictures(folder)}
    return {
        str(path): text.read_text(encoding="utf-8").strip() if text.is_file() else "" for path, text in words.items()
    }


def video_examples(folder: Path = EXAMPLES / "video") -> list[tuple[Path, Path]]:
    """Return the example characters, each with the clip of the same name; a character without one is left out."""
    pictures = example_pictures(folder)
    return [(path, clip) for path in pictures if (clip := path.with_suffix(".mp4")).is_file()]
