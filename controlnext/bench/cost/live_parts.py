"""`python -m controlnext bench live --parts`: what a live picture's time goes into, and what its shortcuts cost.

Draws live pictures of a moving pose with the bundled starter, without a page, and counts the CPU seconds of this process, which
other programs on the machine change less than the seconds of a clock. Then turns a forearm, looks what changes outside of it, and draws
held-out scenes live and in full, and reads both.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from PIL import Image, ImageDraw

from controlnext.assets import STARTER
from controlnext.bench.command import publish
from controlnext.bench.tables import markdown
from controlnext.models.presets import DEFAULT_MODEL
from controlnext.recipes.kinds import POSE
from controlnext.studio.conditions import drawn_pose
from controlnext.studio.studio import Studio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from controlnext.engine.engine import Engine
    from controlnext.starter.train.dataset import SceneSample
    from controlnext.studio.live import LivePicture

PICTURES = 8
PROMPT = "a person in a red shirt and blue trousers on green grass"
ELBOW, WRIST = 3, 4
SIDE = 256
DRAG, TURN = 24, 5.0
"""Pictures of a drag, and the degrees by which the forearm turns from one to the next."""

LIMB = 48
"""Width in pixels of what counts as the forearm and its surroundings."""

MOST_CHANGE = 0.55
"""Percent of white: what changes in the background between frames of the video starter, see `bench starter-video`."""


class CpuTimes:
    """CPU seconds of calls by name, without those of timed calls inside of them."""

    def __init__(self) -> None:
        """Start with none."""
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[float] = []

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a call that adds its time under `name`."""

        def run(*args: object, **kwargs: object) -> object:
            with self.part(name):
                return call(*args, **kwargs)

        return run

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of a block under `name`."""
        begun = time.process_time()
        self._open.append(0.0)
        try:
            yield
        finally:
            took = time.process_time() - begun
            self.seconds[name] += took - self._open.pop()
            if self._open:
                self._open[-1] += took


def parts(options: argparse.Namespace) -> int:
    """Measure and print both tables."""
    import annotators

    with tempfile.TemporaryDirectory(prefix="controlnext-live-") as folder:
        studio = Studio(output_dir=folder, annotators=annotators, device="cpu")
        rows, steps = _seconds(studio)
        change = _change(studio)
        judged = _judged(studio, options.scenes) if options.scenes else {}
    total = sum(milliseconds for _, milliseconds in rows)
    cells = [(name, f"{value:.0f}", f"{100 * value / total:.0f} %") for name, value in rows]
    text = markdown(["part of a live picture", "CPU ms", "share"], [*cells, ("all", f"{total:.0f}", "")])
    row = f"{change:.2f}", f"{MOST_CHANGE:g}", "yes" if change <= MOST_CHANGE else "no"
    text += "\n" + markdown(
        ["a drag", "measured", "bar", "met"], [("change outside of the moved forearm, % of white", *row)]
    )
    if judged:
        text += "\n" + markdown(
            [f"{options.scenes} held-out scenes", "PCK@0.1", "shirt", "trousers"],
            [(how, *(f"{found[name]:.3f}" for name in (POSE, "shirt", "trousers"))) for how, found in judged.items()],
        )
    return publish(
        options,
        {"milliseconds": dict(rows), "steps": steps, "change": change, "judged": judged},
        text,
        passed=change <= MOST_CHANGE,
    )


def _seconds(studio: Studio) -> tuple[list[tuple[str, float]], int]:
    """Return the median CPU milliseconds of each part of a picture, and the count of steps."""
    base, joints = _standing(studio)

    def draw(times: CpuTimes) -> int:
        joints[3 * WRIST] += 1
        with times.part("everything else"):
            return _drawn(studio, json.dumps(base), times).recipe.num_inference_steps

    steps = draw(CpuTimes())
    engine = studio._live.of(studio.load(studio.catalogue.preset(DEFAULT_MODEL)))
    taken = []
    for _ in range(PICTURES):
        times = CpuTimes()
        with ExitStack() as stack:
            for name, module in _modules(engine).items():
                stack.enter_context(patch.object(module, "forward", times.timed(name, module.forward)))
            draw(times)
        taken.append(times.seconds)
    names = sorted(taken[0], key=lambda name: -taken[0][name])
    rows = [(name, 1000 * statistics.median(one[name] for one in taken)) for name in names]
    return [(f"UNet, {steps} steps" if name == "UNet" else name, value) for name, value in rows], steps


def _standing(studio: Studio) -> tuple[dict[str, Any], list[float]]:
    """Return a pose, and the numbers of its body in it: x, y and confidence a joint."""
    from controlnext.ui.pose_editor.poses import standing_pose

    pose = json.loads(standing_pose(studio.annotators, SIDE, SIDE))
    return pose, pose["people"][0]["pose_keypoints_2d"]


def _drawn(studio: Studio, pose: str, times: CpuTimes) -> LivePicture:
    with times.part("condition"):
        condition = drawn_pose(studio.annotators, pose).annotation
    return studio.draw_live(studio.catalogue.resolve(DEFAULT_MODEL, POSE, prompt=PROMPT, seed=3, pose=pose), condition)


def _change(studio: Studio) -> float:
    """Return the mean difference between pictures of a drag outside of the limb that moves, in percent of white."""
    pose, joints = _standing(studio)
    elbow, wrist = (np.array(joints[3 * joint : 3 * joint + 2]) for joint in (ELBOW, WRIST))
    reach, changes = math.hypot(*(wrist - elbow)), []
    before: tuple[np.ndarray, np.ndarray] | None = None
    for number in range(DRAG):
        angle = math.radians(TURN * number)
        wrist = elbow + reach * np.array([-math.sin(angle), math.cos(angle)])
        joints[3 * WRIST : 3 * WRIST + 2] = wrist.tolist()
        picture = np.asarray(_drawn(studio, json.dumps(pose), CpuTimes()).image, np.float32) / 255
        still = Image.new("1", (SIDE, SIDE), 1)
        ImageDraw.Draw(still).line([*elbow, *wrist], fill=0, width=LIMB)
        now = picture, np.asarray(still)
        if before is not None:
            changes.append(float(np.abs(now[0] - before[0])[now[1] & before[1]].mean()))
        before = now
    return 100 * float(np.mean(changes))


def _modules(engine: Engine) -> dict[str, nn.Module]:
    pipeline = engine.pipeline
    module = pipeline.controlnexts[POSE].adapter.module
    return {"UNet": pipeline.unet, "decoder": pipeline.vae.decoder, "control module": module}


def _judged(studio: Studio, count: int) -> dict[str, dict[str, float]]:
    """Draw held-out scenes live and in full, and judge both."""
    from controlnext.bench.quality.scenes import Colours, draw, held_out_scenes, judge_all, load_pipeline

    samples = held_out_scenes(count)
    colours = Colours.learn(scenes=20)
    live = np.stack([np.asarray(_live(studio, sample, seed)) for seed, sample in enumerate(samples)])
    full = draw(load_pipeline(STARTER, POSE), POSE, 1.0, samples)
    return {"live": judge_all(samples, live, colours), "in full": judge_all(samples, full, colours)}


def _live(studio: Studio, sample: SceneSample, seed: int) -> Image.Image:
    from controlnext.starter.world.conditions import condition

    recipe = studio.catalogue.resolve(DEFAULT_MODEL, POSE, prompt=sample.caption(), seed=seed, width=SIDE, height=SIDE)
    return studio.draw_live(recipe, Image.fromarray(condition(POSE, sample.picture))).image
