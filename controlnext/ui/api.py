"""The page as an API: `/annotate`, `/generate`, `/models`, `/annotators`, `/loras`. Names and defaults are a contract.

The parameters of an endpoint are those of its function here, read from its signature; values arrive as they were sent, so
that they are checked where they are used and errors have the same wording everywhere.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components.api_component import Api

from controlnext.errors import StudioError
from controlnext.models.presets import DEFAULT_MODEL
from controlnext.progress import Progress
from controlnext.studio.best_of import ranked
from controlnext.ui import shared
from controlnext.ui.asked import ask, required
from controlnext.ui.image.conditions import open_condition
from controlnext.ui.image.controls import SentArea
from controlnext.ui.image.events import LIVE, RUN
from controlnext.ui.image.result import facts
from controlnext.ui.shared import picture_input, reported_errors
from controlnext.ui.trust.sessions import this_session
from controlnext.ui.worker import Runs, Stream

if TYPE_CHECKING:
    from PIL import Image

    from controlnext.studio.studio import Studio

SCHEMAS: Mapping[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "int | None": {"type": "integer", "additional_description": "may be null, see above"},
    "float | None": {"type": "number", "additional_description": "may be null, see above"},
    "bool | None": {"type": "boolean", "additional_description": "null means the model's default"},
    "str | None": {"type": "string", "additional_description": "null means the model's default"},
    "dict | None": {
        "type": "object",
        "additional_description": "values of the annotator's settings by name, see /annotators; `backend` is one of them",
    },
    "list | None": {
        "type": "array",
        "items": {},
        "additional_description": "names, or objects with name and weight, see /loras",
    },
    "list[str] | None": {
        "type": "array",
        "items": {"type": "string"},
        "additional_description": "names; null means none",
    },
    "list[float | str] | None": {
        "type": "array",
        "items": {},
        "additional_description": "2 to 9 values of the axis; null takes the usual ones",
    },
    "list[dict] | None": {
        "type": "array",
        "items": {},
        "additional_description": "additional controls, at most two: objects with annotator, and optionally image (a file; without "
        "it the same picture), gamma, gamma_curve, alpha, control_start, control_end, settings, area (a file), area_outside, area_soft",
    },
}
"""JSON schema of a parameter by its type hint."""

PICTURES = ("image", "init_image", "mask", "area", "reference", "condition")
CLIPS = ("video",)
"""Parameters that are uploads."""


class Endpoints:
    """The functions behind the endpoints."""

    def __init__(self, studio: Studio, stream: Stream) -> None:
        """Remember who does the work; `publish` makes the endpoints."""
        self.studio = studio
        self.stream = stream
        self.runs = Runs()
        self.pictures: gr.Gallery | None = None

    def publish(self) -> None:
        """Add the endpoints to the `gr.Blocks` whose context this is called in."""
        condition = gr.Image(visible=False, format="png", label="condition", type="filepath")
        self.pictures = gr.Gallery(visible=False, format="png", label="pictures")
        recipe = gr.JSON(visible=False, label="recipe")
        publish("annotate", self.annotate, [condition], LIVE)
        publish("generate", self.generate, [self.pictures, recipe], RUN)
        listing = {"concurrency_limit": None}
        for name, function in (("models", self.models), ("annotators", self.list_annotators), ("loras", self.loras)):
            publish(name, function, [gr.JSON(visible=False, label=name)], listing)

    def annotate(
        self, image: str, annotator: str = "canny", resolution: int | None = 512, settings: dict | None = None
    ) -> Image.Image:
        """Turn a picture into a condition picture: edges, depth, pose or segmentation, with the annotator's settings.

        `resolution` is the shorter side in pixels; null keeps the picture's size.
        """
        with reported_errors(page=False):
            return open_condition(
                self.studio.annotators, required(image), annotator, resolution, settings
            ).annotation.image

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
        gamma_curve: str = "",
        init_image: str | None = None,
        strength: float | None = None,
        mask: str | None = None,
        controls: list[dict] | None = None,
        scheduler: str | None = None,
        alpha: float | None = None,
        best_of: int = 0,
        detail: list[str] | None = None,
        upscale: int = 1,
        upscaler: str = "",
        area: str | None = None,
        area_outside: bool = False,
        area_soft: float = 0.0,
        people: list[str] | None = None,
        reference: str | None = None,
        ip_adapter: str = "",
        ip_adapter_scale: float | None = None,
    ) -> tuple[list[str], dict[str, Any]]:
        """Make pictures that follow the condition of `image` and the words of `prompt`; return them and their recipe.

        null, -1 and 0 mean the model's default, or a new seed. With annotator "none" the image already is a condition, and
        settings {"adapter": "pose"} says of which kind. `gamma_curve` ("linear 1 to 0", "cosine 1 to 0", "0:1, 0.5:0.3")
        multiplies gamma over the steps. `init_image` is a picture to start from instead of noise, `strength` how much of it is
        redrawn, and `mask`, of its size, is white where it is to be repainted. `controls` are controls in addition to the
        first. `best_of` draws so many pictures in place of `num_images`, and returns the one that follows best first.
        `detail` (["face", "hands"]) draws these again at full size, `upscale` (2 or 4) enlarges by the model `upscaler`; see /enhance.
        `area` is a mask, white where the first control acts (black with `area_outside`), its edge blurred by `area_soft` pixels.
        `people` are words for each person of a pose from left to right, "1.3: a knight" with a strength of their own.
        `reference` is a picture to take looks from, by the IP-Adapter file `ip_adapter` of the app's folder or the first that fits.
        """
        # Whatever is not 0 is checked as a number of pictures.
        count = num_images if best_of == 0 and not isinstance(best_of, bool) else best_of
        with reported_errors(page=False):
            asked = ask(
                self.studio, image, model, annotator, settings, controls, init_image, mask,
                prompt=prompt, negative_prompt=negative_prompt, gamma=gamma, num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale, seed=seed, num_images=count, width=width, height=height,
                control_start=control_start, control_end=control_end, loras=loras, gamma_curve=gamma_curve, strength=strength,
                scheduler=scheduler, alpha=alpha, detail=detail, upscale=upscale, upscaler=upscaler,
                area=SentArea(area, area_outside, area_soft), people=people, reference=reference, ip_adapter=ip_adapter,
                ip_adapter_scale=ip_adapter_scale,
            )  # fmt: skip
            recipe, inputs = asked.recipe, asked.inputs_for(asked.recipe)
            with running(self.runs) as cancel:
                result = result_of(self.stream(recipe, inputs, cancel))
            result = ranked(result) if best_of else result
            return [shared.served(Path(path), self.pictures) for path in result.files], facts(result)

    def models(self) -> list[dict[str, Any]]:
        """List the models, each with its annotators and defaults, and whether it is usable now and if not why."""
        with reported_errors(page=False):
            return self.studio.catalogue.models()

    def list_annotators(self) -> list[dict[str, Any]]:
        """List the annotators with settings and backends, and whether each is usable now and if not why."""
        with reported_errors(page=False):
            return self.studio.annotators.status()

    def loras(self, model: str = "starter", annotator: str = "") -> list[dict[str, Any]]:
        """List the LoRAs with rank, key style, trigger words and bytes, and whether a model can use each and if not why.

        With an annotator, usable ones have `conflict`: how much they work on the same weights as its adapter.
        """
        with reported_errors(page=False):
            return self.studio.catalogue.loras(model or DEFAULT_MODEL, annotator)


def taking(other: Callable, *names: str) -> Callable[[Callable], Callable]:
    """Return a decorator: the function's `**values` are parameters of another endpoint, with their types and defaults.

    Args:
        other: function of that endpoint.
        *names: of those that this one takes, too.
    """

    def decorate(function: Callable) -> Callable:
        own, theirs = (inspect.signature(one).parameters for one in (function, other))
        plain = [one for one in own.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        signature = inspect.Signature([*plain, *(theirs[name] for name in names)])

        @functools.wraps(function)
        def call(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - those of the signature
            bound = signature.bind(*given, **named)
            bound.apply_defaults()
            return function(**bound.arguments)

        call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    return decorate


@contextmanager
def running(runs: Runs) -> Iterator[threading.Event]:
    """Give the cancel event of a call's work, which is set when its client goes away."""
    session = this_session()
    cancel = runs.join(session)
    try:
        yield cancel
    finally:
        runs.finish(session, cancel)


def result_of(reports: Iterator[Any]) -> Any:  # noqa: ANN401 - a `Result` or a `VideoResult`
    """Return what was made, after all that was reported on the way.

    Raises:
        StudioError: it was stopped before it began, since its client went away.
    """
    made = list(deque(reports, maxlen=1))
    if not made or isinstance(made[0], Progress):
        raise StudioError("The work was stopped before anything was made.")
    return made[0]


def publish(name: str, function: Callable, outputs: list[gr.components.Component], options: dict[str, Any]) -> None:
    """Make an endpoint of a function, its parameters those of its signature; called in the context of a `gr.Blocks`.

    Args:
        name: of the endpoint, without the slash.
        function: what it does.
        outputs: components of what it returns.
        options: of the event, such as its queue.
    """
    inputs = [_input(parameter) for parameter in inspect.signature(function).parameters.values()]
    gr.Button(visible=False).click(
        function, inputs, outputs, api_name=name, api_visibility="public", show_progress="hidden", **options
    )


def _input(parameter: inspect.Parameter) -> gr.components.Component:
    if parameter.name in PICTURES:
        return picture_input(visible=False, label=parameter.name)
    if parameter.name in CLIPS:
        return gr.File(visible=False, label=parameter.name)
    return Api(parameter.default, SCHEMAS[parameter.annotation], parameter.name)
