"""`python -m controlnext bench memory`: GPU memory of a picture of SDXL and a window of SVD, counted without a GPU.

The real networks run on the meta device, where tensors have shapes and no content, and every tensor that is made and freed is counted.
Attention counts as a fused kernel, which keeps no matrix of weights, as torch does on CUDA. Weights are those of UNet and control module;
those of the encoders are what the presets list. What CUDA itself takes, and gaps between blocks, come on top: allow half a gigabyte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from controlnext.bench.command import bench_parser, publish
from controlnext.bench.tables import markdown

if TYPE_CHECKING:
    from torch import nn

BARS: Mapping[str, float] = {"sdxl": 6.0, "svd": 12.0}
"""GB that a family is to fit in, by one of the ways."""

FRAMES = 4
"""Frames of a video that are decoded at once."""

GB = 1e9


@dataclass(frozen=True)
class Needed:
    """What a family needs, in bytes.

    Attributes:
        unet: weights of the UNet in half precision.
        unet_fp8: the same cast layer by layer to float8, where diffusers casts.
        control: weights of the control module.
        others: weights of the encoders and the autoencoder in half precision.
        step: most that a denoising step makes beyond the weights, both guidance halves and the control's first timestep.
        decode: the same for decoding; of a video, for `FRAMES` frames.
        autoencoder: weights of the autoencoder in half precision.
        leaf: weights of the largest layer.
    """

    unet: int
    unet_fp8: int
    control: int
    others: int
    step: int
    decode: int
    autoencoder: int
    leaf: int

    def ways(self) -> dict[str, int]:
        """Return the peak of each way to keep weights, by what it is called."""
        return {
            "everything on the GPU": self.unet + self.control + self.others + max(self.step, self.decode),
            "parts wait in main memory": max(self.unet + self.control + self.step, self.autoencoder + self.decode),
            "the same, UNet in float8": max(self.unet_fp8 + self.control + self.step, self.autoencoder + self.decode),
            # two layers: the one at work, and the next one on its way
            "layers wait in main memory": max(2 * self.leaf + self.control + self.step, 2 * self.leaf + self.decode),
        }


def count(name: str) -> Needed:
    """Count a family at its real size; see `BENCH_MODELS`."""
    import torch
    from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder

    from controlnext.assets import CONFIGS
    from controlnext.bench.cost.base_models import LATENT_CELL, get_model
    from controlnext.bench.cost.peak import FusedAttention, PeakBytes
    from controlnext.bench.cost.rig import Rig
    from controlnext.engine.memory_savings import tile
    from controlnext.models.presets import load_presets

    model = get_model(name)
    preset = load_presets()[0]["svd-v2" if model.frames else name]
    with torch.no_grad():
        rig = Rig(model, dtype=torch.float16)
        step = next(one for one in rig.steps() if one.name == "first")
        step.before()
        with FusedAttention(), PeakBytes() as made:
            step.run()
        unet = weight_bytes(rig.unet)
        leaf = max(weight_bytes(layer) for layer in rig.unet.modules() if not list(layer.children()))
        rig.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float16)
        with torch.device("meta"):
            if model.frames:
                vae: Any = AutoencoderKLTemporalDecoder(
                    block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=2
                )  # fmt: skip
            else:
                vae = AutoencoderKL.from_config(AutoencoderKL.load_config(CONFIGS / name / "vae"))
        vae = torch.nn.Module.to(vae, "meta", torch.float16).eval()
        latent = torch.empty(
            FRAMES if model.frames else 1, 4, model.height // LATENT_CELL, model.width // LATENT_CELL, device="meta", dtype=torch.float16
        )  # fmt: skip
        tile(type("Pipeline", (), {"vae": vae}))
        with FusedAttention(), PeakBytes() as decoded:
            vae.decode(latent, num_frames=FRAMES) if model.frames else vae.decode(latent)
    listed = sum(size for file, size in preset.base.files.items() if size and not file.startswith("unet/"))
    return Needed(
        unet,
        weight_bytes(rig.unet),
        weight_bytes(rig.module),
        listed,
        made.peak,
        decoded.peak,
        weight_bytes(vae),
        leaf,
    )


def weight_bytes(module: nn.Module) -> int:
    """Return the bytes of a network's parameters."""
    return sum(parameter.nbytes for parameter in module.parameters())


def table(found: Mapping[str, Needed]) -> str:
    """Format the figures as a Markdown table, in GB."""
    from controlnext.bench.cost.base_models import get_model

    ways = list(next(iter(found.values())).ways())
    rows = [
        [f"{get_model(name).title}, {get_model(name).described()}", *(f"{one.ways()[way] / GB:.2f}" for way in ways), f"{BARS[name]:g}"]
        for name, one in found.items()
    ]  # fmt: skip
    parts = [
        [name, *(f"{getattr(one, part) / GB:.2f}" for part in ("unet", "unet_fp8", "others", "step", "decode"))]
        for name, one in found.items()
    ]
    return "\n\n".join(
        (
            markdown(["peak in GB", *ways, "bar"], rows),
            markdown(["of which, in GB", "UNet", "UNet in float8", "encoders and autoencoder", "a step", "decoding"], parts),
        )
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Count and print; return 0, or 1 if a family fits into its bar in no way."""
    parser = bench_parser("memory", __doc__, threads=None)
    parser.add_argument("--family", action="append", choices=BARS, help="repeatable (default: all)")
    options = parser.parse_args(arguments)
    found = {name: count(name) for name in options.family or BARS}
    met = {name: min(one.ways().values()) <= BARS[name] * GB for name, one in found.items()}
    facts = {name: {**asdict(one), "ways": one.ways(), "met": met[name]} for name, one in found.items()}
    return publish(options, facts, table(found), passed=all(met.values()))
