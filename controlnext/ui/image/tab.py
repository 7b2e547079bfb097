"""Layout of the image tab: picture and condition, prompt and parameters, results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.method.gamma import EXAMPLES
from controlnext.recipes.kinds import KINDS, READY_MADE, kind_of
from controlnext.recipes.limits import LIMITS
from controlnext.recipes.schedulers import SCHEDULERS
from controlnext.studio.conditions import LARGEST_MAP, SMALLEST_MAP, map_resolution
from controlnext.ui.examples import example_pictures
from controlnext.ui.image.area import AreaPanel, area_panel
from controlnext.ui.image.best_of import BestOfArea, best_of_area
from controlnext.ui.image.conditions import (
    SettingsPanel,
    settings_panel,
)
from controlnext.ui.image.contact_sheet import ContactSheet, contact_sheet
from controlnext.ui.image.controls import ControlRow, control_rows
from controlnext.ui.image.curve import curve_svg
from controlnext.ui.image.doctor import DoctorPanel, doctor_panel
from controlnext.ui.image.enhance import EnhanceArea, enhance_area
from controlnext.ui.image.following import FollowingPanel, following_panel
from controlnext.ui.image.loras import LoraArea, build_lora_area
from controlnext.ui.image.own_presets import OwnPresetArea, own_preset_area
from controlnext.ui.image.reference import ReferencePanel, reference_panel
from controlnext.ui.image.start_picture import StartPanel, start_panel
from controlnext.ui.image.sweep import SweepArea, sweep_area
from controlnext.ui.models import model_choices, model_info
from controlnext.ui.pose_editor.panel import PosePanel, build_pose_panel
from controlnext.ui.shared import heading, note_html, picture_input
from controlnext.ui.sizes import NEAREST, picture_size_choices

if TYPE_CHECKING:
    from controlnext.recipes.recipe import Recipe
    from controlnext.studio.protocols import Annotators
    from controlnext.studio.studio import Studio

GAMMA_MAXIMUM = 2.0
STEPS_MAXIMUM = 50
GUIDANCE_MAXIMUM = 15.0
"""Ends of the sliders; a restored recipe may go beyond them, up to `LIMITS`."""

OWN_SAMPLER = "model's own"
SEED_MAXIMUM = 2**32 - 1
STAGE_HEIGHT = 480
PAIR_HEIGHT = 270

EMPTY = (
    "<div class='cnx-empty'><svg viewBox='0 0 64 64' fill='none' stroke='currentColor' stroke-width='2.5' stroke-linecap='round'>"
    "<rect x='6' y='10' width='52' height='44' rx='7'/><circle cx='32' cy='22' r='4'/><path d='M32 26v13M32 39l-7 10M32 39l7 10M20 28l12 3 12-5'/>"
    "</svg><p>Your pictures appear here,<br>in the pose and shape of the picture on the left.</p></div>"
)


@dataclass(frozen=True)
class ImageTab:
    """The components of the tab; `image_events.wire` connects them.

    Attributes:
        panels: The settings of each annotator, by its name.
        loras: Dropdown and weight of each row of `lora_area`.
        examples: Gallery of example pictures; `None` when there are none.
        controls: Rows of the controls after the first.
        start: The picture to start from.
        pose: The editor of the first condition's pose.
    """

    pose: PosePanel
    picture: gr.Image
    condition: gr.Image
    annotator: gr.Radio
    doctor: DoctorPanel
    served: gr.HTML
    ready_map: gr.Checkbox
    resolution: gr.Slider
    panels: Mapping[str, SettingsPanel]
    examples: gr.Gallery | None
    controls: tuple[ControlRow, ...]
    add_control: gr.Button
    sheet: ContactSheet
    area: AreaPanel
    reference: ReferencePanel
    start: StartPanel
    prompt: gr.Textbox
    generate: gr.Button
    stop: gr.Button
    model: gr.Dropdown
    gamma: gr.Slider
    steps: gr.Slider
    guidance: gr.Slider
    shape: gr.Dropdown
    other_shape: gr.Radio
    count: gr.Slider
    seed: gr.Number
    dice: gr.Button
    new_seed: gr.Checkbox
    negative_prompt: gr.Textbox
    people: gr.Textbox
    control_start: gr.Slider
    control_end: gr.Slider
    gamma_curve: gr.Dropdown
    curve: gr.HTML
    alpha: gr.Slider
    sampler: gr.Dropdown
    loras: tuple[tuple[gr.Dropdown, gr.Slider], ...]
    lora_area: LoraArea
    live: gr.Checkbox
    live_picture: gr.HTML
    empty: gr.HTML
    preview: gr.Image
    gallery: gr.Gallery
    progress: gr.HTML
    summary: gr.HTML
    following: FollowingPanel
    recipe: gr.JSON
    save_picture: gr.DownloadButton
    save_recipe: gr.DownloadButton
    restore: gr.UploadButton
    save_all: gr.DownloadButton
    own: OwnPresetArea
    sweep: SweepArea
    best: BestOfArea
    enhance: EnhanceArea
    files: gr.State
    restored: gr.State

    def condition_inputs(self) -> set[gr.components.Component]:
        """Return everything the condition depends on."""
        settings = (widget for panel in self.panels.values() for widget in panel.widgets.values())
        return {self.picture, self.annotator, self.ready_map, self.resolution, self.pose.editor, *settings}

    def inputs(self) -> set[gr.components.Component]:
        """Return everything a picture depends on."""
        return self.condition_inputs() | {
            self.prompt, self.model, self.gamma, self.steps, self.guidance, self.shape, self.other_shape, self.count, self.seed,
            self.new_seed, self.negative_prompt, self.control_start, self.control_end, self.alpha, self.sampler,
            self.gamma_curve, self.people, *self.start.inputs(), *self.area.inputs(), *self.reference.inputs(), *self.enhance.inputs(), *(part for row in self.controls for part in row.inputs()),
            *(part for row in self.loras for part in row),
        }  # fmt: skip


def build_image_tab(studio: Studio) -> ImageTab:
    """Lay the tab out; must be called inside a `gr.Blocks` context."""
    parts: dict[str, Any] = {}
    rows = studio.catalogue.models()
    row = next((row for row in rows if row["usable"]), rows[0])
    (_, first), *_ = kind_choices(studio.annotators.ANNOTATORS)
    recipe = studio.catalogue.resolve(row["name"], first if first in row["annotators"] else READY_MADE)
    with gr.Row(elem_classes="cnx-columns", equal_height=False):
        with gr.Column(scale=4, min_width=330, elem_classes="cnx-panel"):
            parts |= _left(studio, row["name"], map_resolution(recipe.width, recipe.height))
        with gr.Column(scale=4, min_width=330, elem_classes="cnx-panel"):
            parts |= _middle(studio, rows, row, recipe)
        with gr.Column(scale=5, min_width=330, elem_classes="cnx-panel"):
            parts |= _right(studio)
    return ImageTab(**parts)


def _left(studio: Studio, model: str, map_size: int) -> dict[str, Any]:
    annotators = studio.annotators
    heading(1, "Picture", "gives the pose and the shapes")
    with gr.Row(elem_classes="cnx-pair", equal_height=True) as pair:
        picture = picture_input(
            label="Picture",
            sources=["upload", "clipboard", "webcam"],
            height=PAIR_HEIGHT,
            buttons=["fullscreen"],
            elem_id="cnx-picture",
            elem_classes="cnx-frame",
            placeholder="Drop a photo here\n\nor a picture made here,\nto restore its settings",
            webcam_options=gr.WebcamOptions(mirror=True),
        )
        condition = gr.Image(
            label="Condition, live",
            format="png",
            interactive=False,
            height=PAIR_HEIGHT,
            buttons=["download", "fullscreen"],
            elem_id="cnx-condition",
            elem_classes="cnx-frame",
        )
    pose = build_pose_panel(pair, "#cnx-picture img", "#cnx-live-picture img", "#cnx-stage", "#cnx-live input")
    examples = None
    if found := example_pictures():
        examples = gr.Gallery(
            [str(path) for path in found], columns=max(6, len(found)), rows=1, height=58, allow_preview=False,
            object_fit="cover", show_label=False, container=False, interactive=False, buttons=[], elem_id="cnx-examples",
        )  # fmt: skip
    choices = kind_choices(annotators.ANNOTATORS)
    kinds = [name for _, name in choices]
    annotator = gr.Radio(
        choices,
        value=kinds[0],
        show_label=False,
        container=False,
        elem_id="cnx-annotator",
    )
    doctor = doctor_panel(choices)
    with gr.Row(elem_classes="cnx-tight"):
        served = gr.HTML(
            note_html("The condition follows the picture and the sliders at once.", "quiet"),
            elem_id="cnx-served",
            min_width=120,
        )
        pose.open.render()
    panels = {
        name: settings_panel(annotators, name, visible=name == kinds[0]) for name in [*kinds, *_ready_map(annotators)]
    }
    with gr.Row(elem_classes="cnx-settings"):
        resolution = gr.Slider(
            SMALLEST_MAP,
            LARGEST_MAP,
            value=map_size,
            step=64,
            label="Map size (px)",
            elem_id="cnx-resolution",
            min_width=120,
        )
        ready_map = gr.Checkbox(
            False, label="Ready-made map", elem_id="cnx-ready", min_width=120,
            info="The picture already is a condition: take it as it is.",
        )  # fmt: skip
    sheet = contact_sheet()
    area = area_panel(0, "cnx-area")
    controls, add_control = control_rows(choices, GAMMA_MAXIMUM)
    reference, start = reference_panel(studio, model), start_panel()
    return {
        "pose": pose, "picture": picture, "condition": condition, "annotator": annotator, "doctor": doctor, "served": served, "ready_map": ready_map,
        "resolution": resolution, "panels": panels, "examples": examples,
        "controls": controls, "add_control": add_control, "start": start, "sheet": sheet, "area": area, "reference": reference,
    }  # fmt: skip


def kind_choices(kinds: Iterable[str]) -> list[tuple[str, str]]:
    """Return the choices of a control: each kind but that of ready-made maps by its label, in the page's order."""
    order = list(KINDS)
    kinds = sorted(
        (name for name in kinds if name != READY_MADE),
        key=lambda name: (order.index(name) if name in order else len(order), name),
    )
    return [(kind_of(name).label, name) for name in kinds]


def _ready_map(annotators: Annotators) -> list[str]:
    return [READY_MADE] if READY_MADE in annotators.ANNOTATORS else []


def _middle(
    studio: Studio, rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any], recipe: Recipe
) -> dict[str, Any]:
    heading(2, "Words", "say everything else")
    parts: dict[str, Any] = {}
    parts["prompt"] = gr.Textbox(
        label="Prompt", show_label=False, lines=3, max_lines=6, elem_id="cnx-prompt",
        placeholder="a person in a red shirt and blue trousers on green grass at sunset",
    )  # fmt: skip
    with gr.Row(elem_classes="cnx-actions"):
        parts["generate"] = gr.Button(
            "Generate", variant="primary", size="lg", scale=3, min_width=120, elem_id="cnx-generate"
        )
        parts["stop"] = gr.Button(
            "Stop", variant="stop", size="lg", scale=1, min_width=70, interactive=False, elem_id="cnx-stop"
        )
    parts["live"] = gr.Checkbox(
        False, label="Live", elem_id="cnx-live",
        info="Draws a picture in few steps at each change, and while a joint is dragged.",
    )  # fmt: skip
    parts["gamma"] = gr.Slider(
        0, GAMMA_MAXIMUM, value=recipe.gamma, step=0.05, label="Control strength (gamma)",
        info=gamma_info(recipe.gamma), elem_id="cnx-gamma",
    )  # fmt: skip
    with gr.Row():
        parts["steps"] = gr.Slider(
            1,
            STEPS_MAXIMUM,
            value=recipe.num_inference_steps,
            step=1,
            label="Steps",
            elem_id="cnx-steps",
            min_width=120,
        )
        parts["guidance"] = gr.Slider(
            1,
            GUIDANCE_MAXIMUM,
            value=recipe.guidance_scale,
            step=0.1,
            label="Guidance",
            elem_id="cnx-guidance",
            min_width=120,
        )
    with gr.Row():
        parts["shape"] = gr.Dropdown(
            picture_size_choices(row["sizes"]),
            value=NEAREST,
            label="Size",
            elem_id="cnx-size",
            min_width=120,
        )
        parts["count"] = gr.Slider(1, 4, value=1, step=1, label="Pictures", elem_id="cnx-count", min_width=120)
    parts["other_shape"] = gr.Radio(
        [("Pad", "pad"), ("Crop", "crop")], value="pad", label="Pictures of another shape", elem_id="cnx-other-shape", elem_classes="cnx-inline"
    )  # fmt: skip
    with gr.Row(elem_classes="cnx-seed"):
        parts["seed"] = gr.Number(recipe.seed, label="Seed", precision=0, elem_id="cnx-seed", scale=3, min_width=110)
        parts["dice"] = gr.Button("⚄", size="md", scale=0, min_width=44, elem_id="cnx-dice")
        parts["new_seed"] = gr.Checkbox(
            True, label="New each time", container=False, scale=2, min_width=120, elem_id="cnx-new-seed"
        )
    parts["model"] = gr.Dropdown(
        model_choices(rows),
        value=row["name"],
        label="Model",
        info=model_info(row),
        elem_id="cnx-model",
    )
    with gr.Accordion("Styles (LoRA)", open=False, elem_classes="cnx-fold", elem_id="cnx-loras"):
        parts["lora_area"] = build_lora_area(studio.catalogue.loras(row["name"]), recipe)
        parts["loras"] = parts["lora_area"].rows
    with gr.Accordion("More", open=False, elem_classes="cnx-fold", elem_id="cnx-more"):
        parts["negative_prompt"] = gr.Textbox(
            label="Negative prompt", lines=2, placeholder="what to avoid", elem_id="cnx-negative"
        )
        parts["people"] = gr.Textbox(
            label="Words for each person", lines=2, placeholder="a knight in armour\n1.3: a girl in a red coat", elem_id="cnx-people-words",
            info="One line a person of the pose, from left to right; a number before them multiplies the control there.",
        )  # fmt: skip
        with gr.Row():
            parts["control_start"] = gr.Slider(
                0, 1, value=0, step=0.05, label="Control from", min_width=120, elem_id="cnx-start"
            )
            parts["control_end"] = gr.Slider(
                0, 1, value=1, step=0.05, label="Control until", min_width=120, elem_id="cnx-end"
            )
        with gr.Row(elem_classes="cnx-tight"):
            parts["gamma_curve"] = gr.Dropdown(
                [("constant", ""), *EXAMPLES], value="", label="Strength over time", allow_custom_value=True, min_width=120,
                elem_id="cnx-gamma-curve", info="Choose one and change its numbers, or write points: step fraction:strength.",
            )  # fmt: skip
            parts["curve"] = gr.HTML(curve_svg("", recipe.gamma), elem_id="cnx-curve", min_width=120)
        parts["alpha"] = gr.Slider(
            0, LIMITS["alpha"].maximum, value=1.0, step=0.05, label="Adapter weight (alpha)", elem_id="cnx-alpha",
            info="How much of the adapter's change to the model is applied.",
        )  # fmt: skip
        parts["sampler"] = gr.Dropdown(
            [OWN_SAMPLER, *((row.label, name) for name, row in SCHEDULERS.items())],
            value=recipe.scheduler or OWN_SAMPLER,
            label="Sampler",
            elem_id="cnx-sampler",
        )
    parts["own"] = own_preset_area()
    return parts


def gamma_info(default: float) -> str:
    """Return the line under the gamma slider."""
    return f"0 lets the words decide alone. Default here: {default:g}"


def _right(studio: Studio) -> dict[str, Any]:
    heading(3, "Pictures")
    with gr.Column(elem_classes="cnx-stage", elem_id="cnx-stage"):
        empty = gr.HTML(EMPTY)
        live_picture = gr.HTML(visible=False, elem_id="cnx-live-picture")
        preview = gr.Image(
            label="Preview", show_label=False, interactive=False, visible=False, height=STAGE_HEIGHT, buttons=[],
            format="webp", elem_id="cnx-preview", elem_classes="cnx-frame",
        )  # fmt: skip
        gallery = gr.Gallery(
            label="Pictures", show_label=False, interactive=False, visible=False, columns=2, height=STAGE_HEIGHT, format="png",
            object_fit="contain", buttons=["download", "fullscreen"], elem_id="cnx-gallery", elem_classes="cnx-frame",
        )  # fmt: skip
    progress = gr.HTML(elem_id="cnx-progress")
    summary = gr.HTML(elem_id="cnx-summary")
    following = following_panel()
    with gr.Row(elem_classes="cnx-tight"):
        following.button.render()
        save_picture = gr.DownloadButton(
            "Save picture", size="md", interactive=False, min_width=90, elem_id="cnx-save"
        )
        save_recipe = gr.DownloadButton(
            "Save recipe", size="md", interactive=False, min_width=90, elem_id="cnx-save-recipe"
        )
        save_all = gr.DownloadButton(
            "Save all", size="md", interactive=False, visible=False, min_width=90, elem_id="cnx-save-all"
        )
        restore = gr.UploadButton("Restore …", size="md", file_types=[".png"], min_width=90, elem_id="cnx-restore")
    with gr.Accordion("Recipe", open=False, elem_classes="cnx-fold", elem_id="cnx-recipe"):
        recipe = gr.JSON(show_label=False, container=False, max_height=360)
    enhance, best, sweep = enhance_area(studio.upscalers), best_of_area(), sweep_area()
    return {
        "empty": empty, "live_picture": live_picture, "preview": preview, "gallery": gallery, "progress": progress, "summary": summary, "following": following, "recipe": recipe,
        "save_picture": save_picture, "save_recipe": save_recipe, "save_all": save_all, "restore": restore, "files": gr.State([]), "sweep": sweep, "best": best, "enhance": enhance, "restored": gr.State(False),
    }  # fmt: skip
