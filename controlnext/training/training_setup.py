"""The parts of a training, built in order from its configuration: base model, method, data, trainer and validation."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

import torch
from accelerate.utils import gather_object
from torch import Tensor

from controlnext.device import default_threads
from controlnext.method.adapter import ControlNeXtAdapter
from controlnext.method.model import ControlNeXtModel
from controlnext.progress import Cancelled
from controlnext.training.accelerator import make_accelerator, mixed_dtype
from controlnext.training.base_model import load_base, start_adapter
from controlnext.training.config import TrainConfig, TrainingError, to_yaml
from controlnext.training.data.clip_data import ClipData
from controlnext.training.data.encoders import ClipEncoder, PictureEncoder
from controlnext.training.data.picture_data import PictureData
from controlnext.training.data.row_data import RowData, check_conditions
from controlnext.training.data.rows import BadRow, Row, read_rows
from controlnext.training.data.samples import Batch, Dropping, generator_for
from controlnext.training.data.store import Store
from controlnext.training.distill import Jumps, Teacher, TrajectoryData, TrajectoryProcess, few_steps_scheduler
from controlnext.training.family_defaults import FAMILY_DEFAULTS
from controlnext.training.losses import ContinuousProcess, DiscreteProcess, FlowProcess, NoiseProcess
from controlnext.training.methods import ControlNeXtMethod, is_transformer, model_of
from controlnext.training.quick import quicken
from controlnext.training.runs.report import LEARNED_TOO, write_report
from controlnext.training.runs.run_folder import RunFolder
from controlnext.training.trainer import Trainer, TrainingOutcome
from controlnext.training.validation import Validation

_EMPTY, _SPARSE, _LOOKED_AT = 0.1, 0.25, 16
"""Brightness of an empty pixel, share of others below which a condition counts as sparse, and how many are looked at."""
_REPORT_SECONDS = 1.0  # between two lines about the preparation


class TrainingSetup:
    """A training that is being put together.

    Attributes:
        config: with every null filled in.
        video: whether a sample is a clip.
        accelerator: device, precision and processes.
        pipeline: the base model; its UNet is the one that is trained.
    """

    def __init__(
        self, config: TrainConfig, run: RunFolder, stop: threading.Event, log: Callable[[str], None], *, first: bool
    ) -> None:
        """Take the configuration; nothing is loaded.

        Args:
            config: with every null filled in.
            run: where status and events are recorded.
            stop: set it to save and stop.
            log: receives lines of progress.
            first: whether this process reports for all.
        """
        self.config, self.run, self.stop, self.log, self.first = config, run, stop, log, first
        self.video = FAMILY_DEFAULTS[config.family].video
        self._reported_at = 0.0

    def train(self) -> TrainingOutcome:
        """Build the parts, cheap checks first, and train.

        Raises:
            ControlNeXtError: a part cannot be made, or the training cannot continue.
            Cancelled: it was stopped before the first step.
        """
        config = self.config
        rows, bad = read_rows(config.data, video=self.video)  # seconds; a base may have to be downloaded
        check_conditions(self.config, rows)
        self.load_base()
        method = self.make_method()  # before the data, whose preparation may take hours: wrong names are found here
        data = self.make_data(rows, bad)
        self.settle_gamma(method, data)
        if config.distill.steps:
            data = self.make_runs(method, data)
        if self.first:
            self.log(method.describe())
            self.run.add_event("trainable", text=method.describe(), rows=len(data))
        trainer = self.make_trainer(method, data)
        shown = data.shown() if self.first else []
        if shown and not data.held_out:
            self.log(LEARNED_TOO)
        for text in data.warnings():
            trainer.warn(text)
        validation = trainer.validate = Validation(trainer, self.pipeline, shown, held_out=data.held_out)
        outcome = trainer.run(self.stop)
        if outcome.stopped and self.first:
            with trainer.averaged():  # as the validations save it
                validation.save(outcome.step)
            write_report(self.run)
        return outcome

    def load_base(self) -> None:
        """Choose where the training runs, and load the base model."""
        config = self.config
        if threads := config.learning.threads or default_threads():
            torch.set_num_threads(threads)
        self.accelerator = make_accelerator(config)
        self.on_cpu = self.accelerator.device.type == "cpu"
        if self.on_cpu:
            torch.set_flush_denormal(True)
        dtype = torch.float32 if self.on_cpu else mixed_dtype(self.accelerator) or torch.float32
        with self.accelerator.main_process_first():
            self.pipeline = load_base(config, dtype, self.log, self.stop)
        self.model = model_of(self.pipeline)
        self.model.requires_grad_(False)
        if config.learning.gradient_checkpointing:
            self.model.enable_gradient_checkpointing()
        if self.on_cpu and not self.video:
            if not is_transformer(self.model):  # whose attention has two streams
                quicken(self.model)
            self.pipeline.vae.to(memory_format=torch.channels_last)

    def make_method(self) -> ControlNeXtMethod:
        """Build the weights that learn."""
        config, trainable, optimizer = self.config, self.config.trainable, self.config.optimizer
        torch.manual_seed(config.seed)
        width = {"out_channels": self.model.inner_dim} if is_transformer(self.model) else {}
        module = ControlNeXtModel.from_variant(config.variant, **width)
        if self.on_cpu:
            quicken(module)
        return ControlNeXtMethod(
            self.model, config.variant, module=module, pattern=trainable.subset,
            lora=(trainable.lora_rank, trainable.lora_targets), rates=(optimizer.module_rate, optimizer.rate),
            gamma=config.learning.gamma or 1.0, kind=trainable.kind, start=start_adapter(config),
        )  # fmt: skip

    def make_data(self, rows: Sequence[Row], bad: Sequence[BadRow]) -> RowData:
        """Prepare the rows, each process its share; those that cannot be used are named in the run's events.

        Args:
            rows: of the data set.
            bad: rows that are already known to be unusable.

        Raises:
            TrainingError: too many rows cannot be used.
            Cancelled: it was stopped.
        """
        config, accelerator = self.config, self.accelerator
        store = Store(config.data.cache or config.output / "cache", config.data.memory_mb)
        encoder_kind, data_kind = (ClipEncoder, ClipData) if self.video else (PictureEncoder, PictureData)
        precision = mixed_dtype(accelerator)
        # Some autoencoders overflow in float16.
        encoder = encoder_kind(self.pipeline, accelerator.device, None if precision == torch.float16 else precision)
        data = data_kind(config, rows, encoder, store)
        share, problem, mine = (accelerator.process_index, accelerator.num_processes), None, []
        try:
            mine = data.prepare(self._report, self.stop, share, bad)
        except (Cancelled, TrainingError) as error:
            problem = error  # passed to the other processes, which would wait for this one
        every = gather_object([(mine, problem)]) if accelerator.num_processes > 1 else [(mine, problem)]
        problem = next((problem for _, problem in every if problem is not None), None)
        if problem is not None:
            raise problem
        found = [*bad, *(row for rows, _ in every for row in rows)]
        for row in found if self.first else []:
            self.log(f"Skipped {row.name}: {row.reason}")
            self.run.add_event("skipped", name=row.name, reason=row.reason)
        data.settle(found)
        if config.data.cache_latents and config.data.cache_text:
            encoder.rest()
        return data

    def settle_gamma(self, method: ControlNeXtMethod, data: RowData) -> None:
        """Choose the control strength by how dense the conditions are, where the configuration leaves it open."""
        learning = self.config.learning
        if learning.gamma is None:
            shares = [
                float((data.sample(index, generator_for(0)).condition.amax(-3) > _EMPTY).float().mean())
                for index in range(min(len(data), _LOOKED_AT))
            ]
            sparse = sum(shares) < _SPARSE * len(shares)
            gamma = FAMILY_DEFAULTS[self.config.family].sparse_gamma if sparse else 1.0
            if self.config.distill.steps:  # the student keeps the strength of the adapter it starts from
                gamma = ControlNeXtAdapter.from_pretrained(
                    start_adapter(self.config), variant=self.config.variant
                ).gamma
            self.config = self.config.model_copy(update={"learning": learning.model_copy(update={"gamma": gamma})})
            method.gamma = gamma

    def make_runs(self, method: ControlNeXtMethod, data: RowData) -> TrajectoryData:
        """Let the teacher, the method as it is before it learns, run for each row; runs on the disk are kept."""
        config, accelerator = self.config, self.accelerator
        self.pipeline.scheduler = few_steps_scheduler(self.pipeline.scheduler)
        self.jumps = Jumps(
            few_steps_scheduler(self.pipeline.scheduler), config.distill.steps, config.distill.teacher_steps
        )
        runs = TrajectoryData(config, data, self.jumps)
        method.eval().to(accelerator.device)
        teacher = Teacher(method, self.jumps, data.empty, config.distill.guidance_scale, accelerator.device)

        def teach(batch: Batch) -> Tensor:
            with accelerator.autocast():
                return teacher(batch)

        runs.prepare(teach, self._report, self.stop, (accelerator.process_index, accelerator.num_processes))
        accelerator.wait_for_everyone()
        return runs

    def make_process(self) -> NoiseProcess:
        """Make the noise process that the base was trained with."""
        learning, scheduler = self.config.learning, self.pipeline.scheduler
        if is_transformer(self.model):  # the sampler's shift of sigmas is one of their logits
            return FlowProcess(math.log(scheduler.config.shift) + (learning.timesteps == "late"))
        if self.video:
            return ContinuousProcess()
        return DiscreteProcess(scheduler, late=learning.timesteps == "late", min_snr=learning.min_snr)

    def make_trainer(self, method: ControlNeXtMethod, data: RowData | TrajectoryData) -> Trainer:
        """Make the trainer, which resumes from a checkpoint if there is one, and write the configuration."""
        config, learning = self.config, self.config.learning
        process = self.make_process()
        dropping = Dropping(learning.empty_prompts, learning.nothing)
        if config.distill.steps:  # guidance is folded in, so nothing is learned without prompt or control
            process, dropping = TrajectoryProcess(self.pipeline.scheduler, self.jumps), Dropping()
        trainer = Trainer(config, method, data, process, accelerator=self.accelerator, dropping=dropping, log=self.log)
        if self.first:
            if note := trainer.resume_note():
                self.log(note)
            self.run.config_file.write_text(to_yaml(config), encoding="utf-8")
        return trainer

    def _report(self, stage: str, done: int, total: int) -> None:
        """Report the progress of the preparation, and look for a request to stop, once a second."""
        if done and time.monotonic() - self._reported_at < _REPORT_SECONDS:
            return
        self._reported_at = time.monotonic()
        if self.run.stop_requested():
            self.stop.set()
        if self.first:
            self.log(f"{stage} {done}/{total}")
            self.run.set_status("preparing", steps=self.config.steps, stage=stage, done=done, total=total)
