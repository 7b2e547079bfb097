import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

from controlnext.method.original_names import KeyNameError, diffusers_name, diffusers_names

RESNET = ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3")
ATTENTION = (
    "norm",
    "proj_in",
    "proj_out",
    "transformer_blocks.0.attn2.to_out.0",
    "transformer_blocks.0.ff.net.0.proj",
)
ENDS = ("time_embed.0", "time_embed.2", "input_blocks.0.0", "out.0", "out.2")


def original_keys(levels: int, attention_levels: tuple[int, ...]) -> list[str]:
    """The keys of an original UNet with two resnets a level, written from its constructor's loops."""
    keys, index = list(ENDS), 1
    for level in range(levels):
        for _ in range(2):
            keys += [f"input_blocks.{index}.0.{part}" for part in (*RESNET, "skip_connection")]
            keys += [f"input_blocks.{index}.1.{part}" for part in ATTENTION if level in attention_levels]
            index += 1
        if level < levels - 1:
            keys.append(f"input_blocks.{index}.0.op")
            index += 1
    for part, names in ((0, RESNET), (1, ATTENTION), (2, RESNET)):
        keys += [f"middle_block.{part}.{name}" for name in names]
    index = 0
    for level in reversed(range(levels)):
        for layer in range(3):
            keys += [f"output_blocks.{index}.0.{part}" for part in (*RESNET, "skip_connection")]
            keys += [f"output_blocks.{index}.1.{part}" for part in ATTENTION if level in attention_levels]
            if level and layer == 2:
                keys.append(f"output_blocks.{index}.{1 + (level in attention_levels)}.conv")
            index += 1
    return [f"{key}.{leaf}" for key in keys for leaf in ("weight", "bias")]


@pytest.mark.parametrize(
    ("levels", "attention_levels", "extra"),
    [
        (4, (0, 1, 2), {}),
        (3, (1, 2), {"class_embed_type": None, "addition_embed_type": "text_time"}),
    ],
)
def test_names_equal_those_of_diffusers_converter(levels, attention_levels, extra):
    keys = original_keys(levels, attention_levels)
    if extra:
        keys += [f"label_emb.0.{part}.{leaf}" for part in (0, 2) for leaf in ("weight", "bias")]
    checkpoint = {key: torch.tensor(float(number)) for number, key in enumerate(keys)}
    config = {"layers_per_block": 2, "class_embed_type": None, **extra}
    prefixed = {f"model.diffusion_model.{key}": tensor for key, tensor in checkpoint.items()}
    expected = {name: float(tensor) for name, tensor in convert_ldm_unet_checkpoint(dict(prefixed), config).items()}
    for given in (checkpoint, prefixed):
        assert {name: float(tensor) for name, tensor in diffusers_names(given).items()} == expected


def test_diffusers_names_pass_through():
    tensors = {"down_blocks.0.resnets.0.conv1.weight": torch.zeros(1)}
    assert diffusers_names(tensors) == tensors


@pytest.mark.parametrize("key", ["down_blocks.0.resnets.0.conv1.weight", "input_blocks.1.0.nothing.weight", "scale"])
def test_foreign_keys_are_named(key):
    with pytest.raises(KeyNameError, match="original Stable Diffusion UNet"):
        diffusers_name(key)
