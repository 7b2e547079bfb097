"""Restore a saved video: put its recipe, its character and if possible its clip back into the page; examples."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from controlnext.hashes import weights_digest
from controlnext.recipes.recipe import RecipeError
from controlnext.ui.examples import video_examples
from controlnext.ui.image.restore import stretched, warn
from controlnext.ui.image.tab import GAMMA_MAXIMUM, GUIDANCE_MAXIMUM, STEPS_MAXIMUM
from controlnext.ui.models import model_choices, model_info
from controlnext.ui.shared import PRIVATE, Updates, reported_errors, served
from controlnext.ui.sizes import named
from controlnext.ui.video.player import Players
from controlnext.ui.video.tab import (
    CHOICE,
    FPS_MAXIMUM,
    FRAMES_MAXIMUM,
    RUN,
    VideoTab,
    lora_names,
    pose_strength_info,
    video_sizes,
)

if TYPE_CHECKING:
    from controlnext.recipes.video_recipe import VideoRecipe
    from controlnext.studio.studio import Studio

MAXIMA = {
    "gamma": GAMMA_MAXIMUM, "num_inference_steps": STEPS_MAXIMUM, "guidance_scale": GUIDANCE_MAXIMUM, "fps": FPS_MAXIMUM,
    "max_frames": FRAMES_MAXIMUM,
}  # fmt: skip
"""Sliders whose ends a recipe may lie beyond."""

UNSHOWN = (
    "negative_prompt",
    "gamma_curve",
    "alpha",
    "control_start",
    "control_end",
    "scheduler",
    "reader",
    "drawing",
)
"""Fields of a recipe that only the command line sets: the tab has no component for them."""


@dataclass(frozen=True)
class Restored:
    """What a saved video puts back.

    Attributes:
        updates: values of the page.
        clip: the clip it was made from, or where that is not here, the video itself.
        digest: of that clip's content.
        start: where its part begins, in seconds.
        end: where it ends; 0 is its end.
    """

    updates: Updates
    clip: str
    digest: str
    start: float
    end: float


class VideoRestore:
    """Puts a saved video's recipe, or an example, into the page."""

    def __init__(self, tab: VideoTab, studio: Studio, clips: dict[str, str]) -> None:
        """Remember the parts.

        Args:
            tab: The page.
            studio: Says what models there are.
            clips: uploads that were used since the start, by the digest of their content.
        """
        self.tab = tab
        self.studio = studio
        self.clips = clips
        self.examples = video_examples()
        self.players = Players(studio.animator.clip_reader, tab.clip)

    def outputs(self) -> set[gr.components.Component]:
        """Return everything that is put back."""
        tab = self.tab
        named = {tab.part(name) for name in (*CHOICE, *RUN)}
        return named | {
            tab.area.where,
            tab.area.kept,
            tab.area.editor,
            tab.reference,
            tab.clip,
            tab.model,
            tab.size,
            tab.seed,
            tab.new_seed,
            tab.opened,
            tab.restored,
        }

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        tab = self.tab
        tab.restore.upload(self.asked, tab.restore, self.outputs(), **PRIVATE)
        if tab.examples is not None:
            tab.examples.select(self.example, None, [tab.reference, tab.clip, tab.restored], **PRIVATE)

    def asked(self, path: str) -> Updates:
        """Restore the video given to "Restore".

        Raises:
            gr.Error: It carries no recipe.
        """
        with reported_errors():
            found = self.of(path)
            if found is None:
                raise RecipeError(
                    "This video carries no recipe; give an MP4 saved by this app, as it was saved (one sent through a "
                    "messenger has lost it)."
                )
            return found.updates

    def example(self, event: gr.SelectData) -> Updates:
        """Take the clicked character and its clip."""
        tab = self.tab
        picture, clip = self.examples[event.index]
        return {tab.reference: served(picture, tab.reference), tab.clip: served(clip, tab.clip), tab.restored: ""}

    def of(self, path: str) -> Restored | None:
        """Return what the video at `path` puts back; `None` where it carries no recipe.

        Raises:
            RecipeError: Its recipe, or the character inside, is damaged.
        """
        from controlnext.animation.reference import read_reference
        from controlnext.recipes.video_recipe import read_video_recipe

        recipe = read_video_recipe(path)
        if recipe is None:
            return None
        tab, reference, clip = self.tab, read_reference(path), self._clip(recipe)
        digest, start, end = recipe.clip_sha256, recipe.start, recipe.end
        if clip is None:
            clip, digest, start, end = path, weights_digest(Path(path)), 0.0, 0.0
            recipe = recipe.replace(start=0, end=0, person=0, edits=())
            warn(
                "The clip it was made from is not here, so this video itself drives; drop that clip for the same frames."
            )
        updates: Updates = {tab.part(name): getattr(recipe, name) for name in (*CHOICE, *RUN) if name != "loras"}
        updates |= {tab.part(name): stretched(getattr(recipe, name), most) for name, most in MAXIMA.items()}
        updates |= {
            tab.start: stretched(start, tab.start.maximum), tab.end: stretched(end, tab.end.maximum),
            tab.part("edits"): [edit.model_dump(mode="json") for edit in recipe.edits], tab.seed: recipe.seed, tab.new_seed: False, tab.clip: self.players.show(clip), tab.opened: "", tab.restored: digest,
            tab.person: gr.update(value=recipe.person, choices=[(str(n + 1), n) for n in range(recipe.person + 1)]),
        }  # fmt: skip
        if reference is not None:
            with tempfile.TemporaryDirectory(prefix="character-") as folder:
                file = Path(folder) / "character.png"
                reference.save(file)
                updates[tab.reference] = served(file, tab.reference)
        updates |= self._model(recipe) | tab.area.updates(recipe.area)
        gr.Info("The settings are back as they were when this video was made.", title="Restored", duration=5)
        return Restored(updates, clip, digest, start, end)

    def _clip(self, recipe: VideoRecipe) -> str | None:
        """The clip a video was made from, if it was used since the start, or is an example."""
        known = self.clips.get(recipe.clip_sha256)
        if known is not None and Path(known).exists():
            return known
        for _, example in self.examples:
            if weights_digest(example) == recipe.clip_sha256:
                return served(example, self.tab.clip)
        return None

    def _model(self, recipe: VideoRecipe) -> Updates:
        tab = self.tab
        rows = self.studio.animator.models()
        row = next((row for row in rows if row["name"] == recipe.model and row["usable"]), None)
        if row is None:
            warn(f"The model {recipe.model!r} of this video cannot be used here; the chosen one stays.")
            return {}
        usual = self.studio.animator.resolve(recipe.model, loras=[use.name for use in recipe.loras])
        lost = [name for name in (*UNSHOWN, "loras") if getattr(recipe, name) != getattr(usual, name)]
        if lost:
            warn(
                f"This page has no place for what the video says of {', '.join(lost)}; make it again with all of it by "
                "`python -m controlnext animate --recipe VIDEO REFERENCE CLIP`."
            )
        choices, size = video_sizes(row["sizes"]), named(recipe.width, recipe.height)
        if size not in [value for _, value in choices]:
            choices.append((f"{recipe.width} × {recipe.height}  (restored)", size))
        return {
            tab.model: gr.update(choices=model_choices(rows), value=recipe.model, info=model_info(row)),
            tab.size: gr.update(choices=choices, value=size),
            tab.gamma: gr.update(
                value=recipe.gamma, maximum=max(GAMMA_MAXIMUM, recipe.gamma), info=pose_strength_info(usual.gamma)
            ),
            tab.prompt: gr.update(value=recipe.prompt, visible=row["frame_by_frame"]),
            tab.loras: gr.update(
                choices=lora_names(self.studio, row),
                value=[use.name for use in recipe.loras],
                visible=row["frame_by_frame"],
            ),
        }
