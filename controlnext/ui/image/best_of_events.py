"""Handlers of best-of-many and of the repair of a picture."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
from PIL import Image

from controlnext.progress import Progress
from controlnext.recipes.kinds import kind_of
from controlnext.recipes.png import read_png
from controlnext.studio.repair import RepairError
from controlnext.studio.studio import Result
from controlnext.ui.image.events import RUN, STOPPED, ImageEvents
from controlnext.ui.shared import PRIVATE, Data, Updates, note_html, waiting_html
from controlnext.ui.sweep_run import run_repair
from controlnext.ui.working import working

if TYPE_CHECKING:
    from controlnext.studio.repair import Repaired
    from controlnext.ui.image.best_of import BestOfArea


class BestOfEvents:
    """The handlers of the area. Runs are those of the tab, so its Stop button stops them."""

    def __init__(self, area: BestOfArea, image: ImageEvents) -> None:
        """Remember the parts; `wire` connects them."""
        self.area, self.image, self.tab = area, image, image.tab

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        area, tab = self.area, self.tab
        outputs = self.image.run_outputs()
        area.start.click(
            self.run, tab.inputs() | {tab.files, area.count}, outputs, trigger_mode="once", **RUN, **PRIVATE
        )
        area.repair.click(self.repair_chosen, {tab.files, area.chosen}, outputs, trigger_mode="once", **RUN, **PRIVATE)
        tab.gallery.select(self.choose, None, area.chosen, queue=False, **PRIVATE)
        tab.files.change(lambda: 0, None, area.chosen, queue=False, **PRIVATE)

    def choose(self, event: gr.SelectData) -> int:
        """Remember the picture that was clicked."""
        return int(event.index)

    def run(self, data: Data, request: gr.Request) -> Iterator[Updates]:
        """Make as many pictures as asked for, and show the one that follows best first."""
        yield from self.image.run({**data, self.tab.count: data[self.area.count]}, request, best_first=True)

    def repair_chosen(self, data: Data, request: gr.Request) -> Iterator[Updates]:
        """Repair the picture that was clicked last, or the first."""
        image, tab = self.image, self.tab
        stopped: Updates = {tab.progress: note_html(STOPPED, "quiet")}
        yield from working(
            image.runs, request.session_hash or "", lambda cancel: self._repair(data, request, cancel),
            idle=image.panel.idle(before=bool(data[tab.files])), stopped=stopped,
        )  # fmt: skip

    def _repair(self, data: Data, request: gr.Request, cancel: threading.Event) -> Generator[Updates, None, Updates]:
        tab, image, begun = self.tab, self.image, time.perf_counter()
        if not data[tab.files]:
            raise RepairError("There is no picture yet: make one first, then click the one to repair.")
        file = Path(data[tab.files][min(data[self.area.chosen], len(data[tab.files]) - 1)])
        yield {
            tab.generate: gr.update(value="Repairing …", interactive=False),
            tab.stop: gr.update(interactive=True),
            tab.progress: waiting_html("Looking for what drifted"),
        }
        for report in run_repair(file, image.studio, image.stream, cancel):
            if not isinstance(report, Progress):
                return self._done(report, file, request.session_hash or "", time.perf_counter() - begun)
            yield image.panel.step(report)
        return {tab.progress: note_html(STOPPED, "quiet")}

    def _done(self, done: Repaired, before: Path, session: str, seconds: float) -> Updates:
        if done.file == before:
            return {self.tab.progress: note_html(done.sentence(), "quiet")}
        self.image.made.add(session, [done.file])
        recipe = read_png(done.file)
        if recipe is None:
            raise RepairError("The repaired picture has lost its recipe; see the output folder.")
        with Image.open(done.file) as opened:
            picture = opened.convert("RGB")
        name = kind_of(recipe.condition_kind).score
        result = Result(
            [picture], [done.file], recipe, [recipe.seed], [done.after], name, seconds, False, (done.sentence(),),
            {recipe.condition_kind: [done.after]},
        )  # fmt: skip
        return self.image.done(result) | {self.tab.seed: gr.skip()}
