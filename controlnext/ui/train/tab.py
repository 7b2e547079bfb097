"""Layout of the train tab: pictures, conditions, trainable parts, and the training with its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.ui.image.conditions import SettingsPanel, settings_panel
from controlnext.ui.image.tab import kind_choices
from controlnext.ui.models import model_choices
from controlnext.ui.shared import heading, note_html
from controlnext.ui.train.form import FIELDS, NO_START, OWN, defaults, families, preset, starts
from controlnext.ui.train.pictures import SHOWN
from controlnext.ui.video.widgets import free_slider

if TYPE_CHECKING:
    from controlnext.studio.protocols import Annotators
    from controlnext.studio.studio import Studio

ELSEWHERE = (
    "Training takes minutes to hours of one machine, so it needs one of your own: install the app there and use this tab, or "
    "run `python -m controlnext train presets/training/starter.yaml data.folder=photos output=runs/mine`."
)
NOT_HERE = f"Visitors start no trainings here: whoever runs this app allows it with `--allow-training`. {ELSEWHERE}"
START = f"Add pictures: the first {SHOWN} appear here with the conditions that will be learned."
EMPTY = (
    "<div class='cnx-empty'><svg viewBox='0 0 64 64' fill='none' stroke='currentColor' stroke-width='2.5' stroke-linecap='round' "
    "stroke-linejoin='round'><path d='M8 8v48h48'/><path d='M14 20c10 26 22 26 40 28'/><path d='M14 46c10-2 20-22 40-26' "
    "stroke-dasharray='1 6'/></svg><p>Curves and pictures appear here<br>while it learns.</p></div>"
)
MEANWHILE = "It continues if this page is closed. You can make pictures in the meantime; both are slower then."
CLIPS = "Clips (SVD) are trained from the command line: see presets/training/svd.yaml."
FIRST = "starter"
"""The family that the tab opens with."""

POLL_SECONDS = 1.0
PRECISIONS = [("as the device likes it", "auto"), ("float32", "no"), ("bfloat16", "bf16"), ("float16", "fp16")]


@dataclass(frozen=True)
class TrainTab:
    """The components of the tab; `TrainEvents` connects them.

    Attributes:
        folder: path of a folder on this machine; None where the page is served to others, too.
        panels: the settings of each annotator, by its name.
        fields: what `controlnext.ui.train.form.FIELDS` names, but the minutes.
        shown: name of the training that is shown.
        seen: what of it the page has.
    """

    files: gr.File
    folder: gr.Textbox | None
    caption: gr.Textbox
    kind: gr.Radio
    own_kind: gr.Textbox
    panels: Mapping[str, SettingsPanel]
    samples: gr.HTML
    looked: gr.HTML
    family: gr.Dropdown
    start: gr.Dropdown
    minutes: gr.Number
    name: gr.Textbox
    fields: Mapping[str, gr.components.Component]
    train: gr.Button
    stop: gr.Button
    run: gr.Dropdown
    progress: gr.HTML
    meanwhile: gr.HTML
    empty: gr.HTML
    facts: gr.HTML
    curves: gr.HTML
    place: gr.Slider
    drawn: gr.HTML
    resume: gr.Button
    use: gr.Button
    report: gr.DownloadButton
    adapter: gr.Button
    pack: gr.DownloadButton
    used: gr.HTML
    shown: gr.State
    seen: gr.State
    timer: gr.Timer

    def picture_inputs(self) -> set[gr.components.Component]:
        """Return everything that the conditions depend on."""
        settings = {widget for panel in self.panels.values() for widget in panel.widgets.values()}
        folder = set() if self.folder is None else {self.folder}
        return {self.files, self.caption, self.kind, self.own_kind, self.family, *folder, *settings}

    def inputs(self) -> set[gr.components.Component]:
        """Return everything that a training depends on."""
        return self.picture_inputs() | {self.start, self.minutes, self.name, *self.fields.values()}


def build_train_tab(studio: Studio, *, local: bool) -> TrainTab:
    """Lay the tab out; must be called inside a `gr.Blocks` context.

    Args:
        studio: says what models there are.
        local: the page is served to this machine alone, so that it may name a folder of its disk.
    """
    rows = studio.catalogue.models()
    parts: dict[str, Any] = {}
    with gr.Row(elem_classes="cnx-columns", equal_height=False):
        with gr.Column(scale=5, min_width=330, elem_classes="cnx-panel"):
            parts |= _pictures(studio.annotators, local)
        with gr.Column(scale=3, min_width=300, elem_classes="cnx-panel"):
            parts |= _learner(rows)
        with gr.Column(scale=6, min_width=330, elem_classes="cnx-panel"):
            parts |= _training()
    states = {"shown": gr.State(""), "seen": gr.State(""), "timer": gr.Timer(POLL_SECONDS, active=False)}
    return TrainTab(**parts, **states)


def _pictures(annotators: Annotators, local: bool) -> dict[str, Any]:
    heading(1, "Pictures", "what it learns to draw")
    files = gr.File(
        label="Pictures", file_count="multiple", show_label=False, height=132, elem_id="cnx-train-files",
        elem_classes="cnx-frame",
    )  # fmt: skip
    folder = None
    if local:
        folder = gr.Textbox(
            label="Or a folder on this machine", placeholder="/home/me/photos", elem_id="cnx-train-folder", max_lines=1
        )
    caption = gr.Textbox(
        label="Caption", placeholder="of pictures without a .txt file of their name", elem_id="cnx-train-caption", max_lines=1
    )  # fmt: skip
    heading(2, "Condition", "what it learns to follow")
    choices = kind_choices(annotators.ANNOTATORS)
    kinds = [name for _, name in choices]
    chosen = preset(FIRST).condition
    chosen = chosen if chosen in kinds else kinds[0]
    kind = gr.Radio(
        [*choices, ("My own", OWN)],
        value=chosen, show_label=False, container=False, elem_id="cnx-train-kind", elem_classes="cnx-segments",
    )  # fmt: skip
    own_kind = gr.Textbox(
        label="Name of your condition", placeholder="scribble", visible=False, max_lines=1, elem_id="cnx-train-own",
        info='Pairs are lines of a metadata.jsonl: {"file_name": "a.png", "text": "...", "conditioning_image": "a-drawn.png"}',
    )  # fmt: skip
    panels = {name: settings_panel(annotators, name, visible=name == chosen) for name in kinds}
    samples = gr.HTML(elem_id="cnx-train-samples")
    looked = gr.HTML(note_html(START, "quiet"), elem_id="cnx-train-looked")
    return {
        "files": files, "folder": folder, "caption": caption, "kind": kind, "own_kind": own_kind, "panels": panels,
        "samples": samples, "looked": looked,
    }  # fmt: skip


def learner_info(rows: Sequence[Mapping[str, Any]], family: str) -> str:
    """Return the line at the base model: what learns of it, and what is in its way."""
    from controlnext.training.family_defaults import FAMILY_DEFAULTS

    missing = {"reason": f"There is no preset {FAMILY_DEFAULTS[family].preset}."}
    row = next((row for row in rows if row["name"] == FAMILY_DEFAULTS[family].preset), missing)
    learns = f"The control module learns, and {FAMILY_DEFAULTS[family].trained:,} weights of the UNet."
    return " ".join(part for part in (row["reason"], learns) if part)


def _learner(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from controlnext.training.family_defaults import FAMILY_DEFAULTS

    heading(3, "What learns")
    names = families(rows) or [FIRST]
    family, labels = names[0], {name: label for label, name in model_choices(rows)}
    values = defaults(family)
    base = gr.Dropdown(
        [(labels.get(FAMILY_DEFAULTS[name].preset, name), name) for name in names], value=family, label="Base model",
        info=learner_info(rows, family), elem_id="cnx-train-family",
    )  # fmt: skip
    choices, wanted = starts(rows, family), preset(family).trainable.start
    start = gr.Dropdown(
        choices, value=wanted if wanted in choices else NO_START, label="Begin from the adapter", elem_id="cnx-train-start",
        info="What one condition has taught helps the next.",
    )  # fmt: skip
    minutes = gr.Number(
        values["minutes"],
        label="Time limit (minutes)",
        minimum=0,
        elem_id="cnx-train-minutes",
        info="0 takes all steps.",
    )
    name = gr.Textbox(label="Name", placeholder="chosen for you", max_lines=1, max_length=40, elem_id="cnx-train-name")
    with gr.Accordion("More", open=False, elem_classes="cnx-fold", elem_id="cnx-train-more"):
        fields = _more(values)
    gr.HTML(note_html(CLIPS))
    return {"family": base, "start": start, "minutes": minutes, "name": name, "fields": fields}


def _more(values: Mapping[str, Any]) -> dict[str, gr.components.Component]:
    def number(name: str, label: str, info: str, **options: Any) -> gr.Number:
        return gr.Number(
            values[name],
            label=label,
            info=info,
            min_width=110,
            elem_id=f"cnx-train-{name.replace('_', '-')}",
            **options,
        )

    with gr.Group(elem_classes="cnx-settings"):
        fields = {
            "steps": number("steps", "Steps", "The most, if the time does not end first.", precision=0),
            "batch": number("batch", "Batch", "Pictures of a step.", precision=0),
            "rate": number("rate", "Rate, UNet", "Learning rate of the UNet's weights.", step=1e-5),
            "module_rate": number("module_rate", "Rate, module", "Learning rate of the control module.", step=1e-5),
            "gamma": number("gamma", "Gamma", "Control strength while it learns, and the default later; 0: by how dense the maps are.", step=0.05),
            "lora_rank": number("lora_rank", "LoRA rank", "A LoRA of this rank instead of the weights; 0: weights.", precision=0),
            "every": number("every", "Draw every (steps)", "Steps between fixed pictures.", precision=0),
            "rows": number("rows", "Held out", "Pictures that are drawn each time and not learned from.", precision=0),
            "seed": number("seed", "Seed", "Of everything that is drawn by chance.", precision=0),
            "precision": gr.Dropdown(
                PRECISIONS, value=values["precision"], label="Precision", min_width=110, elem_id="cnx-train-precision",
                info="What learns stays float32 in any case.",
            ),
        }  # fmt: skip
    assert set(fields) == set(FIELDS) - {"minutes"}
    return fields


def _training() -> dict[str, Any]:
    heading(4, "Training")
    with gr.Row(elem_classes="cnx-actions"):
        train = gr.Button("Start", variant="primary", size="lg", scale=3, min_width=120, elem_id="cnx-train-begin")
        stop = gr.Button(
            "Stop", variant="stop", size="lg", scale=1, min_width=70, interactive=False, elem_id="cnx-train-stop"
        )
    run = gr.Dropdown([], label="Trainings", visible=False, elem_id="cnx-train-run", elem_classes="cnx-inline")
    progress = gr.HTML(elem_id="cnx-train-progress")
    meanwhile = gr.HTML(note_html(MEANWHILE), visible=False, elem_id="cnx-train-meanwhile")
    empty = gr.HTML(EMPTY, elem_id="cnx-train-empty")
    facts = gr.HTML(elem_id="cnx-train-facts")
    curves = gr.HTML(elem_id="cnx-train-curves")
    place = free_slider(
        1, 2, value=1, step=1, label="Fixed pictures over time", visible=False, elem_id="cnx-train-place"
    )
    drawn = gr.HTML(elem_id="cnx-train-drawn")
    with gr.Row(elem_classes="cnx-tight"):
        use = gr.Button(
            "Use it now", variant="primary", size="md", interactive=False, min_width=100, elem_id="cnx-train-use"
        )
        resume = gr.Button("Resume", size="md", interactive=False, min_width=80, elem_id="cnx-train-resume")
        report = gr.DownloadButton("Report", size="md", interactive=False, min_width=80, elem_id="cnx-train-report")
        adapter = gr.Button("Save adapter", size="md", interactive=False, min_width=100, elem_id="cnx-train-adapter")
        pack = gr.DownloadButton("zip", elem_id="cnx-train-pack", elem_classes="cnx-hidden")
    used = gr.HTML(elem_id="cnx-train-used")
    return {
        "train": train, "stop": stop, "run": run, "progress": progress, "meanwhile": meanwhile, "empty": empty, "facts": facts,
        "curves": curves, "place": place, "drawn": drawn, "resume": resume, "use": use, "report": report, "adapter": adapter,
        "pack": pack, "used": used,
    }  # fmt: skip
