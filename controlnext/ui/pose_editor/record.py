"""Recording in the pose editor: the poses of drags and key poses become a clip for the video tab."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from controlnext.recipes.pictures import fit_box
from controlnext.recipes.pose import check_pose, pose_size
from controlnext.ui.shared import PRIVATE, Update, open_picture, reported_errors, served_text
from controlnext.video.ffmpeg import VideoError
from controlnext.video.poses import Poses, people_array
from controlnext.video.recording import MOST_MOMENTS, Moment, pose_sequence

if TYPE_CHECKING:
    from controlnext.ui.image.events import ImageEvents
    from controlnext.ui.video.fit import FitEvents

MOMENTS = "window.cnxMoments || []"
"""JavaScript for what the editor has recorded: time in seconds and pose, `MOST_MOMENTS` at most."""

KEEP: dict[str, Any] = {"concurrency_id": "record", "concurrency_limit": 4}


class RecordEvents:
    """The handlers of a recording, from the editor of the image tab to the clip of the video tab."""

    def __init__(self, image: ImageEvents, fit: FitEvents, tabs: gr.Tabs) -> None:
        """Remember the parts; `wire` connects them."""
        self.image, self.fit, self.tabs = image, fit, tabs
        self.panel = image.tab.pose

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the page."""
        panel, video = self.panel, self.fit.tab
        panel.record.input(self.switch, panel.record, [panel.editor, panel.animate], queue=False, **PRIVATE)
        panel.editor.release(
            self.count, [panel.record, panel.count], panel.animate, trigger_mode="always_last", queue=False,
            js=f"on => [on, ({MOMENTS}).length]", **PRIVATE,
        )  # fmt: skip
        panel.animate.click(
            self.hand_over, [panel.moments, video.reference, self.image.tab.picture, self.image.tab.ready_map],
            [video.clip, video.restored, video.reference, self.tabs], js=f"(_, ...rest) => [{MOMENTS}, ...rest]", **KEEP, **PRIVATE,
        )  # fmt: skip

    def switch(self, on: bool) -> list[Any]:
        """Begin a new recording with the pose that is there, or end it; the editor itself keeps the poses."""
        return [gr.update(recording=on), named(0) if on else gr.skip()]

    def count(self, on: bool, count: float | None) -> Update:
        """Say how many poses were recorded."""
        return named(int(count or 0)) if on else gr.skip()

    def hand_over(
        self, moments: list[Any] | None, reference: str | None, picture: str | None, ready: bool
    ) -> list[Any]:
        """Hand the recording to the video tab, with the picture as its character where there is none yet."""
        character = reference or (None if ready else picture)
        with reported_errors():
            poses = self.sequence(moments, character)
            clip = served_text(poses.to_json(), "recording.json", self.fit.tab.moving)
            shown = self.fit.players.stand_in(self._drawn(poses), poses.fps, clip)
        return [shown, "", character if character != reference else gr.skip(), gr.Tabs(selected="video")]

    def sequence(self, moments: list[Any] | None, character: str | None) -> Poses:
        """Return the poses of a recording, which begin in the character's own pose.

        Args:
            moments: times in seconds and poses, as a client sent them.
            character: path of its picture.

        Raises:
            ControlNeXtError: there are too few poses, they are none, or the character cannot be read.
        """
        annotators = self.image.studio.annotators
        moments = [check_moment(moment) for moment in (moments or [])[:MOST_MOMENTS]]
        read: list[Moment] = [(at, people_array(annotators.people_from_json(pose))) for at, pose in moments]
        width, height = pose_size(moments[0][1]) if moments else (1, 1)
        own = None if character is None else self._own(character, width, height)
        return pose_sequence(read, height, width, own)

    def _drawn(self, poses: Poses) -> Iterator[np.ndarray]:
        for index in range(len(poses)):
            yield np.asarray(self.image.studio.annotators.draw_pose(poses.data(index)).image)

    def _own(self, character: str, width: int, height: int) -> np.ndarray | None:
        """Return the pose of the character (128, 3) on the canvas; None where nobody is found."""
        picture = open_picture(self.image.studio.annotators, character)
        figure = self.fit.studio.animator.clip_reader.figure(picture)
        if not figure[:, 2].any():
            return None
        left, top, inner, high = fit_box(picture.size, width, height)
        return figure * (inner / picture.width, high / picture.height, 1.0) + (left, top, 0.0) * (figure[:, 2:] > 0)


def check_moment(moment: object) -> tuple[float, str]:
    """Return time and checked pose of a moment.

    Raises:
        VideoError: it is no pair of a time and a pose.
        RecipeError: the pose is none.
    """
    match moment:
        case [int() | float() as at, str() as pose] if not isinstance(at, bool):
            return float(at), check_pose(pose)
    raise VideoError("The recording cannot be read: record it again.")


def named(count: int) -> dict[str, Any]:
    """Return the update of the button that animates a recording of so many poses."""
    return gr.update(value=f"Animate {count} poses" if count > 1 else "Animate", interactive=count > 1)
