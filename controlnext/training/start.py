"""Put a training together from its configuration, and run it."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controlnext.assets import IMPORT_ROOT
from controlnext.errors import ControlNeXtError
from controlnext.progress import Cancelled
from controlnext.training.base import CLASSIC, WHOLE_BODY, drawing_of, load_base, start_of
from controlnext.training.config import TrainConfig, TrainingError, to_yaml
from controlnext.training.families import FAMILIES
from controlnext.training.runs.run_folder import RunFolder

if TYPE_CHECKING:
    import accelerate
    import torch

    from controlnext.training.data.row_data import RowData
    from controlnext.training.data.rows import BadRow, Row
    from controlnext.training.methods import ControlNeXtMethod
    from controlnext.training.trainer import Outcome

logger = logging.getLogger(__name__)

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Parts:
    """What a training is made of.

    Attributes:
        config: with every null filled in.
        accelerator: device, precision, processes.
        pipeline: the base model; its UNet is the one that is trained.
    """

    config: TrainConfig
    accelerator: accelerate.Accelerator
    pipeline: Any


def filled(config: TrainConfig) -> TrainConfig:
    """Fill in what suits the family where a configuration says null, so that nothing is left to guess."""
    row = FAMILIES[config.family]
    variant = config.variant or row.variant
    own = {"variant": variant}
    drawing = drawing_of(config)
    data = _where_none(config.data, annotator=config.condition, width=row.size[0], height=row.size[1], drawing=drawing)
    if drawing != CLASSIC:
        data = data.model_copy(update={"annotator_settings": {**WHOLE_BODY, **data.annotator_settings}})
    trainable = _where_none(config.trainable, subset=row.subset)
    module_rate = row.module_rate if config.optimizer.rate is None else 10 * config.optimizer.rate
    optimizer = _where_none(
        config.optimizer, name=row.optimizer, rate=row.rate, module_rate=module_rate, schedule=row.schedule,
        warm_up=row.warm_up, ema=row.ema,
    )  # fmt: skip
    learning = _where_none(
        config.learning, empty_prompts=row.empty_prompts, nothing=row.nothing, timesteps=row.timesteps
    )
    validation = _where_none(config.validation, guidance_scale=row.guidance_scale)
    sections = {"data": data, "trainable": trainable, "optimizer": optimizer, "learning": learning}
    return config.model_copy(update=own | sections | {"validation": validation})


def _where_none(section: Any, **values: Any) -> Any:  # noqa: ANN401 - any section and its fields
    return section.model_copy(update={name: value for name, value in values.items() if getattr(section, name) is None})


def train(config: TrainConfig, stop: threading.Event | None = None, tell: Tell | None = None) -> Outcome:
    """Train an adapter, or go on where that was stopped; the result is `adapter` in `config.output`.

    What happens is told to the run's folder, so that others can follow: see `controlnext.training.runs.run_folder.RunFolder`.

    Args:
        config: what to train.
        stop: set it to save and stop.
        tell: gets a line of progress now and then; None takes the log.

    Returns:
        How it ended.

    Raises:
        ControlNeXtError: it cannot begin or go on; one sentence. The run's status says the same.
    """
    run, tell, stop = RunFolder(config.output), tell or logger.info, stop or threading.Event()
    config = filled(config)
    first = _rank() == 0
    claim = _claim(run, config) if first else None
    try:
        outcome = _train(config, run, stop, tell)
        if first:
            state = "stopped" if outcome.stopped else "done"
            run.set_status(state, step=outcome.step, steps=config.steps, elapsed=round(outcome.seconds, 1))
        return outcome
    except Cancelled:
        from controlnext.training.trainer import Outcome

        if first:
            run.set_status("stopped", steps=config.steps)
        done = run.status()
        return Outcome(int(done.get("step") or 0), stopped=True, seconds=float(done.get("elapsed") or 0.0))
    except Exception as error:
        from controlnext.device import is_out_of_memory

        if is_out_of_memory(error):
            error = TrainingError(
                f"The memory of the device does not suffice for {config.learning.batch} samples of {config.data.width}x"
                f"{config.data.height} at once: halve learning.batch and double learning.accumulation, or set "
                "learning.gradient_checkpointing=true; started again, the training goes on."
            )
        elif not isinstance(error, ControlNeXtError) and (
            getattr(error, "errno", None) == errno.ENOSPC or "no space left" in str(error).lower()
        ):
            error = TrainingError(
                f"There is no room left on the disk of {config.output}: free some; started again, the training goes on from "
                "its last checkpoint."
            )
        if first:
            text = str(error) if isinstance(error, ControlNeXtError) else f"{type(error).__name__}: {error}"
            with suppress(OSError):  # what is wrong may be this very folder
                run.tell("failed", error=text)
                run.set_status("failed", steps=config.steps, error=text)
        raise error
    finally:
        if claim is not None:
            run.forget_stop()
            claim.close()


def _claim(run: RunFolder, config: TrainConfig) -> Any:  # noqa: ANN401 - what `RunFolder.lock` gives
    """Claim the folder of a run for this process, and say there that it begins."""
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
            f"Another training is at work in {config.output}: stop it first, or choose another output."
        )
    return claim


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _train(config: TrainConfig, run: RunFolder, stop: threading.Event, tell: Tell) -> Outcome:
    from controlnext.training.data.row_data import check_conditions
    from controlnext.training.data.rows import read_rows
    from controlnext.training.data.samples import Dropping
    from controlnext.training.losses import ContinuousProcess, DiscreteProcess
    from controlnext.training.runs.report import LEARNED_TOO, write_report
    from controlnext.training.trainer import Trainer
    from controlnext.training.validation import Validation

    rows, bad = read_rows(config.data, video=FAMILIES[config.family].video)  # seconds; a base may take a download
    check_conditions(config, rows)
    parts = load_parts(config, tell, stop)
    accelerator, pipeline = parts.accelerator, parts.pipeline
    method = make_method(
        parts
    )  # before the pictures: preparing them may take hours, and this finds what is named wrongly
    data = make_data(parts, rows, bad, run, stop, tell)
    if accelerator.is_main_process:
        tell(method.describe())
        run.tell("trainable", text=method.describe(), rows=len(data))
    learning = config.learning
    late = learning.timesteps == "late"
    process = (
        ContinuousProcess()
        if FAMILIES[config.family].video
        else DiscreteProcess(pipeline.scheduler, late=late, min_snr=learning.min_snr)
    )
    trainer = Trainer(
        config, method, data, process,
        accelerator=accelerator, dropping=Dropping(learning.empty_prompts, learning.nothing),
    )  # fmt: skip
    if accelerator.is_main_process:
        if going_on := trainer.going_on():
            tell(going_on)
        run.config_file.write_text(to_yaml(config), encoding="utf-8")
    shown = data.shown() if accelerator.is_main_process else []
    if not data.held_out and shown:
        tell(LEARNED_TOO)
    trainer.validate = Validation(trainer, pipeline, shown, held_out=data.held_out)
    outcome = trainer.run(stop)
    if outcome.stopped and accelerator.is_main_process:
        with trainer.averaged():  # as the validations save it
            trainer.validate.save(outcome.step)
        write_report(run)
    return outcome


def load_parts(config: TrainConfig, tell: Tell, stop: threading.Event) -> Parts:
    """Load the base model and choose where it runs.

    Args:
        config: filled in.
        tell: gets a line now and then.
        stop: stops a download.
    """
    import torch

    from controlnext.device import default_threads
    from controlnext.training.quick import quicken
    from controlnext.training.trainer import make_accelerator

    if threads := config.learning.threads or default_threads():
        torch.set_num_threads(threads)
    accelerator = make_accelerator(config)
    on_cpu = accelerator.device.type == "cpu"
    if on_cpu:
        torch.set_flush_denormal(True)
    dtype = torch.float32 if on_cpu else mixed_dtype(accelerator) or torch.float32
    with accelerator.main_process_first():
        pipeline = load_base(config, dtype, tell, stop)
    pipeline.unet.requires_grad_(False)
    if config.learning.gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    if on_cpu and not FAMILIES[config.family].video:
        quicken(pipeline.unet)
        pipeline.vae.to(memory_format=torch.channels_last)
    return Parts(config, accelerator, pipeline)


def mixed_dtype(accelerator: accelerate.Accelerator) -> torch.dtype | None:
    """The dtype of mixed precision; None if all is float32."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)


def make_data(
    parts: Parts, rows: list[Row], bad: list[BadRow], run: RunFolder, stop: threading.Event, tell: Tell
) -> RowData:
    """Prepare the rows, each process its share; those that cannot be used, `bad` or found now, are named in the run's events.

    Raises:
        TrainingError: too many of them cannot be used.
    """
    import torch
    from accelerate.utils import gather_object

    from controlnext.training.data.clips import ClipData
    from controlnext.training.data.encoders import ClipEncoder, PictureEncoder
    from controlnext.training.data.pictures import PictureData
    from controlnext.training.data.store import Store

    config, accelerator = parts.config, parts.accelerator
    video = FAMILIES[config.family].video
    store = Store(config.data.cache or config.output / "cache", config.data.memory_mb)
    encode, learn = (ClipEncoder, ClipData) if video else (PictureEncoder, PictureData)
    precision = mixed_dtype(accelerator)
    # Some autoencoders overflow in float16.
    encoder = encode(parts.pipeline, accelerator.device, None if precision == torch.float16 else precision)
    data = learn(config, rows, encoder, store)
    report = _Report(run, config, tell, stop)
    problem, mine = None, []
    try:
        mine = data.prepare(report, stop, (accelerator.process_index, accelerator.num_processes), bad)
    except (Cancelled, TrainingError) as error:
        problem = error  # told to the other processes, which would wait for this one
    every = gather_object([(mine, problem)]) if accelerator.num_processes > 1 else [(mine, problem)]
    problem = next((problem for _, problem in every if problem is not None), None)
    if problem is not None:
        raise problem
    found = [*bad, *(row for rows, _ in every for row in rows)]
    if accelerator.is_main_process:
        for row in found:
            tell(f"Skipped {row.name}: {row.reason}")
            run.tell("skipped", name=row.name, reason=row.reason)
    data.settle(found)
    if config.data.cache_latents and config.data.cache_text:
        encoder.rest()
    return data


class _Report:
    """Tells how far preparing is, and looks whether somebody asked to stop, once a second."""

    def __init__(self, run: RunFolder, config: TrainConfig, tell: Tell, stop: threading.Event) -> None:
        self._run, self._config, self._tell, self._stop, self._at = run, config, tell, stop, 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() - self._at > 1 or done == 0:
            self._at = time.monotonic()
            if self._run.stop_requested():
                self._stop.set()
            if _rank() == 0:
                self._tell(f"{stage} {done}/{total}")
                self._run.set_status("preparing", steps=self._config.steps, stage=stage, done=done, total=total)


def make_method(parts: Parts) -> ControlNeXtMethod:
    """Build what learns, as the configuration says."""
    import torch

    from controlnext.method.model import ControlNeXtModel
    from controlnext.training.methods import ControlNeXtMethod
    from controlnext.training.quick import quicken

    config = parts.config
    torch.manual_seed(config.seed)
    module = ControlNeXtModel.from_variant(config.variant)
    if parts.accelerator.device.type == "cpu":
        quicken(module)
    trainable, optimizer = config.trainable, config.optimizer
    return ControlNeXtMethod(
        parts.pipeline.unet, config.variant, module=module, pattern=trainable.subset,
        lora=(trainable.lora_rank, trainable.lora_targets), rates=(optimizer.module_rate, optimizer.rate),
        gamma=config.learning.gamma, kind=trainable.kind, start=start_of(config),
    )  # fmt: skip


def facts_of(
    config: TrainConfig, step: int, samples: int, seconds: float, figures: Mapping[str, float | None]
) -> dict[str, str]:
    """What an adapter says of its training, as text; `samples` are those of a step over all processes."""
    row = FAMILIES[config.family]
    facts = {
        "annotator": config.condition,
        "gamma": f"{config.learning.gamma:g}",
        "base": config.base or row.preset,
        "steps": str(step),
        "minutes": f"{seconds / 60:.1f}",
        "samples": str(samples),
        "size": f"{config.data.width}x{config.data.height}",
        "trained": f"LoRA of rank {config.trainable.lora_rank}"
        if config.trainable.lora_rank
        else config.trainable.subset,
    }
    if config.data.drawing not in (None, CLASSIC):
        facts["drawing"] = config.data.drawing
    return facts | {name: f"{value:.4f}" for name, value in figures.items() if value is not None}


def start_process(config: TrainConfig, processes: int = 1) -> subprocess.Popen[bytes]:
    """Train outside of this process, so that a page stays quick and a crash stays there.

    Follow it by `RunFolder(config.output)`: `status()`, `events()`, `request_stop()`. What it prints is in `log.txt` there.

    Args:
        config: what to train.
        processes: how many train together; each takes `learning.batch` samples at once. Two are quickest on two cores.

    Returns:
        The process; it ends when the training does, with exit status 0, or 130 if one process was stopped.
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
    root = str(IMPORT_ROOT)
    environment["PYTHONPATH"] = os.pathsep.join(part for part in (root, environment.get("PYTHONPATH", "")) if part)
    with (run.path / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *program], env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
