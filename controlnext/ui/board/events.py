"""Handlers of the results tab."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.recipes.recipe import field_words
from controlnext.recipes.sweep_plan import shown
from controlnext.results.board import Board, BoardItem, BoardPage, BoardQuery, differences
from controlnext.results.gallery import GalleryError
from controlnext.ui.board.made import MadeResults
from controlnext.ui.board.tab import PAGE, BoardTab
from controlnext.ui.shared import PRIVATE, Data, Updates, note_html, reported_errors, served, served_zip

if TYPE_CHECKING:
    from controlnext.ui.image.restore import Restore
    from controlnext.ui.image.sweep_events import SweepEvents
    from controlnext.ui.video.restore import VideoRestore

QUEUE: Mapping[str, Any] = {"concurrency_id": "board", "concurrency_limit": 2}

ABOUT = (
    "model", "prompt", "negative_prompt", "seed", "width", "height", "gamma", "num_inference_steps", "guidance_scale",
)  # fmt: skip
"""Fields of a recipe that the page names beside a result; the rest is restored with it."""


ADHERENCE: Mapping[str, str] = {"picture": "adherence", "video": "adherence", "sweep": "best adherence"}


class BoardEvents:
    """Shows the results of this machine's owner, and to anybody else those of the open page."""

    def __init__(self, tab: BoardTab, board: Board, made: MadeResults, *, local: bool) -> None:
        """Remember the parts.

        Args:
            tab: the page.
            board: reads the output folder.
            made: what each page made.
            local: the page is served to this machine alone, so that everything in the folder may be shown.
        """
        self.tab, self.board, self.made, self.local = tab, board, made, local

    def wire(
        self, opened: gr.Tab, tabs: gr.Tabs, sweep: SweepEvents, restore: Restore, video: VideoRestore | None
    ) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the page.

        Args:
            opened: the tab itself; the wall is filled whenever it is opened.
            tabs: where the other tabs are opened.
            sweep: opens sweeps on the image tab, which takes pictures.
            restore: puts a picture's recipe back.
            video: puts a video's recipe back; None where no videos are made.
        """
        tab, image = self.tab, sweep.tab
        self.tabs, self.image, self.sweep, self.restore, self.video = tabs, image, sweep, restore, video
        shown: dict[str, Any] = {"inputs": tab.query_inputs(), "outputs": self._wall(), **QUEUE, **PRIVATE}
        opened.select(self.show, **shown)
        for part in (tab.kind, tab.order):
            part.input(self.show_anew, **shown)
        tab.words.submit(self.show_anew, **shown)
        tab.more.click(self.show_more, **shown)
        self.detail = detail = {
            tab.detail, tab.picture, tab.video, tab.plot, tab.about, tab.use_picture, tab.use_start, tab.use_character, tab.save, tab.sure,
            tab.comparison, tab.slider, tab.table, tab.compare, tab.chosen, tab.verify, tab.verified,
        }  # fmt: skip
        tab.wall.select(self.choose, [tab.names, tab.chosen, tab.compare], detail, **QUEUE, **PRIVATE)
        tab.restore.click(self.put_back, tab.chosen, self._restored(), **PRIVATE)
        tab.use_picture.click(
            self.as_picture, tab.chosen, [image.picture, image.ready_map, image.restored, tabs], **PRIVATE
        )
        tab.use_start.click(self.as_start, tab.chosen, [image.start.editor, image.start.fold, tabs], **PRIVATE)
        if video is not None:
            tab.use_character.click(self.as_character, tab.chosen, [video.tab.reference, tabs], **PRIVATE)
        tab.delete.click(lambda: gr.update(visible=True), None, tab.sure, queue=False, **PRIVATE)
        tab.sure.click(
            self.delete, tab.query_inputs() | {tab.chosen}, {*self._wall(), tab.detail, tab.sure, tab.chosen}, **QUEUE, **PRIVATE
        )  # fmt: skip

    def _wall(self) -> set[gr.components.Component]:
        tab = self.tab
        return {tab.wall, tab.names, tab.found, tab.more, tab.count}

    def _restored(self) -> list[Any]:
        return list(
            dict.fromkeys(
                [
                    *self.restore.outputs(),
                    *self.sweep.outputs(),
                    *(self.video.outputs() if self.video else ()),
                    self.tabs,
                ]
            )
        )

    def show_anew(self, data: Data, request: gr.Request) -> Updates:
        """Show the first results of another search."""
        return self.show({**data, self.tab.count: PAGE}, request)

    def show_more(self, data: Data, request: gr.Request) -> Updates:
        """Show one page of results more."""
        return self.show({**data, self.tab.count: data[self.tab.count] + PAGE}, request)

    def show(self, data: Data, request: gr.Request) -> Updates:
        """Fill the wall with what was asked for."""
        tab, kind = self.tab, data[self.tab.kind]
        query = BoardQuery(data[tab.words] or "", None if kind == "all" else kind, data[tab.order])
        with reported_errors():
            page, pictures, names = self.tiles(query, data[tab.count], request)
        return {
            tab.wall: pictures,
            tab.names: names,
            tab.found: _found_html(page.found, page.unread, own=not self.local),
            tab.more: gr.update(visible=page.found > len(page.items)),
            tab.count: data[tab.count],
        }

    def tiles(
        self, query: BoardQuery, count: int, request: gr.Request
    ) -> tuple[BoardPage, list[tuple[str, str]], list[str]]:
        """Return results that this visitor may see, each with its small picture and caption, and their names.

        Args:
            query: what is looked for.
            count: results at most.
            request: of the visitor.

        Raises:
            GalleryError: the folder cannot be read.
        """
        mine = None if self.local else self.made.of(request.session_hash or "")
        page = self.board.page(replace(query, names=mine), count=count)
        shown = [(one, small) for one in page.items if (small := self._small(one)) is not None]
        return page, [(small, caption(one)) for one, small in shown], [one.name for one, _ in shown]

    def _small(self, item: BoardItem) -> str | None:
        try:
            return served(self.board.thumbnail(item.name), self.tab.wall)
        except GalleryError:  # damaged, or deleted a moment ago
            return None

    def choose(
        self, names: list[str], chosen: str, compare: bool, event: gr.SelectData, request: gr.Request
    ) -> Updates:
        """Show the clicked result in detail, or lay it over the one in detail."""
        with reported_errors():
            item = self.find(names[event.index], request)
            if compare and chosen and chosen != item.name:
                return self._compare(self.find(chosen, request), item)
            return self.shown(item)

    def find(self, name: str, request: gr.Request) -> BoardItem:
        """Return a result that this visitor may see."""
        if not name or (not self.local and name not in self.made.of(request.session_hash or "")):
            raise GalleryError("Choose a result first: click one on the wall.")
        return self.board.find(name)

    def shown(self, item: BoardItem) -> Updates:
        """Show a result in detail."""
        tab, picture, kind = self.tab, item.kind == "picture", item.kind
        if kind == "sweep":
            saved = self.board.sweep(item.name)
            grid, plot = (served(path, tab.picture) if path.is_file() else None for path in saved.pictured)
            path = served_zip(saved.files, tab.save, saved.folder.name)
        else:
            grid = path = served(item.path, tab.picture)
            plot = None
        return {
            tab.detail: gr.update(visible=True),
            tab.picture: gr.update(value=None if kind == "video" else grid, visible=kind != "video"),
            tab.video: gr.update(value=path if kind == "video" else None, visible=kind == "video"),
            tab.plot: gr.update(value=plot, visible=plot is not None),
            tab.about: about_html(item),
            tab.use_picture: gr.update(visible=picture),
            tab.use_start: gr.update(visible=picture),
            tab.use_character: gr.update(visible=picture and self.video is not None),
            tab.verify: gr.update(visible=picture),
            tab.verified: "",
            tab.save: gr.update(value=path),
            tab.sure: gr.update(visible=False),
            tab.comparison: gr.update(visible=False),
            tab.compare: False,
            tab.chosen: item.name,
        }

    def _compare(self, first: BoardItem, second: BoardItem) -> Updates:
        tab = self.tab
        if not first.kind == second.kind == "picture":
            raise GalleryError("Two pictures can be laid over each other; one of these is a video or a sweep.")
        pair = tuple(served(one.path, tab.picture) for one in (first, second))
        return {
            tab.comparison: gr.update(visible=True),
            tab.slider: pair,
            tab.table: differences_html(first, second),
        }

    def put_back(self, name: str, request: gr.Request) -> Updates:
        """Put the recipe of the result in detail back into its tab, and open that; of a sweep also its grid and its plot."""
        with reported_errors():
            item = self.find(name, request)
            if item.kind == "video" and self.video is None:
                raise GalleryError("This studio makes no videos, so the settings of one cannot be restored.")
            if item.kind == "sweep":
                return self.sweep.reopened(self.board.sweep(name), self.restore) | {
                    self.tabs: gr.Tabs(selected="image")
                }
            path = served(item.path, self.tab.picture)
        if item.kind == "video":
            return self.video.asked(path) | {self.tabs: gr.Tabs(selected="video")}
        return self.restore.asked(path) | {self.tabs: gr.Tabs(selected="image")}

    def as_picture(self, name: str, request: gr.Request) -> list[Any]:
        """Take the result as the picture that gives the control."""
        return [self._served(name, request), False, False, gr.Tabs(selected="image")]

    def as_start(self, name: str, request: gr.Request) -> list[Any]:
        """Take the result as the picture to start from."""
        path = self._served(name, request)
        return [{"background": path, "layers": [], "composite": path}, gr.update(open=True), gr.Tabs(selected="image")]

    def as_character(self, name: str, request: gr.Request) -> list[Any]:
        """Take the result as the character of a video."""
        return [self._served(name, request), gr.Tabs(selected="video")]

    def _served(self, name: str, request: gr.Request) -> str:
        with reported_errors():
            return served(self.find(name, request).path, self.tab.picture)

    def delete(self, data: Data, request: gr.Request) -> Updates:
        """Move the result in detail to the trash folder, and fill the wall again."""
        tab = self.tab
        with reported_errors():
            self.board.trash(self.find(data[tab.chosen], request).name)
        hidden = {tab.detail: gr.update(visible=False), tab.sure: gr.update(visible=False), tab.chosen: ""}
        return self.show(data, request) | hidden


def caption(item: BoardItem) -> str:
    """Return the few characters that fit under a small picture: what it is, its adherence and its day."""
    parts = [item.kind] if item.kind != "picture" else []
    parts += [] if item.score is None else [f"{100 * item.score:.0f} %"]
    return " · ".join([*parts, item.day[5:]])


def _found_html(found: int, unread: int, *, own: bool) -> str:
    if unread:
        return note_html(f"{found:,} found so far; {unread:,} results are still being read, search again in a moment.")
    if not found:
        return note_html("Nothing here yet." if not own else "Nothing here yet: this page shows what it made itself.")
    return note_html(f"{found:,} results" if found > 1 else "1 result", "quiet")


def about_html(item: BoardItem) -> str:
    """Return the facts of a result as a table."""
    rows = [("file", item.name), ("made", item.day)]
    if item.score is not None:
        rows.append((str(item.facts.get("adherence_name") or ADHERENCE[item.kind]), f"{item.score:.3f}"))
    rows += [(axis.label.lower(), ", ".join(map(shown, axis.values))) for axis in item.axes]
    if item.kind == "sweep":
        rows.append(("pictures", f"{item.facts.get('made', 0)} / {item.facts.get('cells', 0)}"))
    if item.recipe is None:
        rows.append(("recipe", "none that can be read"))
    else:
        values = item.recipe.model_dump(mode="json")
        swept = {axis.name for axis in item.axes}
        rows += [
            (field_words(name), str(values[name]))
            for name in ABOUT
            if values.get(name) not in (None, "") and name not in swept
        ]
        if kind := item.recipe.condition_kind:
            rows.append(("control", kind))
    return _table(rows)


def differences_html(first: BoardItem, second: BoardItem) -> str:
    """Return what differs between the recipes of two results, as a table."""
    rows = differences(first, second)
    if not rows:
        return note_html("Their recipes are the same.")
    return _table([("", first.name, second.name), *((field_words(name), *values) for name, *values in rows)])


def _table(rows: list[tuple[str, ...]]) -> str:
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell if len(cell) <= 300 else cell[:297] + chr(8230))}</td>' for cell in row)}</tr>"
        for row in rows
    )
    return f"<table class='cnx-table'><tbody>{body}</tbody></table>"
