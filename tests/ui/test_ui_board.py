"""The results tab's handlers over real pictures, called without a browser."""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from controlnext.recipes.recipe import Recipe
from controlnext.results.board import Board
from controlnext.results.gallery import Gallery
from controlnext.ui.board.events import BoardEvents
from controlnext.ui.board.made import MOST_NAMES, MOST_PAGES, MadeResults
from controlnext.ui.board.tab import PAGE, build_board_tab
from controlnext.ui.image.restore import Restore
from controlnext.ui.image.tab import build_image_tab

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
    with gr.Blocks(), gr.Tabs() as tabs:
        with gr.Tab("Image", id="image"):
            image = build_image_tab(studio)
        with gr.Tab("Results", id="results") as opened:
            events = BoardEvents(build_board_tab(), Board(gallery), made, local=local)
            events.wire(opened, tabs, image, Restore(image, studio, {}), None)
    return events


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
    editor, _ = board.as_start(chosen, ME)
    assert editor["background"] == editor["composite"]


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
