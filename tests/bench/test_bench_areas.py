import json

import numpy as np
import pytest
import torch

from controlnext.bench.quality.areas import AFTER, BEFORE, WHOLE, WITHOUT, figures, main, mask_before, mean_of, table
from controlnext.method import injection
from controlnext.method.areas import masked
from controlnext.method.cross_norm import add_control
from controlnext.method.variants import get_variant


def test_inside_counts_the_edges_of_the_half_and_outside_what_changed():
    asked = np.zeros((64, 64, 3), np.uint8)
    asked[10:50, 16] = 255
    far = np.zeros_like(asked)
    far[:, 40:] = 51
    rows = figures(
        {WITHOUT: np.zeros_like(asked), WHOLE: asked, AFTER: far, BEFORE: far}, asked, lambda picture: picture
    )
    assert rows[WHOLE] == {"inside": 1.0, "outside": 0.0}
    assert rows[WITHOUT]["inside"] == 0
    assert rows[AFTER]["outside"] == pytest.approx(20 * 8 / 8)
    assert "| everywhere | 1.000 | 0.00 |" in table([rows])


def test_the_other_order_takes_statistics_of_the_masked_control_and_is_taken_back():
    row, mask = get_variant("sdxl"), torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    torch.manual_seed(0)
    hidden, control = torch.randn(1, 8, 16, 16), 3 + torch.randn(1, 8, 16, 16)
    strength = masked(torch.full((1, 1, 1, 1), 0.5), mask, (16, 16), 1)
    with mask_before():
        before = injection.add_control(hidden, control, strength, row)
    assert injection.add_control is add_control
    assert torch.allclose(before, add_control(hidden, control * mask, torch.full((1, 1, 1, 1), 0.5), row), atol=1e-5)
    assert not torch.equal(before[..., 8:], hidden[..., 8:])


@pytest.mark.slow
def test_the_starter_follows_inside_of_a_mask_and_changes_little_outside(tmp_path, monkeypatch):
    """Bounds: what `docs/measurements.md` has of six scenes at ten steps, 0.821 of 0.869 inside and 8.84 of 12.66 % outside, with room for two."""
    assert main(["--scenes", "2", "--steps", "6", "--json", str(tmp_path / "areas.json")]) == 0
    rows = json.loads((tmp_path / "areas.json").read_text(encoding="utf-8"))["rows"]
    found = {run: mean_of([row[run] for row in rows]) for run in rows[0]}
    assert found[AFTER]["inside"] > found[WHOLE]["inside"] - 0.1
    assert found[AFTER]["inside"] > found[WITHOUT]["inside"] + 0.3
    assert found[AFTER]["outside"] < min(12, 0.9 * found[WHOLE]["outside"])
