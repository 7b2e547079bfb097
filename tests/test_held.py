"""What results hold in memory, counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from controlnext.held import held_bytes
from controlnext.video.extract import Recent


@dataclass(frozen=True)
class Pair:
    one: object
    other: object


@pytest.mark.parametrize(
    ("value", "least"),
    [
        (np.zeros((100, 100), np.float32), 40_000),
        (np.zeros((100, 100), np.float32)[:1], 40_000),  # a view keeps the whole
        (Image.new("RGB", (100, 100)), 30_000),
        ([np.zeros(1000, np.uint8)] * 5, 1000),
        ({"a": (np.zeros(1000), "x" * 500)}, 8500),
        (Pair(np.zeros(1000, np.uint8), [np.zeros(1000, np.uint8)]), 2000),
        (b"x" * 1000, 1000),
        (None, 1),
    ],
)
def test_held_bytes_counts_everything_once(value, least):
    assert least <= held_bytes(value) <= least + 1000


def test_recent_drops_by_bytes_and_keeps_the_newest():
    recent = Recent(100, most_bytes=10_000)
    for number in range(20):
        recent.keep(number, np.zeros(1000, np.uint8))
    assert recent.nbytes <= 10_000
    assert recent.get(0) is None
    assert recent.get(19) is not None
    recent.keep("large", np.zeros(50_000, np.uint8))
    assert recent.get("large") is not None
    assert recent.get(19) is None
    recent.keep("large", np.zeros(10, np.uint8))
    assert recent.nbytes < 1000
