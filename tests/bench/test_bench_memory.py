import pytest
import torch
from tiny_models import make_unet
from torch import nn

from controlnext.bench.cost.gpu_memory import GB, Needed, table, weight_bytes
from controlnext.bench.cost.peak import FusedAttention, PeakBytes


def test_new_tensors_count_while_they_are_there():
    given = torch.empty(1000, device="meta")  # 4,000 bytes that were there before
    with PeakBytes() as made:
        one = given + 1
        view = one.view(10, 100)
        assert made.now == 4000
        two = view * 2
        assert (made.now, made.peak) == (8000, 8000)
        del one, view
        assert made.now == 4000
        two.add_(1)  # nothing new
        assert made.peak == 8000


def test_attention_counts_its_result_alone():
    query = torch.empty(1, 2, 512, 8, device="meta")
    with FusedAttention(), PeakBytes() as fused:
        result = nn.functional.scaled_dot_product_attention(query, query, query)
    assert result.shape == query.shape
    assert fused.peak == query.nbytes
    with PeakBytes() as plain:
        nn.functional.scaled_dot_product_attention(query, query, query, torch.empty(512, 512, device="meta"))
    assert plain.peak > 10 * query.nbytes


def test_weights_in_float8_take_half_of_what_half_precision_takes():
    unet = make_unet().half()
    before = weight_bytes(unet)
    unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float16)
    assert 0.5 < weight_bytes(unet) / before < 0.65  # norms and the layers at both ends stay


def test_each_way_counts_what_is_there_at_once():
    needed = Needed(
        unet=5 * 10**9, unet_fp8=25 * 10**8, control=10**8, others=2 * 10**9, step=10**9, decode=3 * 10**9, autoencoder=2 * 10**8, leaf=10**8
    )  # fmt: skip
    assert [round(bytes_ / GB, 2) for bytes_ in needed.ways().values()] == [10.1, 6.1, 3.6, 3.2]
    assert "| 10.10 | 6.10 | 3.60 | 3.20 | 6 |" in table({"sdxl": needed})
    assert needed.ways()["parts wait in main memory"] == pytest.approx(6.1e9)
