"""Handlers of the results tab for projects, and for the verification of a picture."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from controlnext import __version__
from controlnext.progress import Progress
from controlnext.results.project import open_project, write_project
from controlnext.studio.verify import Verified, VerifyError, verify
from controlnext.ui.image.events import RUN, STOPPED
from controlnext.ui.shared import (
    PRIVATE,
    Data,
    Updates,
    note_html,
    progress_html,
    reported_errors,
    served,
    waiting_html,
)
from controlnext.ui.sweep_run import counted_draw
from controlnext.ui.worker import Runs, Stream, in_thread
from controlnext.ui.working import working

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio
    from controlnext.ui.board.events import BoardEvents

PROJECT = "controlnext-project.zip"


class ProjectEvents:
    """The handlers. A visitor packs what the board shows to this visitor, and nothing else."""

    def __init__(self, board: BoardEvents, studio: Studio, stream: Stream) -> None:
        """Remember the parts; `wire` connects them."""
        self.board, self.tab, self.studio, self.stream, self.runs = board, board.tab, studio, stream, Runs()

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the page."""
        tab = self.tab
        tab.pack.click(self.pack, {tab.names}, {tab.project, tab.message}, **PRIVATE)
        wall = {tab.wall, tab.names, tab.found, tab.more, tab.count}
        tab.unpack.upload(self.unpack, tab.query_inputs() | {tab.unpack}, {*wall, tab.message}, **PRIVATE)
        tab.verify.click(self.verify, {tab.chosen}, {tab.verified, tab.verify}, trigger_mode="once", **RUN, **PRIVATE)

    def pack(self, data: Data, request: gr.Request) -> Updates:
        """Pack the results on the wall."""
        tab = self.tab
        with reported_errors(), tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / PROJECT
            results = [self.board.find(name, request).path for name in data[tab.names]]
            write_project(target, results, __version__)
            path = served(target, tab.project)
        text = f"Packed with recipes, maps, poses and masks: {len(results)} {'result' if len(results) == 1 else 'results'}."
        return {tab.project: gr.update(value=path, visible=True), tab.message: note_html(text, "quiet")}

    def unpack(self, data: Data, request: gr.Request) -> Updates:
        """Restore the results of a project, and show them."""
        tab = self.tab
        with reported_errors():
            opened = open_project(Path(data[tab.unpack]), self.studio.gallery, self.studio.catalogue.weights)
        self.board.made.add(request.session_hash or "", opened.files)
        shown = self.board.show_anew(data, request)
        return shown | {tab.message: note_html(opened.sentence(), "warn" if opened.missing else "info")}

    def verify(self, data: Data, request: gr.Request) -> Iterator[Updates]:
        """Make the result in detail again, and say how much differs and why."""
        tab = self.tab
        yield from working(
            self.runs, request.session_hash or "", lambda cancel: self._verify(data, request, cancel),
            idle={tab.verify: gr.update(interactive=True), tab.verified: ""}, stopped={tab.verified: note_html(STOPPED, "quiet")},
        )  # fmt: skip

    def _verify(self, data: Data, request: gr.Request, cancel: threading.Event) -> Generator[Updates, None, Updates]:
        tab = self.tab
        item = self.board.find(data[tab.chosen], request)
        if item.kind != "picture":
            raise VerifyError("Single pictures can be verified; this is a video or a sweep.")
        yield {tab.verify: gr.update(interactive=False), tab.verified: waiting_html("Making it again")}
        for report in self._run(item.path, cancel):
            if not isinstance(report, Progress):
                return {tab.verified: note_html(report.sentence(), "quiet" if report.same else "warn")}
            yield {tab.verified: progress_html(report)}
        return {tab.verified: note_html(STOPPED, "quiet")}

    def _run(self, file: Path, cancel: threading.Event) -> Iterator[Progress | Verified]:
        return in_thread(lambda report: verify(file, counted_draw(self.stream, cancel, report)), cancel)
