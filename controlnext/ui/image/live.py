"""Live drawing in the image tab: the picture is drawn again at each change, in few steps."""

from __future__ import annotations

import base64
import io
import json
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import gradio as gr

from controlnext.errors import ControlNeXtError
from controlnext.recipes.pose import check_pose
from controlnext.ui.image.events import ImageEvents
from controlnext.ui.shared import PRIVATE, Data, Updates, badge_html, note_html, reported_errors

if TYPE_CHECKING:
    from PIL import Image

    from controlnext.studio.live import LivePicture

DRAWN_AT_ONCE = 2
"""Live pictures that are drawn or wait for a turn by one way: more would take the threads that serve the page."""

STOP_SECONDS = 1.0
"""How long the end of a drag waits for the place of the picture that it stops: more than a step takes where drags are drawn."""

DRAW = {"concurrency_id": "draw-live", "concurrency_limit": DRAWN_AT_ONCE}
READ = {"concurrency_id": "read-live", "concurrency_limit": 2}

SLOW_SECONDS = 1.0
"""A picture that takes longer is drawn after a drag, not during it."""

MOST_PAGES = 32
"""Pages whose last live picture is kept, to be measured."""

READ_SECONDS = 5.0
"""After this long the measurement no longer waits for the last picture of a drag."""

JPEG_QUALITY = 92
_numbers = count()


@dataclass(frozen=True)
class LiveDrawn:
    """A page's last live picture.

    Attributes:
        pose: its edited pose, empty where the picture is read.
        picture: the picture.
        asked: the values it was drawn with, see `ImageEvents.asked`.
        seconds: from the change to the picture, waiting for others included.
        number: greater than those of all pictures drawn before it.
        channel: secret of the page, by which its editor asks for the next picture of a drag.
        told: whether the page has the recipe and the line of it, which a drag leaves out.
    """

    pose: str
    picture: LivePicture
    asked: Mapping[Any, Any]
    seconds: float
    number: int
    channel: str
    told: bool


class LiveEvents:
    """The handlers of live drawing. Newest change wins: Gradio's `always_last` holds one waiting change, the newest."""

    def __init__(self, image: ImageEvents) -> None:
        """Remember the handlers of the tab; `wire` connects the live ones."""
        self.image = image
        self.tab = image.tab
        self.last: OrderedDict[str, LiveDrawn] = OrderedDict()
        self._pages: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._locks = threading.Lock()
        self._places = threading.BoundedSemaphore(DRAWN_AT_ONCE)
        self._passing: dict[str, threading.Event] = {}
        self.tab.pose.drags.answer = self.drag

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
            gr.update(live=live, drift="", channel=""),
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
                with self._page(session):
                    # Gradio sends a change again where events wait for each other.
                    if self.image.full.covers(session, asked):
                        return gr.skip()
                    if self._shows(session, asked):
                        return self._told(session)
                    drawn = self._draw(session, asked, told=True)
        except gr.Error as error:
            return {tab.progress: f"<p class='cnx-note warn'>{error.message}</p>"}
        if drawn is None:
            return gr.skip()
        return self._words(drawn) | {
            tab.live_picture: gr.update(visible=True, value=picture_html(drawn.picture.image, drawn.number)),
            tab.empty: gr.update(visible=False),
            tab.gallery: gr.update(visible=False),
            tab.preview: gr.update(visible=False),
        }

    def drag(self, channel: object, pose: object, final: object = False) -> dict[str, str | int]:
        """Draw the pose of a drag with the other values of the page's last live picture.

        Args:
            channel: of the page, as a client sent it.
            pose: JSON, as a client sent it.
            final: whether the drag has ended there; what is being drawn of the drag is then stopped, as nobody waits for it.

        Returns:
            `picture`, an address for an `img`, and its `number`, see `LiveDrawn`; nothing where the page shows no live picture, too many draw, or the pose cannot be
            drawn, which the usual way then says.
        """
        session = next((page for page, drawn in self.last.items() if drawn.channel == channel), None)
        if session is None or self.image.full.shows(session) or not pose:
            return {}
        passing = self._passing.pop(session, None) if final else None
        if passing:
            passing.set()
        if not self._places.acquire(timeout=STOP_SECONDS if passing else 0):  # the one that stops gives its place back
            return {}
        cancel = threading.Event()
        if not final:
            self._passing[session] = cancel
        try:
            with self._page(session):
                asked = {**self.last[session].asked, self.tab.pose.editor: check_pose(pose)}
                shown = self._shows(session, asked)
                drawn = self.last[session] if shown else self._draw(session, asked, cancel, told=False)
        except (ControlNeXtError, gr.Error, KeyError):  # KeyError: switched off meanwhile
            return {}
        finally:
            self._places.release()
            if self._passing.get(session) is cancel:
                del self._passing[session]
        return {} if drawn is None else {"picture": picture_address(drawn.picture.image), "number": drawn.number}

    def _page(self, session: str) -> threading.Lock:
        """Return what one live picture of a page holds while it is drawn: the event after a drag finds the drag's picture."""
        with self._locks:
            return self._pages.setdefault(session, threading.Lock())

    def _draw(
        self, session: str, asked: Mapping[Any, Any], cancel: threading.Event | None = None, *, told: bool
    ) -> LiveDrawn | None:
        """Draw and keep a picture; None where the page has generated the same in full meanwhile."""
        tab, full = self.tab, self.image.full
        full.forget(session)
        data = {**asked, tab.new_seed: False, tab.count: 1}
        recipe = self.image.recipe(data)
        begun = time.perf_counter()
        picture = self.image.studio.draw_live(recipe, self.image.inputs(data), cancel)
        seconds = time.perf_counter() - begun
        if full.shows(session):
            return None
        last = self.last.get(session)
        channel = last.channel if last else secrets.token_urlsafe(16)
        drawn = LiveDrawn(self.image.pose(data), picture, asked, seconds, next(_numbers), channel, told)
        self._keep(session, drawn)
        return drawn

    def _words(self, drawn: LiveDrawn) -> Updates:
        """Return what is said of a picture, and how the editor goes on."""
        picture, tab = drawn.picture, self.tab
        return {
            tab.progress: note_html(said(picture, drawn.seconds), "quiet")
            + "".join(note_html(note, "warn") for note in picture.notes),
            tab.recipe: picture.recipe.model_dump(mode="json"),
            # A machine may be busy for a while.
            tab.pose.editor: gr.update(live=picture.seconds <= SLOW_SECONDS, channel=drawn.channel),
        }

    def _told(self, session: str) -> Updates:
        """Return what is said of the picture that the page shows, unless it was said."""
        drawn = self.last[session]
        if drawn.told:
            return gr.skip()
        self._keep(session, replace(drawn, told=True))
        return self._words(drawn)

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
    precision = f"{picture.recipe.precision}, partly in 8 bits" if picture.eight_bits else picture.recipe.precision
    return f"Live: {steps} steps{with_lora}, {precision}, {seconds:.2f} s.{when} Generate makes the full picture."


def picture_html(image: Image.Image, number: int) -> str:
    """Return a picture inside of HTML with its number, by which the editor keeps the newest in place."""
    return f"<img alt='Live picture' data-number='{number}' src='{picture_address(image)}'>"


def picture_address(image: Image.Image) -> str:
    """Return a picture as an address, so that the page needs no second request for it."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
