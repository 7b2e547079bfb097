"""Train the video starter's image encoder: its embedding tells hair, skin, clothes, ground and sky of a picture."""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from controlnext.starter.clips import Clips
from controlnext.starter.dataset import Shards, to_tensor
from controlnext.starter.loop import Loop, Plan
from controlnext.starter.motion import render_clip, sample_clip
from controlnext.starter.video_networks import as_vision_input, make_image_encoder
from controlnext.starter.world import GROUNDS, HAIR, SHIRTS, SKIES, SKIN, TROUSERS, Look
from controlnext.training.quick import quicken

logger = logging.getLogger(__name__)
_NAMES = {
    "shirt": (*SHIRTS,),
    "trousers": (*TROUSERS,),
    "hair": (*HAIR,),
    "skin": tuple(range(len(SKIN))),
    "ground": (*GROUNDS,),
    "sky": (*SKIES,),
}


def answers(look: Look) -> list[int]:
    """Return what the embedding of a picture with this look should tell, one index for each question."""
    return [names.index(getattr(look, question)) for question, names in _NAMES.items()]


class Questions(nn.Module):
    """Linear readings of an embedding, needed only in training."""

    def __init__(self, width: int) -> None:
        """Make one head for each question, for embeddings of `width`."""
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, len(names)) for names in _NAMES.values())

    def forward(self, embedding: Tensor) -> list[Tensor]:
        """Return (B, answers) scores for each question of (B, width) embeddings."""
        return [head(embedding) for head in self.heads]


def _draw(rng: np.random.Generator, shards: Shards, clips: Clips, size: int) -> tuple[Tensor, Tensor]:
    pictures, looks = [], []
    for _ in range(size):
        if rng.random() < 0.5:
            sample = shards[int(rng.integers(len(shards)))]
            rgb, look = sample.picture.rgb, sample.look
        else:
            clip = clips[int(rng.integers(len(clips)))]
            rgb, look = clip.rgb[rng.integers(len(clip.rgb))], clip.look
        rgb = rgb[:, ::-1] if rng.random() < 0.5 else rgb
        pictures.append(as_vision_input(to_tensor(np.ascontiguousarray(rgb)[None])))
        looks.append(answers(look))
    return torch.cat(pictures), torch.tensor(looks)


def train(data: Path, clips: Path, out: Path, plan: Plan, *, rate: float = 1e-3, batch: int = 32) -> None:
    """Train on the pictures of `data` and `clips`; write the encoder's folder to `out / "image_encoder"`."""
    torch.manual_seed(2)
    encoder = quicken(make_image_encoder()).train()
    questions = Questions(encoder.config.projection_dim)
    loop = Loop(
        out,
        {"encoder": encoder, "questions": questions},
        [([*encoder.parameters(), *questions.parameters()], rate)],
        plan,
    )
    shards, moving = Shards(data, latents=False), Clips(clips)
    rng = np.random.default_rng(torch.initial_seed() % 2**32)
    held_out = [sample_clip(seed, 4) for seed in range(48)]
    seen = [render_clip(stages[:1], [look])[0][0].rgb for stages, look in held_out]

    def loss(step: int) -> Tensor:
        if step % 100 == 99:
            moving.refresh()
        pictures, truth = _draw(rng, shards, moving, batch)
        gain = torch.empty(batch, 3, 1, 1).uniform_(0.93, 1.07)
        with torch.autocast("cpu", torch.bfloat16):
            scores = questions(encoder((pictures * gain).clamp(-1, 1)).image_embeds)
        return sum(functional.cross_entropy(s.float(), t) for s, t in zip(scores, truth.T, strict=True)) / len(scores)

    def report() -> None:
        averaged = loop.averaged()
        with torch.no_grad():
            pictures = torch.cat([as_vision_input(to_tensor(rgb[None])) for rgb in seen])
            scores = averaged["questions"](averaged["encoder"](pictures).image_embeds)
        truth = torch.tensor([answers(look) for _, look in held_out])
        right = [(s.argmax(1) == t).float().mean().item() for s, t in zip(scores, truth.T, strict=True)]
        logger.info("held out: %s", ", ".join(f"{q} {r:.2f}" for q, r in zip(_NAMES, right, strict=True)))
        averaged["encoder"].save_pretrained(out / "image_encoder")

    loop.run(loss, report)
