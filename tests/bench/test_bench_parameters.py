"""The count of parameters against the figures everybody knows, and its table."""

import json

import pytest

from controlnext.bench.cost import parameters

# Millions in all and learnable; the paper's figures within its own rounding, where its way is the one counted.
NEAR_PAPER = {("sd15", "controlnet"), ("sd15", "controlnext"), ("svd", "controlnet"), ("svd-v1", "controlnext"), ("sdxl", "controlnet")}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    return {(row.family, row.way): row for row in parameters.count_all(list(parameters.SUBSETS))}


def test_totals_are_those_of_the_released_networks(rows):
    assert rows["sd15", "base"].total == 859_520_964
    assert rows["sd15", "controlnet"].trained == 361_279_120  # lllyasviel/sd-controlnet-*
    assert rows["sdxl", "controlnet"].trained == 1_251_014_160 == rows["sdxl", "controlnet"].total - 2_567_463_684
    assert rows["svd", "referencenet"].total == 2 * 1_524_623_082


@pytest.mark.parametrize(
    ("family", "subset"), [("sd15", 24_805_760), ("sdxl", 102_483_200), ("svd", 49_611_520), ("svd-v1", 49_611_520)]
)
def test_controlnext_trains_its_module_and_the_released_subset(rows, family, subset):
    row = rows[family, "controlnext"]
    base = {"sd15": 859_520_964, "sdxl": 2_567_463_684}.get(family, 1_524_623_082)
    assert row.trained == subset + row.total - base


@pytest.mark.parametrize("key", sorted(NEAR_PAPER))
def test_counts_agree_with_the_paper_where_the_networks_are_the_same(rows, key):
    row = rows[key]
    assert (row.total / 1e6, row.trained / 1e6) == pytest.approx(row.paper, abs=1.0)


def test_what_two_rows_share_stands_once_and_the_table_marks_the_papers_figures(rows):
    assert ("sd15-train", "base") not in rows
    assert ("sd15-train", "controlnext") in rows
    assert ("svd", "t2i-adapter") not in rows
    text = parameters.table(list(rows.values()))
    assert "| SD1.5 | ControlNeXt, released module | 864.9 | 30.2 | 865 | 30 |" in text
    assert "from memory" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_command_counts_one_family_and_writes_the_figures(tmp_path, capsys):
    assert parameters.main(["--family", "sd15-train", "--json", str(tmp_path / "p.json")]) == 0
    assert "module of the training code" in capsys.readouterr().out
    counts = json.loads((tmp_path / "p.json").read_text())
    assert [row["way"] for row in counts] == ["base", "controlnet", "t2i-adapter", "referencenet", "controlnext"]
    assert counts[-1]["trained"] == 24_805_760 + 3_526_400
