"""Shared parts of the tabs: error reporting, upload components and small pieces of HTML."""

from __future__ import annotations

import io
import logging
import zipfile
from abc import ABCMeta
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio import processing_utils
from gradio.component_meta import ComponentMeta

from annotators.base import AnnotatorError
from annotators.cache import Cache
from controlnext.errors import ControlNeXtError
from controlnext.ui.trust.sentences import FAILED, NO_MEMORY, brief

if TYPE_CHECKING:
    from PIL import Image

    from controlnext.studio.protocols import Annotators
    from controlnext.studio.studio import Progress

logger = logging.getLogger(__name__)

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Every event of the page itself: no part of the public API, and no spinner of Gradio's over our own progress."""

Data = Mapping[gr.blocks.Block, Any]
"""Values of an event's inputs, by component."""

Update = dict[str, Any]
"""What `gr.update` returns."""

Updates = dict[gr.blocks.Block, Any]
"""New values of an event's outputs, by component; what is missing stays."""

GOOD, FAIR = 0.8, 0.5
"""Adherence from which a badge is green, and amber; below it is red."""


@contextmanager
def reported_errors(*, page: bool = True) -> Iterator[None]:
    """Turn what goes wrong inside into `gr.Error` with one sentence.

    Args:
        page: The message is shown in the page, which reads it as HTML, so it is escaped; the API gets the plain text.

    Raises:
        gr.Error: With the sentence of a known error, or one that says where to look for an unknown one.
    """
    try:
        yield
    except gr.Error:
        raise
    except (ControlNeXtError, AnnotatorError) as error:
        raise gr.Error(_shown(str(error), page), title="That did not work", print_exception=False) from error
    except (MemoryError, ImportError) as error:  # short of memory, libraries cannot be loaded either
        logger.exception("A library or its memory is missing")
        raise gr.Error(_shown(NO_MEMORY, page), title="That did not work", print_exception=False) from error
    except Exception as error:
        logger.exception("An error that no sentence was written for")
        raise gr.Error(_shown(FAILED, page), title="A fault of the app", print_exception=False) from error


def _shown(text: str, page: bool) -> str:
    text = brief(text)
    return escape(text, quote=False) if page else text


def _path_of(self: gr.Image, payload: Any) -> str | None:  # noqa: ANN401 - Gradio's FileData
    return None if payload is None else payload.path


# A subclass, since Gradio rebuilds a component from its class whenever an event leaves it unchanged; created without the
# last step of Gradio's metaclass, which would write a stub file next to this one.
_PictureInput = ABCMeta.__new__(
    ComponentMeta,
    "PictureInput",
    (gr.Image,),
    {"preprocess": _path_of, "is_template": True, "__module__": __name__, "__doc__": "See `picture_input`."},
)


def picture_input(**options: Any) -> gr.Image:
    """Return a `gr.Image` that hands over the path of the uploaded file, whatever the file is.

    Gradio opens an upload before the event sees it and fails there without a sentence on a corrupt, huge or renamed file;
    it may also re-encode it, which loses the recipe inside. Only `annotators.load_picture` decodes uploads here.
    """
    return _PictureInput(type="filepath", image_mode=None, format="png", **options)


DECODED_BYTES = 128 * 2**20
"""Bytes of decoded uploads that are kept for live sliders; a picture of 40 million pixels takes 120 million."""

_DECODED = Cache(DECODED_BYTES)


def open_picture(annotators: Annotators, path: str) -> Image.Image:
    """Return the upload at `path` as an upright RGB picture; the last few stay decoded, for live sliders.

    Gradio keeps uploads in folders named after their content, so a path never changes its meaning.
    """
    return _DECODED.get_or_make((annotators.load_picture, path), lambda: annotators.load_picture(path))


def served(path: Path, component: gr.components.Component) -> str:
    """Return a copy of `path` in Gradio's cache, byte for byte, so that the output folder itself is never exposed."""
    return processing_utils.save_file_to_cache(path, component.GRADIO_CACHE)


def served_text(text: str, name: str, component: gr.components.Component) -> str:
    """Return a file of Gradio's cache with a text in it, for a visitor to save."""
    return processing_utils.save_bytes_to_cache(text.encode(), name, component.GRADIO_CACHE)


def served_zip(paths: Sequence[Path], component: gr.components.Component, name: str = "") -> str:
    """Return a ZIP of files in Gradio's cache, for a visitor to save, named after the first; pictures are not packed any smaller."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    return processing_utils.save_bytes_to_cache(
        packed.getvalue(), f"{name or paths[0].stem}.zip", component.GRADIO_CACHE
    )


def heading(number: int, text: str, hint: str = "") -> gr.HTML:
    """Return the heading of a column."""
    small = f"<small>{escape(hint)}</small>" if hint else ""
    return gr.HTML(f"<h2 class='cnx-heading'><b>{number}</b>{escape(text)}{small}</h2>")


def note_html(text: str, kind: str = "info") -> str:
    """Return a line of text; `kind` is "info", "warn" or "quiet"."""
    return f"<p class='cnx-note {kind}'>{escape(text)}</p>" if text else ""


def served_by_html(backend: str, milliseconds: float, size: tuple[int, int]) -> str:
    """Return the line under the condition: who made it, how long it took, how large it is."""
    width, height = size
    return (
        f"<p class='cnx-served'><span class='cnx-tag'>{escape(backend)}</span>"
        f"<span>{milliseconds:.0f} ms</span><span>{width} × {height}</span></p>"
    )


def progress_html(progress: Progress) -> str:
    """Return the bar of a running generation, with its time left."""
    if not progress.total:
        return waiting_html(progress.stage)
    left = "" if progress.seconds_left is None else f"about {duration_text(progress.seconds_left)} left"
    steps = f"{escape(progress.stage)} · {escape(progress.counted)}"
    return bar_html(steps, left, min(1.0, progress.step / progress.total))


def waiting_html(text: str) -> str:
    """Return the bar of a stage whose length is not known."""
    return bar_html(escape(text), "", None)


def bar_html(left: str, right: str, part: float | None) -> str:
    """Return a bar with HTML under its ends; `part` in [0, 1] is how far it is, None while that is not known."""
    width = "" if part is None else f" style='width:{100 * part:.1f}%'"
    moving = " moving" if part is None else ""
    return (
        f"<div class='cnx-progress{moving}' role='progressbar' aria-label='progress'>"
        f"<div class='cnx-track'><i{width}></i></div><p><span>{left}</span><span>{right}</span></p></div>"
    )


def duration_text(seconds: float) -> str:
    """Format a duration: `40 s`, `12 min`."""
    if seconds < 1:
        return "1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def badge_html(
    number: int, seed: int, score: float | None, name: str, others: Mapping[str, float | None] | None = None
) -> str:
    """Return the badge of one picture: its number, its seed, and how well it follows its conditions."""
    if score is None:
        return f"<span class='cnx-badge'><b>{number}</b><span>seed {seed}</span></span>"
    more = "".join(f", {kind} {100 * value:.0f} %" for kind, value in (others or {}).items() if value is not None)
    level = "good" if score >= GOOD else "fair" if score >= FAIR else "poor"
    title = escape(f"{name}: 1 is a picture that follows the condition exactly", quote=True)
    return (
        f"<span class='cnx-badge {level}' title='{title}'><b>{number}</b>"
        f"<span>follows {100 * score:.0f} %{escape(more)}</span><span>seed {seed}</span></span>"
    )
