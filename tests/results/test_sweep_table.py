import csv
import io

import numpy as np
import pytest
from PIL import Image

from controlnext.recipes.sweep_plan import SweepAxis
from controlnext.results.sweep_pictures import CELL, cell_text, draw_grid, draw_plot
from controlnext.results.sweep_table import SweepTable, SweptCell, knee_of, picture_distance

GAMMAS = (0, 0.5, 1, 1.5)


@pytest.mark.parametrize(
    ("scores", "knee"),
    [
        ((0.1, 0.6, 0.95, 0.96), 1),  # 90 % of a rise of 0.86 is 0.874
        ((0.1, 0.9, 0.95, 0.7), 0.5),  # what falls again does not count
        ((0.9, 0.9, 0.92, 0.91), None),  # flat
        ((0.9, 0.5, 0.4, 0.3), None),  # falls
        ((0.1, None, 0.9, 0.9), 1),
        ((0.1, None, None, 0.9), None),
    ],
)
def test_the_knee_is_where_most_of_the_rise_is_made(scores, knee):
    assert knee_of(GAMMAS, scores) == knee
    assert knee_of(GAMMAS[::-1], scores[::-1]) == knee


def test_distance_is_the_mean_absolute_difference_whatever_the_size(tmp_path):
    paths = []
    for index, (grey, size) in enumerate([(0, (8, 8)), (51, (8, 8)), (255, (16, 4))]):
        paths.append(tmp_path / f"{index}.png")
        Image.new("RGB", size, (grey,) * 3).save(paths[-1])
    assert picture_distance(paths[0], paths[0]) == 0
    assert picture_distance(paths[0], paths[1]) == pytest.approx(0.2)
    assert picture_distance(paths[0], paths[2]) == 1


def table_of(tmp_path, scores=(0.1, 0.9, 0.95, 0.7), second=None):
    axes = (SweepAxis("gamma", GAMMAS), *([SweepAxis("seed", second)] if second else []))
    cells = []
    for row, seed in enumerate(second or (3,)):
        for column, (gamma, score) in enumerate(zip(GAMMAS, scores, strict=True)):
            path = tmp_path / f"{row}-{column}.png"
            Image.new("RGB", (32, 24), (60 * column, 200, 60 * row)).save(path)
            values = {"gamma": gamma} | ({"seed": seed} if second else {})
            cells.append(
                SweptCell(column, row, values, "done", path, seed, score, column / 10, 2.0, cache=(4, 1, 0.5, 2.0))
            )
    return SweepTable(axes, tuple(cells), "edge F1", ((0, 5, 2.5, 0.0),))


def test_a_table_knows_its_best_cell_its_knee_and_what_the_cache_saved(tmp_path):
    table = table_of(tmp_path)
    assert (table.knee, table.best.values["gamma"], table.done) == (0.5, 1, 4)
    assert table.saved == (16, 9, 8.0)
    assert "16 of 25" in table.saved_text()
    assert SweepTable(table.axes, ()).saved_text() == ""
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert [row["adherence"] for row in rows] == ["0.1", "0.9", "0.95", "0.7"]
    assert rows[1]["file"] == "0-1.png"


def test_the_knee_of_two_axes_is_that_of_the_mean(tmp_path):
    table = table_of(tmp_path, second=(1, 2))
    assert table.curve("adherence") == pytest.approx([0.1, 0.9, 0.95, 0.7])
    assert table.curve("distance", 1) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert table.knee == 0.5


def test_grid_and_plot_show_every_cell(tmp_path):
    table = table_of(tmp_path, second=(1, 2))
    grid = draw_grid(table)
    colours = {tuple(pixel) for pixel in np.asarray(grid).reshape(-1, 3)}
    assert {(60 * column, 200, 60 * row) for column in range(4) for row in range(2)} <= colours
    assert grid.width > 4 * CELL
    assert draw_plot(table).size == draw_plot(table_of(tmp_path)).size
    names = SweepTable((SweepAxis("model", ("a", "b")),), ())
    assert draw_plot(names).width > 300


def test_a_cell_says_what_it_is():
    assert cell_text(SweptCell(0, 0, {}, "done", adherence=0.834, distance=0.12)) == "follows 83 % · distance 12.0 %"
    assert cell_text(SweptCell(0, 0, {}, "left")) == "not made yet"
    assert cell_text(SweptCell(0, 0, {}, "failed", reason="x")) == "cannot be made"
