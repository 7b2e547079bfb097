"""Measurements that anyone can repeat: `python -m controlnext bench NAME`. Each module has `main(arguments) -> exit status`."""

from __future__ import annotations

BENCHES: dict[str, str] = {
    "annotators": "milliseconds of each annotator backend, first and cached",
    "lora": "whether control holds with each style LoRA on, beside what the conflict meter says",
    "overhead": "time of a denoising step with and without control, cold and kept",
    "starter": "how well the bundled model follows its control and its prompt",
    "startup": "seconds from `python app.py` to the page and to the first picture",
}
"""Name -> what it measures."""
