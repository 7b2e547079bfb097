"""The starter's world in motion: one figure walks, waves, dances, turns or jumps before a camera that stands still."""

import math
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from controlnext.starter.world.figure import JITTERS
from controlnext.starter.world.world import (
    Look,
    Picture,
    Stage,
    cast_scene,
    depth_of,
    paint,
    parts_of,
    people_of,
    sample_look,
    sample_stage,
)

FPS = 12
CLIP_SIZE = 192
# Framing of a clip: proportion, half the height of what is seen at the figure and height looked at, in metres.
_FRAMINGS = ((0.75, (1.02, 1.32), (0.88, 1.0)), (0.25, (0.72, 0.95), (1.02, 1.2)))


@dataclass(frozen=True)
class Kind:
    """A way to move: the action, its rate in cycles a second, how much the limbs wander in addition, and what else happens.

    `turn` is the largest rate of turning in turns a second, `walk` the largest speed in metres a second, `hop` the
    height of a jump in metres; `wander` is in units of `Stage.jitter`.
    """

    action: str
    rate: tuple[float, float]
    wander: float
    turn: float = 0.05
    walk: float = 0.0
    hop: float = 0.0


KINDS = MappingProxyType(
    {
        "walks": Kind("walking", (0.8, 1.2), 0.3, walk=0.9),
        "walks in place": Kind("walking", (0.8, 1.3), 0.4),
        "waves": Kind("waving", (1.0, 1.8), 0.4),
        "dances": Kind("dancing", (0.5, 1.1), 0.8, turn=0.12),
        "dances freely": Kind("gesturing", (0.5, 1.0), 1.5, turn=0.1),
        "turns": Kind("gesturing", (0.4, 0.8), 0.5, turn=0.5),
        "jumps": Kind("jumping", (0.8, 1.2), 0.5, hop=0.3),
        "kicks": Kind("kicking", (0.5, 0.9), 0.5),
        "cheers": Kind("cheering", (0.8, 1.5), 0.6),
    }
)
# Free dancing shows the most poses, so it comes most often.
_SHARES = (0.08, 0.06, 0.10, 0.16, 0.26, 0.10, 0.10, 0.07, 0.07)


def sample_motion(rng: np.random.Generator, frames: int, fps: float = FPS) -> tuple[Stage, ...]:
    """Draw a clip: its stages, which differ in the figure's body and place only.

    Args:
        rng: Source of everything that varies.
        frames: How many.
        fps: Frames a second.

    Returns:
        One stage a frame.
    """
    kind = KINDS[str(rng.choice(list(KINDS), p=_SHARES))]
    framing = _FRAMINGS[rng.choice(len(_FRAMINGS), p=[f[0] for f in _FRAMINGS])]
    half_height = rng.uniform(*framing[1])
    still = replace(
        sample_stage(rng),
        action=kind.action,
        half_height=half_height,
        target_height=rng.uniform(*framing[2]),
        target_shift=rng.uniform(-1, 1) * 0.25 * half_height,
        yaw=float(np.clip(rng.normal() * 0.45, -1.2, 1.2)),
    )
    base, phase = np.array(still.jitter), still.phase
    # Each limb wanders along two slow waves of its own.
    waves = rng.uniform(0.15, 0.8, (2, JITTERS)), rng.uniform(0, 2 * math.pi, (2, JITTERS))
    rate, turn = rng.uniform(*kind.rate), rng.uniform(-1, 1) * kind.turn
    speed, direction = rng.uniform(-1, 1) * kind.walk, 1.2 if rng.random() < 0.5 else -1.2
    middle = (frames - 1) / 2 / fps
    yaw = direction * math.copysign(1, speed) if kind.walk else still.yaw
    stages = []
    for frame in range(frames):
        t = frame / fps
        wander = np.sin(2 * math.pi * waves[0] * t + waves[1]).sum(0) * 0.7
        angle = phase + 2 * math.pi * rate * t
        jitter = np.clip(base * (0.6 if kind.wander < 1 else 0.3) + kind.wander * wander, -2, 2)
        # While the figure is in the air its height is a parabola; the action's own lift is taken back.
        share = (angle / (2 * math.pi)) % 1
        hop = kind.hop * max(0.0, 4 * (share / 0.7) * (1 - share / 0.7)) - 0.25 if kind.hop else 0.0
        across = speed * (t - middle) * math.copysign(1, direction)
        stages.append(
            replace(
                still,
                phase=angle,
                jitter=tuple(jitter),
                yaw=yaw + 2 * math.pi * turn * (t - middle),
                offset=(across, hop, 0.0),
            )
        )
    return tuple(stages)


def sample_clip(seed: int, frames: int) -> tuple[tuple[Stage, ...], Look]:
    """Draw the clip of a seed: the same seed always gives the same clip. Seeds below 1,000,000 are held out."""
    rng = np.random.default_rng([seed, 2])
    return sample_motion(rng, frames), sample_look(rng)


def render_clip(stages: tuple[Stage, ...], looks: list[Look], size: int = CLIP_SIZE) -> list[list[Picture]]:
    """Render a clip in several looks; each look gets its list of pictures, `size` pixels a side."""
    clips: list[list[Picture]] = [[] for _ in looks]
    for stage in stages:
        geometry = cast_scene(stage, size)
        parts, depth, people = parts_of(geometry), depth_of(geometry), people_of(stage, size)
        for clip, look in zip(clips, looks, strict=True):
            clip.append(Picture(paint(geometry, look, stage.hills), parts, depth, people))
    return clips
