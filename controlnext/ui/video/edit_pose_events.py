"""Handlers of the pose editor of the video tab: one frame's pose is opened, kept, or given back."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.errors import ControlNeXtError
from controlnext.recipes.video_recipe import MOST_EDITS, PoseEdit, VideoRecipe
from controlnext.ui.pose_editor.poses import editable_pose, standing_pose
from controlnext.ui.shared import PRIVATE, Data, Updates, reported_errors
from controlnext.video.edits import frame_of

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from controlnext.animation.driving_clip import DrivingClip
    from controlnext.ui.video.edit_pose import PoseEditArea
    from controlnext.ui.video.fit import FitEvents

STILL_HEIGHT = 110


class NoFrameError(ControlNeXtError):
    """A pose was to be edited where there is no frame to edit."""


class PoseEditEvents:
    """The handlers of the area."""

    def __init__(self, area: PoseEditArea, fit: FitEvents) -> None:
        """Remember the parts; `wire` connects them."""
        self.area, self.fit = area, fit

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        area, tab = self.area, self.fit.tab
        frame = {area.overlay, area.group, area.open}
        area.open.click(self.open, {tab.frame, tab.opened, area.edits}, frame | {area.title, area.editor, area.time, area.ease}, **PRIVATE)  # fmt: skip
        inputs = {area.editor, area.ease, area.time, area.edits, tab.person}
        area.keep.click(self.keep, inputs, frame | {area.edits}, **PRIVATE)
        area.own.click(self.take_back, inputs, frame | {area.edits}, queue=False, **PRIVATE)
        area.cancel.click(lambda: area.shown(False), None, frame, queue=False, **PRIVATE)
        tab.opened.change(lambda: area.shown(False), None, frame, queue=False, **PRIVATE)

    def open(self, data: Data, request: gr.Request) -> Updates:
        """Show the editor with the pose of the frame that is shown."""
        area, tab, driving = self.area, self.fit.tab, self.fit.shown.get(request.session_hash or "")
        with reported_errors():
            if driving is None:
                raise NoFrameError("Add a clip first, and wait until its poses are read: then a frame can be edited.")
            index = int(min(max(data[tab.frame] or 0, 0), len(driving) - 1))
            tools, time = self.fit.studio.annotators, driving.plan.cut.start + index / driving.fps
            found = driving.poses.data(index)
            pose = editable_pose(tools, found) if found["people"] else standing_pose(tools, *driving.size)
            still = self.fit.studio.animator.clip_reader.still(data[tab.opened], driving.choice, index)
            before = next((row for row in data[area.edits] if _is_at(row, time, driving)), None)
        return area.shown(True) | {
            area.title: title_html(index, time, still),
            area.editor: gr.update(value=pose, photo=_address(driving.reference)),
            area.time: time,
            area.ease: before["ease"] if before else gr.skip(),
        }

    def keep(self, data: Data, request: gr.Request) -> Updates:
        """Put the pose of the editor into the sequence."""
        area, tab = self.area, self.fit.tab
        edit = {
            "time": data[area.time], "person": data[tab.person] or 0, "ease": data[area.ease], "pose": data[area.editor]
        }  # fmt: skip
        with reported_errors():
            edits = [*self._others(data, request), edit]
            if len(edits) > MOST_EDITS:
                raise NoFrameError(f"At most {MOST_EDITS} frames can be edited: take the clip's own pose for others.")
            edits = VideoRecipe(edits=edits).model_dump(mode="json")["edits"]
        return area.shown(False) | {area.edits: edits}

    def take_back(self, data: Data, request: gr.Request) -> Updates:
        """Take the clip's own pose for this frame."""
        return self.area.shown(False) | {self.area.edits: self._others(data, request)}

    def _others(self, data: Data, request: gr.Request) -> list[dict[str, Any]]:
        """The edits of all other frames, and of other people."""
        driving, time = self.fit.shown.get(request.session_hash or ""), data[self.area.time]
        return [row for row in data[self.area.edits] if driving is None or not _is_at(row, time, driving)]


def title_html(index: int, time: float, still: np.ndarray) -> str:
    """Return which frame is edited, next to what the clip shows there."""
    from PIL import Image

    picture = Image.fromarray(still)
    picture.thumbnail((4 * STILL_HEIGHT, 2 * STILL_HEIGHT))
    said = f"Frame {index}, at {time:.2f} s"
    return (
        f"<div class='cnx-edit-title'><img src='{_address(picture)}' alt='{escape('The clip at this frame')}' "
        f"height='{STILL_HEIGHT}'><p>{escape(said)}</p></div>"
    )


def _is_at(row: dict[str, Any], time: float, driving: DrivingClip) -> bool:
    """Whether an edit is one of the frame at a time, and of the person who is followed."""
    at, track = PoseEdit(**row), driving.track
    same = frame_of(track, at) == frame_of(track, at.model_copy(update={"time": time}))
    return same and at.person == driving.choice.person and frame_of(track, at) is not None


def _address(picture: Image.Image | None) -> str:
    if picture is None:
        return ""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
