"""Components without Gradio's checks of values: videos of any format, and sliders whose ends move."""

from __future__ import annotations

from abc import ABCMeta
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio.data_classes import FileData


def _path_of(self: gr.Video, payload: Any) -> str | None:  # noqa: ANN401 - Gradio's FileData
    return None if payload is None else payload.path


def _file_of(self: gr.Video, value: str | Path | None) -> FileData | None:
    return None if value is None else FileData(path=str(value), orig_name=Path(value).name)


# Made as `PictureInput` in `shared`, and for the same reason.
_VideoFile = ABCMeta.__new__(
    ComponentMeta,
    "VideoFile",
    (gr.Video,),
    {
        "preprocess": _path_of,
        "postprocess": _file_of,
        "is_template": True,
        "__module__": __name__,
        "__doc__": "See `video_file`.",
    },
)


def video_file(**options: Any) -> gr.Video:
    """Return a `gr.Video` for files that `controlnext.video` reads and writes.

    Gradio would probe and convert files with a program of its own, which loses the recipe inside and fails without a
    sentence on files that are no videos.
    """
    return _VideoFile(**options)


# A new clip moves a slider's end while an event with the value from before may be on its way; Gradio would answer that
# with an error of its own. Numbers are checked where they are used.
_FreeSlider = ABCMeta.__new__(
    ComponentMeta,
    "FreeSlider",
    (gr.Slider,),
    {
        "preprocess": lambda self, payload: payload,
        "is_template": True,
        "__module__": __name__,
        "__doc__": "See `free_slider`.",
    },
)


def free_slider(minimum: float, maximum: float, **options: Any) -> gr.Slider:
    """Return a `gr.Slider` that hands over a value beyond its ends, too."""
    return _FreeSlider(minimum, maximum, **options)
