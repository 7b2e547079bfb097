"""Training a ControlNeXt on a condition of one's own: `python -m controlnext train CONFIG.yaml`.

    config = load_config("presets/training/starter.yaml", ["output=runs/mine", "data.folder=photos"])
    train(config)                       # adapter, report, curves and checkpoints lie in `config.output`

    start_process(config)               # the same in a process of its own, followed from here:
    run = RunFolder(config.output)      # run.status(), run.events("step", "validation"), run.request_stop()

Importing this package starts nothing; a name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controlnext.lazy import lazy_names

if TYPE_CHECKING:  # what `_HOMES` says, for type checkers
    from controlnext.training.config import ConfigError as ConfigError
    from controlnext.training.config import TrainConfig as TrainConfig
    from controlnext.training.config import TrainingError as TrainingError
    from controlnext.training.config import load_config as load_config
    from controlnext.training.data.samples import Data as Data
    from controlnext.training.data.samples import Sample as Sample
    from controlnext.training.methods import ControlNeXtMethod as ControlNeXtMethod
    from controlnext.training.methods import Method as Method
    from controlnext.training.runs.run_folder import RunFolder as RunFolder
    from controlnext.training.start import start_process as start_process
    from controlnext.training.start import train as train
    from controlnext.training.trainer import Trainer as Trainer

_HOMES = {
    "TrainConfig": ".config",
    "ConfigError": ".config",
    "load_config": ".config",
    "TrainingError": ".config",
    "Sample": ".data.samples",
    "Data": ".data.samples",
    "Method": ".methods",
    "ControlNeXtMethod": ".methods",
    "RunFolder": ".runs.run_folder",
    "Trainer": ".trainer",
    "train": ".start",
    "start_process": ".start",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
