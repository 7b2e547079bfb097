"""The page as an API: `/annotate`, `/generate`, `/models`, `/annotators`, `/loras`. Names and defaults are a contract.

The parameters of an endpoint are those of its function here, read from its signature; values arrive as they were sent, so
that what is wrong with them is said by the same sentences as everywhere, and not by a slider that is not there.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components.api_component import Api

from controlnext.ui import shared
from controlnext.ui.conditions import READY_MAP, ConditionError, make_condition, map_resolution
from controlnext.ui.image_events import LIVE, RUN
from controlnext.ui.result import facts
from controlnext.ui.shared import picture_input, spoken
from controlnext.ui.worker import Stream

if TYPE_CHECKING:
    from types import ModuleType

    from PIL import Image

    from controlnext.studio import Studio

SCHEMAS: Mapping[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "int | None": {"type": "integer", "additional_description": "null means the model's default"},
    "float | None": {"type": "number", "additional_description": "null means the model's default"},
    "dict | None": {
        "type": "object",
        "additional_description": "values of the annotator's settings by name, see /annotators; `backend` is one of them",
    },
    "list | None": {
        "type": "array",
        "items": {},
        "additional_description": "names, or objects with name and weight, see /loras",
    },
}
"""JSON schema of a parameter by its type hint."""


class Endpoints:
    """The functions behind the endpoints."""

    def __init__(self, studio: Studio, annotators: ModuleType, stream: Stream) -> None:
        """Remember who does the work; `publish` makes the endpoints."""
        self.studio = studio
        self.annotators = annotators
        self.stream = stream
        self.pictures: gr.Gallery | None = None

    def publish(self) -> None:
        """Add the endpoints to the `gr.Blocks` whose context this is called in."""
        condition = gr.Image(visible=False, format="png", label="condition", type="filepath")
        self.pictures = gr.Gallery(visible=False, format="png", label="pictures")
        recipe = gr.JSON(visible=False, label="recipe")
        self._publish("annotate", self.annotate, [condition], LIVE)
        self._publish("generate", self.generate, [self.pictures, recipe], RUN)
        listing = {"concurrency_limit": None}
        for name, function in (("models", self.models), ("annotators", self.list_annotators), ("loras", self.loras)):
            self._publish(name, function, [gr.JSON(visible=False, label=name)], listing)

    def _publish(self, name: str, function: Callable, outputs: list, options: dict[str, Any]) -> None:
        inputs = [_input(parameter) for parameter in inspect.signature(function).parameters.values()]
        gr.Button(visible=False).click(
            function, inputs, outputs, api_name=name, api_visibility="public", show_progress="hidden", **options
        )

    def annotate(
        self, image: str, annotator: str = "canny", resolution: int | None = 512, settings: dict | None = None
    ) -> Image.Image:
        """Turn a picture into a condition picture: edges, depth, pose or segmentation, with the annotator's settings."""
        with spoken(page=False):
            return make_condition(self.annotators, _required(image), annotator, resolution, settings).annotation.image

    def generate(  # noqa: PLR0913 - the API's parameters, by name
        self,
        image: str,
        prompt: str = "",
        negative_prompt: str = "",
        model: str = "starter",
        annotator: str = "pose",
        gamma: float | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int = -1,
        num_images: int = 1,
        width: int = 0,
        height: int = 0,
        control_start: float = 0.0,
        control_end: float = 1.0,
        loras: list | None = None,
        settings: dict | None = None,
    ) -> tuple[list[str], dict[str, Any]]:
        """Make pictures that follow the condition of `image` and the words of `prompt`; return them and their recipe.

        null, -1 and 0 mean the model's default, or a new seed. With annotator "none" the image already is a condition, and
        settings {"adapter": "pose"} says of which kind.
        """
        with spoken(page=False):
            if settings is not None and not isinstance(settings, dict):
                raise ConditionError(f"settings is an object with names and values, or null; got {settings!r:.80}.")
            settings = dict(settings or {})
            adapter = settings.pop("adapter", "") if annotator == READY_MAP else ""
            recipe = self.studio.resolve(
                model,
                annotator,
                adapter=adapter,
                prompt=prompt,
                negative_prompt=negative_prompt,
                gamma=gamma,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                seed=seed,
                num_images=num_images,
                width=width,
                height=height,
                control_start=control_start,
                control_end=control_end,
                loras=loras,
                annotator_settings=settings,
            )
            resolution = None if annotator == READY_MAP else map_resolution(recipe.width, recipe.height)
            made = make_condition(self.annotators, _required(image), annotator, resolution, settings)
            *_, result = self.stream(recipe, made.annotation, threading.Event())
            return [shared.served(Path(path), self.pictures) for path in result.files], facts(result)

    def models(self) -> list[dict[str, Any]]:
        """List the models, each with its annotators and defaults, and whether it is usable now and if not why."""
        with spoken(page=False):
            return self.studio.models()

    def list_annotators(self) -> list[dict[str, Any]]:
        """List the annotators with settings and backends, and whether each is usable now and if not why."""
        with spoken(page=False):
            return self.annotators.status()

    def loras(self, model: str = "starter", annotator: str = "") -> list[dict[str, Any]]:
        """List the LoRAs with rank, key style, trigger words and bytes, and whether a model can use each and if not why.

        With an annotator, usable ones have `conflict`: how much they work on the same weights as its adapter.
        """
        with spoken(page=False):
            return self.studio.loras(model, annotator)


def _required(path: str | None) -> str:
    if path is None:
        raise ConditionError("There is no picture; send one as `image`.")
    return path


def _input(parameter: inspect.Parameter) -> gr.components.Component:
    if parameter.name == "image":
        return picture_input(visible=False, label="image")
    return Api(parameter.default, SCHEMAS[parameter.annotation], parameter.name)
