"""Runs in worker threads, with progress and a stop that takes effect after the current step.

A Gradio event that is cancelled ends at its next `yield`, and a plain function is never ended at all. So the page's
generator stays light: it only reads what the worker thread reports, and whenever it ends - finished, stopped, or because
the visitor closed the page - it sets the cancel event, which the studio looks at after each step.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from controlnext.held import give_back_memory

if TYPE_CHECKING:
    from PIL import Image

    from annotators.base import Annotation
    from controlnext.animation.driving_clip import DrivingClip
    from controlnext.animation.video_run import VideoResult
    from controlnext.recipes.inputs import Inputs
    from controlnext.recipes.recipe import Recipe
    from controlnext.recipes.video_recipe import VideoRecipe
    from controlnext.studio.studio import Progress, Result, Studio

Stream = Callable[
    ["Recipe", "Image.Image | Annotation | Inputs | None", threading.Event], Iterator["Progress | Result"]
]
"""Runs a recipe: yields progress, then the result; ends early once the event is set. `stream_of` makes the usual one."""

VideoStream = Callable[["VideoOrder", threading.Event], Iterator["Progress | VideoResult"]]
"""Makes a video, as a `Stream` makes pictures. `video_stream_of` makes the usual one."""

Made = TypeVar("Made")

POLL_SECONDS = 0.2
"""How often a waiting generator looks whether it was stopped."""


@dataclass(frozen=True)
class VideoOrder:
    """What a video is made of.

    Attributes:
        recipe: what to make.
        reference: picture of the character, upright RGB.
        clip: file of who moves.
        extras: also make the side-by-side version and the version of the poses alone.
    """

    recipe: VideoRecipe
    reference: Image.Image | None
    clip: str
    extras: bool = False


class Runs:
    """The running work of each visitor, so that a Stop button finds it, and so does the departure of the visitor."""

    def __init__(self) -> None:
        """Start with nothing running."""
        self._lock = threading.Lock()
        self._running: list[tuple[str, threading.Event]] = []

    def start(self, page: str) -> threading.Event:
        """Return the cancel event of a new run of `page`; a run of the same page that still goes on is stopped."""
        self.stop(page)
        return self.join(page)

    def join(self, page: str) -> threading.Event:
        """Return the cancel event of a new run of `page`, next to those that it has."""
        cancel = threading.Event()
        with self._lock:
            self._running.append((page, cancel))
        return cancel

    def stop(self, page: str) -> bool:
        """Ask the runs of `page` to stop; return whether there was one. Requests without a session have nothing in common."""
        with self._lock:
            cancels = [cancel for one, cancel in self._running if one == page and page]
        for cancel in cancels:
            cancel.set()
        return bool(cancels)

    def stop_those(self, gone: Callable[[str], bool]) -> None:
        """Ask the runs of every page that is gone to stop."""
        with self._lock:
            running = list(self._running)
        for page, cancel in running:
            if not cancel.is_set() and gone(page):
                cancel.set()

    def finish(self, page: str, cancel: threading.Event) -> None:
        """Forget the run whose event is `cancel`, and see to it that its thread ends."""
        cancel.set()
        with self._lock:
            self._running = [(one, event) for one, event in self._running if event is not cancel]


class Work:
    """The threads that are at work, so that the app can end them before it ends itself.

    A process that ends while such a thread is inside of torch is aborted.
    """

    def __init__(self) -> None:
        """Start with nothing at work."""
        self._lock = threading.Lock()
        self._threads: dict[threading.Thread, tuple[threading.Event, bool]] = {}

    def start(
        self, work: Callable[[], None], cancel: threading.Event, name: str = "generate", *, awaited: bool = True
    ) -> None:
        """Run `work` in a daemon thread, which `cancel` asks to stop; work that is not `awaited` makes nothing to lose."""

        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._threads.pop(threading.current_thread(), None)
                give_back_memory()

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._lock:
            self._threads[thread] = cancel, awaited
        thread.start()

    def end(self, seconds: float) -> bool:
        """Ask everything to stop and wait for what is awaited; return whether all has ended within `seconds`."""
        until = time.monotonic() + seconds
        with self._lock:
            threads = dict(self._threads)
        for cancel, _ in threads.values():
            cancel.set()
        for thread, (_, awaited) in threads.items():
            if awaited:
                thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)


WORK = Work()
"""What is at work in this process."""


def stream_of(studio: Studio) -> Stream:
    """Return the stream that runs recipes in a thread of this process."""
    return lambda recipe, condition, cancel: run_in_thread(studio, recipe, condition, cancel)


def run_in_thread(
    studio: Studio, recipe: Recipe, condition: Image.Image | Annotation | Inputs | None, cancel: threading.Event
) -> Iterator[Progress | Result]:
    """Run `recipe` in a daemon thread; see `in_thread`.

    Args:
        studio: Does the work, under its own process-wide lock.
        recipe: What to make.
        condition: RGB condition picture, or an annotation with its data, or all pictures, or `None` for words alone.
        cancel: Stops the work after the current step. Set here as soon as the caller stops reading.
    """
    return in_thread(lambda report: studio.generate(recipe, condition, on_progress=report, cancel=cancel), cancel)


def video_stream_of(studio: Studio) -> VideoStream:
    """Return the stream that makes videos in a thread of this process."""
    return lambda order, cancel: animated_in_thread(studio, order, cancel)


def animated_in_thread(
    studio: Studio, order: VideoOrder, cancel: threading.Event, driving: DrivingClip | None = None
) -> Iterator[Progress | VideoResult]:
    """Make a video in a daemon thread; see `in_thread`.

    Args:
        studio: Does the work.
        order: What it is made of.
        cancel: Stops the work after the current step. Set here as soon as the caller stops reading.
        driving: The clip as `Animator.read` gave it, where that was done before.
    """
    return in_thread(
        lambda report: studio.animate(
            order.recipe, order.reference, order.clip, beside=order.extras, poses=order.extras, driving=driving,
            on_progress=report, cancel=cancel,
        ),
        cancel,
    )  # fmt: skip


def in_thread(
    make: Callable[[Callable[[Progress], None]], Made], cancel: threading.Event
) -> Iterator[Progress | Made]:
    """Make something in a daemon thread; yield the newest progress now and then, and what was made last.

    Progress that comes faster than the page takes it is merged: the newest step with the newest preview.

    Args:
        make: Is given the function that it reports its progress to; looks at `cancel` itself.
        cancel: Set here as soon as the caller stops reading.

    Yields:
        `Progress` objects, then what `make` returned.

    Raises:
        Exception: Whatever `make` raised, unchanged.
    """
    box: queue.SimpleQueue[tuple[str, object]] = queue.SimpleQueue()

    def work() -> None:
        try:
            box.put(("result", make(lambda progress: box.put(("progress", progress)))))
        except BaseException as error:  # raised again by the reader
            box.put(("error", error))

    WORK.start(work, cancel)
    try:
        yield from _read(box, cancel)
    except GeneratorExit:
        cancel.set()  # the reader is gone; an error does not set it, since the event distinguishes a stop from an error
        raise


def _read(box: queue.SimpleQueue[tuple[str, object]], cancel: threading.Event) -> Iterator[Any]:
    begun = False
    while True:
        try:
            kind, item = box.get(timeout=POLL_SECONDS)
        except queue.Empty:
            if cancel.is_set() and not begun:
                return  # it was still waiting for another run: nothing to wait for
            continue
        begun = True
        preview = None
        while kind == "progress":
            preview = item.preview or preview
            try:
                kind_next, item_next = box.get_nowait()
            except queue.Empty:
                break
            if kind_next != "progress":
                yield replace(item, preview=preview)
            kind, item = kind_next, item_next
        if kind == "error":
            raise item
        if kind == "result":
            yield item
            return
        yield replace(item, preview=preview)
