import pytest
import torch
from safetensors.torch import save_file

from controlnext.loras.layers import LayerName, LoraFileError, layers_of, read_key, read_layers

KEYS = [
    ("lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_q.lora_down.weight", "unet", "down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_q", "down"),
    ("lora_unet_mid_block_attentions_0_proj_in.alpha", "unet", "mid_block_attentions_0_proj_in", "alpha"),
    ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_out_0.lora_up.weight", "unet", "down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_out_0", "up"),
    ("lora_unet_output_blocks_5_1_transformer_blocks_1_ff_net_0_proj.lora_down.weight", "unet", "up_blocks_1_attentions_2_transformer_blocks_1_ff_net_0_proj", "down"),
    ("lora_unet_input_blocks_1_0_in_layers_2.lora_down.weight", "unet", "down_blocks_0_resnets_0_conv1", "down"),
    ("lora_unet_input_blocks_7_0_skip_connection.lora_down.weight", "unet", "down_blocks_2_resnets_0_conv_shortcut", "down"),
    ("lora_unet_input_blocks_3_0_op.lora_down.weight", "unet", "down_blocks_0_downsamplers_0_conv", "down"),
    ("lora_unet_output_blocks_2_2_conv.lora_down.weight", "unet", "up_blocks_0_upsamplers_0_conv", "down"),
    ("lora_unet_middle_block_1_transformer_blocks_9_attn1_to_v.lora_down.weight", "unet", "mid_block_attentions_0_transformer_blocks_9_attn1_to_v", "down"),
    ("lora_unet_middle_block_2_emb_layers_1.lora_down.weight", "unet", "mid_block_resnets_1_time_emb_proj", "down"),
    ("diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_out.0.lora_B.weight", "unet", "down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_out_0", "up"),
    ("diffusion_model.input_blocks.1.0.in_layers.2.lora_down.weight", "unet", "down_blocks_0_resnets_0_conv1", "down"),
    ("lora_unet_input_blocks_0_0.lora_down.weight", "unet", "conv_in", "down"),
    ("lora_unet_label_emb_0_2.lora_up.weight", "unet", "add_embedding_linear_2", "up"),
    ("lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight", "text_encoder", "text_model_encoder_layers_0_self_attn_q_proj", "down"),
    ("lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", "text_encoder_2", "text_model_encoder_layers_0_mlp_fc1", "up"),
    ("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0.lora_A.weight", "unet", "mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0", "down"),
    ("base_model.model.conv_in.lora_B.weight", "unet", "conv_in", "up"),
    ("mid_block.attentions.0.transformer_blocks.0.attn2.to_q.lora_B.weight", "unet", "mid_block_attentions_0_transformer_blocks_0_attn2_to_q", "up"),
    ("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0.lora.up.weight", "unet", "mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0", "up"),
    ("unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora.down.weight", "unet", "mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0", "down"),
    ("text_encoder.text_model.encoder.layers.1.self_attn.to_out_lora.up.weight", "text_encoder", "text_model_encoder_layers_1_self_attn_out_proj", "up"),
    ("text_encoder_2.text_model.encoder.layers.1.mlp.fc2.lora_linear_layer.down.weight", "text_encoder_2", "text_model_encoder_layers_1_mlp_fc2", "down"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "part", "flat", "kind"), KEYS, ids=range(len(KEYS)))
def test_a_key_of_any_style_names_its_layer(key, part, flat, kind):
    assert read_key(key) == (LayerName(part, flat), kind)


@pytest.mark.parametrize("key", ["lora_unet_x.oft_blocks", "down_blocks.0.weight", "x.lora_mixed.weight", ""])
def test_a_key_of_something_else_is_none(key):
    assert read_key(key) is None


def test_layers_need_both_matrices():
    keys = ["a.lora_A.weight", "a.lora_B.weight", "a.alpha", "b.lora_A.weight", "c.alpha", "d.weight"]
    assert layers_of(keys) == {
        LayerName("unet", "a"): {"down": "a.lora_A.weight", "up": "a.lora_B.weight", "alpha": "a.alpha"}
    }


@pytest.mark.parametrize(
    ("alpha", "metadata", "scale"),
    [
        (None, None, 1.0),
        (2.0, None, 0.5),
        (2.0, '{"unet.lora_alpha": 8}', 0.5),
        (None, '{"unet.lora_alpha": 8}', 2.0),
        (None, '{"text_encoder.lora_alpha": 8}', 1.0),
        (None, '{"unet.lora_alpha": 8, "unet.alpha_pattern": {"x.to_q": 1}}', 0.25),
        (None, '{"unet.lora_alpha": 8, "unet.alpha_pattern": {"o_q": 1}}', 2.0),
        (None, '{"unet.lora_alpha": 8, "unet.use_rslora": true}', 4.0),
        (None, '{"unet.lora_alpha": "much"}', 1.0),
        (None, "no json", 1.0),
    ],
)
def test_scale_is_alpha_over_rank_from_where_it_is_said(tmp_path, alpha, metadata, scale):
    tensors = {"unet.x.to_q.lora_A.weight": torch.ones(4, 3), "unet.x.to_q.lora_B.weight": torch.ones(2, 4)}
    if alpha is not None:
        tensors["unet.x.to_q.alpha"] = torch.tensor(alpha)
    save_file(tensors, tmp_path / "a.safetensors", {"lora_adapter_metadata": metadata} if metadata else None)
    (layer,) = read_layers(tmp_path / "a.safetensors")
    assert layer.scale == scale
    assert (layer.down.shape, layer.up.shape) == ((4, 3), (2, 4))


def test_only_wanted_layers_are_read(tmp_path):
    tensors = {f"{name}.lora_{side}.weight": torch.ones(2, 2) for name in "ab" for side in "AB"}
    save_file(tensors, tmp_path / "a.safetensors")
    layers = list(read_layers(tmp_path / "a.safetensors", lambda name: name.flat == "b"))
    assert [layer.name.flat for layer in layers] == ["b"]


def test_a_damaged_file_is_a_sentence(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"rubbish")
    with pytest.raises(LoraFileError, match=r"a\.safetensors cannot be read"):
        list(read_layers(tmp_path / "a.safetensors"))


def test_an_alpha_that_is_no_number_is_refused(tmp_path):
    layer = "lora_unet_conv_in"
    tensors = {f"{layer}.lora_down.weight": torch.ones(2, 4), f"{layer}.lora_up.weight": torch.ones(4, 2)}
    save_file(tensors | {f"{layer}.alpha": torch.tensor(float("nan"))}, tmp_path / "x.safetensors")
    with pytest.raises(LoraFileError, match="conv_in"):
        list(read_layers(tmp_path / "x.safetensors"))
