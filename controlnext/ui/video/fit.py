"""Event handlers of the fit: open and read a clip, and show its poses on the character; no model is needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import ImageOps

from controlnext.animation.choice import Choice
from controlnext.recipes.video_recipe import PoseEdit
from controlnext.ui.image.area import paint_on
from controlnext.ui.shared import (
    PRIVATE,
    Data,
    Updates,
    note_html,
    open_picture,
    progress_html,
    reported_errors,
    waiting_html,
)
from controlnext.ui.sizes import size_of
from controlnext.ui.video.parts import legend_html, notes_html, people_pictures, strip_html, strip_pictures, sure_html
from controlnext.ui.video.player import clip_of_files
from controlnext.ui.video.tab import CHOICE, FPS_MAXIMUM, LIKE_REFERENCE, START, VideoTab
from controlnext.ui.worker import Runs, in_thread
from controlnext.video.extract import Recent, clip_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from controlnext.animation.choice import ClipUse
    from controlnext.animation.driving_clip import DrivingClip
    from controlnext.progress import Progress
    from controlnext.studio.studio import Studio
    from controlnext.ui.shared import Update
    from controlnext.ui.video.restore import VideoRestore


READ = {"concurrency_id": "fit", "concurrency_limit": 4}
"""Clips are read while a generation runs."""

SETTLED_SECONDS = 0.15
"""A slider that still moves is waited for so long."""

USUAL_FPS = 12
"""Tempo that a faster clip is brought to at first: half the work of 24, and the starter's own."""

OVERLAY_SIDE = 512
KEPT_PAGES = 64
KEPT_STRIPS = 32


class FitEvents:
    """The handlers of the clip, the trim, the people and the fit."""

    def __init__(self, tab: VideoTab, studio: Studio, restore: VideoRestore) -> None:
        """Remember the parts; `wire` connects them."""
        self.restore = restore
        self.tab = tab
        self.studio = studio
        self.reads = Runs()
        self.shown = Recent(KEPT_PAGES)  # page -> the fit it shows, for its scrubber
        self.strips = Recent(KEPT_STRIPS)
        self.players = restore.players

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        tab = self.tab
        opened = {
            tab.opened, tab.seconds, tab.start, tab.end, tab.fps, tab.person, tab.strip, tab.notes, tab.restored, tab.edit.edits
        }  # fmt: skip
        tab.clip.change(
            self.open_clip,
            {tab.clip, tab.restored, tab.start, tab.end, tab.max_frames},
            opened | self.restore.outputs(),
            **READ,
            **PRIVATE,
        )
        tab.moving.upload(self.take, tab.moving, [tab.clip, tab.notes, tab.moving, tab.restored], **READ, **PRIVATE)
        outputs = {tab.overlay, tab.strip, tab.notes, *self._nothing()}
        # Every change begins a reading and ends the one before it, which `always_last` would wait for.
        shown = gr.on(
            [part.change for part in tab.fit_inputs() - {tab.seconds}],
            self.show,
            tab.fit_inputs() | {tab.frame},
            outputs,
            trigger_mode="multiple",
            **READ,
            **PRIVATE,
        )
        scrubs = {"concurrency_id": "scrub", "concurrency_limit": 4, **PRIVATE}
        tab.frame.change(self.scrub, tab.frame, [tab.overlay, tab.sure], trigger_mode="always_last", **scrubs)
        # The scrubber may have been moved while a clip was read, whose last picture is of the frame from before.
        shown.success(self.scrub, tab.frame, [tab.overlay, tab.sure], **scrubs)
        tab.area.fold.expand(self.paint_on, [tab.frame, tab.area.editor], tab.area.editor, queue=False, **PRIVATE)
        tab.people.select(self.choose_person, None, tab.person, queue=False, **PRIVATE)

    # The clip

    def open_clip(self, data: Data) -> Iterator[Updates]:
        """Look at a new clip: how long it is, what tempo, and pictures from all over it; a saved video is put back."""
        tab, path = self.tab, data[self.tab.clip]
        if path is None:
            yield {tab.opened: "", tab.seconds: 0.0, tab.strip: "", tab.notes: note_html(START, "quiet")}
            return
        played, path = path, self.players.clip_of(path)
        clip_reader = self.studio.animator.clip_reader
        try:
            with reported_errors():
                # the clip that values were put back for leaves them as they are
                kept = bool(data[tab.restored]) and clip_digest(clip_reader.open(path)) == data[tab.restored]
                start, end = data[tab.start] or 0.0, data[tab.end] or 0.0
                found = None if kept else self.restore.of(path)
                if found is not None:
                    yield found.updates
                    if found.clip != path:
                        return  # that clip is opened when it is there
                    kept, start, end = True, found.start, found.end
                clip = clip_reader.open(path)
        except gr.Error as error:
            yield {tab.opened: "", tab.seconds: 0.0, tab.strip: "", tab.notes: _warning(error)}
            raise
        length = clip.seconds or clip.frames / clip.fps
        last = max(0.01, length - 1 / clip.fps)  # where a part can begin at the latest
        updates: Updates = {tab.opened: path, tab.seconds: length, tab.restored: ""}
        if kept:
            start, end = min(start, last), min(end or length, length)
        else:
            start, end, fps = 0.0, length, USUAL_FPS if clip.fps > USUAL_FPS else 0
            updates |= {tab.fps: gr.update(value=fps, maximum=FPS_MAXIMUM), tab.person: 0, tab.edit.edits: []}
        updates |= {tab.start: gr.update(value=start, maximum=last), tab.end: gr.update(value=end, maximum=length)}
        yield updates
        with reported_errors():
            pictures = strip_pictures(
                clip if clip.poses is None else clip_reader.open(played)
            )  # poses alone are black
        self.strips.keep(path, pictures)
        used = (data[tab.max_frames] or clip.frames) / min(clip.fps, USUAL_FPS)
        yield updates | {tab.strip: strip_html(pictures, length, start, min(used, end - start))}

    def take(self, files: list[str]) -> Iterator[Updates]:
        """Take files that the player does not play, such as a GIF, and give it what it does; `open_clip` follows."""
        tab = self.tab
        yield {tab.notes: waiting_html("Preparing the clip for the player"), tab.moving: None}
        try:
            with reported_errors():
                yield {tab.clip: self.players.show(clip_of_files(files)), tab.restored: ""}
        except gr.Error as error:
            yield {tab.notes: _warning(error)}
            raise

    def choose_person(self, event: gr.SelectData) -> int:
        """Follow the person whose picture was clicked."""
        return event.index

    # The fit

    def choice(self, data: Data) -> Choice:
        """Return what the page says about the clip."""
        values = {name: data[self.tab.part(name)] for name in CHOICE}
        # To the last hundredth is to the end: then nothing is lost to the rounding of a length.
        values["end"] = 0 if values["end"] >= data[self.tab.seconds] - 0.02 else values["end"]
        values["edits"] = tuple(PoseEdit(**row) for row in values["edits"])
        return Choice(**{name: value for name, value in values.items() if value is not None})

    def reference(self, data: Data) -> Image.Image | None:
        """Return the character's picture, upright."""
        path = data[self.tab.reference]
        return None if path is None else open_picture(self.studio.annotators, path)

    def size(self, data: Data, reference: Image.Image | None) -> tuple[int, int]:
        """Return width and height of the video."""
        model, size = data[self.tab.model], data[self.tab.size]
        if size != LIKE_REFERENCE:
            return size_of(size, {}, None)
        recipe = self.studio.animator.resolve(model, reference)
        return recipe.width, recipe.height

    def show(self, data: Data, request: gr.Request) -> Iterator[Updates]:
        """Read the clip as it is cut now, and show how it lies on the character."""
        page = request.session_hash or ""
        cancel = self.reads.start(page)
        try:
            yield from self._settled(data, page, cancel)
        finally:
            self.reads.finish(page, cancel)

    def scrub(self, index: int, request: gr.Request) -> list[Any]:
        """Show another frame of the fit."""
        driving = self.shown.get(request.session_hash or "")
        if driving is None or index is None:
            return [gr.skip(), gr.skip()]
        index = int(min(max(index, 0), len(driving) - 1))
        with reported_errors():
            return [driving.overlay(index), sure_html(driving, index)]

    def paint_on(self, index: int, value: Mapping[str, Any] | None, request: gr.Request) -> dict[str, Any]:
        """Put the frame of the fit that is shown under an area that nothing was painted for yet."""
        driving = self.shown.get(request.session_hash or "")
        if driving is None or index is None:
            return paint_on(None, value)
        return paint_on(driving.overlay(int(min(max(index, 0), len(driving) - 1))), value)

    def _settled(self, data: Data, page: str, cancel: threading.Event) -> Iterator[Updates]:
        tab = self.tab
        try:
            with reported_errors():
                if not cancel.wait(SETTLED_SECONDS):
                    yield from self._read(data, page, cancel) if data[tab.opened] else [self._alone(data)]
        except gr.Error as error:
            if not cancel.is_set():
                self.shown.keep(page, None)
                yield {tab.overlay: None, **self._nothing(), tab.notes: _warning(error)}
                raise
        if cancel.is_set():
            # Another change came, and its own reading says what there is to say. Something has to be sent all the same:
            # Gradio ends a handler with what it sent last, and one that sent nothing with None for every part.
            yield {tab.notes: gr.skip()}

    def _read(self, data: Data, page: str, cancel: threading.Event) -> Iterator[Updates]:
        tab, clip_reader = self.tab, self.studio.animator.clip_reader
        source, choice, reference = data[tab.opened], self.choice(data), self.reference(data)
        use = clip_reader.use(source, choice)
        yield {
            tab.strip: self._strip(source, data[tab.seconds], choice, use),
            tab.reading: waiting_html("Reading poses"),
            tab.notes: note_html(use.sentence),
        }
        width, height = self.size(data, reference)
        zoom = max(1.0, OVERLAY_SIDE / max(width, height))
        large = (round(width * zoom), round(height * zoom))

        def make(report: Callable[[Progress], None]) -> tuple[DrivingClip, Choice]:
            tracks = clip_reader.tracks(source, choice, on_progress=report, cancel=cancel)
            known = choice if choice.person < len(tracks) else replace(choice, person=0)
            return clip_reader.drive(reference, source, known, large, on_progress=report, cancel=cancel), known

        for report in in_thread(make, cancel):
            if not isinstance(report, tuple):
                yield {tab.reading: progress_html(report)}
                continue
            driving, known = report
            if not cancel.is_set():
                self.shown.keep(page, driving)
                yield self._fitted(driving, known, source, use, data)

    def _alone(self, data: Data) -> Updates:
        reference = self.reference(data)
        return {
            self.tab.overlay: reference and ImageOps.contain(reference, (OVERLAY_SIDE, OVERLAY_SIDE)),
            **self._nothing(),
        }

    def _fitted(self, driving: DrivingClip, choice: Choice, source: str, use: ClipUse, data: Data) -> Updates:
        tab, clip_reader = self.tab, self.studio.animator.clip_reader
        last, several = len(driving) - 1, len(driving.tracks) > 1
        at = data[tab.frame]
        index = int(min(max(at or 0, 0), last))
        people: Any = gr.update(visible=False, value=[])
        if several:
            pictures = people_pictures(clip_reader, source, choice, driving.tracks)
            people = gr.update(
                visible=True, value=[(one, str(number)) for number, one in enumerate(pictures, start=1)]
            )
        choices = [(str(number + 1), number) for number in range(len(driving.tracks))]
        return {
            tab.overlay: driving.overlay(index),
            tab.legend: legend_html(driving),
            tab.sure: sure_html(driving, index),
            tab.frame: gr.update(maximum=max(1, last), interactive=last > 0, **_value(index, at)),
            tab.edit.open: gr.update(interactive=True),
            tab.notes: notes_html(use, driving.sentences),
            tab.reading: "",
            tab.people: people,
            tab.person: gr.update(choices=choices, visible=several, **_value(choice.person, data[tab.person])),
        }

    def _nothing(self) -> Updates:
        tab = self.tab
        return {
            tab.sure: "", tab.reading: "", tab.legend: "", tab.notes: gr.skip(), tab.frame: gr.update(value=0, interactive=False),
            tab.people: gr.update(visible=False, value=[]), tab.person: gr.update(visible=False),
            tab.edit.open: gr.update(interactive=False),
        }  # fmt: skip

    def _strip(self, source: str, seconds: float, choice: Choice, use: ClipUse) -> Update:
        pictures = self.strips.get(source)
        return gr.skip() if pictures is None else strip_html(pictures, seconds, choice.start, use.seconds)


def _value(wanted: int, at: int | None) -> dict[str, int]:
    """Return the value of an update only where it must change: it may have been changed since the page was read."""
    return {} if wanted == at else {"value": wanted}


def _warning(error: gr.Error) -> str:
    return f"<p class='cnx-note warn'>{error.message}</p>"
