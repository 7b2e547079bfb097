import pytest
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel, UNetSpatioTemporalConditionModel
from tiny_models import make_unet

from controlnext.bench.cost.base_models import BENCH_MODELS as REAL
from controlnext.method.variants import get_variant
from controlnext.training.config import TrainingError
from controlnext.training.family_defaults import FAMILY_DEFAULTS
from controlnext.training.subset import LORA_NAME, add_lora, choose_subset, count, describe, merged_lora


def real_unet(family: str) -> torch.nn.Module:
    if family == "sd3":  # stabilityai/stable-diffusion-3.5-medium
        with torch.device("meta"):
            return SD3Transformer2DModel(
                num_layers=24, num_attention_heads=24, caption_projection_dim=1536, pos_embed_max_size=384, qk_norm="rms_norm",
                dual_attention_layers=tuple(range(13)),
            )  # fmt: skip
    row = REAL["sd15-train" if family == "sd15" else family]
    kind = {"UNet2DConditionModel": UNet2DConditionModel}.get(row.unet_class, UNetSpatioTemporalConditionModel)
    config = kind.load_config(row.unet_folder) if row.unet_folder else dict(row.unet)
    with torch.device("meta"):
        return kind.from_config(config)


@pytest.mark.parametrize("family", FAMILY_DEFAULTS)
def test_default_subset_counts_as_the_released_training(family):
    row = FAMILY_DEFAULTS[family]
    chosen = choose_subset(real_unet(family), row.subset)
    assert count(chosen.values()) == row.trained
    assert get_variant(row.variant).family == family


def test_counts_are_the_specified_ones():
    assert {name: FAMILY_DEFAULTS[name].trained for name in ("sd15", "sdxl")} == {
        "sd15": 24_805_760,
        "sdxl": 102_483_200,
    }


def test_sdxl_subset_is_the_text_attention_alone():
    chosen = choose_subset(real_unet("sdxl"), FAMILY_DEFAULTS["sdxl"].subset)
    assert len(chosen) == 140
    assert all(".attn2.to_out.0." in name for name in chosen)


def test_pattern_matches_whole_names_and_names_an_example_if_none():
    unet = make_unet()
    assert choose_subset(unet, "") == {}
    assert list(choose_subset(unet, r"conv_in\.weight")) == ["conv_in.weight"]
    with pytest.raises(TrainingError, match=r"'to_out'.*down_blocks"):
        choose_subset(unet, "to_out")


def test_description_is_counted():
    text = describe({"module": 3_526_400, "subset": 102_483_200}, 2_567_463_684)
    assert text == "module 3,526,400 + subset 102,483,200; the UNet has 2,567,463,684 weights"


def test_lora_starts_as_nothing_and_merges_to_what_it_does():
    unet, plain = make_unet(), make_unet()
    parameters = add_lora(unet, 2, r".*attn2\.to_out\.0")
    assert parameters
    assert all(LORA_NAME in name for name in parameters)
    inputs = torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 3, 16)
    with torch.no_grad():
        torch.testing.assert_close(unet(*inputs).sample, plain(*inputs).sample)
        for parameter in parameters.values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        deltas = merged_lora(unet)
        state = plain.state_dict()
        assert set(deltas) <= set(state)
        plain.load_state_dict({name: value + deltas.get(name, 0) for name, value in state.items()})
        changed = unet(*inputs).sample
        torch.testing.assert_close(changed, plain(*inputs).sample, rtol=1e-4, atol=1e-5)


def test_lora_on_no_layer_is_refused():
    with pytest.raises(TrainingError, match="matches no layer"):
        add_lora(make_unet(), 2, "nothing")
