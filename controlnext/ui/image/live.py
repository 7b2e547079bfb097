"""Live drawing in the image tab: the picture is drawn again at each change, in few steps."""

from __future__ import annotations

import base64
import io
import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.errors import ControlNeXtError
from controlnext.ui.image.events import ImageEvents
from controlnext.ui.shared import PRIVATE, Data, Updates, badge_html, note_html, reported_errors

if TYPE_CHECKING:
    from PIL import Image

    from controlnext.studio.live import LivePicture

DRAW = {"concurrency_id": "draw-live", "concurrency_limit": 2}
READ = {"concurrency_id": "read-live", "concurrency_limit": 2}

SLOW_SECONDS = 1.0
"""A picture that takes longer is drawn after a drag, not during it."""

MOST_PAGES = 32
"""Pages whose last live picture is kept, to be measured."""

READ_SECONDS = 5.0
"""After this long the measurement no longer waits for the last picture of a drag."""

JPEG_QUALITY = 92


@dataclass(frozen=True)
class LiveDrawn:
    """A page's last live picture.

    Attributes:
        pose: its edited pose, empty where the picture is read.
        picture: the picture.
        asked: the values it was drawn with, see `ImageEvents.asked`.
    """

    pose: str
    picture: LivePicture
    asked: Mapping[Any, Any]


class LiveEvents:
    """The handlers of live drawing. Newest change wins: Gradio's `always_last` holds one waiting change, the newest."""

    def __init__(self, image: ImageEvents) -> None:
        """Remember the handlers of the tab; `wire` connects the live ones."""
        self.image = image
        self.tab = image.tab
        self.last: OrderedDict[str, LiveDrawn] = OrderedDict()

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        tab, editor = self.tab, self.tab.pose.editor
        inputs = tab.inputs() | {tab.live}
        outputs = [tab.live_picture, tab.empty, tab.gallery, tab.preview, tab.progress, tab.recipe, editor]
        changes = [
            editor.input, tab.live.input, tab.prompt.input, tab.negative_prompt.input, tab.seed.change,
            *(part.change for part in self._followed()),
        ]  # fmt: skip
        gr.on(changes, self.draw, inputs, outputs, trigger_mode="always_last", **DRAW, **PRIVATE)
        gr.on(
            [editor.release, tab.live.input], self.read, inputs, [tab.summary, editor], trigger_mode="always_last",
            **READ, **PRIVATE,
        )  # fmt: skip
        tab.live.input(self.switch, tab.live, [editor, tab.new_seed, tab.live_picture], queue=False, **PRIVATE)
        tab.generate.click(lambda: gr.update(visible=False), None, tab.live_picture, queue=False, **PRIVATE)

    def _followed(self) -> list[gr.components.Component]:
        """Return the sliders and choices whose changes are drawn at once."""
        tab = self.tab
        settings = [widget for panel in tab.panels.values() for widget in panel.widgets.values()]
        return [
            tab.picture, tab.annotator, tab.ready_map, tab.model, tab.shape, tab.other_shape, tab.gamma, tab.gamma_curve, tab.alpha,
            tab.control_start, tab.control_end, *settings, *(part for row in tab.loras for part in row),
        ]  # fmt: skip

    def switch(self, live: bool) -> list[Any]:
        """Tell the editor whether to send changes during a drag, and keep the seed while live."""
        return [
            gr.update(live=live, drift=""),
            False if live else gr.skip(),
            gr.skip() if live else gr.update(visible=False),
        ]

    def draw(self, data: Data, request: gr.Request) -> Updates:
        """Draw what the page shows now."""
        tab = self.tab
        session = request.session_hash or ""
        if not data[tab.live]:
            self.last.pop(session, None)
            return gr.skip()
        try:
            with reported_errors():
                asked = self.image.asked(data)
                # Gradio sends a change again where events wait for each other.
                if self.image.full.covers(session, asked) or self._shows(session, asked):
                    return gr.skip()
                self.image.full.forget(session)
                recipe = self.image.recipe({**data, tab.new_seed: False, tab.count: 1})
                begun = time.perf_counter()
                picture = self.image.studio.draw_live(recipe, self.image.inputs(data))
                seconds = time.perf_counter() - begun
        except gr.Error as error:
            return {tab.progress: f"<p class='cnx-note warn'>{error.message}</p>"}
        if self.image.full.covers(session, asked):  # generated while this was drawn
            return gr.skip()
        self._keep(session, LiveDrawn(self.image.pose(data), picture, asked))
        return {
            tab.live_picture: gr.update(visible=True, value=picture_html(picture.image)),
            tab.empty: gr.update(visible=False),
            tab.gallery: gr.update(visible=False),
            tab.preview: gr.update(visible=False),
            tab.progress: note_html(said(picture, seconds), "quiet"),
            tab.recipe: picture.recipe.model_dump(mode="json"),
            tab.pose.editor: gr.update(live=picture.seconds <= SLOW_SECONDS),  # a machine may be busy for a while
        }

    def read(self, data: Data, request: gr.Request) -> Updates:
        """Measure the last picture once the change that is final was drawn."""
        tab = self.tab
        if not data[tab.live]:
            return gr.skip()
        session, pose = request.session_hash or "", self.image.pose(data)
        deadline = time.monotonic() + READ_SECONDS
        while (kept := self.last.get(session)) is None or kept.pose != pose:
            if time.monotonic() > deadline:
                return gr.skip()
            time.sleep(0.02)
        try:
            found = self.image.studio.follow_live(kept.picture)
        except ControlNeXtError:
            return gr.skip()
        badge = badge_html(1, kept.picture.recipe.seed, found.score, found.name)
        return {
            tab.summary: f"<div class='cnx-badges'>{badge}</div>",
            tab.pose.editor: gr.update(drift=json.dumps(found.drift if pose else [])),
        }

    def _shows(self, session: str, asked: Mapping[Any, Any]) -> bool:
        """Return whether the page shows a live picture of these values already."""
        last = self.last.get(session)
        return not self.image.full.shows(session) and last is not None and last.asked == asked

    def _keep(self, session: str, drawn: LiveDrawn) -> None:
        self.last[session] = drawn
        self.last.move_to_end(session)
        while len(self.last) > MOST_PAGES:
            self.last.popitem(last=False)


def said(picture: LivePicture, seconds: float) -> str:
    """Return the line under a live picture."""
    with_lora = f" with {picture.lora}" if picture.lora else ""
    when = " Drawn after each drag, as it takes over a second here." if picture.seconds > SLOW_SECONDS else ""
    steps = picture.recipe.num_inference_steps
    precision = f"{picture.recipe.precision}, 8-bit decoder" if picture.eight_bits else picture.recipe.precision
    return f"Live: {steps} steps{with_lora}, {precision}, {seconds:.2f} s.{when} Generate makes the full picture."


def picture_html(image: Image.Image) -> str:
    """Return a picture inside of HTML, so that the page needs no second request for it."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"<img alt='{escape('Live picture')}' src='data:image/jpeg;base64,{data}'>"
