"""The endpoints `/score`, `/repair` and `/enhance`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.recipes.kinds import kind_of
from controlnext.studio.enhance import EnhanceError, enhanced
from controlnext.studio.scoring import ScoreError, score_picture
from controlnext.ui import shared
from controlnext.ui.api import publish, result_of, running
from controlnext.ui.asked import required
from controlnext.ui.image.events import LIVE, RUN
from controlnext.ui.image.result import facts
from controlnext.ui.shared import open_picture, reported_errors
from controlnext.ui.sweep_run import run_repair
from controlnext.ui.worker import Runs, Stream

if TYPE_CHECKING:
    from controlnext.studio.repair import Repaired
    from controlnext.studio.studio import Studio


class ScoreEndpoints:
    """The functions behind the endpoints."""

    def __init__(self, studio: Studio, stream: Stream) -> None:
        """Remember who does the work; `publish` makes the endpoints."""
        self.studio, self.stream, self.runs = studio, stream, Runs()

    def publish(self) -> None:
        """Add the endpoints to the `gr.Blocks` whose context this is called in."""
        self.picture = gr.Image(visible=False, format="png", label="picture", type="filepath")
        publish("score", self.score, [gr.JSON(visible=False, label="score")], LIVE)
        publish("enhance", self.enhance, [self.picture, gr.JSON(visible=False, label="recipe")], RUN)
        publish("repair", self.repair, [self.picture, gr.JSON(visible=False, label="repair")], RUN)

    def score(
        self,
        image: str,
        condition: str,
        annotator: str = "pose",
        settings: dict | None = None,
        model: str = "starter",
    ) -> dict[str, Any]:
        """Measure how well a picture follows a condition: adherence from 0 to 1, the number under finished pictures.

        `condition` is a map of the kind `annotator`, as /annotate returns it; `settings` are those it was made with. `model` says
        whose pictures these are, since the starter's drawn figures have a reader of their own.
        """
        with reported_errors(page=False):
            tools = self.studio.annotators
            if condition is None:
                raise ScoreError("There is no condition; send a map as `condition`.")
            if unused := {"resolution", "backend"} & set(settings or ()):
                raise ScoreError(
                    f"A score takes no {' and no '.join(sorted(unused))}: the picture is read in its own size, by the reader of `model`."
                )
            value = score_picture(
                tools.annotate, open_picture(tools, required(image)), open_picture(tools, condition), annotator, settings,
                self.studio.adherence_backend(model),
            )  # fmt: skip
            return {"adherence": round(value, 4), "name": kind_of(annotator).score, "annotator": annotator}

    def repair(self, image: str) -> tuple[str, dict[str, Any]]:
        """Draw a picture again where it drifted from its condition, with stronger control, and keep what raised its score.

        `image` is a PNG as this app saved it, with its recipe and condition inside. Pixels outside of the repaired regions stay
        as they are. Returns the picture and what was tried.
        """
        with reported_errors(page=False):
            with running(self.runs) as cancel:
                done = result_of(run_repair(Path(required(image)), self.studio, self.stream, cancel))
            return shared.served(done.file, self.picture), repair_facts(done)

    def enhance(
        self, image: str, detail: list[str] | None = None, upscale: int = 1, upscaler: str = ""
    ) -> tuple[str, dict[str, Any]]:
        """Draw faces and hands of a picture again at full size, or make it larger; returns the picture and its recipe.

        `image` is a PNG as this app saved it, with its recipe inside. `detail` is a list of "face" and "hands"; pixels outside of
        them stay as they are. `upscale` is 2 or 4, 1 leaves the size; `upscaler` names the file of a model in the app's folder
        `upscalers`, and is empty for Lanczos.
        """
        with reported_errors(page=False):
            if detail is not None and not isinstance(detail, list):
                raise EnhanceError(f'detail is a list of "face" and "hands", or null; got {detail!r:.80}.')
            recipe, inputs = enhanced(Path(required(image)), detail or (), upscale, upscaler)
            with running(self.runs) as cancel:
                result = result_of(self.stream(recipe, inputs, cancel))
            return shared.served(result.files[0], self.picture), facts(result)


def repair_facts(done: Repaired) -> dict[str, Any]:
    """Return what a repair did as JSON values."""
    return {
        "before": round(done.before, 4),
        "after": round(done.after, 4),
        "tries": [{"area": round(one.area, 4), "score": round(one.score, 4), "kept": one.kept} for one in done.tries],
        "sentence": done.sentence(),
    }
