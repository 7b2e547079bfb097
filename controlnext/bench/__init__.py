"""Benches: measurements that anyone can repeat, `python -m controlnext bench NAME`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bench:
    """A bench: the module whose `main(arguments)` returns the exit status, relative to this package, and what it measures."""

    module: str
    measures: str


BENCHES: dict[str, Bench] = {
    "all": Bench(".all", "one report of the bundled models and of costs: Markdown, JSON and plots"),
    "annotators": Bench(".cost.annotators", "milliseconds of each annotator backend, first and cached"),
    "areas": Bench(".quality.areas", "what a mask of a control does inside and outside of it, in both orders"),
    "best-of": Bench(".quality.best_of", "what choosing the best of several seeds is worth, with an interval"),
    "board": Bench(".cost.board", "how soon the results tab has its first screen, with ten thousand results"),
    "controlbench": Bench(
        ".quality.controlbench",
        "how well any model follows its conditions, by published metrics, with floor, ceiling and intervals",
    ),
    "controls": Bench(
        ".quality.several_controls", "how well two controls at once are followed, compared with each alone"
    ),
    "convergence": Bench(
        ".convergence.compare",
        "how soon ControlNeXt, ControlNet and T2I-Adapter follow a condition when they are trained",
    ),
    "faults": Bench(
        ".trust.faults", "broken machines: kills, full and missing folders, no ffmpeg, signals; what is borne"
    ),
    "few-steps": Bench(".quality.few_steps", "what few steps by a LoRA cost in adherence and colours"),
    "gpu": Bench(
        ".cost.gpu",
        "seconds and peak memory of a step on a GPU at real sizes, compared with ControlNet and T2I-Adapter",
    ),
    "live": Bench(
        ".cost.live", "how soon the page shows a new picture while a joint is dragged, in a headless browser"
    ),
    "lora": Bench(".quality.lora", "whether control holds under each style LoRA, and what the conflict meter says"),
    "full-size": Bench(".cost.full_size", "a base model of real size with random weights, loaded and run on the CPU"),
    "memory": Bench(
        ".cost.gpu_memory", "GPU memory of SDXL and SVD at real sizes by way of offloading, counted without a GPU"
    ),
    "overhead": Bench(
        ".cost.overhead",
        "what a denoising step costs with control: FLOPs, seconds, memory, compared with ControlNet and T2I-Adapter",
    ),
    "parameters": Bench(
        ".cost.parameters", "how many parameters each way of control adds and trains, on SD1.5, SDXL and SVD"
    ),
    "people": Bench(
        ".quality.crowds", "how many people of composed photographs the pose annotator finds, and how soon"
    ),
    "plug-in": Bench(".quality.plug_in", "adapters on bases they were not trained on: style LoRAs, a fine-tuned base"),
    "soak": Bench(".trust.soak", "a thousand requests of eight clients at once: lost, wrong, and what memory does"),
    "starter": Bench(".quality.starter", "how well the bundled model follows its control and its prompt"),
    "starter-look": Bench(
        ".quality.starter_look", "pictures of a starter to judge by eye, alone or beside another's in random order"
    ),
    "starter-photos": Bench(
        ".quality.starter_photos", "how well the bundled model follows people's own photographs, heads counted"
    ),
    "starter-scenes": Bench(
        ".quality.starter_scenes", "how well a starter follows scenes of people framed as in photographs"
    ),
    "starter-video": Bench(
        ".quality.starter_video", "how well the bundled video model moves its reference along the poses of a clip"
    ),
    "startup": Bench(".cost.startup", "seconds from `python app.py` to the page and to the first picture"),
    "trust": Bench(".trust.malformed", "malformed requests to a running app: refused in one short sentence, or not"),
    "video": Bench(".cost.long_video", "memory and time of a video in windows, by its length"),
}
"""Every bench by name."""
