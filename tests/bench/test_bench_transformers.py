"""Costs of control on transformers, counted on shapes."""

import json

import pytest

from controlnext.bench.cost import overhead, parameters, transformers
from controlnext.bench.cost.transformers import BENCH_TRANSFORMERS, cost_of


@pytest.fixture(scope="module")
def rows():
    """Wan 1.3B and SD3.5: one whose control replaces the model, one with a network beside it."""
    found = [row for title, row in BENCH_TRANSFORMERS.items() if title.startswith(("Wan 2.1 1.3B", "SD3.5"))]
    return {(cost.model.split(",")[0], cost.way): cost for row in found for cost in cost_of(row)}


def test_known_sizes(rows):
    wan, sd3 = "Wan 2.1 1.3B", "SD3.5 large"
    vace, net = rows[wan, "VACE"], rows[sd3, "ControlNet, 19 blocks of the picture's stream"]
    assert vace.added / vace.share == pytest.approx(1_418_996_800, rel=1e-4)  # Wan-AI/Wan2.1-T2V-1.3B
    assert vace.share == pytest.approx(0.518, abs=0.01)
    assert net.added / 1e6 == pytest.approx(2154, abs=5)
    assert rows[sd3, "ControlNeXt, module"].added < 7e6


def test_ratios_order_the_ways(rows):
    for model in {name for name, _ in rows}:
        ratio = {way: cost.ratio for (name, way), cost in rows.items() if name == model}
        light = ratio["ControlNeXt, module"]
        heavy = ratio.get("VACE") or ratio["ControlNet, 19 blocks of the picture's stream"]
        assert ratio["base alone"] == 1.0 < light < 1.02 < heavy < 2.0 < max(ratio.values())


def test_a_step_costs_the_base_and_the_module(rows):
    from torch.utils.flop_counter import FlopCounterMode

    from controlnext.bench.cost.base_models import on_meta
    from controlnext.method.model import ControlNeXtModel

    module = on_meta(lambda: ControlNeXtModel.from_variant("sd3", out_channels=2432)).to("meta")
    with FlopCounterMode(display=False) as counter:
        module(transformers._empty(1, 3, 1024, 1024), transformers._empty(1))
    joined, alone = (rows["SD3.5 large", way].flops for way in ("ControlNeXt, module", "base alone"))
    assert joined - alone == counter.get_total_flops() > 0


def test_the_commands_print_them(monkeypatch, capsys, rows):
    sd3 = {title: row for title, row in BENCH_TRANSFORMERS.items() if title.startswith("SD3.5")}
    monkeypatch.setattr(transformers, "BENCH_TRANSFORMERS", sd3)
    counted = [cost for (model, _), cost in rows.items() if model.startswith("SD3.5")]
    monkeypatch.setattr(transformers, "cost_of", lambda row: counted)
    assert parameters.main(["--transformers"]) == 0
    assert "| SD3.5 large, 1024 x 1024 | ControlNet, 19 blocks of the picture's stream |" in capsys.readouterr().out
    assert overhead.main(["--transformers", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[1]["way"] == "ControlNeXt, module"
