"""Train the video starter's UNet with its pose control, first frame by frame and then over time.

The frame stage learns to move the figure of a reference picture into a pose; its network is the spatial half of the
video UNet, initialised from the image starter, and costs less. The video stage puts it into the video UNet, whose
temporal layers start as the identity, and trains those on windows of frames. The control module is the image
starter's: it reads poses well already, so it stays as it is, and the UNet learns to follow it. Some samples leave it
out, so that the base works without it too. It is saved separately, as an adapter.
"""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionModelWithProjection

from annotators.poses.skeleton import draw_skeleton
from controlnext.method.adapter import ControlNeXtAdapter
from controlnext.method.injection import Injection, attach
from controlnext.method.model import ControlNeXtModel
from controlnext.starter.train.base import Diffusion
from controlnext.starter.train.clips import CELL, Clips, SceneClip
from controlnext.starter.train.dataset import encode, to_tensor
from controlnext.starter.train.loop import Loop, Plan
from controlnext.starter.train.video_networks import (
    WINDOW,
    as_vision_input,
    make_frame_unet,
    make_video_scheduler,
    make_video_unet,
    start_frame_unet,
    start_video_unet,
)
from controlnext.starter.world.motion import FPS, render_clip, sample_clip
from controlnext.starter.world.sheets import save_sheet
from controlnext.training.quick import cpu_autocast, quicken

logger = logging.getLogger(__name__)
VARIANT = "starter-video"
# Shares of samples that show nothing but noise, and that show the reference but no pose.
NOTHING, UNCONTROLLED = 0.08, 0.12
# Weight of a cell in the loss; hair and face are the smallest parts with colours of their own.
FIGURE_WEIGHT, HEAD_WEIGHT = 3.0, 9.0
NECK, HEAD = 1, [0, 14, 15, 16, 17]
HEAD_RADIUS = 0.9  # of the way from the neck to the middle of the head
# Poses read from a clip are never as exact as drawn ones: joints are lost and shake, in pixels.
LOST, SHAKE = 0.02, 0.6
NOISE_AUGMENTATION = 0.02
# A limb that crosses this share of the picture in a second gets the middle motion bucket.
USUAL_SPEED = 0.25


class ClipBatch(NamedTuple):
    """N clips of F frames (F = 1 in the frame stage).

    `latents` (N, F, 4, h, w) in model units; `reference` (N, 4, h, w) as the autoencoder gives them; `embedding`
    (N, 1, 128); `poses` (N, F, 3, H, W) in [0, 1]; `weight` (N, F, 1, h, w), mean 1; `times` (N, 3): fps - 1, motion
    bucket and noise augmentation, as Stable Video Diffusion takes them.
    """

    latents: Tensor
    reference: Tensor
    embedding: Tensor
    poses: Tensor
    weight: Tensor
    times: Tensor


def motion_bucket(people: np.ndarray, fps: float, size: int) -> float:
    """Return how much (F, 18, 3) people move, 0 to 255, 127 at `USUAL_SPEED` pictures a second."""
    if len(people) < 2:
        return 127.0
    seen = (people[1:, :, 2] > 0) & (people[:-1, :, 2] > 0)
    steps = np.linalg.norm(np.diff(people[..., :2], axis=0), axis=-1)[seen]
    speed = float(steps.mean()) * fps / size if len(steps) else 0.0
    return float(np.clip(127 * speed / USUAL_SPEED, 0, 255))


def draw_poses(people: np.ndarray, size: int) -> np.ndarray:
    """Draw (F, 18, 3) people as (F, size, size, 3) uint8 skeletons."""
    return np.stack([draw_skeleton((frame,), size, size) for frame in people])


def weigh(figure: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Return the weight of each cell in the loss, mean 1: more on the figure, and most on its head.

    Args:
        figure: (F, h, w) uint8, shares of the cells that show the figure, times 255.
        people: (F, 18, 3) x, y in pixels and confidence.

    Returns:
        (F, h, w) float32.
    """
    weight = 1 + (FIGURE_WEIGHT - 1) * figure.astype(np.float32) / 255
    seen = people[:, HEAD, 2:] > 0
    middle = (people[:, HEAD, :2] * seen).sum(1) / np.maximum(seen.sum(1), 1)
    radius = HEAD_RADIUS * np.linalg.norm(middle - people[:, NECK, :2], axis=1) * seen.any((1, 2))
    y, x = (np.indices(figure.shape[1:]) + 0.5) * CELL
    far = np.hypot(x - middle[:, 0, None, None], y - middle[:, 1, None, None])
    weight[far < radius[:, None, None]] = HEAD_WEIGHT
    return (weight / weight.mean()).astype(np.float32)


class ClipBatches:
    """Draws windows of clips with a reference from another moment of the same clip, far ones more often than near ones."""

    def __init__(
        self, folder: Path, encoder: CLIPVisionModelWithProjection, scaling_factor: float, frames: int
    ) -> None:
        """Open the clips of `folder` for windows of `frames`; `scaling_factor` takes latents out of model units."""
        self.clips, self.encoder, self.scaling_factor, self.frames = Clips(folder), encoder, scaling_factor, frames
        self.rng = np.random.default_rng(torch.initial_seed() % 2**32)
        self._embeddings: dict[tuple[int, int], Tensor] = {}

    def _embedding(self, index: int, frame: int, rgb: np.ndarray) -> Tensor:
        if (index, frame) not in self._embeddings:
            with torch.no_grad():
                pixels = as_vision_input(to_tensor(np.array(rgb)[None]))
                self._embeddings[index, frame] = self.encoder(pixels).image_embeds
        return self._embeddings[index, frame]

    def _worn(self, people: np.ndarray) -> np.ndarray:
        people = people.copy()
        people[..., :2] += self.rng.normal(0, SHAKE, people[..., :2].shape)
        people[..., 2] *= self.rng.random(people[..., 2].shape) >= LOST
        return people

    def _window(self, clip: SceneClip) -> tuple[np.ndarray, float]:
        stride = int(self.rng.integers(1, 3)) if self.frames > 1 else 1
        span = (self.frames - 1) * stride + 1
        first = int(self.rng.integers(0, len(clip.rgb) - span + 1))
        return np.arange(first, first + span, stride), FPS / stride

    def _reference(self, frames: int, middle: float) -> int:
        # The further away a moment is, the more often: from a near one the figure could nearly be copied where it stands.
        share = 1 + np.abs(np.arange(frames) - middle)
        return int(self.rng.choice(frames, p=share / share.sum()))

    def draw(self, count: int) -> ClipBatch:
        """Draw `count` windows."""
        rows = []
        for index in self.rng.integers(0, len(self.clips), count):
            clip = self.clips[int(index)]
            chosen, fps = self._window(clip)
            reference = self._reference(len(clip.rgb), float(chosen.mean()))
            size = clip.rgb.shape[1]
            people = clip.people[chosen]
            rows.append(
                (
                    torch.from_numpy(clip.latents[chosen]).float(),
                    torch.from_numpy(clip.latents[reference]).float() / self.scaling_factor,
                    self._embedding(int(index), reference, clip.rgb[reference]),
                    torch.from_numpy(draw_poses(self._worn(people), size)).permute(0, 3, 1, 2).float() / 255,
                    # Where the reference shows the figure counts too: left alone, a shadow of it stays behind there.
                    torch.from_numpy(weigh(np.maximum(clip.figure[chosen], clip.figure[reference]), people))[:, None],
                    torch.tensor([fps - 1, motion_bucket(people, fps, size), NOISE_AUGMENTATION]),
                )
            )
        return ClipBatch(*(torch.stack(column) for column in zip(*rows, strict=True)))


class VideoStage:
    """What differs between the two stages: the network, and the shapes it takes."""

    def __init__(self, unet: nn.Module, module: ControlNeXtModel) -> None:
        """Join a UNet, of frames or of video, with a control module."""
        self.unet, self.module = unet, module
        self.over_time = not isinstance(unet, UNet2DConditionModel)
        self.injection: Injection = attach(unet, module, VARIANT)

    def predict(self, noisy: Tensor, t: Tensor, batch: ClipBatch, kept: Tensor, controlled: Tensor) -> Tensor:
        """Return the predicted (N, F, 4, h, w) velocities; `kept` and `controlled` (N,) are 0 or 1."""
        frames = noisy.shape[1]
        reference = (batch.reference * kept.view(-1, 1, 1, 1))[:, None].expand(-1, frames, -1, -1, -1)
        embedding = batch.embedding * kept.view(-1, 1, 1)
        x = torch.cat([noisy, reference], dim=2)
        if self.over_time:
            self.injection.set(batch.poses, controlled)
            return self.unet(x, t, embedding, added_time_ids=batch.times).sample
        self.injection.set(batch.poses[:, 0].contiguous(memory_format=torch.channels_last), controlled)
        x = x[:, 0].contiguous(memory_format=torch.channels_last)
        return self.unet(x, t, embedding).sample[:, None]


@torch.no_grad()
def sample(stage: VideoStage, batch: ClipBatch, steps: int = 12, guidance: float = 2.0, seed: int = 0) -> Tensor:
    """Generate the latents of a batch's frames, (N, F, 4, h, w) in model units, under guidance."""
    scheduler = make_video_scheduler()
    scheduler.set_timesteps(steps)
    # Independent frames agree best when they start from the same noise.
    shape = batch.latents.shape if stage.over_time else (1, *batch.latents.shape[1:])
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).expand(batch.latents.shape)
    x = x * scheduler.init_noise_sigma
    on = torch.ones(len(x))
    for t in scheduler.timesteps:
        noisy, times = scheduler.scale_model_input(x, t), t.expand(len(x))
        guided = stage.predict(noisy, times, batch, on, on)
        free = stage.predict(noisy, times, batch, 0 * on, 0 * on)
        x = scheduler.step(free + guidance * (guided - free), t, x).prev_sample
    return x


def held_out(
    vae: AutoencoderKL, encoder: CLIPVisionModelWithProjection, seeds: range
) -> tuple[ClipBatch, list[np.ndarray]]:
    """Render held-out clips of WINDOW frames and their references (the frame that comes last).

    Returns:
        The batch, and for each clip its (WINDOW + 1, S, S, 3) pictures, the reference last.
    """
    rows, pictures = [], []
    for seed in seeds:
        stages, look = sample_clip(seed, 24)
        clip = render_clip((*stages[:WINDOW], stages[-1]), [look])[0]
        rgb = np.stack([p.rgb for p in clip])
        people = np.stack([p.people[0] for p in clip[:-1]])
        latents = torch.from_numpy(encode(vae, rgb)).float()
        with torch.no_grad():
            embedding = encoder(as_vision_input(to_tensor(rgb[-1:]))).image_embeds
        poses = torch.from_numpy(draw_poses(people, rgb.shape[1])).permute(0, 3, 1, 2).float() / 255
        times = torch.tensor([FPS - 1, motion_bucket(people, FPS, rgb.shape[1]), NOISE_AUGMENTATION])
        rows.append(
            (
                latents[:-1],
                latents[-1] / vae.config.scaling_factor,
                embedding,
                poses,
                torch.ones(WINDOW, 1, 1, 1),
                times,
            )
        )
        pictures.append(rgb)
    return ClipBatch(*(torch.stack(column) for column in zip(*rows, strict=True))), pictures


def _as_frames(batch: ClipBatch) -> ClipBatch:
    """Take the clips of a batch apart: each frame a clip of one."""
    frames = batch.latents.shape[1]
    each = lambda x: x.flatten(0, 1)[:, None]  # noqa: E731
    again = lambda x: x.repeat_interleave(frames, 0)  # noqa: E731
    return ClipBatch(
        each(batch.latents),
        again(batch.reference),
        again(batch.embedding),
        each(batch.poses),
        each(batch.weight),
        again(batch.times),
    )


@torch.no_grad()
def _sheet(path: Path, stage: VideoStage, vae: AutoencoderKL, batch: ClipBatch, truth: list[np.ndarray]) -> None:
    count, frames = batch.latents.shape[:2]
    latents = sample(stage, batch if stage.over_time else _as_frames(batch)).view(
        count * frames, *batch.latents.shape[2:]
    )
    decoded = torch.cat([vae.decode(part / vae.config.scaling_factor).sample for part in latents.split(8)])
    rgb = ((decoded.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy().astype(np.uint8)
    rows = []
    for i, clip in enumerate(truth):
        poses = (batch.poses[i] * 255).byte().permute(0, 2, 3, 1).numpy()
        made = rgb[i * frames : (i + 1) * frames]
        rows += [[clip[-1], *poses], [clip[-1], *made], [clip[-1], *clip[:-1]]]
    save_sheet(path, rows)


@dataclass(frozen=True)
class Course:
    """What a stage trains, and how.

    `make` makes the UNet to begin from, `frames` are the frames of a window, `batch` the windows a step and process,
    `rates` the peak learning rates of the layers without time and of the layers over time, 0 for those that stay; `module` is the control
    module, which stays as it is.
    """

    make: Callable[[], nn.Module]
    frames: int
    batch: int
    rates: tuple[float, float]
    module: ControlNeXtModel


def train(runs: Path, out: Path, plan: Plan, course: Course) -> None:
    """Train a UNet and a control module on the clips of `runs`; write both to `out / "unet"` and `out / "adapter"`."""
    vae = AutoencoderKL.from_pretrained(runs / "autoencoder").eval().requires_grad_(False)
    encoder = (
        CLIPVisionModelWithProjection.from_pretrained(runs / "image-encoder" / "image_encoder")
        .eval()
        .requires_grad_(False)
    )
    torch.manual_seed(3)
    module = course.module.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    unet = quicken(course.make()).train()
    timed = [
        p for name, p in unet.named_parameters() if "temporal" in name or "time_pos" in name or "time_mixer" in name
    ]
    known = {id(p) for p in timed}
    plain = [p for p in unet.parameters() if id(p) not in known]
    groups = []
    for parameters, rate in zip((plain, timed), course.rates, strict=True):
        for parameter in parameters:
            parameter.requires_grad_(rate > 0)
        groups += [(parameters, rate)] if parameters and rate else []
    loop = Loop(out, {"unet": unet}, groups, plan)
    stage = VideoStage(unet, module)
    batches, diffusion = (
        ClipBatches(runs / "clips", encoder, vae.config.scaling_factor, course.frames),
        Diffusion(late=True),
    )
    logger.info(
        "%d clips, UNet %.2fM, module %.2fM",
        len(batches.clips),
        *(sum(p.numel() for p in m.parameters()) / 1e6 for m in (unet, module)),
    )
    example, truth = held_out(vae, encoder, range(4))

    def loss(step: int) -> Tensor:
        if step % 100 == 99:
            batches.clips.refresh()
        drawn = batches.draw(course.batch)
        # Noise of one level for all frames of a clip.
        noisy, t, target = diffusion.noised_clips(drawn.latents)
        luck = torch.rand(course.batch)
        kept, controlled = luck >= NOTHING, luck >= NOTHING + UNCONTROLLED
        with cpu_autocast():
            predicted = stage.predict(noisy, t, drawn, kept.float(), controlled.float())
        error = functional.mse_loss(predicted.float(), target, reduction="none")
        return (error * drawn.weight).mean()

    def report() -> None:
        stage.injection.detach()  # so that the copies carry no hooks
        averaged = loop.averaged()
        shown = VideoStage(averaged["unet"], module)
        _sheet(out / "sheets" / f"{round(loop.elapsed / 60):03d}.png", shown, vae, example, truth)
        shown.injection.detach()
        averaged["unet"].save_pretrained(out / "unet")
        adapter = ControlNeXtAdapter(copy.deepcopy(module).half())
        facts = {"annotator": "pose", "gamma": "1.0", "base": VARIANT, "steps": str(loop.step)}
        adapter.save_pretrained(out / "adapter", metadata=facts | {"minutes": f"{loop.elapsed / 60:.1f}"})
        stage.injection = attach(unet, module, VARIANT)

    loop.run(loss, report)


def train_frames(runs: Path, plan: Plan) -> None:
    """Run the frame stage in a folder of runs, begun from its image starter and that one's pose adapter."""
    adapter = ControlNeXtAdapter.from_pretrained(runs / "adapters" / "pose" / "adapter", dtype=torch.float32)
    module = ControlNeXtModel.from_variant(VARIANT)
    module.load_state_dict(adapter.module.state_dict(), strict=False)  # it has no learned scale

    def make() -> nn.Module:
        unet = make_frame_unet()
        base = UNet2DConditionModel.from_pretrained(runs / "base" / "pipeline" / "unet").state_dict()
        for name, difference in adapter.unet_weights.items():
            base[name] += difference
        start_frame_unet(unet, base)
        return unet

    train(runs, runs / "video-frames", plan, Course(make, frames=1, batch=16, rates=(8e-4, 0.0), module=module))


def train_video(runs: Path, plan: Plan) -> None:
    """Run the video stage in a folder of runs, begun from its frame stage."""
    before = runs / "video-frames"

    def make() -> nn.Module:
        unet = make_video_unet()
        start_video_unet(unet, UNet2DConditionModel.from_pretrained(before / "unet"))
        return unet

    module = ControlNeXtAdapter.from_pretrained(before / "adapter", dtype=torch.float32).module
    train(runs, runs / "video", plan, Course(make, WINDOW, batch=2, rates=(0.0, 1e-3), module=module))
