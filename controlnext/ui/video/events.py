"""Event handlers of a video run: progress, stop, views of the result and defaults."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.models.defaults import FEW_STEP_VALUES, FEW_STEPS
from controlnext.progress import Progress
from controlnext.ui import shared
from controlnext.ui.board.made import MadeResults
from controlnext.ui.image.events import RUN as QUEUE
from controlnext.ui.image.tab import SEED_MAXIMUM
from controlnext.ui.models import model_choices, model_info
from controlnext.ui.panel import RunPanel
from controlnext.ui.shared import PRIVATE, Data, Updates, note_html, reported_errors, served_text, waiting_html
from controlnext.ui.video.fit import FitEvents
from controlnext.ui.video.parts import video_summary_html
from controlnext.ui.video.tab import LIKE_REFERENCE, RUN, VIEWS, VideoTab, lora_names, pose_strength_info, video_sizes
from controlnext.ui.worker import Runs, VideoOrder, VideoStream
from controlnext.video.ffmpeg import VideoError

if TYPE_CHECKING:
    from controlnext.animation.video_run import VideoResult
    from controlnext.recipes.video_recipe import VideoRecipe
    from controlnext.studio.studio import Studio

STOPPED = "Stopped before a frame was finished."

SHOW_STAGE = """() => {
  if (window.innerWidth < 900) document.getElementById("cnx-video-stage").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth", block: "center" });
}"""


class VideoEvents:
    """The handlers of a run."""

    def __init__(
        self,
        tab: VideoTab,
        studio: Studio,
        fit: FitEvents,
        clips: dict[str, str],
        stream: VideoStream,
        made: MadeResults | None = None,
    ) -> None:
        """Remember the parts; `wire` connects them.

        Args:
            tab: The page.
            studio: Says what models there are.
            fit: Says what is chosen about clip and character.
            clips: Where it is remembered which upload was the clip of which digest.
            stream: Makes the videos.
            made: Where it is noted which page made which videos.
        """
        self.tab = tab
        self.panel = RunPanel(tab.animate, tab.stop, tab.progress, tab.preview, tab.video, tab.empty)
        self.studio = studio
        self.fit = fit
        self.runs = Runs()
        self.made = made or MadeResults()
        self.clips = clips
        self.stream = stream

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        tab = self.tab
        tab.model.input(
            self.model_defaults,
            tab.model,
            [
                tab.model, tab.gamma, tab.steps, tab.guidance, tab.size, tab.prompt, tab.window, tab.overlap,
                tab.motion_bucket_id, tab.noise_aug_strength, tab.shared_noise, tab.hands, tab.face, tab.loras,
            ],
            **PRIVATE,
        )  # fmt: skip
        tab.loras.input(
            self.few_steps,
            [tab.model, tab.steps, tab.guidance, tab.loras],
            [tab.steps, tab.guidance],
            queue=False,
            **PRIVATE,
        )
        tab.dice.click(
            lambda: (random.randint(0, SEED_MAXIMUM), False), None, [tab.seed, tab.new_seed], queue=False, **PRIVATE
        )
        outputs = [
            tab.animate, tab.stop, tab.empty, tab.preview, tab.video, tab.view, tab.progress, tab.summary, tab.recipe, tab.seed,
            tab.save_video, tab.save_recipe, tab.files,
        ]  # fmt: skip
        tab.animate.click(
            self.run, tab.inputs() | {tab.files, tab.view}, outputs, trigger_mode="once", **QUEUE, **PRIVATE
        )
        tab.animate.click(None, js=SHOW_STAGE)
        tab.stop.click(self.stop, None, [tab.stop, tab.progress], queue=False, **PRIVATE)
        tab.view.change(self.show_view, [tab.view, tab.files], [tab.video, tab.save_video], queue=False, **PRIVATE)

    def model_defaults(self, model: str) -> list[Any]:
        """Put everything that depends on the model to its own values."""
        with reported_errors():
            rows = self.studio.animator.models()
            row = next(row for row in rows if row["name"] == model)
            recipe = self.studio.animator.resolve(model)
        return [
            gr.update(choices=model_choices(rows), info=model_info(row)),
            gr.update(value=recipe.gamma, info=pose_strength_info(recipe.gamma)),
            recipe.num_inference_steps,
            recipe.guidance_scale,
            gr.update(choices=video_sizes(row["sizes"]), value=LIKE_REFERENCE),
            gr.update(visible=row["frame_by_frame"]),
            recipe.window,
            recipe.overlap,
            recipe.motion_bucket_id,
            recipe.noise_aug_strength,
            recipe.shared_noise,
            recipe.hands,
            recipe.face,
            gr.update(
                choices=lora_names(self.studio, row),
                value=[use.name for use in recipe.loras],
                visible=row["frame_by_frame"],
            ),
        ]

    def few_steps(self, model: str, steps: int, guidance: float, names: list[str]) -> list[Any]:
        """Set steps and guidance as the LoRA for few steps needs them, and back where it was taken away."""
        few = [FEW_STEP_VALUES["num_inference_steps"], FEW_STEP_VALUES["guidance_scale"]]
        if FEW_STEPS in names:
            return few
        if [steps, guidance] != few:
            return [gr.skip()] * 2
        with reported_errors():
            usual = self.studio.animator.resolve(model, loras=[])
        return [usual.num_inference_steps, usual.guidance_scale]

    def recipe(self, data: Data) -> VideoRecipe:
        """Return the recipe for what the page shows.

        Raises:
            ControlNeXtError: Something in it cannot be; the text says what.
        """
        tab, reference = self.tab, self.fit.reference(data)
        width, height = self.fit.size(data, reference)
        choice, seed = self.fit.choice(data), data[tab.seed]
        return self.studio.animator.resolve(
            data[tab.model],
            reference,
            **{name: getattr(choice, name) for name in choice.__dataclass_fields__},
            **{name: data[tab.part(name)] for name in RUN},
            seed=-1 if data[tab.new_seed] or seed is None else seed,
            width=width,
            height=height,
            area=tab.area.text(data, (width, height)),
        )

    def run(self, data: Data, request: gr.Request) -> Iterator[Updates]:
        """Make the video: yields the steps as they come, then the result."""
        tab, page = self.tab, request.session_hash or ""
        cancel = self.runs.start(page)
        idle = self.panel.idle(before=bool(data[tab.files]))
        try:
            with reported_errors():
                yield {
                    tab.animate: gr.update(value="Animating …", interactive=False),
                    tab.stop: gr.update(interactive=True),
                    tab.progress: waiting_html("Getting ready"),
                }
                source, last = self._clip(data), {tab.progress: note_html(STOPPED, "quiet")}
                recipe, reference = self.recipe(data), self.fit.reference(data)
                for report in self.stream(VideoOrder(recipe, reference, source, extras=True), cancel):
                    if isinstance(report, Progress):
                        yield self.panel.step(report)
                    else:
                        self.clips[report.recipe.clip_sha256] = source
                        self.made.add(page, [report.file])
                        last = self._done(report)
                yield idle | last
        except gr.Error:
            if cancel.is_set():  # asked for, so no error
                yield idle | {tab.progress: note_html(STOPPED, "quiet")}
                return
            yield idle
            raise
        finally:
            self.runs.finish(page, cancel)

    def stop(self, request: gr.Request) -> list[Any]:
        """Stop the run of this page; frames that are finished are kept."""
        running = self.runs.stop(request.session_hash or "")
        return [gr.update(interactive=False), waiting_html("Stopping after this step") if running else ""]

    def show_view(self, view: str, files: Mapping[str, str]) -> list[Any]:
        """Show another of the result's files, which is then the one that is saved."""
        if not files:
            return [gr.skip(), gr.skip()]
        path = files.get(view, files["file"])
        return [path, gr.update(value=path)]

    def _clip(self, data: Data) -> str:
        if not data[self.tab.opened]:
            raise VideoError("There is no clip yet: drop one in that shows how the character is to move.")
        return data[self.tab.opened]

    def _done(self, result: VideoResult) -> Updates:
        tab = self.tab
        paths = {name: getattr(result, name) for name in VIEWS}
        files = {name: shared.served(path, tab.video) for name, path in paths.items() if path is not None}
        facts = result.facts()
        return {
            tab.empty: gr.update(visible=False),
            tab.video: gr.update(visible=True, value=files["file"]),
            tab.view: gr.update(visible=len(files) > 1, value="file", choices=[(VIEWS[name], name) for name in files]),
            tab.summary: video_summary_html(result),
            tab.recipe: facts,
            tab.seed: result.recipe.seed,
            tab.save_video: gr.update(value=files["file"], interactive=True),
            tab.save_recipe: gr.update(value=_recipe_file(result.file.stem, facts, tab.save_recipe), interactive=True),
            tab.files: files,
        }


def _recipe_file(stem: str, facts: Mapping[str, Any], button: gr.DownloadButton) -> str:
    return served_text(json.dumps(facts, ensure_ascii=False, indent=2), f"{stem}.json", button)
