"""Handlers of the key poses of a clip: a sheet, each pose sendable to the pose editor of the image tab."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.errors import ControlNeXtError
from controlnext.recipes.kinds import POSE
from controlnext.ui.pose_editor.poses import editable_pose
from controlnext.ui.shared import PRIVATE, Updates, note_html, reported_errors, served_text
from controlnext.video.key_poses import key_poses
from controlnext.video.poses import BODY

if TYPE_CHECKING:
    from controlnext.ui.image.tab import ImageTab
    from controlnext.ui.video.fit import FitEvents
    from controlnext.ui.video.key_poses import KeyPoseArea


class NoClipError(ControlNeXtError):
    """Key poses were asked for without a clip."""


class KeyPoseEvents:
    """The handlers of the area."""

    def __init__(self, area: KeyPoseArea, fit: FitEvents, image: ImageTab, tabs: gr.Tabs) -> None:
        """Remember the parts; `wire` connects them.

        Args:
            area: the components.
            fit: knows the clip that each page shows.
            image: the tab whose editor takes a pose.
            tabs: where that tab is opened.
        """
        self.area, self.fit, self.image, self.tabs = area, fit, image, tabs

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the page."""
        area, image = self.area, self.image
        shown = {area.sheet, area.save, area.note, area.poses}
        area.make.click(self.make, area.count, shown, **PRIVATE)
        self.fit.tab.opened.change(self.clear, None, shown, queue=False, **PRIVATE)
        panel = image.pose
        sent = {panel.editor, panel.pair, panel.open, panel.group, image.annotator, image.ready_map, self.tabs}
        area.sheet.select(self.send, area.poses, sent, queue=False, **PRIVATE)

    def make(self, count: int, request: gr.Request) -> Updates:
        """Show the key poses of the clip as it is cut now."""
        area, driving = self.area, self.fit.shown.get(request.session_hash or "")
        with reported_errors():
            if driving is None:
                raise NoClipError(
                    "Add a clip first, and wait until its poses are read: then its key poses can be shown."
                )
            frames = key_poses(driving.track.points[:, BODY], int(count))
            if not frames:
                raise NoClipError("Nobody is seen in this part of the clip, so there are no key poses.")
            tools = self.fit.studio.annotators
            poses = [editable_pose(tools, driving.poses.data(frame)) for frame in frames]
            start = driving.plan.cut.start
            pictures = [(driving.control(frame).image, f"{start + frame / driving.fps:.2f} s") for frame in frames]
            data = [
                {"time": start + frame / driving.fps, **json.loads(pose)}
                for frame, pose in zip(frames, poses, strict=True)
            ]
            file = served_text(json.dumps(data), "key-poses.json", area.save)
        return {
            area.sheet: gr.update(value=pictures, visible=True),
            area.save: gr.update(value=file, visible=True),
            area.note: note_html(f"{len(frames)} poses. Click one to edit it in the image tab.", "quiet"),
            area.poses: poses,
        }

    def clear(self) -> Updates:
        """Take the poses of another clip away."""
        area = self.area
        return {
            area.sheet: gr.update(value=[], visible=False), area.save: gr.update(visible=False), area.note: "", area.poses: [],
        }  # fmt: skip

    def send(self, poses: list[str], event: gr.SelectData) -> dict[Any, Any]:
        """Open the pose that was clicked in the editor."""
        with reported_errors():
            if not 0 <= event.index < len(poses):
                raise NoClipError("These are the poses of another clip: show its key poses again.")
        panel, image = self.image.pose, self.image
        return panel.shown(True) | {
            panel.editor: poses[event.index], image.annotator: POSE, image.ready_map: False, self.tabs: gr.Tabs(selected="image"),
        }  # fmt: skip
