"""`python -m controlnext.starter.remake.gpu`: train the starter of people in ten minutes of a GPU, or for ten more minutes.

Processes on the CPU cores render scenes all the time (sixteen cores draw more than the trainings can learn from); the GPU trains reader,
autoencoder, base and adapters with fixed shares of the time. `--out` gets what a later run needs, in a few files below 16 MiB: the averaged
weights in float16. Give them to the next run as `--start`, and it resumes from them. `--scale 0.01 --device cpu` rehearses it.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controlnext.starter.remake import adapters, autoencoder, base, latents, packing, reader
from controlnext.starter.remake.compute import Compute
from controlnext.starter.scenes.conditions import CONDITIONS
from controlnext.starter.scenes.shards import VIEWS_PER_SHARD, write_shard
from controlnext.starter.train.loop import LIGHT, Plan

logger = logging.getLogger(__name__)

SHARES = {"scenes": 0.10, "autoencoder": 0.22, "reader": 0.05, "base": 0.38, "decoder": 0.08} | dict.fromkeys(
    (f"adapters/{kind}" for kind in CONDITIONS), 0.17 / len(CONDITIONS)
)
"""Shares of the time; `scenes` is how long nothing but rendering runs, which then continues during the trainings."""


@dataclass(frozen=True)
class _Render:
    """Work of a rendering process: every `step`-th shard from `first`, until the file `stop` is there."""

    data: Path
    first: int
    step: int
    views: int

    def run(self) -> None:
        import torch

        torch.set_num_threads(1)
        index = self.first
        while not (self.data / "stop").exists():
            write_shard(self.data, index, self.views)
            index += self.step


def _renderers(data: Path, count: int, views: int, offset: int) -> list[multiprocessing.Process]:
    """Start `count` rendering processes."""
    data.mkdir(parents=True, exist_ok=True)
    (data / "stop").unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=_Render(data, offset + i, count, views).run, daemon=True) for i in range(count)]
    for process in started:
        process.start()
    return started


def light_name(stage: str) -> str:
    """Return the name of a stage's light checkpoint in the flat folder that comes back from a GPU."""
    return f"{stage.replace('/', '-')}-{LIGHT}"


def _restore(runs: Path, start: Path | None) -> None:
    for stage in SHARES:
        source = start / light_name(stage) if start else None
        if source and source.exists():
            (runs / stage).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, runs / stage / LIGHT)


def _keep(runs: Path, out: Path, stage: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if (runs / stage / LIGHT).exists():
        shutil.copyfile(runs / stage / LIGHT, out / light_name(stage))


def train_all(runs: Path, out: Path, minutes: float, compute: Compute, assets: Path) -> dict[str, dict[str, float]]:
    """Train every stage for its share of `minutes`; return the figures of each.

    Restored stages get their share on top, but a restored autoencoder stays as it is, since the base knows its latents: its share
    goes to the base.
    """
    figures: dict[str, dict[str, float]] = {}
    data, fixed = runs / "data", (runs / "autoencoder" / LIGHT).exists()
    shares = SHARES | ({"autoencoder": 0.0, "base": SHARES["base"] + SHARES["autoencoder"]} if fixed else {})

    def plan(stage: str) -> Plan:
        had = 0.0
        if (runs / stage / LIGHT).exists():
            import torch

            had = torch.load(runs / stage / LIGHT, weights_only=True)["elapsed"] / 60
        return Plan(had + minutes * shares[stage], warm_up=50, checkpoint=45, report=1e9, light=True)

    def done(stage: str, found: dict[str, float]) -> None:
        figures[stage] = found
        _keep(runs, out, stage)
        (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
        logger.info("%s: %s", stage, found)

    at, pipeline = {"compute": compute}, runs / "base" / "pipeline"
    start = assets / "base" / "vae"
    done("autoencoder", autoencoder.train(data, runs / "autoencoder", plan("autoencoder"), start=start, **at))
    done("reader", reader.train(data, runs / "reader", plan("reader"), start=assets / "annotator", **at))
    latents.encode_shards(data, runs / "autoencoder", compute)
    done("base", base.train(data, runs / "autoencoder", runs / "base", plan("base"), start=assets / "base", **at))
    for kind in CONDITIONS:
        stage = f"adapters/{kind}"
        first = runs / "adapters" / CONDITIONS[0] / "adapter"
        before = first if kind != CONDITIONS[0] else assets / "adapters" / "pose"
        done(stage, adapters.train(data, pipeline, runs / stage, plan(stage), kind=kind, start=before, **at))
    sharpened = autoencoder.sharpen(
        data, runs / "autoencoder", runs / "reader", runs / "decoder", plan("decoder"), base=pipeline, **at
    )
    done("decoder", sharpened)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Render and train; return the exit code."""
    from controlnext.assets import STARTER

    parser = argparse.ArgumentParser(prog="python -m controlnext.starter.remake.gpu", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder on the machine with the GPU")
    parser.add_argument("--out", type=Path, required=True, help="folder of what is to be kept")
    parser.add_argument("--start", type=Path, help="`--out` of an earlier run")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--cores", type=int, default=multiprocessing.cpu_count())
    parser.add_argument(
        "--first-shard", type=int, default=10_000, help="where rendering begins, so that runs see new scenes"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of time and batches; below 1 it is a rehearsal")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    began, minutes = time.monotonic(), options.minutes * options.scale
    batches = max(1, round(12 * options.scale))
    on_gpu = options.device != "cpu"
    renderers = max(1, options.cores // 2)
    compute = Compute(options.device, options.cores // 3 if on_gpu else 0, batches)
    views = max(2, round(VIEWS_PER_SHARD * options.scale))
    _restore(options.runs, options.start)
    data = options.runs / "data"
    processes = _renderers(data, options.cores if on_gpu else renderers, views, options.first_shard)
    try:
        wanted = minutes * 60 * SHARES["scenes"]
        while time.monotonic() - began < wanted or not list(data.glob("shard-?????")):
            time.sleep(0.2)
        figures = train_all(options.runs, options.out, minutes, compute, STARTER)
    finally:
        (data / "stop").touch()
        for process in processes:
            process.terminate()
    figures["pack"] = packing.pack(options.runs, options.runs / "starter")
    logger.info("%.1f minutes in total", (time.monotonic() - began) / 60)
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
