"""A tiny training without a base model on the disk: a real small UNet and module on random samples."""

import torch
from diffusers import DDIMScheduler
from tiny_models import CHANNELS, TEXT_WIDTH, make_module, make_unet

from controlnext.training.config import as_config
from controlnext.training.data.samples import Dropping, Sample
from controlnext.training.losses import DiscreteProcess
from controlnext.training.methods import ControlNeXtMethod
from controlnext.training.start import filled
from controlnext.training.trainer import Trainer

PATTERN = r".*to_out.*"


class RandomData:
    """Twelve samples of random numbers; `shapes` says which have another size."""

    def __init__(self, count: int = 12, wide: tuple[int, ...] = ()) -> None:
        self.count, self.wide = count, wide
        self.empty = {"encoder_hidden_states": torch.zeros(5, TEXT_WIDTH)}

    def __len__(self) -> int:
        return self.count

    def shape(self, index: int) -> int:
        return 12 if index in self.wide else 8

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        own = torch.Generator().manual_seed(index)
        width = self.shape(index)
        return Sample(
            torch.randn(4, 8, width, generator=own),
            torch.rand(3, 64, 8 * width, generator=own),
            {"encoder_hidden_states": torch.randn(5, TEXT_WIDTH, generator=own)},
        )


def tiny_config(output, **changes):
    values = {
        "condition": "canny",
        "output": str(output),
        "steps": 6,
        "data": {"folder": "."},
        "trainable": {"subset": PATTERN},
        "optimizer": {"rate": 1e-3, "warm_up": 2},
        "learning": {"batch": 2, "device": "cpu", "mixed_precision": "no"},
        "checkpoints": {"every": 3},
        "validation": {"every": 0, "rows": 0},
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    return filled(as_config(values))


def tiny_method(**changes) -> ControlNeXtMethod:
    options = {"pattern": PATTERN, "module": make_module("starter", CHANNELS["starter"]), **changes}
    return ControlNeXtMethod(make_unet(), "starter", **{"rates": (1e-3, 1e-3), **options})


def tiny_trainer(config, data=None, method=None, **options) -> Trainer:
    process = DiscreteProcess(DDIMScheduler(beta_schedule="scaled_linear"))
    options = {"dropping": Dropping(0.2, 0.2), **options}
    return Trainer(config, method or tiny_method(), data or RandomData(), process, **options)


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.parameters.items()}


def losses_of(trainer: Trainer) -> list[float]:
    return [event["loss"] for event in trainer.run_folder.events("step")]
