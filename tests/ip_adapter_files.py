"""Small random IP-Adapters, laid out as h94/IP-Adapter has them."""

import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

EMBEDDED, TOKENS = 16, 4


def save_ip_adapter(folder, unet, width):
    """Write a random adapter as h94/IP-Adapter has it: one file, and the image encoder in a folder next to it."""
    torch.manual_seed(7)
    tensors = {
        "image_proj.proj.weight": torch.randn(width * TOKENS, EMBEDDED),
        "image_proj.proj.bias": torch.zeros(width * TOKENS),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    number = 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            out = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            for part in ("k", "v"):
                tensors[f"ip_adapter.{number}.to_{part}_ip.weight"] = 0.3 * torch.randn(out, width)
            number += 2
    (folder / "models").mkdir(parents=True)
    save_file(tensors, folder / "models" / "ip-adapter.safetensors")
    vision = CLIPVisionConfig(
        hidden_size=EMBEDDED, projection_dim=EMBEDDED, intermediate_size=EMBEDDED, num_hidden_layers=1,
        num_attention_heads=2, image_size=32, patch_size=16,
    )  # fmt: skip
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "models" / "image_encoder")
