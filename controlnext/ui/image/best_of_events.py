"""Handlers of best-of-many and of the repair of a picture."""

from __future__ import annotations

import time
from collections.abc import Iterator
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
from controlnext.ui.shared import PRIVATE, Data, Updates, note_html, reported_errors, waiting_html
from controlnext.ui.sweep_run import run_repair

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
        tab, image, session = self.tab, self.image, request.session_hash or ""
        cancel, begun = image.runs.start(session), time.perf_counter()
        idle = image.panel.idle(before=bool(data[tab.files]))
        try:
            with reported_errors():
                if not data[tab.files]:
                    raise RepairError("There is no picture yet: make one first, then click the one to repair.")
                file = Path(data[tab.files][min(data[self.area.chosen], len(data[tab.files]) - 1)])
                yield {
                    tab.generate: gr.update(value="Repairing …", interactive=False),
                    tab.stop: gr.update(interactive=True),
                    tab.progress: waiting_html("Looking for what drifted"),
                }
                last: Updates = {tab.progress: note_html(STOPPED, "quiet")}
                for report in run_repair(file, image.studio, image.stream, cancel):
                    if isinstance(report, Progress):
                        yield image.panel.step(report)
                    else:
                        last = self._done(report, file, session, time.perf_counter() - begun)
                yield idle | last
        except gr.Error:
            yield idle | ({tab.progress: note_html(STOPPED, "quiet")} if cancel.is_set() else {})
            if not cancel.is_set():
                raise
        finally:
            image.runs.finish(session, cancel)

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
