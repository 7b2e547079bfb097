"""The bench of the results tab, small; and that the first screen of ten thousand results reads what it shows alone."""

from controlnext.bench.cost import board as bench
from controlnext.results import board as module
from controlnext.results.board import Board, BoardQuery
from controlnext.results.gallery import Gallery


def test_the_bench_prints_a_row_for_each_screen(capsys):
    assert bench.main(["--files", "6"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("| 6 results | seconds | of them at work |")
    assert out.count("\n| ") == 5


def test_the_first_screen_of_ten_thousand_reads_what_it_shows_alone(tmp_path, monkeypatch):
    bench.fill(tmp_path, 10_000)
    read, real = [], module._contents
    monkeypatch.setattr(module, "_contents", lambda path: read.append(path) or real(path))
    board = Board(Gallery(tmp_path))
    page = board.page(BoardQuery())
    assert (page.found, len(page.items), len(read)) == (10_000, 48, 48)
    board.page(BoardQuery(), start=48)
    assert len(set(read)) == len(read) == 96
