"""Measurements that anyone can repeat: `python -m controlnext bench NAME`. Each module has `main(arguments) -> exit status`."""

from __future__ import annotations

BENCHES: dict[str, str] = {
    "all": "one report of all of these but full-size: Markdown, JSON and plots",
    "annotators": "milliseconds of each annotator backend, first and cached",
    "controls": "how well two controls at once are followed, beside each alone",
    "convergence": "how soon ControlNeXt, ControlNet and T2I-Adapter follow a condition when they are trained",
    "lora": "whether control holds with each style LoRA on, beside what the conflict meter says",
    "full-size": "a base model of real size with random weights, loaded and run on the CPU",
    "overhead": "what a denoising step costs with control: FLOPs, seconds, memory, beside ControlNet and T2I-Adapter",
    "parameters": "how many parameters each way of control adds and trains, on SD1.5, SDXL and SVD",
    "plug-in": "adapters on bases they were not trained on: style LoRAs, a fine-tuned base",
    "starter": "how well the bundled model follows its control and its prompt",
    "starter-video": "how well the bundled video model moves its reference along the poses of a clip",
    "startup": "seconds from `python app.py` to the page and to the first picture",
    "video": "memory and time of a video in windows, by its length",
}
"""Name -> what it measures."""
