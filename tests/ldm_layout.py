"""The key names of original Stable Diffusion checkpoints, from diffusers' names: what `from_single_file` has to undo."""

import re

import torch

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2", "conv_norm_out": "out.0",
    "conv_out": "out.2",
}  # fmt: skip


def unet_name(key: str, names) -> str:
    """For a UNet with two resnets a block, as all released ones have."""
    stem, _, leaf = key.rpartition(".")
    if stem in ENDS:
        return f"{ENDS[stem]}.{leaf}"
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", key):
        index = 2 * int(match[2]) if match[1] == "resnets" else 1
        return f"middle_block.{index}.{_rest(match[1], match[3])}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.+)", key)
    side, block, kind, layer, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if kind == "downsamplers":
        return f"input_blocks.{3 * block + 3}.0.op.{leaf}"
    if kind == "upsamplers":
        part = 2 if any(name.startswith(f"up_blocks.{block}.attentions") for name in names) else 1
        return f"output_blocks.{3 * block + 2}.{part}.conv.{leaf}"
    index = 3 * block + layer + (side == "down")
    half = "input" if side == "down" else "output"
    return f"{half}_blocks.{index}.{0 if kind == 'resnets' else 1}.{_rest(kind, rest)}"


def _rest(kind: str, rest: str) -> str:
    stem, _, leaf = rest.rpartition(".")
    return f"{RESNET[stem]}.{leaf}" if kind == "resnets" else rest


def vae_entry(key: str, tensor: torch.Tensor, blocks: int) -> tuple[str, torch.Tensor]:
    key = key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    key = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", key)
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", key)
    key = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{blocks - 1 - int(m[1])}.block.", key)
    key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample.", key)
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    if "mid_block.attentions.0." in key:
        old = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
        for name, short in old.items():
            key = key.replace(f"mid_block.attentions.0.{name}.", f"mid.attn_1.{short}.")
        if key.endswith("weight") and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
    return key, tensor


def clip_entries(encoder, prefix: str) -> dict[str, torch.Tensor]:
    return {
        f"{prefix}text_model.{key.removeprefix('text_model.')}": value for key, value in encoder.state_dict().items()
    }


def open_clip_entries(encoder, prefix: str) -> dict[str, torch.Tensor]:
    state = {key.removeprefix("text_model."): value for key, value in encoder.state_dict().items()}
    made = {
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "text_projection": state["text_projection.weight"].T,
        **{f"ln_final.{leaf}": state[f"final_layer_norm.{leaf}"] for leaf in ("weight", "bias")},
    }
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "self_attn.out_proj": "attn.out_proj"}  # fmt: skip
    for layer in range(encoder.config.num_hidden_layers):
        old, new = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for leaf in ("weight", "bias"):
            made |= {f"{new}{short}.{leaf}": state[f"{old}{name}.{leaf}"] for name, short in parts.items()}
            joined = [state[f"{old}self_attn.{one}_proj.{leaf}"] for one in "qkv"]
            made[f"{new}attn.in_proj_{leaf}"] = torch.cat(joined)
    return {prefix + key: value for key, value in made.items()}


def checkpoint(components) -> dict[str, torch.Tensor]:
    """One state dict of a whole pipeline, in the original names."""
    unet = components["unet"].state_dict()
    made = {f"model.diffusion_model.{unet_name(key, unet)}": value for key, value in unet.items()}
    vae, blocks = components["vae"].state_dict(), len(components["vae"].config.block_out_channels)
    entries = (vae_entry(key, value, blocks) for key, value in vae.items())
    made |= {f"first_stage_model.{key}": value for key, value in entries}
    if "text_encoder_2" in components:
        made |= clip_entries(components["text_encoder"], "conditioner.embedders.0.transformer.")
        made |= open_clip_entries(components["text_encoder_2"], "conditioner.embedders.1.model.")
    else:
        made |= clip_entries(components["text_encoder"], "cond_stage_model.transformer.")
    return {key: value.contiguous().clone() for key, value in made.items()}
