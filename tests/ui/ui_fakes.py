"""A studio and annotators that keep the real ones' interfaces and need no model: what the page is tested and drawn with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw, ImageFilter, ImageOps, UnidentifiedImageError
from video_fakes import FakeAnimator, FakePoses

from annotators.base import Annotation, AnnotatorError, Setting
from controlnext.adherence.joints import joint_drift
from controlnext.adherence.measure import fitted
from controlnext.adherence.overlay import Overlay
from controlnext.animation.clip_reader import ClipReader
from controlnext.animation.video_run import VideoResult
from controlnext.loras.conflicts import Conflict, LayerConflict
from controlnext.models.upscalers import UpscalerFolders
from controlnext.progress import Cancelled, Progress, stop_if
from controlnext.recipes.inputs import Inputs, fitted_start
from controlnext.recipes.kinds import AUTO
from controlnext.recipes.pictures import fit_condition
from controlnext.recipes.png import write_png
from controlnext.recipes.recipe import LoraUse, Recipe, RecipeError
from controlnext.recipes.video_recipe import VideoRecipe
from controlnext.results.gallery import Gallery
from controlnext.studio.following import following
from controlnext.studio.live import Followed, LivePicture
from controlnext.studio.studio import Result

KINDS = ("pose", "depth", "canny", "segmentation")
GAMMAS = {"pose": 1.0, "depth": 0.9, "canny": 0.8, "segmentation": 1.2}


class FakeAnnotators(FakePoses):
    """Acts like the package `annotators`: edges by Pillow, everything else from the picture's brightness."""

    ANNOTATORS: Mapping[str, str] = dict.fromkeys((*KINDS, "none"), "")
    SETTINGS: Mapping[str, tuple[Setting, ...]] = {
        "canny": (
            Setting("low", "Weak edges from", "int", 100, 0, 255, 1),
            Setting("high", "Strong edges from", "int", 200, 0, 255, 1),
            Setting("blur", "Blur", "float", 1.0, 0.0, 5.0, 0.1, unit="px"),
            Setting("automatic", "Choose the thresholds from the picture", "bool", False),
        ),
        "pose": (
            Setting("people", "People at most", "int", 4, 1, 8, 1),
            Setting("confidence", "Sure of a joint from", "float", 0.3, 0.0, 1.0, 0.05),
        ),
        "depth": (Setting("near", "Near is", "choice", "white", choices=("white", "black")),),
        "segmentation": (),
        "none": (Setting("invert", "Invert", "bool", False), Setting("swap", "Swap red and blue", "bool", False)),
    }

    def __init__(self) -> None:
        self.calls = 0

    def describe(self, name: str) -> dict[str, Any]:
        backends = [
            {"name": "mediapipe", "label": "MediaPipe", "usable": True, "reason": ""},
            {"name": "starter", "label": "Starter net", "usable": True, "reason": ""},
        ]
        return {"settings": self.SETTINGS[name], "backends": backends if name == "pose" else backends[:1]}

    def status(self) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "label": name.title(),
                "usable": True,
                "reason": "",
                "backends": self.describe(name)["backends"],
            }
            for name in self.ANNOTATORS
        ]

    def load_picture(self, source: Any) -> Image.Image:
        try:
            picture = ImageOps.exif_transpose(Image.open(source)).convert("RGB")
        except (OSError, UnidentifiedImageError):
            raise AnnotatorError(
                "This file is not a picture that can be read; save it again as PNG or JPEG."
            ) from None
        if min(picture.size) < 16:
            raise AnnotatorError(f"The picture is {picture.width} x {picture.height} pixels; give one of at least 16.")
        return picture

    def describe_figure(self, image: Image.Image) -> str:
        return "a person with brown hair in a red shirt"

    def annotate(
        self,
        name: str,
        image: Image.Image,
        /,
        *,
        backend: str = "auto",
        resolution: int | None = None,
        **settings: Any,
    ) -> Annotation:
        self.calls += 1
        if name not in self.ANNOTATORS:
            raise AnnotatorError(f"There is no annotator {name!r}; choose one of {', '.join(self.ANNOTATORS)}.")
        for setting in settings:
            if setting not in [row.name for row in self.SETTINGS[name]]:
                raise AnnotatorError(f"The annotator {name!r} has no setting {setting!r}.")
        if resolution:
            scale = resolution / min(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)))
        if name == "none":
            return Annotation(image, "as given")
        if name == "canny":
            edges = image.convert("L").filter(ImageFilter.FIND_EDGES)
            return Annotation(edges.point(lambda v: 255 * (v > settings.get("low", 100) / 4)).convert("RGB"), "opencv")
        if np.asarray(image).max() == 0:
            raise AnnotatorError(
                "No person was found in this picture; try one that shows a whole person, or use canny."
            )
        grey = ImageOps.autocontrast(image.convert("L"))
        return Annotation(grey.convert("RGB"), "mediapipe" if backend == "auto" else backend, {"people": []})


@dataclass
class FakeCatalogue:
    """Acts like `controlnext.models.catalogue.Catalogue`.

    Attributes:
        added: LoRAs that were uploaded.
        trained: Kinds of the models that trainings made, by name.
    """

    added: list[str] = field(default_factory=list)
    trained: dict[str, list[str]] = field(default_factory=dict)

    def models(self) -> list[dict[str, Any]]:
        defaults = {"num_inference_steps": 20, "guidance_scale": 3.0, "width": 256, "height": 256}
        sizes = {
            "width": 256,
            "height": 256,
            "minimum": 128,
            "maximum": 512,
            "choices": {"3:4": [192, 256], "4:3": [256, 192]},
        }
        large = {"width": 1024, "height": 1024, "minimum": 512, "maximum": 2048, "choices": {}}
        return [
            {"name": "starter", "label": "Starter", "sizes": sizes, "family": "starter", "usable": True, "reason": "", "annotators": list(KINDS),
             "defaults": defaults, "licence": "Apache-2.0"},
            {"name": "sdxl", "label": "SDXL", "sizes": large, "family": "sdxl", "usable": False, "reason": "Its base model is not downloaded.",
             "annotators": ["canny", "depth"], "defaults": {**defaults, "width": 1024, "height": 1024}, "licence": ""},
            *({"name": name, "label": name, "sizes": sizes, "family": "starter", "usable": True, "reason": "", "annotators": kinds,
               "defaults": defaults, "licence": ""} for name, kinds in self.trained.items()),
        ]  # fmt: skip

    def add_model(self, source: Path, name: str, note: str = "") -> str:
        self.trained[name] = list(yaml.safe_load(source.read_text())["adapters"])
        return name

    def preset(self, name: str) -> str:
        return name

    def loras(self, model: str = "starter", annotator: str = "") -> list[dict[str, Any]]:
        facts = {"rank": 8, "style": "kohya", "size": 1_500_000, "trigger": "", "weight": 1.0}
        rows = [
            {"name": "night", "usable": True, "reason": "", **facts, "trigger": "at night"},
            {"name": "clay", "usable": True, "reason": "", **facts},
            *({"name": name, "usable": True, "reason": "", **facts} for name in self.added),
            {"name": "other-base", "usable": False, "reason": "It was trained for SDXL.", **facts},
        ]
        for row in rows if annotator else ():
            if row["usable"]:
                row["conflict"] = self.conflict(model, annotator, row["name"]).row()
        return rows

    def conflict(self, model: str, annotator: str, lora: str, weight: float = 1.0) -> Conflict:
        if annotator not in KINDS:
            raise RecipeError(f"The model {model} has no adapter for {annotator!r}.")
        worst = (LayerConflict("mid_block", 0.9, -0.1),)
        return Conflict("some", "", 0.5, 0.5, -0.1, 3, 0.25, worst).at(weight)

    def weights(self, recipe: Recipe) -> dict[str, str]:
        return {}

    def add_lora(self, model: str, source: Path, name: str | None = None) -> str:
        if source.suffix != ".safetensors":
            raise RecipeError(f"{source.name!r} is <no> LoRA file; LoRAs end in .safetensors.")
        self.added.append(source.stem)
        return source.stem

    def resolve(self, model: str = "starter", annotator: str = "none", **values: Any) -> Recipe:
        rows = {row["name"]: row for row in self.models()}
        if model not in rows:
            raise RecipeError(f"There is no model {model!r}; choose one of {', '.join(rows)}.")
        kind = values.get("adapter") or annotator
        if kind not in (*rows[model]["annotators"], "none"):
            raise RecipeError(f"The model {model} has no adapter for {kind!r}.")
        for use in values.get("loras") or []:
            if isinstance(values["loras"], str) or not isinstance(use, str | dict):
                raise RecipeError(f"The loras are a list of names, or of names with weights, not {values['loras']!r}.")
        if values.get("loras"):
            values["loras"] = [{"name": use} if isinstance(use, str) else use for use in values["loras"]]
        given = {
            key: value for key, value in values.items()
            if value is not None and not (key in ("width", "height") and value == 0)
        }  # fmt: skip
        if given.get("seed", -1) == -1:
            given["seed"] = int(np.random.default_rng().integers(2**32))
        defaults = {**rows[model]["defaults"], "gamma": GAMMAS.get(kind, 1.0)}
        return Recipe(model=model, annotator=annotator, **{**defaults, **given})


@dataclass
class FakeReferences:
    """Acts like `ReferenceFolders`.

    Attributes:
        names: Files that fit the starter.
    """

    names: list[str] = field(default_factory=list)

    def files(self, preset: str) -> dict[str, Path]:
        return {name: Path(name) for name in self.names if preset == "starter"}

    def first(self, preset: str) -> str:
        return next(iter(self.files(preset)))


@dataclass
class FakeStudio:
    """Acts like `controlnext.studio.studio.Studio`; a picture is its condition tinted by its seed.

    Attributes:
        output_dir: Where pictures are written.
        step_seconds: Time of one step.
        ready: Whether the model is loaded.
        recipes: Every recipe that was run.
        steps: Steps taken in all runs.
        inputs: The pictures of every recipe that was run.
        live: Every recipe that was drawn live.
    """

    output_dir: Path
    step_seconds: float = 0.0
    ready: bool = True
    recipes: list[Recipe] = field(default_factory=list)
    steps: int = 0
    inputs: list[Inputs] = field(default_factory=list)
    live: list[Recipe] = field(default_factory=list)
    catalogue: FakeCatalogue = field(default_factory=FakeCatalogue)
    references: FakeReferences = field(default_factory=lambda: FakeReferences())
    upscalers: UpscalerFolders = field(default_factory=UpscalerFolders)
    annotators: Any = field(default_factory=FakeAnnotators)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def gallery(self) -> Gallery:
        return Gallery(self.output_dir)

    @cached_property
    def animator(self) -> FakeAnimator:
        return FakeAnimator(self.output_dir, clip_reader=ClipReader(self.annotators))

    def animate(self, recipe: VideoRecipe, reference: Image.Image, clip: str, **options: Any) -> VideoResult:
        return self.animator.animate(recipe, reference, clip, **options)

    def adherence_backend(self, model: str) -> str:
        return "auto"

    def warm_up(self) -> None:
        time.sleep(self.step_seconds)
        self.ready = True

    def generate(
        self,
        recipe: Recipe,
        condition: Image.Image | Inputs | None,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Result:
        with self.lock:
            return self._generate(recipe, condition, on_progress, cancel)

    def draw_live(
        self, recipe: Recipe, condition: Image.Image | Inputs | None, cancel: threading.Event | None = None
    ) -> LivePicture:
        given = Inputs.of(condition)
        size = (recipe.width, recipe.height)
        cancel = cancel or threading.Event()
        with self.lock:
            for _ in range(4):
                time.sleep(self.step_seconds)
                stop_if(cancel)
        asked = tuple(fitted(one, recipe.condition_kind, size) for one in given.conditions)
        base = asked[0].image if asked else Image.new("RGB", size, "grey")
        tint = Image.new("RGB", size, ((37 * recipe.seed) % 256, 90, 60))
        recipe = recipe.replace(num_inference_steps=4, guidance_scale=1.0, precision="float32")
        self.live.append(recipe)
        return LivePicture(Image.blend(base, tint, 0.3), recipe, asked, 4 * self.step_seconds)

    def follow_live(self, picture: LivePicture) -> Followed:
        people = (picture.asked[0].data or {}).get("people") or [] if picture.asked else []
        found = [
            np.asarray(person) + (0, 60, 0) * (np.arange(18) == 4)[:, None] for person in people
        ]  # one wrist is off
        return Followed(0.9, "PCK@0.1", tuple(map(tuple, joint_drift(people, found))))

    def show_following(self, file: Path) -> Overlay:
        return following(self.annotators.annotate, file, lambda model: AUTO)

    def _generate(self, recipe, condition, on_progress, cancel) -> Result:
        begun = time.perf_counter()
        given = Inputs.of(condition)
        if len(given.conditions) < len(recipe.all_controls):
            raise RecipeError(
                f"The recipe asks for {recipe.condition_kind} control, but no condition was given; add one."
            )
        if given.init_image is None and given.mask is None and recipe.strength is not None:
            raise RecipeError("The recipe starts from a picture (strength), but none was given.")
        size = (recipe.width, recipe.height)
        images = [fit_condition(getattr(one, "image", one), *size) for one in given.conditions]
        inputs = Inputs(tuple(images), *fitted_start(given, size), reference=given.reference)
        base = images[0] if images else inputs.init_image or Image.new("RGB", size, "grey")
        total = recipe.steps_to_run
        for step in range(1, total + 1):
            if cancel is not None and cancel.is_set():
                raise Cancelled("Stopped; no picture was finished.")
            time.sleep(self.step_seconds)
            self.steps += 1
            if on_progress is not None:
                preview = base.resize((64, 64)).filter(ImageFilter.GaussianBlur(6 * (1 - step / total)))
                on_progress(Progress("Drawing", step, total, (total - step) * self.step_seconds, preview))
        recipe = recipe.with_digests(inputs)
        self.recipes.append(recipe)
        self.inputs.append(inputs)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        seeds = [recipe.seed + index for index in range(recipe.num_images)]
        images, files = [], []
        for index, seed in enumerate(seeds):
            tint = ((37 * seed) % 256, (91 * seed) % 256, (173 * seed) % 256)
            image = Image.blend(base, Image.new("RGB", size, tint), 0.4)
            ImageDraw.Draw(image).text((6, 6), f"{recipe.gamma:.2f}", fill="white")
            image = given.drawn.image if given.drawn else image
            image = image.resize((size[0] * recipe.upscale, size[1] * recipe.upscale))
            path = self.output_dir / f"{len(self.recipes):04d}-{seed}.png"
            write_png(path, image, recipe.alone(index), inputs)
            images.append(image)
            files.append(path)
        scores = [None if not given.conditions else round(0.95 - 0.2 * index, 2) for index in range(len(seeds))]
        adherences = {control.condition_kind: scores for control in recipe.all_controls}
        seconds = time.perf_counter() - begun
        return Result(images, files, recipe, seeds, scores, "PCK@0.1", seconds, False, adherences=adherences)


LORA = LoraUse(name="night", weight=0.7)
