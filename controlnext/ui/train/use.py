"""Use of a finished training: its adapter as a model of the image tab, or as a ZIP file."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from controlnext.training.config import TrainingError
from controlnext.ui.shared import PRIVATE, Updates, note_html, reported_errors, served

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio
    from controlnext.training.runs.run_folder import RunFolder
    from controlnext.training.runs.trainings import Trainings
    from controlnext.ui.image.events import ImageEvents
    from controlnext.ui.train.tab import TrainTab

SAVE = """() => setTimeout(() => {
  const place = document.getElementById("cnx-train-pack");
  (place?.matches("a, button") ? place : place?.querySelector("a, button"))?.click();
}, 400)"""
"""Saves the file that the hidden button has been given."""


class UseEvents:
    """The handlers that use or pack a training's adapter."""

    def __init__(
        self, tab: TrainTab, studio: Studio, trainings: Trainings, image: ImageEvents, *, local: bool
    ) -> None:
        """Remember the parts.

        Args:
            tab: the page.
            studio: gets the new model.
            trainings: where the trainings are.
            image: the image tab, which then shows it.
            local: the page may name folders of this machine.
        """
        self.tab, self.studio, self.trainings, self.image, self.local = tab, studio, trainings, image, local

    def wire(self, page: gr.Blocks, tabs: gr.Tabs) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab.

        Args:
            page: whose loading brings models that were added since it was built.
            tabs: where the image tab is opened.
        """
        tab, image = self.tab, self.image
        settings = [widget for panel in image.tab.panels.values() for widget in panel.widgets.values()]
        tab.use.click(self.use, tab.shown, [tab.used, tabs, *image.model_outputs(), *settings], **PRIVATE)
        self.tabs = tabs
        tab.adapter.click(self.pack, tab.shown, tab.pack, **PRIVATE).success(None, js=SAVE)
        page.load(image.model_choices, None, image.tab.model, queue=False, **PRIVATE)

    def use(self, name: str) -> Updates:
        """Make the training's adapter a model, and choose it in the image tab with the annotator as it was trained."""
        with reported_errors():
            run = self._finished(name)
            config = self.trainings.config(name)
            step = self.trainings.status_of(name).step
            model = self.studio.catalogue.add_model(run.preset, name, f"After {step:,} steps.")
            updates = dict(
                zip(self.image.model_outputs(), self.image.model_defaults(model, config.condition), strict=True)
            )
            if config.condition in self.image.tab.panels:
                updates |= self.image.tab.panels[config.condition].updates(config.data.annotator_settings)
        updates[self.image.tab.model]["value"] = model
        place = run.adapter if self.local else Path(*run.adapter.parts[-3:])
        text = f"It is the model {model} now, in the page and on the command line; its adapter lies in {place}."
        return updates | {self.tab.used: note_html(text), self.tabs: gr.Tabs(selected="image")}

    def pack(self, name: str) -> str:
        """Put the adapter's folder into one file."""
        with reported_errors():
            run = self._finished(name)
            try:
                with tempfile.TemporaryDirectory(prefix="adapter-") as folder:
                    path = Path(folder) / f"{name}.zip"
                    with zipfile.ZipFile(path, "w") as file:  # not compressed: weights hardly get smaller
                        for part in sorted(run.adapter.iterdir()):
                            file.write(part, f"{name}/{part.name}")
                    return served(path, self.tab.pack)
            except OSError as error:
                raise TrainingError(
                    f"The adapter cannot be packed ({error.strerror or error}): it lies in the training's folder {name}."
                ) from error

    def _finished(self, name: str) -> RunFolder:
        run = self.trainings.run(name)
        if not run.preset.is_file() or not run.adapter.is_dir():
            raise TrainingError(
                f"The training {name} has no adapter yet: it is written with the first fixed pictures, or when it is stopped."
            )
        return run
