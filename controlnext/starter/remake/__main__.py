"""Train the starter of people: `python -m controlnext.starter.remake --runs FOLDER`. Run it again to resume where it was stopped.

It runs the steps of `STEPS` in order, each in its own process at the lowest priority and on one thread; a finished
step is not repeated. With the name of a stage it runs that stage alone. Minutes are CPU minutes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controlnext.assets import STARTER

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        stage: its name.
        amount: CPU minutes in total, or shards in total for `scenes`.
        kind: of adapter.
        final: whether the learning rate falls at the end; otherwise the stage is to be continued.
    """

    stage: str
    amount: float = 0.0
    kind: str = ""
    final: bool = True

    @property
    def name(self) -> str:
        """Name of the step in `done.json`."""
        return "-".join(
            str(part) for part in (self.stage, self.kind, f"{self.amount:g}" if self.amount else "") if part
        )


STEPS = (
    Step("scenes", 12),
    Step("autoencoder", 40),
    Step("latents"),
    Step("scenes", 64),
    Step("latents"),
    Step("together", 120),
    Step("reader", 30),
    Step("decoder", 45),
    Step("base", 240, final=False),
    Step("scenes", 160),
    Step("latents"),
    Step("base", 600),
    Step("adapter", 60, "pose"),
    Step("adapter", 45, "canny"),
    Step("adapter", 45, "depth"),
    Step("adapter", 45, "segmentation"),
    Step("adapter", 45, "scribble"),
    Step("adapter", 45, "normal"),
    Step("decoder", 120),
    Step("pack"),
)
"""The steps in their order. About 27 hours of one core."""

STAGES = tuple(dict.fromkeys(step.stage for step in STEPS))


def run_stage(step: Step, runs: Path, starter: Path = STARTER) -> dict[str, float]:
    """Run one stage in this process, at first from the weights of an older starter's folder; return its figures."""
    from controlnext.starter.train.loop import Plan, processes, rank, start_processes

    start_processes()
    data = runs / "data"
    plan = Plan(step.amount, warm_up=40, hold=0.6 if step.final else 1.0, checkpoint=300, report=1500, clock="cpu")
    if step.stage == "scenes":
        from controlnext.starter.scenes.shards import write_shard

        data.mkdir(parents=True, exist_ok=True)
        return {"written": sum(write_shard(data, index) for index in range(rank(), int(step.amount), processes()))}
    if step.stage == "reader":
        from controlnext.starter.remake import reader

        return reader.train(data, runs / "reader", plan, start=starter / "annotator")
    if step.stage == "autoencoder":
        from controlnext.starter.remake import autoencoder
        from controlnext.starter.remake.networks import LATENT_CHANNELS

        compared, out = runs / "channels" / str(LATENT_CHANNELS) / "checkpoint.pt", runs / "autoencoder"
        if compared.exists() and not (out / "checkpoint.pt").exists():  # the comparison has trained the first minutes
            out.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(compared, out / "checkpoint.pt")
        return autoencoder.train(data, out, plan, start=starter / "base" / "vae")
    if step.stage == "decoder":
        from controlnext.starter.remake import autoencoder
        from controlnext.starter.remake.packing import latest_pipeline

        encoder, drawing = runs / "autoencoder", latest_pipeline(runs)
        return autoencoder.sharpen(data, encoder, runs / "reader", runs / "decoder", plan, base=drawing)
    if step.stage == "latents":
        from controlnext.starter.remake.latents import encode_shards

        return {"encoded": encode_shards(data, runs / "autoencoder")}
    if step.stage == "base":
        from controlnext.starter.remake import base
        from controlnext.starter.remake.packing import latest_pipeline

        start = latest_pipeline(runs) or starter / "base"
        return base.train(data, runs / "autoencoder", runs / "base", plan, start=start)
    if step.stage == "together":
        from controlnext.starter.remake import together

        return together.train(data, runs / "autoencoder", runs / "together", plan, start=starter)
    if step.stage == "adapter":
        from controlnext.starter.remake import adapters

        learned = [runs / "together" / "adapters" / step.kind]
        learned += [runs / "adapters" / "pose" / "adapter"] if step.kind != "pose" else []
        learned += [folder / "adapters" / "pose" for folder in (runs / "together", starter)]
        start = next(path for path in learned if path.exists())
        out = runs / "adapters" / step.kind
        return adapters.train(data, runs / "base" / "pipeline", out, plan, kind=step.kind, start=start)
    from controlnext.starter.remake.packing import pack

    return pack(runs, runs / "starter")


def _append(runs: Path, line: dict[str, object]) -> None:
    with (runs / "progress.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _run_processes(command: list[str], count: int) -> int:
    """Run a command `count` times, joined by gloo on the loopback address; return the first exit code that is not 0."""
    shared = os.environ | {"OMP_NUM_THREADS": "1"}
    if count > 1:
        shared |= {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29521"}
    started = [subprocess.Popen(command, env=shared | {"RANK": str(number)}) for number in range(count)]
    status = 0
    while started and not status:
        time.sleep(1)
        ended = [process for process in started if process.poll() is not None]
        status = next((process.returncode for process in ended if process.returncode), 0)
        started = [process for process in started if process not in ended]
    for process in started:  # one failed, and the others would wait for it forever
        process.terminate()
        process.wait()
    return status


def _command(step: Step, runs: Path, starter: Path) -> list[str]:
    """Return the command line that runs one stage in one process."""
    command = [sys.executable, "-m", "controlnext.starter.remake", step.stage, "--runs", str(runs)]
    command += ["--amount", str(step.amount), "--start", str(starter)]
    return command + (["--kind", step.kind] if step.kind else []) + ([] if step.final else ["--not-final"])


def supervise(runs: Path, steps: Sequence[Step] = STEPS, count: int = 1, starter: Path = STARTER) -> int:
    """Run the steps that are not done, each in `count` processes; return the first exit code that is not 0."""
    runs.mkdir(parents=True, exist_ok=True)
    done_file = runs / "done.json"
    done = json.loads(done_file.read_text()) if done_file.exists() else []
    for number, step in enumerate(steps):
        key = f"{number:02d}-{step.name}"
        if key in done:
            continue
        logger.info("step %d of %d: %s", number + 1, len(steps), step.name)
        started = time.time()
        status = _run_processes(_command(step, runs, starter), 1 if step.stage == "pack" else count)
        if status:
            logger.error("%s ended with %d; the same command resumes it", step.name, status)
            return status
        done.append(key)
        done_file.write_text(json.dumps(done, indent=1) + "\n")
        _append(runs, {"step": step.name, "wall_minutes": round((time.time() - started) / 60, 1)})
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage or all; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m controlnext.starter.remake", description=__doc__)
    parser.add_argument("stage", nargs="?", choices=("all", *STAGES), default="all")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of data, checkpoints and results")
    parser.add_argument(
        "--amount", type=float, default=0.0, help="CPU minutes in total, or shards in total for scenes"
    )
    parser.add_argument("--kind", default="", help="which adapter")
    parser.add_argument(
        "--start", type=Path, default=STARTER, help="folder of the starter to begin from (default: the bundled one)"
    )
    parser.add_argument("--processes", type=int, default=1, help="processes that train together, one core each")
    parser.add_argument(
        "--not-final", action="store_true", help="keep the learning rate constant: the stage will be continued"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    os.nice(max(0, 19 - os.nice(0)))
    if options.stage == "all":
        return supervise(options.runs, count=options.processes, starter=options.start)
    step = Step(options.stage, options.amount, options.kind, final=not options.not_final)
    if options.processes > 1:
        return _run_processes(_command(step, options.runs, options.start), options.processes)
    figures = run_stage(step, options.runs, options.start)
    if int(os.environ.get("RANK", "0")):
        return 0
    _append(options.runs, {"stage": step.name, "time": time.strftime("%Y-%m-%d %H:%M"), **figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
