"""Default settings of a training, one row a base-model family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from controlnext.method.families import FAMILIES


@dataclass(frozen=True)
class FamilyDefaults:
    """Values that a training of a family takes where its configuration says null.

    Attributes:
        name: of the family.
        preset: whose base model is trained on.
        variant: key of `VARIANTS`.
        subset: regular expression of the UNet weights that learn; matched against the whole name.
        trained: number of weights that `subset` names in the real UNet.
        size: width and height in pixels.
        optimizer: name.
        rate: learning rate of the UNet subset.
        module_rate: learning rate of the control module.
        warm_up: steps.
        schedule: `constant` or `cosine`.
        ema: decay of averaged weights; 0 is off.
        empty_prompts: share of samples without prompt.
        nothing: share of samples with neither prompt nor control.
        timesteps: `uniform` or `late`.
        guidance_scale: for validation pictures.
        sparse_gamma: control strength for conditions that are mostly empty, such as edges.
        source: where the values come from.
    """

    name: str
    preset: str
    variant: str
    subset: str
    trained: int
    size: tuple[int, int]
    optimizer: str = "adamw"
    rate: float = 1e-5
    module_rate: float = 1e-4
    warm_up: int = 500
    schedule: str = "constant"
    ema: float = 0.0
    empty_prompts: float = 0.1
    nothing: float = 0.0
    timesteps: str = "uniform"
    guidance_scale: float = 7.5
    sparse_gamma: float = 1.0
    source: str = ""

    @property
    def video(self) -> bool:
        """Whether a sample is a clip."""
        return FAMILIES[self.name].video


_ROWS = (
    FamilyDefaults(
        name="starter",
        preset="starter",
        variant="starter",
        # Where features are mixed again after attention, and the encoder's convolutions.
        subset=r".*to_out.*|conv_in.*|(down_blocks|mid_block).*\.conv[12]\..*",
        trained=1_414_336,
        size=(256, 256),
        rate=5e-4,
        module_rate=1.5e-3,
        warm_up=100,
        schedule="cosine",
        ema=0.998,
        empty_prompts=0.05,
        nothing=0.1,
        timesteps="late",
        guidance_scale=3.0,
        source="this project's training of the bundled adapters",
    ),
    FamilyDefaults(
        name="sd15",
        preset="sd15",
        variant="sd15-train",
        subset=r".*to_out.*",
        trained=24_805_760,
        size=(512, 512),
        source="ControlNeXt-SD1.5-Training: names with to_out, its example's rates",
    ),
    FamilyDefaults(
        name="sdxl",
        preset="sdxl",
        variant="sdxl",
        subset=r".*attn2.*to_out.*",
        trained=102_483_200,
        size=(1024, 1024),
        optimizer="adafactor",
        guidance_scale=5.0,
        sparse_gamma=0.35,
        source="ControlNeXt-SDXL-Training: its defaults, and its authors' strength for edges",
    ),
    FamilyDefaults(
        name="svd",
        preset="svd-v2",
        variant="svd-v2",
        subset=r".*to_out.*",
        trained=49_611_520,
        size=(576, 1024),
        empty_prompts=0.2,
        nothing=0.1,
        guidance_scale=3.0,
        source="ControlNeXt-SVD-v2-Training: its drop rates; the subset is the smaller one of the paper",
    ),
    FamilyDefaults(
        name="sd3",
        preset="sd35",
        variant="sd3",
        subset=r".*attn2?\.to_out.*",
        trained=87_350_784,
        size=(1024, 1024),
        guidance_scale=5.0,
        source="experimental: nobody has published a training; the subset is SD1.5's, of the picture's stream",
    ),
)
FAMILY_DEFAULTS: Mapping[str, FamilyDefaults] = MappingProxyType({row.name: row for row in _ROWS})
