"""Event handlers of the image tab: live condition, runs and defaults."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.progress import Progress
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.kinds import POSE, READY_MADE
from controlnext.recipes.person_use import people_of
from controlnext.recipes.pose import pose_size
from controlnext.studio.best_of import ranked
from controlnext.studio.conditions import TimedCondition, chosen_resolution, drawn_pose, map_resolution
from controlnext.ui import shared
from controlnext.ui.board.made import MadeResults
from controlnext.ui.image.conditions import condition_html, open_condition
from controlnext.ui.image.contact_sheet_events import ContactSheetEvents
from controlnext.ui.image.control_events import ControlEvents
from controlnext.ui.image.full import FullPictures
from controlnext.ui.image.loras import NO_LORA, lora_rows
from controlnext.ui.image.result import facts, summary_html
from controlnext.ui.image.start_picture import Painted, start_images
from controlnext.ui.image.tab import OWN_SAMPLER, SEED_MAXIMUM, ImageTab, gamma_info, kind_choices
from controlnext.ui.models import model_choices, model_info
from controlnext.ui.panel import RunPanel
from controlnext.ui.shared import (
    PRIVATE,
    Data,
    Updates,
    note_html,
    open_picture,
    reported_errors,
    served_text,
    served_zip,
    waiting_html,
)
from controlnext.ui.sizes import NEAREST, PICTURE, picture_size_choices, size_of
from controlnext.ui.worker import Runs, Stream

if TYPE_CHECKING:
    from controlnext.recipes.recipe import Recipe
    from controlnext.studio.studio import Result, Studio
    from controlnext.ui.shared import Update

LIVE = {"concurrency_id": "live", "concurrency_limit": 2}
"""Live conditions have a queue of their own, so that a running generation never holds them up."""

RUN = {"concurrency_id": "generate", "concurrency_limit": 8}
"""Runs wait for each other in the studio, where they can be stopped while they wait, and not in Gradio's queue."""


SLOW_SECONDS = 0.5
"""After this long a live condition says that it is being made; the first use of a model may fetch or load it."""

STOPPED = "Stopped before a picture was finished."

SHOW_STAGE = """() => {
  if (window.innerWidth < 900) document.getElementById("cnx-stage").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth", block: "center" });
}"""
"""Where the columns lie below each other, a run brings the pictures into sight."""


class ImageEvents:
    """The handlers of the image tab."""

    def __init__(self, tab: ImageTab, studio: Studio, stream: Stream, made: MadeResults | None = None) -> None:
        """Remember the parts; `wire` connects them.

        Args:
            tab: The page.
            studio: Says what models there are.
            stream: Makes the pictures.
            made: Where it is noted which page made which pictures.
        """
        self.tab = tab
        self.panel = RunPanel(tab.generate, tab.stop, tab.progress, tab.preview, tab.gallery, tab.empty)
        self.studio = studio
        self.stream = stream
        self.runs = Runs()
        self.made = made or MadeResults()
        self.full = FullPictures()
        self.additional = ControlEvents(tab, studio)
        self.workers = ThreadPoolExecutor(LIVE["concurrency_limit"], "live")

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        tab = self.tab
        condition = tab.condition_inputs()
        editor = tab.pose.editor  # tells changes during a drag, too, and those that are final apart
        changes = [editor.release, *(part.change for part in condition - {editor})]
        gr.on(
            changes, self.show_condition, condition, [tab.condition, tab.served],
            trigger_mode="always_last", **LIVE, **PRIVATE,
        )  # fmt: skip
        groups = [panel.group for panel in tab.panels.values()]
        tab.annotator.change(self.choose_annotator, [tab.annotator, tab.ready_map], groups, queue=False, **PRIVATE)
        tab.ready_map.change(self.choose_annotator, [tab.annotator, tab.ready_map], groups, queue=False, **PRIVATE)
        tab.annotator.input(self.control_default, [tab.model, tab.annotator], tab.gamma, **PRIVATE)
        self.additional.wire(LIVE)
        tab.reference.wire(self.studio, tab.model)
        tab.area.wire(tab.picture)
        for row in tab.controls:
            row.area.wire(tab.picture)
        ContactSheetEvents(tab, self.studio, {kind: label for label, kind in kind_choices(tab.panels)}).wire(
            LIVE, self.control_default
        )
        tab.model.input(self.model_defaults, [tab.model, tab.annotator], self.model_outputs(), **PRIVATE)
        tab.dice.click(
            lambda: (random.randint(0, SEED_MAXIMUM), False), None, [tab.seed, tab.new_seed], queue=False, **PRIVATE
        )

        gr.on(
            [tab.generate.click, tab.prompt.submit],
            self.run,
            tab.inputs() | {tab.files},
            self.run_outputs(),
            trigger_mode="once",
            **RUN,
            **PRIVATE,
        )
        tab.generate.click(None, js=SHOW_STAGE)
        tab.stop.click(self.stop, None, [tab.stop, tab.progress], queue=False, **PRIVATE)
        tab.gallery.select(self.choose_picture, tab.files, tab.save_picture, queue=False, **PRIVATE)

    # The condition

    def condition(self, data: Data) -> TimedCondition | None:
        """Return the condition for what the page shows, or `None` when there is no picture."""
        tab = self.tab
        if pose := self.pose(data):
            return drawn_pose(self.studio.annotators, pose)
        if (path := data[tab.picture]) is None:
            return None
        name = READY_MADE if data[tab.ready_map] else self._made_by(data[tab.annotator])
        return open_condition(self.studio.annotators, path, name, data[tab.resolution], tab.panels[name].values(data))

    def pose(self, data: Data) -> str:
        """Return the edited pose that is the first condition; empty where it is made of the picture."""
        return data[self.tab.pose.editor] or "" if data[self.tab.annotator] == POSE else ""

    def show_condition(self, data: Data) -> Iterator[Updates]:
        """Show the condition as it is now; a failure clears it, so that no stale one stays next to the message."""
        tab = self.tab
        work = self.workers.submit(self.condition, data)
        try:
            with reported_errors():
                if not wait([work], SLOW_SECONDS).done:
                    yield {tab.served: note_html("Reading the picture …", "quiet")}
                made = work.result()
        except gr.Error as error:
            yield {tab.condition: None, tab.served: f"<p class='cnx-note warn'>{error.message}</p>"}
            raise
        if made is None:
            yield {tab.condition: None, tab.served: ""}
        else:
            yield {tab.condition: made.annotation.image, tab.served: condition_html(made)}

    def choose_annotator(self, name: str, ready_map: bool) -> list[Any]:
        """Show the settings of the chosen annotator alone."""
        shown = READY_MADE if ready_map else self._made_by(name)
        return [gr.update(visible=key == shown) for key in self.tab.panels]

    def _made_by(self, kind: str) -> str:
        """Return what makes a condition: of a kind that a training brought, the picture already is one."""
        return kind if kind in self.tab.panels else READY_MADE

    # The defaults

    def control_default(self, model: str, annotator: str) -> Update:
        """Put gamma back to what the adapter of this annotator was made for."""
        with reported_errors():
            gamma = self.studio.catalogue.resolve(model, annotator).gamma
        return gr.update(value=gamma, info=gamma_info(gamma))

    def model_outputs(self) -> list[gr.components.Component]:
        """Return what `model_defaults` changes."""
        tab = self.tab
        return [
            tab.annotator, tab.model, tab.gamma, tab.steps, tab.guidance, tab.sampler, tab.shape, tab.resolution,
            *(part for row in tab.loras for part in row),
        ]  # fmt: skip

    def model_choices(self) -> Update:
        """List the models as they are now."""
        with reported_errors():
            return gr.update(choices=model_choices(self.studio.catalogue.models()))

    def model_defaults(self, model: str, annotator: str) -> list[Any]:
        """Put everything that depends on the model to its own values; a control that it lacks is replaced by its first."""
        row = self._row(model)
        kinds = [*self.tab.panels, *(kind for kind in row["annotators"] if kind not in self.tab.panels)]
        if row["annotators"] and annotator not in row["annotators"]:
            annotator = next(kind for kind in kinds if kind in row["annotators"])
        with reported_errors():
            recipe = self.studio.catalogue.resolve(model, annotator)
            names = [NO_LORA, *(row["name"] for row in self.studio.catalogue.loras(model) if row["usable"])]
        return [
            gr.update(choices=kind_choices(kinds), value=annotator),
            gr.update(choices=model_choices(self.studio.catalogue.models()), info=model_info(row)),
            gr.update(value=recipe.gamma, info=gamma_info(recipe.gamma)),
            recipe.num_inference_steps,
            recipe.guidance_scale,
            recipe.scheduler or OWN_SAMPLER,
            gr.update(choices=picture_size_choices(row["sizes"]), value=NEAREST),
            map_resolution(recipe.width, recipe.height),
            *(part for name, weight in lora_rows(recipe) for part in (gr.update(choices=names, value=name), weight)),
        ]

    def _row(self, model: str) -> Mapping[str, Any]:
        return next(row for row in self.studio.catalogue.models() if row["name"] == model)

    # A run

    def size(self, data: Data) -> tuple[int, int]:
        """Return width and height of the pictures to be made, in pixels."""
        tab, pose, picture = self.tab, self.pose(data), None
        like = data[tab.picture] or (tab.start.picture(data) if tab.start.editor in data else None)
        if data[tab.shape] in (PICTURE, NEAREST) and (pose or like):
            picture = pose_size(pose) if pose else open_picture(self.studio.annotators, like).size
        return size_of(data[tab.shape], self._row(data[tab.model])["sizes"], picture)

    def recipe(self, data: Data) -> Recipe:
        """Return the recipe for what the page shows.

        Raises:
            RecipeError: Something in it cannot be; the text says what.
        """
        tab = self.tab
        path, seed = data[tab.picture], data[tab.seed]
        width, height = self.size(data)
        resolution = chosen_resolution(data[tab.resolution], (width, height))
        kind, pose, crop = data[tab.annotator], self.pose(data), data[tab.other_shape] == "crop"
        # Without a picture the words are alone.
        as_given = not pose and (data[tab.ready_map] or not path or self._made_by(kind) == READY_MADE)
        settings = tab.panels[READY_MADE if as_given else kind].values(data) if path and not pose else {}
        return self.studio.catalogue.resolve(
            data[tab.model],
            READY_MADE if as_given else kind,
            adapter=kind if as_given and path else "",
            prompt=data[tab.prompt] or "",
            negative_prompt=data[tab.negative_prompt] or "",
            seed=-1 if data[tab.new_seed] or seed is None else seed,
            num_images=data[tab.count],
            width=width,
            height=height,
            num_inference_steps=data[tab.steps],
            guidance_scale=data[tab.guidance],
            gamma=data[tab.gamma],
            alpha=data[tab.alpha],
            scheduler=None if data[tab.sampler] == OWN_SAMPLER else data[tab.sampler],
            control_start=data[tab.control_start],
            control_end=data[tab.control_end],
            loras=[
                {"name": data[name], "weight": data[weight]}
                for name, weight in tab.loras
                if data[name] not in (None, NO_LORA)
            ],
            annotator_settings=settings,
            gamma_curve=data[tab.gamma_curve] or "",
            controls=[
                row.values(data, resolution) | {"area": row.area.text(data, (width, height), crop=crop)}
                for row in tab.controls
                if row.used(data)
            ],
            area=tab.area.text(data, (width, height), crop=crop),
            people=people_of(data[tab.people] or ""),
            resolution=None if as_given or pose else resolution,
            pose=pose,
            crop=crop,
            **tab.start.values(data),
            **tab.enhance.values(data),
            **tab.reference.values(data),
        )

    def inputs(self, data: Data) -> Inputs:
        """Return all pictures that a run with this page's recipe takes.

        Raises:
            ConditionRequestError: An additional control has no picture to take its condition from.
        """
        tab = self.tab
        made = [
            self.condition(data),
            *(self.additional.condition(row, data) for row in tab.controls if row.used(data)),
        ]
        conditions = tuple(one.annotation for one in made if one is not None)
        reference = (
            open_picture(self.studio.annotators, data[tab.reference.picture]) if tab.reference.values(data) else None
        )
        return Inputs(
            conditions, *start_images(self.studio.annotators, Painted.of(data[tab.start.editor])), reference=reference
        )

    def asked(self, data: Data) -> dict[Any, Any]:
        """Return the values that decide on one picture of a fixed seed; equal ones make the same picture."""
        tab = self.tab
        return {part: data[part] for part in tab.inputs() - {tab.new_seed, tab.count}}

    def run_outputs(self) -> list[gr.components.Component]:
        """Return what a run changes."""
        tab = self.tab
        return [
            tab.empty, tab.live_picture, tab.preview, tab.gallery, tab.progress, tab.summary, tab.recipe, tab.generate,
            tab.stop, tab.seed, tab.save_picture, tab.save_recipe, tab.save_all, tab.files,
        ]  # fmt: skip

    def run(self, data: Data, request: gr.Request, best_first: bool = False) -> Iterator[Updates]:
        """Make the pictures: yields the steps as they come, then the result, in the order of seeds or of adherence."""

        def order() -> tuple[Recipe, Inputs]:
            inputs, recipe = self.inputs(data), self.recipe(data)
            self.full.note(request.session_hash or "", self.asked(data) | {self.tab.seed: recipe.seed})
            return recipe, inputs

        yield from self.run_order(order, data, request, best_first=best_first)

    def run_order(
        self,
        order: Callable[[], tuple[Recipe, Inputs]],
        data: Data,
        request: gr.Request,
        *,
        best_first: bool = False,
        doing: str = "Generating …",
    ) -> Iterator[Updates]:
        """Run what `order` returns, and show it as `run` does; the button of a run says `doing` meanwhile."""
        tab = self.tab
        session = request.session_hash or ""
        cancel = self.runs.start(session)
        idle = self.panel.idle(before=bool(data[tab.files]))
        try:
            with reported_errors():
                yield {
                    tab.generate: gr.update(value=doing, interactive=False),
                    tab.stop: gr.update(interactive=True),
                    tab.progress: waiting_html("Getting ready"),
                }
                recipe, inputs = order()
                last = {tab.progress: note_html(STOPPED, "quiet")}
                for report in self.stream(recipe, inputs, cancel):
                    if isinstance(report, Progress):
                        yield self.panel.step(report)
                    else:
                        self.made.add(session, report.files)
                        last = self.done(ranked(report) if best_first else report)
                yield idle | last
        except gr.Error:
            if cancel.is_set():  # asked for, so no error
                yield idle | {tab.progress: note_html(STOPPED, "quiet")}
                return
            yield idle
            raise
        finally:
            self.runs.finish(session, cancel)

    def stop(self, request: gr.Request) -> list[Any]:
        """Stop the run of this page after its current step."""
        running = self.runs.stop(request.session_hash or "")
        return [gr.update(interactive=False), waiting_html("Stopping after this step") if running else ""]

    def choose_picture(self, files: list[str], event: gr.SelectData) -> str | None:
        """Let "Save picture" save the picture that was clicked."""
        return files[event.index] if files and event.index < len(files) else None

    def done(self, result: Result) -> Updates:
        """Show finished pictures."""
        tab = self.tab
        files = [shared.served(path, tab.gallery) for path in result.files]
        return {
            tab.empty: gr.update(visible=False),
            tab.live_picture: gr.update(visible=False),
            tab.gallery: gr.update(visible=True, value=files, selected_index=0 if len(files) == 1 else None),
            tab.summary: summary_html(result),
            tab.recipe: facts(result),
            tab.seed: result.recipe.seed,
            tab.save_all: gr.update(
                value=served_zip(result.files, tab.save_all) if len(files) > 1 else None,
                visible=len(files) > 1,
                interactive=True,
            ),
            tab.save_picture: gr.update(value=files[0], interactive=True),
            tab.save_recipe: gr.update(value=_recipe_file(result, tab.save_recipe), interactive=True),
            tab.files: files,
        }


def _recipe_file(result: Result, button: gr.DownloadButton) -> str:
    text = json.dumps(facts(result), ensure_ascii=False, indent=2)
    return served_text(text, f"{result.files[0].stem}.json", button)
