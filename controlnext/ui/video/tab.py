"""Layout of the video tab: character and clip, fit and parameters, result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.animation.choice import Choice
from controlnext.recipes.recipe import MAX_LORAS
from controlnext.recipes.video_recipe import VIDEO_LIMITS
from controlnext.ui.examples import video_examples
from controlnext.ui.image.area import AreaPanel, area_panel
from controlnext.ui.image.tab import GAMMA_MAXIMUM, GUIDANCE_MAXIMUM, STEPS_MAXIMUM
from controlnext.ui.models import model_choices, model_info
from controlnext.ui.shared import heading, note_html, picture_input
from controlnext.ui.sizes import size_choices
from controlnext.ui.video.character import CharacterArea, character_area
from controlnext.ui.video.edit_pose import OVERLAY, PoseEditArea, pose_edit_area
from controlnext.ui.video.key_poses import KeyPoseArea, key_pose_area
from controlnext.ui.video.player import hand_over
from controlnext.ui.video.widgets import free_slider, video_file

if TYPE_CHECKING:
    from controlnext.recipes.video_recipe import VideoRecipe
    from controlnext.studio.studio import Studio

PAIR_HEIGHT = 230
OVERLAY_HEIGHT = 320
STAGE_HEIGHT = 400
FPS_MAXIMUM = 30
FRAMES_MAXIMUM = 480
FEW_FRAMES = 48
"""Frames at most until a person says otherwise: a few seconds, which a processor draws in minutes."""

LIKE_REFERENCE = "auto"
"""The size that is chosen by the reference's shape."""

VIEWS: Mapping[str, str] = {"file": "Video", "beside": "Side by side", "poses": "Poses"}
"""Files of a result as `VideoResult` names them, and as the page does."""

CHOICE = tuple(Choice.__dataclass_fields__.keys() - {"reader"})
RUN = (
    "prompt", "gamma", "num_inference_steps", "guidance_scale", "keep_sound", "window", "overlap", "motion_bucket_id",
    "noise_aug_strength", "shared_noise", "micro_conditioning", "loras",
)  # fmt: skip
"""Fields of a recipe that have a component each: what is chosen about the clip, and the rest."""

EMPTY = (
    "<div class='cnx-empty'><svg viewBox='0 0 64 64' fill='none' stroke='currentColor' stroke-width='2.5' stroke-linecap='round' "
    "stroke-linejoin='round'><rect x='6' y='12' width='52' height='40' rx='7'/><path d='M27 24v16l13-8z'/></svg>"
    "<p>Your video appears here:<br>the character of the picture, moving as in the clip.</p></div>"
)
START = "Add a picture of a character and a clip of somebody who moves: both skeletons appear here, before any work begins."


@dataclass(frozen=True)
class VideoTab:
    """The components of the tab; `VideoEvents`, `FitEvents` and `VideoRestore` connect them.

    Attributes:
        moving: takes clips that the player cannot show as they are, handed over by the page.
        opened: path of the clip that could be opened; empty where there is none.
        seconds: its length.
        edit: the pose editor for one frame.
        restored: digest of the clip that values were put back for, until it is open; else empty.
        files: the result's files by the names of `VIEWS`.
        examples: gallery of characters, each with a clip; `None` when there are none.
    """

    reference: gr.Image
    clip: gr.Video
    moving: gr.File
    examples: gr.Gallery | None
    character: CharacterArea
    strip: gr.HTML
    start: gr.Slider
    end: gr.Slider
    fps: gr.Slider
    max_frames: gr.Slider
    people: gr.Gallery
    person: gr.Radio
    fit: gr.Checkbox
    limbs: gr.Checkbox
    smooth: gr.Checkbox
    follow: gr.Checkbox
    hands: gr.Checkbox
    face: gr.Checkbox
    keep_sound: gr.Checkbox
    overlay: gr.Image
    legend: gr.HTML
    sure: gr.HTML
    frame: gr.Slider
    edit: PoseEditArea
    keys: KeyPoseArea
    area: AreaPanel
    notes: gr.HTML
    reading: gr.HTML
    prompt: gr.Textbox
    loras: gr.Dropdown
    gamma: gr.Slider
    steps: gr.Slider
    guidance: gr.Slider
    seed: gr.Number
    dice: gr.Button
    new_seed: gr.Checkbox
    model: gr.Dropdown
    size: gr.Dropdown
    window: gr.Slider
    overlap: gr.Slider
    motion_bucket_id: gr.Slider
    noise_aug_strength: gr.Slider
    shared_noise: gr.Slider
    micro_conditioning: gr.Checkbox
    animate: gr.Button
    stop: gr.Button
    empty: gr.HTML
    preview: gr.Image
    video: gr.Video
    view: gr.Radio
    progress: gr.HTML
    summary: gr.HTML
    recipe: gr.JSON
    save_video: gr.DownloadButton
    save_recipe: gr.DownloadButton
    restore: gr.UploadButton
    opened: gr.State
    seconds: gr.State
    restored: gr.State
    files: gr.State

    def part(self, name: str) -> gr.components.Component:
        """Return the component that shows a field of the recipe."""
        if name == "edits":
            return self.edit.edits
        return getattr(self, {"num_inference_steps": "steps", "guidance_scale": "guidance"}.get(name, name))

    def fit_inputs(self) -> set[gr.components.Component]:
        """Return everything that the fit depends on."""
        return {self.reference, self.opened, self.seconds, self.model, self.size, *(self.part(name) for name in CHOICE)}  # fmt: skip

    def inputs(self) -> set[gr.components.Component]:
        """Return everything that a video depends on."""
        own = {self.seed, self.new_seed, *(self.part(name) for name in RUN)}
        return self.fit_inputs() | own | self.area.inputs()


def build_video_tab(studio: Studio) -> VideoTab:
    """Lay the tab out; must be called inside a `gr.Blocks` context.

    Raises:
        ControlNeXtError: the studio makes no videos.
    """
    rows = studio.animator.models()
    row = next((row for row in rows if row["usable"]), rows[0])
    recipe = studio.animator.resolve(row["name"])
    parts: dict[str, Any] = {}
    with gr.Row(elem_classes="cnx-columns", equal_height=False):
        with gr.Column(scale=4, min_width=330, elem_classes="cnx-panel"):
            parts |= _left(recipe)
        with gr.Column(scale=4, min_width=330, elem_classes="cnx-panel"):
            parts |= _middle(rows, row, recipe, lora_names(studio, row))
        with gr.Column(scale=5, min_width=330, elem_classes="cnx-panel"):
            parts |= _right()
    states = {"opened": gr.State(""), "seconds": gr.State(0.0), "restored": gr.State(""), "files": gr.State({})}
    return VideoTab(**parts, **states)


def _left(recipe: VideoRecipe) -> dict[str, Any]:
    heading(1, "Character and clip", "who, and how it moves")
    with gr.Row(elem_classes="cnx-pair", equal_height=True):
        reference = picture_input(
            label="Character", sources=["upload", "clipboard"], height=PAIR_HEIGHT, buttons=["fullscreen"],
            elem_id="cnx-reference", elem_classes="cnx-frame", placeholder="Drop a picture\n\nof the character",
        )  # fmt: skip
        clip = video_file(
            label="Clip: video or GIF", sources=["upload", "webcam"], height=PAIR_HEIGHT, buttons=[], elem_id="cnx-clip",
            elem_classes="cnx-frame", webcam_options=gr.WebcamOptions(mirror=False),
        )  # fmt: skip
    examples = None
    if found := video_examples():
        examples = gr.Gallery(
            [str(picture) for picture, _ in found], columns=max(6, len(found)), rows=1, height=58, allow_preview=False,
            object_fit="cover", show_label=False, container=False, interactive=False, buttons=[],
            elem_id="cnx-video-examples", elem_classes="cnx-thumbs",
        )  # fmt: skip
    character = character_area()
    moving = gr.File(file_count="multiple", visible="hidden", label="Clips that are not played", elem_id="cnx-moving")
    strip = gr.HTML(elem_id="cnx-strip", js_on_load=hand_over("cnx-clip", "cnx-moving"))
    with gr.Group(elem_classes="cnx-settings", elem_id="cnx-cut"):
        start = free_slider(0, 10, value=0, step=0.01, label="Start (s)", elem_id="cnx-clip-start")
        end = free_slider(0, 10, value=10, step=0.01, label="End (s)", elem_id="cnx-clip-end")
        fps = free_slider(
            0, FPS_MAXIMUM, value=0, step=1, label="Tempo (fps)", elem_id="cnx-fps",
            info="Frames a second of the video; 0 keeps the clip's own. It moves as fast as the clip in any case.",
        )  # fmt: skip
        max_frames = free_slider(
            0, FRAMES_MAXIMUM, value=FEW_FRAMES, step=1, label="Most frames", elem_id="cnx-max-frames",
            info="The length of the video; 0 takes the whole part between start and end.",
        )  # fmt: skip
    people = gr.Gallery(
        columns=8, rows=1, height=84, allow_preview=False, object_fit="cover", show_label=False, container=False,
        interactive=False, buttons=[], visible=False, elem_id="cnx-people", elem_classes="cnx-thumbs",
    )  # fmt: skip
    person = gr.Radio(
        [("1", 0)], value=0, label="Person", visible=False, elem_id="cnx-person", elem_classes="cnx-inline"
    )
    with gr.Group(elem_classes="cnx-settings", elem_id="cnx-switches"):
        fit = gr.Checkbox(
            True, label="Fit to the character", info="Place and scale the poses as the character stands."
        )
        limbs = gr.Checkbox(False, label="Character's own limbs", info="Keep the character's proportions, too.")
        smooth = gr.Checkbox(True, label="Smooth", info="Take the jitter out of the poses.")
        follow = gr.Checkbox(False, label="Follow", info="Keep a person who crosses the clip in the picture.")
        keep_sound = gr.Checkbox(True, label="Keep the sound", info="The clip's sound, cut as the clip is.")
        hands = gr.Checkbox(recipe.hands, label="Hands", info="Read and draw the fingers, where a reader can.")
        face = gr.Checkbox(recipe.face, label="Face", info="Read and draw the face, where a reader can.")
    return {
        "reference": reference, "clip": clip, "moving": moving, "examples": examples, "character": character, "strip": strip, "start": start, "end": end, "fps": fps,
        "max_frames": max_frames, "people": people, "person": person, "fit": fit, "limbs": limbs, "smooth": smooth,
        "follow": follow, "keep_sound": keep_sound, "hands": hands, "face": face,
    }  # fmt: skip


def _middle(
    rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any], recipe: VideoRecipe, loras: Sequence[str]
) -> dict[str, Any]:
    heading(2, "Fit", "the clip's poses on the character")
    parts: dict[str, Any] = {}
    parts["overlay"] = gr.Image(
        label="Both skeletons", show_label=False, interactive=False, height=OVERLAY_HEIGHT, format="webp",
        buttons=["fullscreen"], elem_id="cnx-overlay", elem_classes=OVERLAY,
    )  # fmt: skip
    parts["legend"] = gr.HTML(elem_id="cnx-legend")
    parts["reading"] = gr.HTML(elem_id="cnx-reading")
    parts["sure"] = gr.HTML(elem_id="cnx-sure")
    parts["frame"] = free_slider(0, 1, value=0, step=1, label="Frame", interactive=False, elem_id="cnx-frame-number")
    parts["edit"] = pose_edit_area(parts["overlay"])
    parts["notes"] = gr.HTML(note_html(START, "quiet"), elem_id="cnx-notes")
    parts["keys"] = key_pose_area()
    parts["area"] = area_panel(0, "cnx-video-area")
    parts["gamma"] = gr.Slider(
        0, GAMMA_MAXIMUM, value=recipe.gamma, step=0.05, label="Control strength (gamma)", info=pose_strength_info(recipe.gamma),
        elem_id="cnx-video-gamma",
    )  # fmt: skip
    with gr.Row():
        parts["steps"] = gr.Slider(
            1, STEPS_MAXIMUM, value=recipe.num_inference_steps, step=1, label="Steps", min_width=120, elem_id="cnx-video-steps"
        )  # fmt: skip
        parts["guidance"] = gr.Slider(
            1, GUIDANCE_MAXIMUM, value=recipe.guidance_scale, step=0.1, label="Guidance", min_width=120,
            elem_id="cnx-video-guidance",
        )  # fmt: skip
    with gr.Row(elem_classes="cnx-seed"):
        parts["seed"] = gr.Number(
            recipe.seed, label="Seed", precision=0, elem_id="cnx-video-seed", scale=3, min_width=110
        )
        parts["dice"] = gr.Button(
            "⚄", size="md", scale=0, min_width=44, elem_id="cnx-video-dice", elem_classes="cnx-dice"
        )
        parts["new_seed"] = gr.Checkbox(
            True, label="New each time", container=False, scale=2, min_width=120, elem_id="cnx-video-new-seed",
            elem_classes="cnx-new-seed",
        )  # fmt: skip
    parts["model"] = gr.Dropdown(
        model_choices(rows), value=row["name"], label="Model", info=model_info(row), elem_id="cnx-video-model"
    )
    parts["prompt"] = gr.Textbox(
        label="Words", lines=2, visible=row["frame_by_frame"], elem_id="cnx-video-prompt",
        placeholder="empty describes the character by its colours",
    )  # fmt: skip
    parts["loras"] = gr.Dropdown(
        loras, value=[use.name for use in recipe.loras], multiselect=True, max_choices=MAX_LORAS, label="Styles (LoRA)",
        visible=row["frame_by_frame"], elem_id="cnx-video-loras",
    )  # fmt: skip
    with gr.Accordion("More", open=False, elem_classes="cnx-fold", elem_id="cnx-video-more"):
        parts["size"] = gr.Dropdown(
            video_sizes(row["sizes"]), value=LIKE_REFERENCE, label="Size", elem_id="cnx-video-size"
        )
        parts |= _windows(recipe)
    return parts


def lora_names(studio: Studio, row: Mapping[str, Any]) -> list[str]:
    """Return the LoRAs that a model of the tab can use: none for those that draw all frames together."""
    rows = studio.catalogue.loras(row["name"]) if row["frame_by_frame"] else ()
    return [lora["name"] for lora in rows if lora["usable"]]


def video_sizes(sizes: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the choices of the size: what goes with the reference, or one of the model's."""
    return [("As the character's picture", LIKE_REFERENCE), *size_choices(sizes)[:-1]]


def pose_strength_info(default: float) -> str:
    """Return the line under the gamma slider."""
    return f"0 leaves the poses unheard. Default here: {default:g}"


def _windows(recipe: VideoRecipe) -> dict[str, Any]:
    def slider(name: str, label: str, info: str, step: float = 1) -> gr.Slider:
        limit = VIDEO_LIMITS[name]
        return gr.Slider(
            limit.minimum, limit.maximum, value=getattr(recipe, name), step=step, label=label, info=info, min_width=120
        )

    with gr.Row():
        window = slider("window", "Window", "Frames that are drawn at once.")
        overlap = slider("overlap", "Overlap", "Frames that two windows share.")
    with gr.Row():
        motion = slider("motion_bucket_id", "Motion", "How much motion the model is asked for.")
        noise = slider("noise_aug_strength", "Noise", "More keeps less of the character.", 0.01)
    shared = slider(
        "shared_noise", "Shared noise", "More keeps the background steadier; 0 is what SVD was made for.", 0.05
    )
    micro_conditioning = gr.Checkbox(
        True, label="Pass tempo, motion and noise to the model", info="Off is as in the released code, which ignores them."
    )  # fmt: skip
    return {
        "window": window, "overlap": overlap, "motion_bucket_id": motion, "noise_aug_strength": noise,
        "shared_noise": shared, "micro_conditioning": micro_conditioning,
    }  # fmt: skip


def _right() -> dict[str, Any]:
    heading(3, "Video")
    with gr.Row(elem_classes="cnx-actions"):
        animate = gr.Button("Animate", variant="primary", size="lg", scale=3, min_width=120, elem_id="cnx-animate")
        stop = gr.Button(
            "Stop", variant="stop", size="lg", scale=1, min_width=70, interactive=False, elem_id="cnx-video-stop"
        )
    with gr.Column(elem_classes="cnx-stage", elem_id="cnx-video-stage"):
        empty = gr.HTML(EMPTY)
        preview = gr.Image(
            label="Preview", show_label=False, interactive=False, visible=False, height=STAGE_HEIGHT, buttons=[],
            format="webp", elem_id="cnx-video-preview", elem_classes="cnx-frame",
        )  # fmt: skip
        video = video_file(
            label="Video", show_label=False, interactive=False, visible=False, height=STAGE_HEIGHT, autoplay=True, loop=True,
            buttons=["download"], elem_id="cnx-video", elem_classes="cnx-frame",
        )  # fmt: skip
    view = gr.Radio(
        [(label, name) for name, label in VIEWS.items()], value="file", show_label=False, label="View", container=False,
        visible=False, elem_id="cnx-view", elem_classes="cnx-segments",
    )  # fmt: skip
    progress = gr.HTML(elem_id="cnx-video-progress")
    summary = gr.HTML(elem_id="cnx-video-summary")
    with gr.Row(elem_classes="cnx-tight"):
        save_video = gr.DownloadButton(
            "Save video", size="md", interactive=False, min_width=90, elem_id="cnx-save-video"
        )
        save_recipe = gr.DownloadButton(
            "Save recipe", size="md", interactive=False, min_width=90, elem_id="cnx-save-video-recipe"
        )
        restore = gr.UploadButton(
            "Restore …", size="md", file_types=[".mp4"], min_width=90, elem_id="cnx-video-restore"
        )
    with gr.Accordion("Recipe", open=False, elem_classes="cnx-fold", elem_id="cnx-video-recipe"):
        recipe = gr.JSON(show_label=False, container=False, max_height=360)
    return {
        "animate": animate, "stop": stop, "empty": empty, "preview": preview, "video": video, "view": view,
        "progress": progress, "summary": summary, "recipe": recipe, "save_video": save_video, "save_recipe": save_recipe,
        "restore": restore,
    }  # fmt: skip
