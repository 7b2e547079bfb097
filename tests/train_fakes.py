"""A launcher in place of `start_process`: a thread that writes a real run's folder, quickly and without a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from PIL import Image

from controlnext.training.config import TrainConfig, to_yaml
from controlnext.training.runs.run_folder import RunFolder
from controlnext.training.runs.trainings import ASKED


class FakeProcess:
    """A thread that looks like a `subprocess.Popen`."""

    def __init__(self, work: Callable[[threading.Event], int]) -> None:
        self.returncode: int | None = None
        self.end = threading.Event()
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.returncode = self._work(self.end)
        except BaseException:
            self.returncode = 1
            raise

    def poll(self) -> int | None:
        return self.returncode

    def terminate(self) -> None:
        self.end.set()

    def wait(self) -> None:
        self._thread.join(60)


@dataclass
class FakeLaunch:
    """Acts like `start_process`.

    Attributes:
        step_seconds: time of a step.
        starting_seconds: time before anything is told, as the imports take.
        every: steps between fixed pictures.
        die_at: step at which it is killed: no word more; None never.
        error: what it fails with right after it has begun; empty for nothing.
        crash: whether it ends before it can say a word.
        configs: every configuration it was given, with the processes.
    """

    step_seconds: float = 0.002
    starting_seconds: float = 0.0
    every: int = 10
    die_at: int | None = None
    error: str = ""
    crash: bool = False
    configs: list[tuple[TrainConfig, int]] = field(default_factory=list)
    processes: list[FakeProcess] = field(default_factory=list)

    def __call__(self, config: TrainConfig, processes: int = 1) -> FakeProcess:
        run = RunFolder(config.output)
        run.path.mkdir(parents=True, exist_ok=True)
        (run.path / ASKED).write_text(to_yaml(config), encoding="utf-8")
        self.configs.append((config, processes))
        self.processes.append(FakeProcess(lambda end: self._train(config, run, end)))
        return self.processes[-1]

    def _train(self, config: TrainConfig, run: RunFolder, end: threading.Event) -> int:
        if end.wait(self.starting_seconds):
            return -15
        if self.crash:
            (run.path / "log.txt").write_text("Traceback\n[rank0]: ImportError: no torch\ntorch.x.ChildFailedError:\n")
            return 1
        claim = run.lock()
        assert claim is not None, "another training is at work"
        run.forget_stop()
        try:
            return self._steps(config, run, end)
        finally:
            run.forget_stop()
            claim.close()

    def _steps(self, config: TrainConfig, run: RunFolder, end: threading.Event) -> int:
        first = int(run.status().get("step") or 0)
        run.set_status("preparing", step=first, steps=config.steps, stage="Preparing rows", done=1, total=2)
        if self.error:
            run.add_event("failed", error=self.error)
            run.set_status("failed", step=first, steps=config.steps, error=self.error)
            return 1
        run.add_event("skipped", name="<b>broken.png", reason="It is damaged.")
        run.add_event("trainable", text="module 1,000 + subset 2,000; the UNet has 9,000 weights", rows=12)
        self._pictures(run.validation / "asked", 0, "{}.png")
        run.add_event(
            "asked", rows=[{"name": f"{index}.png", "prompt": f"a <i>square</i> {index}"} for index in range(2)]
        )
        if first:
            run.add_event("resumed", step=first)
        for step in range(first + 1, config.steps + 1):
            time.sleep(self.step_seconds)
            run.add_event("step", step=step, loss=1.0 / step, rate=1e-4, elapsed=0.01 * step)
            told = {
                "step": step,
                "steps": config.steps,
                "loss": 1.0 / step,
                "elapsed": 0.01 * step,
                "seconds_left": 30,
            }
            run.set_status("training", **told)
            if step == self.die_at:
                (run.path / "log.txt").write_text("Killed\n")
                return -9
            stopped = run.stop_requested() or end.is_set()
            if step % self.every == 0 or stopped or step == config.steps:
                self._validate(config, run, step)
            if stopped:
                run.set_status("stopped", step=step, steps=config.steps, elapsed=0.01 * step)
                return 130
        run.set_status("done", step=config.steps, steps=config.steps, elapsed=0.01 * config.steps)
        return 0

    def _validate(self, config: TrainConfig, run: RunFolder, step: int) -> None:
        self._pictures(run.validation / f"step-{step:08d}", step, "{}.png")
        run.adapter.mkdir(exist_ok=True)
        (run.adapter / "weights.safetensors").write_bytes(b"0" * 100)
        run.report.write_text("<p>report</p>")
        preset = {"title": f"Starter, {run.path.name}", "adapters": {config.condition: {"path": str(run.adapter)}}}
        run.preset.write_text(yaml.safe_dump(preset))
        run.add_event(
            "validation", step=step, adherence=min(0.9, step / 100), scores=[0.5, None], measure="F1", held_out_loss=0.2,
            loss_without_control=0.3, seconds=0.1,
        )  # fmt: skip

    def _pictures(self, folder: Path, tint: int, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(2):
            colour = ((40 * tint) % 256, 200 * index, (7 * tint) % 256)
            Image.new("RGB", (64, 64), colour).save(folder / name.format(index))
