"""Handlers of the character drawn of a photograph: it is shown with its words, and becomes the video's character on a yes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import gradio as gr

from controlnext.errors import ControlNeXtError
from controlnext.models.presets import DEFAULT_MODEL
from controlnext.progress import Progress
from controlnext.studio.character import character_order, in_the_right_colours
from controlnext.ui.image.events import RUN
from controlnext.ui.shared import (
    PRIVATE,
    Updates,
    note_html,
    open_picture,
    progress_html,
    reported_errors,
    served,
    waiting_html,
)
from controlnext.ui.sizes import NEAREST, size_of
from controlnext.ui.worker import Runs, Stream

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio
    from controlnext.ui.board.made import MadeResults
    from controlnext.ui.video.tab import VideoTab


class NoPhotographError(ControlNeXtError):
    """A character was to be drawn of no picture."""


class CharacterEvents:
    """The handlers of the area."""

    def __init__(self, tab: VideoTab, studio: Studio, stream: Stream, made: MadeResults) -> None:
        """Remember the parts; `wire` connects them.

        Args:
            tab: the video tab.
            studio: reads the photograph.
            stream: draws the character.
            made: where it is noted which page made which pictures.
        """
        self.tab, self.area, self.studio, self.stream, self.made = tab, tab.character, studio, stream, made
        self.runs = Runs()

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the page."""
        tab, area = self.tab, self.area
        shown = [area.words, area.draw, area.picture, area.use, area.note]
        area.draw.click(self.draw, [tab.reference, area.words], shown, trigger_mode="once", **RUN, **PRIVATE)
        area.use.click(lambda path: path, area.picture, tab.reference, queue=False, **PRIVATE)
        tab.reference.upload(self.clear, None, [area.words, area.picture, area.use, area.note], queue=False, **PRIVATE)

    def clear(self) -> Updates:
        """Forget the words and the figure of another photograph."""
        area = self.area
        hidden = gr.update(visible=False)
        return {area.words: "", area.picture: hidden, area.use: hidden, area.note: ""}

    def draw(self, path: str | None, words: str, request: gr.Request) -> Iterator[Updates]:
        """Read the photograph's words where none are written, and draw its figure."""
        area, page = self.area, request.session_hash or ""
        cancel = self.runs.start(page)
        try:
            with reported_errors():
                if path is None:
                    raise NoPhotographError("There is no character yet: drop a photograph of a person in above.")
                yield {area.draw: gr.update(interactive=False), area.note: waiting_html("Reading the photograph")}
                annotators = self.studio.annotators
                photograph = open_picture(annotators, path)
                words = words.strip() or annotators.describe_figure(photograph)
                catalogue = self.studio.catalogue
                row = next(row for row in catalogue.models() if row["name"] == DEFAULT_MODEL)
                size = size_of(NEAREST, row["sizes"], photograph.size)
                recipe, inputs = character_order(
                    catalogue, annotators, photograph, words, size=size, model=DEFAULT_MODEL
                )
                yield {area.words: words}
                for report in self.stream(recipe, inputs, cancel):
                    if isinstance(report, Progress):
                        yield {area.note: progress_html(report)}
                        continue
                    self.made.add(page, report.files)
                    best = in_the_right_colours(report, words, annotators)
                    yield {
                        area.words: words,
                        area.picture: gr.update(value=served(report.files[best], area.picture), visible=True),
                        area.use: gr.update(visible=True),
                        area.draw: gr.update(interactive=True),
                        area.note: note_html(
                            "Is this the character? Use it, or change the words and draw again.", "quiet"
                        ),
                    }
        except gr.Error:
            yield {area.note: "", area.draw: gr.update(interactive=True)}
            raise
        finally:
            self.runs.finish(page, cancel)
