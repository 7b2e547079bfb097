"""Start a training: fill in its configuration, run it in this process or in one of its own, and record how it ends."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, TypeVar

from controlnext.assets import IMPORT_ROOT
from controlnext.errors import ControlNeXtError
from controlnext.progress import Cancelled
from controlnext.training.base_model import WHOLE_BODY, pose_drawing
from controlnext.training.config import CLASSIC, Section, TrainConfig, TrainingError, to_yaml
from controlnext.training.family_defaults import FAMILY_DEFAULTS
from controlnext.training.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from controlnext.training.trainer import TrainingOutcome

logger = logging.getLogger(__name__)

Log = Callable[[str], None]
"""Receives lines of progress."""

AnySection = TypeVar("AnySection", bound=Section)


def filled(config: TrainConfig) -> TrainConfig:
    """Replace every null of a configuration by the default of its family."""
    row = FAMILY_DEFAULTS[config.family]
    drawing = pose_drawing(config)
    data = _where_none(config.data, annotator=config.condition, width=row.size[0], height=row.size[1], drawing=drawing)
    if drawing != CLASSIC:
        data = data.model_copy(update={"annotator_settings": {**WHOLE_BODY, **data.annotator_settings}})
    module_rate = row.module_rate if config.optimizer.rate is None else 10 * config.optimizer.rate
    sections = {
        "variant": config.variant or row.variant,
        "data": data,
        "trainable": _where_none(config.trainable, subset=row.subset),
        "optimizer": _where_none(
            config.optimizer, name=row.optimizer, rate=row.rate, module_rate=module_rate, schedule=row.schedule,
            warm_up=row.warm_up, ema=row.ema,
        ),
        "learning": _where_none(
            config.learning, empty_prompts=row.empty_prompts, nothing=row.nothing, timesteps=row.timesteps
        ),
        "validation": _where_none(config.validation, guidance_scale=row.guidance_scale),
        "distill": _where_none(config.distill, guidance_scale=row.guidance_scale),
    }  # fmt: skip
    if config.distill.steps:  # the result is drawn as it will be used
        sections["validation"] = config.validation.model_copy(
            update={"steps": config.distill.steps, "guidance_scale": 1.0}
        )
    return config.model_copy(update=sections)


def _where_none(section: AnySection, **values: object) -> AnySection:
    return section.model_copy(update={name: value for name, value in values.items() if getattr(section, name) is None})


def train(config: TrainConfig, stop: threading.Event | None = None, log: Log | None = None) -> TrainingOutcome:
    """Train an adapter, or resume a stopped training; the result is `adapter` in `config.output`.

    The run's folder records status and events, so that others can follow: see
    `controlnext.training.runs.run_folder.RunFolder`.

    Args:
        config: what to train.
        stop: set it to save and stop.
        log: receives lines of progress; None takes the log.

    Returns:
        How it ended.

    Raises:
        ControlNeXtError: it cannot start or continue; one sentence, which the run's status repeats.
    """
    run, config, stop = RunFolder(config.output), filled(config), stop or threading.Event()
    first = int(os.environ.get("RANK", "0")) == 0
    claim = _claim(run, config) if first else None

    def set_status(state: str, **facts: object) -> None:
        if first:
            run.set_status(state, steps=config.steps, **facts)

    try:
        from controlnext.training.training_setup import TrainingSetup

        outcome = TrainingSetup(config, run, stop, log or logger.info, first=first).train()
        state = "stopped" if outcome.stopped else "done"
        set_status(state, step=outcome.step, elapsed=round(outcome.seconds, 1))
        return outcome
    except Cancelled:
        from controlnext.training.trainer import TrainingOutcome

        set_status("stopped")
        done = run.status()
        return TrainingOutcome(int(done.get("step") or 0), stopped=True, seconds=float(done.get("elapsed") or 0.0))
    except Exception as error:
        error = _explained(error, config)
        text = str(error) if isinstance(error, ControlNeXtError) else f"{type(error).__name__}: {error}"
        with suppress(OSError):  # the fault may be in this very folder
            if first:
                run.add_event("failed", error=text)
            set_status("failed", error=text)
        raise error
    finally:
        if claim is not None:
            run.forget_stop()
            claim.close()


def _explained(error: Exception, config: TrainConfig) -> Exception:
    """Return a TrainingError in place of an error of torch or the system that users can do something about."""
    from controlnext.device import is_out_of_memory

    if is_out_of_memory(error):
        return TrainingError(
            f"The memory of the device does not suffice for {config.learning.batch} samples of {config.data.width}x"
            f"{config.data.height} at once: halve learning.batch and double learning.accumulation, or set "
            "learning.gradient_checkpointing=true; started again, the training resumes."
        )
    full = getattr(error, "errno", None) == errno.ENOSPC or "no space left" in str(error).lower()
    if full and not isinstance(error, ControlNeXtError):
        return TrainingError(
            f"There is no room left on the disk of {config.output}: free some; started again, the training resumes from "
            "its last checkpoint."
        )
    return error


def _claim(run: RunFolder, config: TrainConfig) -> IO[str]:
    """Claim the folder of a run for this process, and set its status to preparing.

    Raises:
        TrainingError: it cannot be written, or another process has claimed it.
    """
    claim = None
    try:
        claim = run.lock()
        if claim is not None:
            run.forget_stop()
            run.set_status("preparing", steps=config.steps)
    except OSError as error:
        if claim is not None:
            claim.close()
        raise TrainingError(
            f"The output {config.output} cannot be written ({error.strerror or error}): make room or choose another output."
        ) from error
    if claim is None:
        raise TrainingError(
            f"Another training is running in {config.output}: stop it first, or choose another output."
        )
    return claim


def start_process(config: TrainConfig, processes: int = 1) -> subprocess.Popen[bytes]:
    """Train in another process, so that a page stays quick and survives a crash of the training.

    Follow it by `RunFolder(config.output)`: `status()`, `events()`, `request_stop()`. Its output is in `log.txt` there.

    Args:
        config: what to train.
        processes: how many train together; each takes `learning.batch` samples at once. Two are quickest on two cores.

    Returns:
        The process; it ends when the training does, with exit status 0, or 130 if a single process was stopped.
    """
    from controlnext.device import choose_device

    run = RunFolder(config.output)
    run.path.mkdir(parents=True, exist_ok=True)
    file = run.path / "asked.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    program = ["-m", "controlnext", "train", str(file.resolve())]
    environment = dict(os.environ)
    on_cpu = choose_device(config.learning.device).name == "cpu"
    if processes > 1 and on_cpu:  # where accelerate's own launcher starts only one
        program = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), *program]
        environment |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": environment.get("OMP_NUM_THREADS", "1")}
    elif processes > 1:
        launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
        program = [*launch, "--num_processes", str(processes), *program]
    paths = (str(IMPORT_ROOT), environment.get("PYTHONPATH", ""))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    with (run.path / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *program], env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
