"""The endpoint `/sweep`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.models.defaults import own_loras_fit
from controlnext.recipes.sweep_plan import SweepAxis, SweepError, SweepPlan, usual_values
from controlnext.studio.sweep import Sweep, with_own_seed
from controlnext.ui import shared
from controlnext.ui.api import Endpoints, publish, result_of, running, taking
from controlnext.ui.asked import ask
from controlnext.ui.image.events import RUN
from controlnext.ui.shared import reported_errors
from controlnext.ui.sweep_run import run_search, run_sweep
from controlnext.ui.worker import Runs, Stream

if TYPE_CHECKING:
    from controlnext.recipes.recipe import Recipe
    from controlnext.results.sweep_table import SweepTable
    from controlnext.studio.auto_gamma import FoundGamma
    from controlnext.studio.studio import Result, Studio


class SweepEndpoints:
    """The function behind the endpoint."""

    def __init__(self, studio: Studio, stream: Stream) -> None:
        """Remember who does the work; `publish` makes the endpoint."""
        self.studio, self.stream, self.runs = studio, stream, Runs()

    def publish(self) -> None:
        """Add the endpoint to the `gr.Blocks` whose context this is called in."""
        self.pictures = gr.Gallery(visible=False, format="png", label="pictures")
        self.plot = gr.Image(visible=False, format="png", label="plot", type="filepath")
        publish("sweep", self.sweep, [self.pictures, self.plot, gr.JSON(visible=False, label="sweep")], RUN)

    @taking(
        Endpoints.generate, "prompt", "negative_prompt", "model", "annotator", "gamma", "num_inference_steps", "guidance_scale", "seed",
        "width", "height", "control_start", "control_end", "loras", "settings", "gamma_curve", "scheduler", "alpha",
    )  # fmt: skip
    def sweep(
        self,
        image: str,
        axis: str = "gamma",
        values: list[float | str] | None = None,
        second_axis: str = "",
        second_values: list[float | str] | None = None,
        target: float | None = None,
        distance: bool | None = None,
        **recipe: Any,
    ) -> tuple[list[str], str | None, dict[str, Any]]:
        """Draw one recipe at 2 to 9 values of an axis, and say how well each picture follows and where the knee is.

        `axis` is gamma, seed, num_inference_steps, guidance_scale, alpha, control_start, control_end, model, annotator, or
        lora:NAME for a LoRA's weight; `second_axis` adds another one. `distance` compares each picture with the one without
        control. The same call resumes a sweep that was stopped. With `target`, an adherence from 0 to 1, nothing is swept:
        the gamma that reaches it is searched in at most six runs. Returns the pictures in the order of the cells, the plot,
        and the figures.
        """
        with reported_errors(page=False):
            if recipe["loras"] is None and not own_loras_fit((axis, second_axis)):
                recipe["loras"] = []
            asked = ask(self.studio, image, **recipe)
            inputs = asked.inputs_for(asked.recipe)
            if target is not None:
                with running(self.runs) as cancel:
                    found = result_of(run_search(asked.recipe, inputs, target, self.stream, cancel))
                files = [shared.served(one.made.files[0], self.pictures) for one in found.tries]
                return files, None, search_facts(found)
            fixed = with_own_seed(asked.recipe, inputs) if recipe["seed"] in (-1, None) else asked.recipe
            axes = [self._axis(axis, values, fixed)]
            if second_axis:
                axes.append(self._axis(second_axis, second_values, fixed))
            plan = SweepPlan(fixed, tuple(axes), distance)
            sweep = Sweep.open(plan, inputs, self.studio.gallery.output_dir, self.studio.catalogue)
            with running(self.runs) as cancel:
                saved = result_of(run_sweep(sweep, self.stream, asked.inputs_for, cancel))
            table, (_, plot) = saved.table, saved.pictured
            if not table.done:
                raise SweepError(next((cell.reason for cell in table.cells if cell.reason), "No picture was made."))
            pictures = [shared.served(file, self.pictures) for file in saved.pictures]
            return pictures, shared.served(plot, self.plot), sweep_facts(saved.plan, table)

    def _axis(self, name: str, values: Sequence[float | str] | None, recipe: Recipe) -> SweepAxis:
        return SweepAxis(
            name,
            tuple(values)
            if values is not None
            else usual_values(name, recipe, axis_names(self.studio, name, recipe.model)),
        )


def axis_names(studio: Studio, axis: str, model: str) -> list[str]:
    """Return the models that can be used, or the kinds of control of a model, where these are an axis's values."""
    rows = [row for row in studio.catalogue.models() if row["usable"] and row["annotators"]]
    if axis == "model":
        return [row["name"] for row in rows]
    return next((row["annotators"] for row in rows if row["name"] == model), [])


def sweep_facts(plan: SweepPlan, table: SweepTable) -> dict[str, Any]:
    """Return the figures of a sweep as JSON values: `cells`, `knee`, `best`, `saved` and the `sweep` itself."""
    found, computed, seconds = table.saved
    return {
        "axes": [{"name": axis.name, "values": list(axis.values)} for axis in table.axes],
        "adherence_name": table.adherence_name,
        "cells": table.rows(),
        "knee": table.knee,
        "best": dict(table.best.values) if table.best else None,
        "saved": {"found": found, "computed": computed, "seconds": round(seconds, 3)},
        "sweep": json.loads(plan.to_json()),
    }


def search_facts(found: FoundGamma[Result]) -> dict[str, Any]:
    """Return what a search found as JSON values."""
    return {
        "tries": [
            {"gamma": one.gamma, "adherence": round(one.adherence, 4), "file": one.made.files[0].name}
            for one in found.tries
        ],
        "gamma": found.chosen.gamma,
        "adherence": round(found.chosen.adherence, 4),
        "target": found.target,
        "reached": found.reached,
        "sentence": found.sentence(),
    }
