"""The page: `build_ui(studio)` lays it out and connects it. It loads no model and imports no torch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import controlnext.quiet  # noqa: F401 - has to come before gradio

# isort: split
import gradio as gr

from controlnext.errors import ControlNeXtError
from controlnext.results.board import Board
from controlnext.ui.api import Endpoints
from controlnext.ui.board.events import BoardEvents
from controlnext.ui.board.made import MadeResults
from controlnext.ui.board.project_events import ProjectEvents
from controlnext.ui.board.strip import StripEvents, session_strip
from controlnext.ui.board.tab import build_board_tab
from controlnext.ui.examples import example_prompts
from controlnext.ui.header import build_header
from controlnext.ui.image.best_of_events import BestOfEvents
from controlnext.ui.image.doctor_events import DoctorEvents
from controlnext.ui.image.enhance_events import EnhanceEvents
from controlnext.ui.image.events import ImageEvents
from controlnext.ui.image.following_events import FollowingEvents
from controlnext.ui.image.live import LiveEvents
from controlnext.ui.image.lora_events import LoraEvents
from controlnext.ui.image.own_preset_events import OwnPresetEvents
from controlnext.ui.image.restore import Restore
from controlnext.ui.image.settings import ImageSettings
from controlnext.ui.image.sweep_events import SweepEvents
from controlnext.ui.image.tab import build_image_tab
from controlnext.ui.pose_editor.events import PoseEvents
from controlnext.ui.pose_editor.record import RecordEvents
from controlnext.ui.score_api import ScoreEndpoints
from controlnext.ui.shared import note_html
from controlnext.ui.status import build_status_tab
from controlnext.ui.steady import make_steady
from controlnext.ui.sweep_api import SweepEndpoints
from controlnext.ui.theme import TITLE, launch_options
from controlnext.ui.train.events import TrainEvents
from controlnext.ui.train.tab import ELSEWHERE, NOT_HERE, build_train_tab
from controlnext.ui.train.use import UseEvents
from controlnext.ui.trust.page import StudioPage
from controlnext.ui.video.api import VideoEndpoints
from controlnext.ui.video.character_events import CharacterEvents
from controlnext.ui.video.edit_pose_events import PoseEditEvents
from controlnext.ui.video.events import VideoEvents
from controlnext.ui.video.fit import FitEvents
from controlnext.ui.video.key_pose_events import KeyPoseEvents
from controlnext.ui.video.restore import VideoRestore
from controlnext.ui.video.tab import build_video_tab
from controlnext.ui.worker import Stream, VideoStream, stream_of, video_stream_of

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio
    from controlnext.training.runs.trainings import Trainings

__all__ = ["Page", "build_ui", "build_video", "launch_options"]

Page = gr.Blocks
"""What `build_ui` returns."""


def build_ui(
    studio: Studio,
    *,
    stream: Stream | None = None,
    video_stream: VideoStream | None = None,
    trainings: Trainings | None = None,
    local: bool = False,
    uploads: bool = True,
) -> Page:
    """Return the page, ready to be launched with `launch_options()`.

    Args:
        studio: Runs recipes and says what there is. Nothing is loaded here.
        stream: Runs a recipe in another way than in a thread of this process, such as on a borrowed GPU.
        video_stream: Makes videos in another way, likewise.
        trainings: Where trainings are and what starts them; without it the train tab says where training can be done.
        local: The page is served to this machine alone, so that a person may name folders of its disk.
        uploads: Visitors may add LoRAs to the library.
    """
    made = MadeResults()
    stream, video_stream = stream or stream_of(studio), video_stream or video_stream_of(studio)
    with StudioPage(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        build_header(page, studio)
        with gr.Tabs(elem_id="cnx-tabs") as tabs:
            with gr.Tab("Image", id="image"):
                tab = build_image_tab(studio)
                image = ImageEvents(tab, studio, stream, made)
                image.wire()
                settings = ImageSettings(image)
                settings.wire(page)
                OwnPresetEvents(tab.own, settings).wire(page)
                PoseEvents(image).wire()
                LiveEvents(image).wire()
                BestOfEvents(tab.best, image).wire()
                EnhanceEvents(tab, image).wire()
                sweep = SweepEvents(tab.sweep, image)
                sweep.wire()
                FollowingEvents(tab, studio).wire()
                DoctorEvents(tab, studio).wire()
                restore = Restore(tab, studio, example_prompts())
                restore.wire()
                LoraEvents(tab, studio).wire(uploads=uploads)
            with gr.Tab("Video", id="video"):
                video = None
                try:
                    video = build_video(studio, video_stream, made)
                    character = CharacterEvents(video.tab, studio, stream, made)
                    character.wire()
                    page.stop_when_gone(video.events.runs, character.runs)
                    KeyPoseEvents(video.tab.keys, video.fit, image.tab, tabs).wire()
                    RecordEvents(image, video.fit, tabs).wire()
                except ControlNeXtError as error:
                    gr.HTML(note_html(str(error)))
            with gr.Tab("Results", id="results") as results:
                board = BoardEvents(build_board_tab(), Board(studio.gallery), made, local=local)
                board.wire(results, tabs, sweep, restore, video.restore if video else None)
                projects = ProjectEvents(board, studio, stream)
                projects.wire()
            with gr.Tab("Train", id="train") as train:
                if trainings is None:
                    gr.Markdown(ELSEWHERE if local else NOT_HERE, elem_id="cnx-train-elsewhere")
                else:
                    tab = build_train_tab(studio, local=local)
                    TrainEvents(tab, studio, trainings).wire(page, train)
                    UseEvents(tab, studio, trainings, image, local=local).wire(page, tabs)
            with gr.Tab("What works here", id="status") as status:
                build_status_tab(status, studio)
        strip = StripEvents(session_strip(), board)
        made_now = [image.tab.files, image.tab.sweep.cells, *([video.tab.files] if video else []), board.tab.names]
        strip.wire(page, made_now, tabs)
        endpoints = (
            Endpoints(studio, stream), VideoEndpoints(studio, video_stream), SweepEndpoints(studio, stream),
            ScoreEndpoints(studio, stream),
        )  # fmt: skip
        for one in endpoints:
            one.publish()
        page.stop_when_gone(image.runs, sweep.runs, projects.runs, *(one.runs for one in endpoints))
    make_steady(page)
    return page


def build_video(studio: Studio, stream: VideoStream | None = None, made: MadeResults | None = None) -> SimpleNamespace:
    """Lay the video tab out and connect it; must be called inside a `gr.Blocks` context. Arguments as of `build_ui`.

    Returns:
        Its `tab`, and its handlers `restore`, `fit` and `events`.

    Raises:
        ControlNeXtError: the studio makes no videos.
    """
    tab, clips = build_video_tab(studio), {}
    restore = VideoRestore(tab, studio, clips)
    fit = FitEvents(tab, studio, restore)
    events = VideoEvents(tab, studio, fit, clips, stream or video_stream_of(studio), made)
    for part in (restore, fit, events, PoseEditEvents(tab.edit, fit)):
        part.wire()
    return SimpleNamespace(tab=tab, restore=restore, fit=fit, events=events)
