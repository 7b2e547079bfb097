"""The strip of what a visitor made last: pictures, videos and sweeps, below every tab and there again after a reload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from controlnext.results.board import BoardQuery
from controlnext.results.gallery import GalleryError
from controlnext.ui.board.events import QUEUE, BoardEvents
from controlnext.ui.shared import PRIVATE, Updates, reported_errors

MOST = 24
"""Results in the strip; the results tab has all."""

STORAGE, SECRET = "controlnext-visitor", "controlnext"
"""Where the browser keeps the visitor's own secret. The other one is none: it only has to be the same after a restart."""


@dataclass(frozen=True)
class SessionStrip:
    """The components.

    Attributes:
        area: hidden while there is nothing.
        names: names of what the strip shows, in its order.
        visitor: secret of this visitor, kept in the browser.
    """

    area: gr.Column
    tiles: gr.Gallery
    names: gr.State
    visitor: gr.BrowserState


def session_strip() -> SessionStrip:
    """Lay the strip out; must be called inside a `gr.Blocks` context."""
    with gr.Column(visible=False, elem_classes="cnx-panel", elem_id="cnx-latest-area") as area:
        gr.HTML("<h2 class='cnx-heading'>Latest results<small>click one to compare, restore or save it</small></h2>")
        tiles = gr.Gallery(
            show_label=False, label="Latest results", columns=MOST, rows=1, height=96, object_fit="cover", format="jpeg", preview=False,
            allow_preview=False, interactive=False, buttons=[], container=False, elem_id="cnx-latest", elem_classes="cnx-thumbs",
        )  # fmt: skip
    return SessionStrip(area, tiles, gr.State([]), gr.BrowserState("", storage_key=STORAGE, secret=SECRET))


class StripEvents:
    """Shows the newest results that the visitor may see: the owner of this machine all, anybody else their own."""

    def __init__(self, strip: SessionStrip, board: BoardEvents) -> None:
        """Remember the parts; `wire` connects them."""
        self.strip, self.board = strip, board

    def wire(self, page: gr.Blocks, changes: Sequence[gr.components.Component], tabs: gr.Tabs) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the page.

        Args:
            page: fills the strip when it is loaded.
            changes: components that change when something was made or deleted.
            tabs: where a click opens the results.
        """
        strip, shown = self.strip, [self.strip.area, self.strip.tiles, self.strip.names]
        self.tabs = tabs
        page.load(self.enter, strip.visitor, [strip.visitor, *shown], **QUEUE, **PRIVATE)
        gr.on([one.change for one in changes], self.show, None, shown, trigger_mode="always_last", **QUEUE, **PRIVATE)
        strip.tiles.select(self.choose, strip.names, {*self.board.detail, tabs}, **QUEUE, **PRIVATE)

    def enter(self, visitor: object, request: gr.Request) -> list[Any]:
        """Recognise the visitor by what the browser kept, and show what this visitor made before."""
        return [self.board.made.enter(request.session_hash or "", visitor), *self.show(request)]

    def show(self, request: gr.Request) -> list[Any]:
        """Fill the strip."""
        with reported_errors():
            _, pictures, names = self.board.tiles(BoardQuery(), MOST, request)
        return [gr.update(visible=bool(names)), pictures, names]

    def choose(self, names: list[str], event: gr.SelectData, request: gr.Request) -> Updates:
        """Open the clicked result on the results tab."""
        with reported_errors():
            if not 0 <= event.index < len(names):
                raise GalleryError("This result is not there any more.")
            item = self.board.find(names[event.index], request)
            return self.board.shown(item) | {self.tabs: gr.Tabs(selected="results")}
