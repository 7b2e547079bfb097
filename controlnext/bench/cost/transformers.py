"""Parameters and operations of each way of control on diffusion transformers at real sizes, for `bench parameters` and `bench overhead`.

The classes are those of diffusers on the meta device, where weights take no memory; FLOPs are torch's count of one forward of one
picture, without guidance's second half. ControlNeXt runs its whole module at every step here, its dearest case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from controlnext.bench.cost.base_models import count_parameters, on_meta
from controlnext.bench.tables import markdown

if TYPE_CHECKING:
    from torch import Tensor, nn

LORA_RANK = 16
"""Of the LoRA that learns to read concatenated tokens, on the attention's projections."""
_LORA_LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
MILLION, TERA = 1e6, 1e12


@dataclass(frozen=True)
class BenchTransformer:
    """A transformer of diffusers at the size of its release.

    Attributes:
        name: row of `controlnext.method.variants.TRANSFORMERS`.
        title: for people.
        kind: diffusers class.
        config: what differs from the class's defaults.
        width: of the hidden states, the control's channels.
        size: frames (0 = a picture), height and width in pixels.
        inputs: makes the arguments of one forward; takes the factor of picture tokens, 1 or 2.
        controls: title -> class and configuration of networks that are added, or that hold the base too.
        parameters: of the base, counted; a test builds it.
    """

    name: str
    title: str
    kind: str
    width: int
    size: tuple[int, int, int]
    inputs: Callable[[int], dict[str, Any]]
    config: Mapping[str, Any] = field(default_factory=dict)
    controls: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    parameters: int = 0


@dataclass(frozen=True)
class TransformerCost:
    """One way of control on one transformer.

    Attributes:
        model: title of the base.
        way: title of the way.
        added: parameters on top of the base.
        share: of the base's.
        flops: of one forward; None where torch cannot count it on shapes.
        ratio: times the base's.
    """

    model: str
    way: str
    added: int
    share: float
    flops: int | None
    ratio: float | None


def _empty(*shape: int) -> Tensor:
    import torch

    return torch.empty(*shape, device="meta")


def _flux(factor: int) -> dict[str, Any]:
    tokens = 4096 * factor
    return {
        "hidden_states": _empty(1, tokens, 64), "encoder_hidden_states": _empty(1, 512, 4096), "timestep": _empty(1),
        "pooled_projections": _empty(1, 768), "guidance": _empty(1), "img_ids": _empty(tokens, 3), "txt_ids": _empty(512, 3),
    }  # fmt: skip


def _sd3(factor: int) -> dict[str, Any]:
    return {
        "hidden_states": _empty(1, 16, 128 * factor, 128), "encoder_hidden_states": _empty(1, 333, 4096),
        "pooled_projections": _empty(1, 2048), "timestep": _empty(1),
    }  # fmt: skip


def _qwen(factor: int) -> dict[str, Any]:
    import torch

    return {
        "hidden_states": _empty(1, 4096 * factor, 64), "encoder_hidden_states": _empty(1, 512, 3584), "timestep": _empty(1),
        "encoder_hidden_states_mask": torch.ones(1, 512, dtype=torch.bool, device="meta"),
        "img_shapes": [[(1, 64, 64)] * factor],
    }  # fmt: skip


def _z_image(factor: int) -> dict[str, Any]:
    return {"x": [_empty(16, 1, 128 * factor, 128)], "t": _empty(1), "cap_feats": [_empty(512, 2560)]}


def _wan(factor: int) -> dict[str, Any]:
    return {
        "hidden_states": _empty(1, 16, 21, 60 * factor, 104), "timestep": _empty(1),
        "encoder_hidden_states": _empty(1, 512, 4096),
    }  # fmt: skip


_FLUX_NET = {"guidance_embeds": True}
_SD35 = {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "joint_attention_dim": 4096, "pos_embed_max_size": 256, "qk_norm": "rms_norm"}  # fmt: skip
_Z_CONTROL = {
    "control_layers_places": [0, 5, 10, 15, 20, 25], "control_refiner_layers_places": [0, 1], "control_in_dim": 16,
}  # fmt: skip
_SD35_NET = {
    **_SD35,
    "num_layers": 19,
    "joint_attention_dim": None,
    "use_pos_embed": False,
}  # as Stability AI released it
_WAN = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
_ROWS = (
    BenchTransformer(
        "flux", "FLUX.1 [dev], 1024 x 1024", "FluxTransformer2DModel", 3072, (0, 1024, 1024), _flux, {"guidance_embeds": True},
        {
            "ControlNet, 5 double and 10 single blocks": ("FluxControlNetModel", {**_FLUX_NET, "num_layers": 5, "num_single_layers": 10}),
            "ControlNet, 2 double blocks": ("FluxControlNetModel", {**_FLUX_NET, "num_layers": 2, "num_single_layers": 0}),
            "condition's channels concatenated (FLUX Control)": ("FluxTransformer2DModel", {**_FLUX_NET, "in_channels": 128, "out_channels": 64}),
        }, parameters=11_901_408_320,
    ),
    BenchTransformer(
        "sd3", "SD3.5 large, 1024 x 1024", "SD3Transformer2DModel", 2432, (0, 1024, 1024), _sd3, _SD35,
        {"ControlNet, 19 blocks of the picture's stream": ("SD3ControlNetModel", _SD35_NET)},
    ),
    BenchTransformer(
        "qwen-image", "Qwen-Image, 1024 x 1024", "QwenImageTransformer2DModel", 3072, (0, 1024, 1024), _qwen, {},
        {"ControlNet, 5 blocks": ("QwenImageControlNetModel", {"num_layers": 5})},
    ),
    BenchTransformer(
        "z-image", "Z-Image, 1024 x 1024", "ZImageTransformer2DModel", 3840, (0, 1024, 1024), _z_image, {},
        {"VACE, 6 layers and 2 of the refiner": ("ZImageControlNetModel", _Z_CONTROL)},
    ),
    BenchTransformer(
        "wan", "Wan 2.1 1.3B, 81 frames of 832 x 480", "WanTransformer3DModel", 1536, (21, 480, 832), _wan, _WAN,
        {"VACE": ("WanVACETransformer3DModel", {**_WAN, "vace_layers": list(range(0, 30, 2)), "vace_in_channels": 96})},
    ),
    BenchTransformer(
        "wan", "Wan 2.1 14B, 81 frames of 832 x 480", "WanTransformer3DModel", 5120, (21, 480, 832), _wan, {},
        {"VACE": ("WanVACETransformer3DModel", {"vace_layers": list(range(0, 40, 5)), "vace_in_channels": 96})},
    ),
)  # fmt: skip
BENCH_TRANSFORMERS: Mapping[str, BenchTransformer] = MappingProxyType({row.title: row for row in _ROWS})
"""Title -> transformer."""


def build(kind: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a class of diffusers on the meta device."""
    import diffusers

    return on_meta(lambda: getattr(diffusers, kind)(**config)).to("meta").eval().requires_grad_(False)


def _flops(run: Callable[[], object]) -> int | None:
    """Count one forward; None where the class reads values, which shapes do not have."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run()
    except (NotImplementedError, RuntimeError, ValueError):  # ValueError: of a network that borrows the base's layers
        return None
    return int(counter.get_total_flops())


def cost_of(row: BenchTransformer) -> list[TransformerCost]:
    """Count every way of control on one transformer, the base alone first."""
    import torch

    from controlnext.method.injection import attach
    from controlnext.method.model import ControlNeXtModel

    model = build(row.kind, row.config)
    base = count_parameters(model.parameters())
    alone = _flops(lambda: model(**row.inputs(1)))
    costs: list[TransformerCost] = []

    def add(way: str, added: int, flops: int | None) -> None:
        ratio = None if flops is None or alone is None else flops / alone
        costs.append(TransformerCost(row.title, way, added, added / base, flops, ratio))

    add("base alone", 0, alone)
    with torch.device("meta"):
        module = ControlNeXtModel.from_variant(row.name, out_channels=row.width).eval()
    frames, height, width = row.size
    condition = _empty(1, *([frames] if frames else []), 3, height, width)
    whole = _flops(lambda: module(condition, _empty(1)))
    with attach(model, module, row.name, condition):
        joined = _flops(lambda: model(**row.inputs(1)))
    if joined is None and alone is not None and whole is not None:
        joined = alone + whole
    add("ControlNeXt, module", count_parameters(module.parameters()), joined)
    for title, (kind, config) in row.controls.items():
        net = build(kind, config)
        size = count_parameters(net.parameters())
        add(title, size - base if _whole(kind) else size, _with_net(row, kind, net, alone))
    lora = sum(
        LORA_RANK * (part.in_features + part.out_features)
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear) and name.endswith(_LORA_LAYERS)
    )
    add(f"condition's tokens concatenated, LoRA of rank {LORA_RANK}", lora, _flops(lambda: model(**row.inputs(2))))
    return costs


def _whole(kind: str) -> bool:
    """Whether a network of control holds the base's weights, too."""
    return "ControlNet" not in kind


def _with_net(row: BenchTransformer, kind: str, net: nn.Module, alone: int | None) -> int | None:
    """Count a step with a network of control."""
    import torch

    given = row.inputs(1)
    if kind == row.kind:
        return _flops(lambda: net(**{**given, "hidden_states": torch.cat([given["hidden_states"]] * 2, dim=-1)}))
    if _whole(kind):
        control = _empty(1, 96, *given["hidden_states"].shape[2:])
        return _flops(lambda: net(**given, control_hidden_states=control))
    latents = given.get("hidden_states", given.get("x"))
    if getattr(net, "pos_embed", latents) is None:  # it reads the base's tokens, and no text
        given |= {"hidden_states": _empty(1, 4096, row.width), "encoder_hidden_states": None}
    name = "controlnet_cond" if "hidden_states" in given else "control_context"
    own = _flops(lambda: net(**given, **{name: latents}))
    return None if own is None or alone is None else own + alone


def count_transformers(titles: Sequence[str] = ()) -> list[TransformerCost]:
    """Count the transformers of some titles, or all."""
    return [cost for title in titles or BENCH_TRANSFORMERS for cost in cost_of(BENCH_TRANSFORMERS[title])]


def parameter_table(costs: Sequence[TransformerCost]) -> str:
    """Format parameters as a Markdown table, in millions."""
    rows = [
        [cost.model, cost.way, f"{cost.added / MILLION:,.1f}" if cost.added else None, f"{cost.share:.2%}" if cost.added else None]
        for cost in costs
    ]  # fmt: skip
    return markdown(["transformer", "control", "added, M", "of the base"], rows)


def overhead_table(costs: Sequence[TransformerCost]) -> str:
    """Format operations of a step as a Markdown table."""
    rows = [
        [cost.model, cost.way, None if cost.flops is None else f"{cost.flops / TERA:.2f}", None if cost.ratio is None else f"{cost.ratio:.3f}"]
        for cost in costs
    ]  # fmt: skip
    return markdown(
        ["transformer", "step", "TFLOP", "ratio"], rows, title="Transformers, one picture or clip, without guidance"
    )
