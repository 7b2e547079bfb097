"""The pose editor as a component: SVG and plain JavaScript in `gr.HTML`; its value is the JSON of a pose."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta

from controlnext.recipes.pose import check_pose
from controlnext.ui.shared import reported_errors
from controlnext.video.recording import MOST_MOMENTS

FOLDER = Path(__file__).parent

SCRIPTS = ("kinematics.js", "figures.js", "editor.js")
"""Parts of the script, in the order in which they build on each other."""


@cache
def read_part(name: str) -> str:
    """Return the text of a file of this folder."""
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def script() -> str:
    """Return the whole script: tables of joints and ready-made poses, then its parts."""
    tables = f"const SKELETON = {read_part('skeleton.json')};\nconst PRESETS = {read_part('presets.json')};\n"
    tables += f"const MOST_MOMENTS = {MOST_MOMENTS};\n"
    return tables + "\n".join(map(read_part, SCRIPTS))


def _checked(self: gr.HTML, payload: Any) -> str:  # noqa: ANN401 - whatever a client sent
    """Take what the browser sent, which may be anything.

    Raises:
        gr.Error: it is no pose; one sentence.
    """
    if payload in (None, ""):
        return ""
    with reported_errors():
        return check_pose(payload)


def _description(self: gr.HTML) -> dict[str, Any]:
    return {"type": "string", "description": "OpenPose JSON with its canvas size; empty where no pose is edited"}


# A subclass, since Gradio rebuilds a component from its class whenever an event leaves it unchanged; created without the
# last step of Gradio's metaclass, which would write a stub file next to this one.
PoseEditor = ABCMeta.__new__(
    ComponentMeta,
    "PoseEditor",
    (gr.HTML,),
    {
        "preprocess": _checked,
        "api_info": _description,
        "is_template": True,
        "__module__": __name__,
        "__doc__": "See `pose_editor`.",
    },
)


class Drags:
    """What answers an editor during a drag, past Gradio's events: each of those holds a large page up for too long.

    Attributes:
        answer: gets the editor's `channel`, the JSON of a pose and whether it is final, as a client sent them; returns `picture`, the
            address of what is to be shown now, and its `number`, which grows from picture to picture; nothing where the change is to go
            the usual way.
    """

    def __init__(self) -> None:
        """Answer nothing until `answer` is set."""
        self.answer: Callable[[object, object, object], dict[str, str | int]] = lambda channel, pose, final: {}

    def server_function(self) -> Callable[[Any], dict[str, str | int]]:
        """Return what the editor's script calls as `server.drag`."""

        def drag(message: Any) -> dict[str, str | int]:  # noqa: ANN401 - whatever a client sent
            sent = message if isinstance(message, Mapping) else {}
            return self.answer(sent.get("channel"), sent.get("pose"), sent.get("final"))

        return drag


def pose_editor(
    *, photo: str, drags: Drags | None = None, target: str = "", stage: str = "", switches: str = "", **options: Any
) -> gr.HTML:
    """Return a pose editor.

    Args:
        photo: CSS selector of the picture that is shown behind the figures, or a `data:` address of it.
        drags: what answers drags while the property `channel` is not empty; it is sent along.
        target: CSS selector of the `img` that shows the answers.
        stage: CSS selector of what holds it, also while there is none.
        switches: CSS selector of the checkbox that switches live pictures.
        **options: of `gr.HTML`.

    Returns:
        The component. Its value is a pose as `people_to_json` writes it, or empty. `input` tells every change, those during a
        drag as well where the property `live` is true; `release` tells those that are final. The property `drift` is JSON
        with the distance of each joint in the result, in figure heights, a list a person.
    """
    return PoseEditor(
        "",
        html_template=read_part("editor.html"),
        css_template=read_part("editor.css"),
        js_on_load=script(),
        apply_default_css=False,
        photo=photo,
        live=False,
        drift="",
        channel="",
        recording=False,
        target=target,
        stage=stage,
        switches=switches,
        server_functions=[drags.server_function()] if drags else None,
        **options,
    )
