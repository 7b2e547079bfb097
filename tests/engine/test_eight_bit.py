"""Convolutions in 8-bit integers against the same in float32."""

import pytest
import torch
from torch import nn

from controlnext.engine import eight_bit
from controlnext.engine.eight_bit import (
    NARROW_LEVELS,
    WEIGHT_LEVELS,
    EightBitConv,
    faster,
    in_eight_bits,
    weight_levels,
)


@pytest.fixture(autouse=True)
def needs_onednn():
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch has no oneDNN")


def error(made, wanted):
    return float((made - wanted).std() / wanted.std())


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_a_convolution_is_within_two_hundredths_whatever_range_and_size_its_input_has():
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 24, 3, padding=1, stride=2)
    whole = EightBitConv(layer)
    with torch.inference_mode():
        for size, scale, shift in ((16, 1.0, 0.0), (9, 30.0, 20.0), (16, 0.01, -0.5)):  # packed for the first of them
            sample = scale * torch.randn(2, 16, size, size) + shift
            assert error(whole(sample), layer(sample)) < 0.02
        assert torch.equal(whole(sample), whole(sample.clone()))
        assert torch.allclose(whole(torch.zeros(1, 16, 8, 8)), layer(torch.zeros(1, 16, 8, 8)), atol=1e-5)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("levels", [NARROW_LEVELS, None])
def test_the_largest_weights_and_inputs_do_not_overflow(levels):
    """Older processors add two products in 16 bits, where the largest ones of eight bits would overflow."""
    layer = nn.Conv2d(32, 32, 3)
    with torch.inference_mode():
        layer.weight.fill_(1.0)
        largest = torch.ones(1, 32, 8, 8)
        assert torch.allclose(EightBitConv(layer, levels)(largest), layer(largest), rtol=0.002)


@pytest.mark.parametrize(("share", "levels"), [(1.0, WEIGHT_LEVELS), (0.51, NARROW_LEVELS)])
def test_weights_take_seven_bits_where_sums_overflow(monkeypatch, share, levels):
    monkeypatch.setattr(eight_bit, "EightBitConv", lambda layer, _: lambda sample: share * layer(sample))
    assert weight_levels.__wrapped__() == levels


def test_layers_of_few_channels_and_the_module_itself_stay_as_they_are():
    module = nn.Sequential(nn.Conv2d(4, 16, 1), nn.SiLU(), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 3, 1))
    changed = in_eight_bits(module, overwrite=True)
    assert [type(part) for part in changed] == [nn.Conv2d, nn.SiLU, EightBitConv, nn.Conv2d]
    assert [type(part) for part in module] == [nn.Conv2d, nn.SiLU, nn.Conv2d, nn.Conv2d]
    assert (changed[1].inplace, module[1].inplace) == (True, False)


def test_a_decoder_that_cannot_be_copied_stays(monkeypatch):
    def missing(*_):
        raise AttributeError("quantize_per_tensor")

    monkeypatch.setattr(torch, "quantize_per_tensor", missing)
    decoder = nn.Sequential(nn.Conv2d(16, 16, 1))
    assert faster(decoder, torch.randn(1, 16, 4, 4)) is decoder
