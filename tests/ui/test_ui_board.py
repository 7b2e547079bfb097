"""The results tab's handlers over real pictures, called without a browser."""

from __future__ import annotations

from types import SimpleNamespace
from zipfile import ZipFile

import gradio as gr
import numpy as np
import pytest
from laid_out import laid_out
from PIL import Image

from controlnext.recipes.recipe import Recipe
from controlnext.recipes.sweep_plan import SweepAxis, SweepPlan
from controlnext.results.board import Board
from controlnext.results.gallery import Gallery
from controlnext.results.saved_sweeps import GRID, PLAN, PLOT, TABLE
from controlnext.results.sweep_pictures import draw_grid, draw_plot
from controlnext.results.sweep_table import SweepTable, SweptCell
from controlnext.ui.board.events import BoardEvents
from controlnext.ui.board.made import MOST_NAMES, MOST_PAGES, MadeResults
from controlnext.ui.board.strip import StripEvents, session_strip
from controlnext.ui.board.tab import PAGE, build_board_tab
from controlnext.ui.image.events import ImageEvents
from controlnext.ui.image.restore import Restore
from controlnext.ui.image.sweep_events import SweepEvents
from controlnext.ui.image.tab import build_image_tab
from controlnext.ui.worker import stream_of

ME, OTHER = SimpleNamespace(session_hash="me"), SimpleNamespace(session_hash="other")


def picture(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 40, 3), dtype=np.uint8))


@pytest.fixture(params=[True, False], ids=["owner", "visitor"])
def local(request):
    return request.param


@pytest.fixture
def board(studio, tmp_path, local):
    """Handlers of the owner, who sees all three pictures, or of a visitor, who made the second and third."""
    gallery = Gallery(tmp_path / "results")
    files = [
        gallery.save(picture(index), Recipe(seed=index, prompt=f"<b>{index}</b>"), facts={"adherence": index / 4})
        for index in range(3)
    ]
    made = MadeResults()
    made.add("me", files[1:])
    with laid_out() as page, gr.Tabs() as tabs:
        with gr.Tab("Image", id="image"):
            image = ImageEvents(build_image_tab(studio), studio, stream_of(studio), made)
        with gr.Tab("Results", id="results") as opened:
            strip = session_strip()
            events = BoardEvents(build_board_tab(), Board(gallery), made, local=local)
            events.wire(opened, tabs, SweepEvents(image.tab.sweep, image), Restore(image.tab, studio, {}), None)
            events.strip = StripEvents(strip, events)
            events.strip.wire(page, [events.tab.names], tabs)
    return events


def saved_sweep(board):
    """A sweep of gamma in the folder, of two pictures."""
    folder = board.board.gallery.output_dir / "sweeps" / "gamma-1f"
    plan = SweepPlan(Recipe(seed=3, prompt="a coat", annotator="pose"), (SweepAxis("gamma", (0, 1)),))
    cells = [
        SweptCell(place, 0, cell.values, "done", Gallery(folder).save(picture(place), cell.recipe, picture(9)), 3, 0.4 + place / 2)
        for place, cell in enumerate(plan.cells())
    ]  # fmt: skip
    table = SweepTable(plan.axes, tuple(cells))
    (folder / PLAN).write_text(plan.to_json())
    (folder / TABLE).write_text(table.csv())
    draw_grid(table).save(folder / GRID)
    draw_plot(table).save(folder / PLOT)
    return folder


def data_of(events, **values):
    tab = events.tab
    data = {tab.words: "", tab.kind: "all", tab.order: "newest", tab.count: PAGE, tab.chosen: ""}
    return data | {getattr(tab, name): value for name, value in values.items()}


def names(events, request=ME, **values):
    return events.show(data_of(events, **values), request)[events.tab.names]


def test_an_owner_sees_all_and_a_visitor_what_the_page_made(board, local):
    assert len(names(board)) == (3 if local else 2)
    assert len(names(board, OTHER)) == (3 if local else 0)


def test_another_visitors_result_cannot_be_asked_for(board, local):
    hidden = next(name for name in (path.name for path in board.board.gallery.output_dir.glob("*_0.png")))
    for ask in (board.put_back, board.as_picture, board.as_start, board.as_character):
        if local:
            ask(hidden, ME)
        else:
            with pytest.raises(gr.Error, match="Choose a result"):
                ask(hidden, ME)
    with pytest.raises(gr.Error):
        board.delete(data_of(board, chosen="" if local else hidden), ME)
    assert (board.board.gallery.output_dir / hidden).exists()


def test_a_click_shows_a_result_and_the_next_is_laid_over_it(board):
    tab, shown = board.tab, names(board)
    first = board.choose(shown, "", False, SimpleNamespace(index=0), ME)
    assert first[tab.chosen] == shown[0]
    assert "&lt;b&gt;2&lt;/b&gt;" in first[tab.about]
    assert "<td>steps</td>" in first[tab.about]  # as the page calls it
    assert first[tab.comparison]["visible"] is False
    second = board.choose(shown, shown[0], True, SimpleNamespace(index=1), ME)
    assert tab.chosen not in second
    assert len(second[tab.slider]) == 2
    assert "seed" in second[tab.table]


def test_a_result_is_restored_and_used(board):
    chosen = names(board)[0]
    restored = board.put_back(chosen, ME)
    assert restored[board.image.seed] == 2
    assert restored[board.tabs].selected == "image"
    path, ready_map, *_ = board.as_picture(chosen, ME)
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(picture(2)))
    assert ready_map is False
    editor, fold, _ = board.as_start(chosen, ME)
    assert editor["background"] == editor["composite"]
    assert fold["open"] is True  # so that it is seen


def test_delete_moves_to_the_trash_and_fills_the_wall_again(board):
    before = names(board)
    updates = board.delete(data_of(board, chosen=before[0]), ME)
    assert updates[board.tab.names] == before[1:]
    assert (board.board.gallery.output_dir / ".trash" / before[0]).is_file()


def test_more_are_shown_page_by_page(board, local, monkeypatch):
    monkeypatch.setattr("controlnext.ui.board.events.PAGE", 1)
    first = board.show_anew(data_of(board, count=5), ME)
    assert len(first[board.tab.names]) == 1
    assert first[board.tab.more]["visible"] is True
    assert len(board.show_more(data_of(board, count=1), ME)[board.tab.names]) == 2


def test_what_pages_made_is_bounded(tmp_path):
    made = MadeResults()
    for page in range(MOST_PAGES + 1):
        made.add(str(page), [tmp_path / "a.png"])
    assert made.of("0") == frozenset()
    made.add("1", [tmp_path / f"{index}.png" for index in range(MOST_NAMES)])
    assert len(made.of("1")) == MOST_NAMES
    assert "a.png" not in made.of("1")


def test_a_sweep_is_shown_restored_saved_and_deleted_by_who_made_it(board, local):
    folder, tab, name = saved_sweep(board), board.tab, "sweeps/gamma-1f"
    assert (name in names(board)) is local
    if not local:
        for ask in (board.put_back, lambda *asked: board.delete(data_of(board, chosen=asked[0]), asked[1])):
            with pytest.raises(gr.Error, match="Choose a result"):
                ask(name, ME)
    board.made.add("me", [folder])
    assert names(board, kind="sweep") == [name]
    assert names(board, OTHER, kind="sweep") == ([name] if local else [])
    shown = board.show(data_of(board, kind="sweep"), ME)
    assert shown[tab.wall][0][1].startswith("sweep · 90 %")
    detail = board.choose([name], "", False, SimpleNamespace(index=0), ME)
    assert Image.open(detail[tab.picture]["value"]).size == Image.open(folder / GRID).size
    assert Image.open(detail[tab.plot]["value"]).size == Image.open(folder / PLOT).size
    assert not any(
        detail[part]["visible"] for part in (tab.use_picture, tab.use_start, tab.use_character, tab.verify, tab.video)
    )
    assert "control strength (gamma)</td><td>0, 1" in detail[tab.about]
    with ZipFile(detail[tab.save]["value"]) as archive:
        assert len(archive.namelist()) == 6
    restored = board.put_back(name, ME)
    assert restored[board.tabs].selected == "image"
    assert restored[board.image.prompt] == "a coat"
    assert restored[board.sweep.area.values] == "0, 1"
    single = board.choose(names(board, kind="picture"), "", False, SimpleNamespace(index=0), ME)
    assert single[tab.plot]["visible"] is False
    with pytest.raises(gr.Error, match="sweep"):
        board.choose([name], single[tab.chosen], True, SimpleNamespace(index=0), ME)
    board.delete(data_of(board, chosen=name), ME)
    assert not folder.exists()
    assert names(board, kind="sweep") == []


def test_the_strip_shows_the_newest_and_knows_its_visitor_after_a_reload(board, local):
    secret, area, _, shown = board.strip.enter("", ME)
    assert (len(shown), area["visible"]) == ((3, True) if local else (0, False))
    board.made.add("me", [saved_sweep(board)])
    assert board.strip.show(ME)[2][0] == "sweeps/gamma-1f"
    again, _, _, shown = board.strip.enter(secret, SimpleNamespace(session_hash="after the reload"))
    assert again == secret
    assert shown[0] == "sweeps/gamma-1f"
    for other in ("", "page", None, 7, secret.upper() + "0"):
        new, _, _, shown = board.strip.enter(other, OTHER)
        assert new != secret
        assert len(shown) == (4 if local else 0)
    opened = board.strip.choose(["sweeps/gamma-1f"], SimpleNamespace(index=0), ME)
    assert opened[board.tab.chosen] == "sweeps/gamma-1f"
    assert opened[board.tabs].selected == "results"
    if not local:
        with pytest.raises(gr.Error):
            board.strip.choose(["sweeps/gamma-1f"], SimpleNamespace(index=0), OTHER)
