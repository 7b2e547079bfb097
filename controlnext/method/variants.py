"""Variants: the released layouts of ControlNeXt as rows of one table.

The method was published five times, and the five differ: in the layers of the control module, in the place where the
control enters the UNet, in the order of pooling and normalising, and in what multiplies it. Each difference is a field
here, so that one code path serves all. Importing this file imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from controlnext.errors import ControlNeXtError


class VariantError(ControlNeXtError, ValueError):
    """An unknown variant, or a file that fits none or several."""


@dataclass(frozen=True)
class Layout:
    """The layers of a control module; each field is an argument of `ControlNeXtModel`.

    Attributes:
        time_proj_dim: Width of the sinusoidal timestep code.
        time_embed_dim: Width of the timestep embedding.
        stem_channels: Output widths of the three stem convolutions, the first with stride 2; empty = no stem.
        stem_padding: Padding of the two stride-1 stem convolutions, in cells: 0 or 1.
        stem_pool: Whether a 2x2 maximum pooling ends the stem.
        stage_channels: Output width of each stage; a stage is a resnet block and a stride-2 convolution.
        stage_groups: GroupNorm groups of each stage's resnet block.
        tail_residual: Whether the tail has GroupNorms and a residual (all but the first release).
        out_channels: Channels of the control.
        learned_scale: Whether the file carries a learned 0-dim `scale`.
    """

    time_proj_dim: int = 128
    time_embed_dim: int = 256
    stem_channels: tuple[int, ...] = (64, 64, 128)
    stem_padding: int = 1
    stem_pool: bool = False
    stage_channels: tuple[int, ...] = (128, 256)
    stage_groups: tuple[int, ...] = (4, 8)
    tail_residual: bool = True
    out_channels: int = 320
    learned_scale: bool = False


@dataclass(frozen=True)
class Tokens:
    """How a diffusion transformer lays a picture out as tokens, `(batch, tokens, channels)`, row by row.

    Attributes:
        cell: Pixels of a token's side.
        last: Whether the picture's tokens are the last of the sequence, behind the text's; else they are the first, and
            what follows them (text, padding) is neither changed nor part of the statistics.
        per_channel: Whether each channel is normalised over the tokens alone; else channels and tokens together.
        per_frame: Whether each frame of a video has statistics of its own; else the whole clip has one.
    """

    cell: int = 16
    last: bool = False
    per_channel: bool = False
    per_frame: bool = False


@dataclass(frozen=True)
class Variant:
    """How one release of ControlNeXt is built and how its control enters the UNet.

    Attributes:
        name: Key of the row.
        family: Base-model family whose UNet or transformer it fits.
        layout: The layers of its control module.
        parameters: Parameters of that module, counted.
        injection_point: The UNet block whose `hidden_states` input receives the control.
        eps: Epsilon of `cross_norm`.
        pool_first: Pool to the hidden size before normalising (True) or after (False).
        factor: Fixed multiplier of the normalised control, in addition to gamma.
        sigmoid_scale: Whether the learned scale passes a sigmoid before it multiplies.
        control_on_uncond: Whether the unconditional half of a guided batch keeps the scale; if not, its scale is 0
            (through the sigmoid where there is one, so SVD v1 still controls that half at 0.65).
        reference_leads: Whether the control of a video's first frame, the reference's own, stands at the start of every
            window over time.
        latents_argument: Argument of the model's forward that holds the latents.
        time_argument: Argument of the model's forward that holds the timestep.
        time_scale: What that timestep is multiplied by, so that the control module sees 0 to 1000.
        hidden_argument: Argument of the block that receives the control.
        tokens: How the hidden states are laid out where they are tokens; None for feature maps.
        source: Where the row's facts come from.
    """

    name: str
    family: str
    layout: Layout
    parameters: int
    injection_point: str
    eps: float
    pool_first: bool
    factor: float = 1.0
    sigmoid_scale: bool = False
    control_on_uncond: bool = True
    reference_leads: bool = False
    latents_argument: str = "sample"
    time_argument: str = "timestep"
    time_scale: float = 1.0
    hidden_argument: str = "hidden_states"
    tokens: Tokens | None = None
    source: str = ""

    @property
    def transformer(self) -> bool:
        """Whether the base model is a transformer, which is given one timestep a picture, and some twice a step."""
        return self.latents_argument != "sample"


_LIGHT = Layout()
_STARTER = Variant(
    name="starter",
    family="starter",
    layout=Layout(
        time_proj_dim=32,
        time_embed_dim=64,
        stem_channels=(16, 16, 32),
        stage_channels=(32, 64),
        out_channels=64,
    ),
    parameters=220_848,
    injection_point="down_blocks.0",
    eps=1e-5,
    pool_first=False,
    control_on_uncond=False,  # as SVD does: guidance then amplifies the control too
    source="this project's bundled starter model",
)
_ROWS = (
    Variant(
        name="sd15",
        family="sd15",
        layout=Layout(
            stem_channels=(),
            stage_channels=(128, 256, 256),
            stage_groups=(1, 8, 8),
            tail_residual=False,
            out_channels=1280,
            learned_scale=True,
        ),
        parameters=5_352_327,
        injection_point="up_blocks.0",
        eps=1e-12,
        pool_first=True,
        source="ControlNeXt-SD1.5 (inference code and released weights)",
    ),
    Variant(
        name="sd15-train",
        family="sd15",
        layout=_LIGHT,
        parameters=3_526_400,
        injection_point="down_blocks.1",
        eps=1e-12,
        pool_first=True,
        source="ControlNeXt-SD1.5-Training",
    ),
    Variant(
        name="sdxl",
        family="sdxl",
        layout=_LIGHT,
        parameters=3_526_400,
        injection_point="down_blocks.0",
        eps=1e-12,
        pool_first=False,
        source="ControlNeXt-SDXL and ControlNeXt-SDXL-Training",
    ),
    Variant(
        name="svd-v1",
        family="svd",
        layout=Layout(
            stem_padding=0,
            stem_pool=True,
            stage_channels=(128, 256, 256),
            stage_groups=(4, 8, 8),
            out_channels=1280,
            learned_scale=True,
        ),
        parameters=5_610_177,
        injection_point="mid_block",
        eps=1e-5,
        pool_first=False,
        factor=1.3,
        sigmoid_scale=True,
        control_on_uncond=False,
        source="ControlNeXt-SVD",
    ),
    Variant(
        name="svd-v2",
        family="svd",
        layout=replace(_LIGHT, stem_padding=0),  # the training copy pads: stem_padding=1
        parameters=3_526_400,
        injection_point="down_blocks.1",
        eps=1e-5,
        pool_first=False,
        factor=0.2,
        control_on_uncond=False,
        reference_leads=True,
        source="ControlNeXt-SVD-v2 (inference code; its training copy pads the stem)",
    ),
    _STARTER,
    replace(
        _STARTER,
        name="starter-video",
        family="starter-video",
        layout=replace(_STARTER.layout, learned_scale=True),
        parameters=220_849,
        source="this project's bundled video starter",
    ),
)

VARIANTS: Mapping[str, Variant] = MappingProxyType({row.name: row for row in _ROWS})


# Transformers. Experimental: the authors published no weights for them. The rows follow what is public of the method there,
# one addition at the input of one block, on the tokens of the picture. Sources: for the FLUX module, its place, and
# statistics over tokens and channels Eugeoter/euge-trainer, `modules/models/flux/flux_controlnext_models.py`; for
# statistics of each channel over the tokens Bex0n/ControlNeXt-SD3; for the control on latents before they are cut into
# patches Eugeoter/euge-trainer, `modules/models/sd3/controlnext_nnet.py`; for arguments and blocks diffusers 0.42.
_DEEP = Layout(stage_channels=(128, 256, 256), stage_groups=(4, 8, 8))  # ends at a sixteenth of the picture
_WIDTHS = {"flux": 3072, "flux2": 6144, "sd3": 1536, "wan": 5120, "qwen-image": 3072, "z-image": 3840, "sana": 2240, "pixart": 1152}  # fmt: skip
_MIN_FRACTION = 1000.0  # pipelines of these give the timestep in [0, 1]


def _row(name: str, injection_point: str, tokens: Tokens, time_scale: float = 1.0, **changes: str) -> Variant:
    layout = replace(_DEEP, out_channels=_WIDTHS[name])
    if tokens.cell == 32:
        layout = replace(layout, stage_channels=(128, 256, 256, 256), stage_groups=(4, 8, 8, 8))
    return Variant(
        name=name,
        family=name if name in ("flux", "sd3", "wan") else "transformer",  # those with pipelines, see FAMILIES
        layout=layout,
        parameters=0,
        injection_point=injection_point,
        eps=1e-12,
        pool_first=False,
        latents_argument=changes.get("latents_argument", "hidden_states"),
        time_argument=changes.get("time_argument", "timestep"),
        time_scale=time_scale,
        hidden_argument=changes.get("hidden_argument", "hidden_states"),
        tokens=tokens,
        source="one addition before the first block, as in euge-trainer's FLUX module; no weights are released",
    )


_TRANSFORMER_ROWS = (
    _row("flux", "transformer_blocks.0", Tokens(), _MIN_FRACTION),
    _row("flux2", "transformer_blocks.0", Tokens(), _MIN_FRACTION),
    _row("sd3", "transformer_blocks.0", Tokens()),
    _row("wan", "blocks.0", Tokens(per_frame=True)),
    _row("qwen-image", "transformer_blocks.0", Tokens(), _MIN_FRACTION),
    # its layers take the picture's tokens first, padded to a multiple of 32, and the caption's behind them
    _row("z-image", "layers.0", Tokens(), _MIN_FRACTION, latents_argument="x", time_argument="t", hidden_argument="x"),
    _row("sana", "transformer_blocks.0", Tokens(cell=32)),
    _row("pixart", "transformer_blocks.0", Tokens()),
)
_SD3 = _TRANSFORMER_ROWS[2]

TRANSFORMERS: Mapping[str, Variant] = MappingProxyType(
    {row.name: row for row in _TRANSFORMER_ROWS}
    | {
        "sd3-channels": replace(_SD3, name="sd3-channels", tokens=Tokens(per_channel=True)),
        # on the latents themselves: the injection point is the model, and they are maps, not tokens
        "sd3-latents": replace(
            _SD3,
            name="sd3-latents",
            injection_point="",
            tokens=None,
            layout=replace(Layout(), out_channels=16),
        ),
        # for transformers of a few million weights, such as the starter's
        "sd3-small": replace(
            _SD3,
            name="sd3-small",
            eps=1e-5,
            control_on_uncond=False,
            layout=replace(
                _SD3.layout,
                time_proj_dim=32,
                time_embed_dim=64,
                stem_channels=(16, 16, 32),
                stage_channels=(32, 64, 64),
                out_channels=192,
            ),
        ),
    }
)
"""Rows of diffusers' transformers, as wide as the class is by default, and as SD3-medium for SD3; give
`ControlNeXtModel.from_variant` the `out_channels` of another checkpoint. Their `parameters` are not counted: 0."""


def get_variant(variant: str | Variant) -> Variant:
    """Return the row of a name; a row passes through.

    Args:
        variant: A key of `VARIANTS` or of `TRANSFORMERS`, or a row of your own.

    Returns:
        The row.

    Raises:
        VariantError: There is no row of that name.
    """
    if isinstance(variant, Variant):
        return variant
    rows = {**VARIANTS, **TRANSFORMERS}
    if variant not in rows:
        raise VariantError(f"There is no variant {variant!r}: choose one of {', '.join(rows)}.")
    return rows[variant]


def detect_variants(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Return the variants that a control file may belong to.

    Args:
        shapes: Shape of each tensor in the file, by its key.

    Returns:
        Every fitting name in table order. The training copy of SD1.5, SDXL and SVD v2 have equal keys and shapes, so
        for them three names come back and the caller, who knows the base model, has to choose; so have FLUX, as
        euge-trainer saves it, and Qwen-Image. Empty if none fits.
    """
    has_scale, has_stem = "scale" in shapes, "embedding.0.weight" in shapes
    width = shapes.get("mid_convs.1.weight", (0,))[0]
    stages = sum(key.startswith("down_sample.") and key.endswith("conv.weight") for key in shapes)
    found = (has_scale, has_stem, width)

    def fits(row: Variant) -> bool:
        return (row.layout.learned_scale, bool(row.layout.stem_channels), row.layout.out_channels) == found

    transformers = (row for row in TRANSFORMERS.values() if len(row.layout.stage_channels) == stages)
    return tuple(row.name for row in (*VARIANTS.values(), *transformers) if fits(row))
