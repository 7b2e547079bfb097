"""Train the video starter's image encoder: its embedding encodes the colours of hair, skin, clothes, ground and sky.

Hair and skin are a few patches of a picture. The embedding finds them only after its patches know what they show, so each
patch is asked for its parts too, wherever they are known.
"""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from controlnext.starter.train.clips import Clips
from controlnext.starter.train.dataset import Shards, to_tensor
from controlnext.starter.train.loop import Loop, Plan
from controlnext.starter.train.video_networks import as_vision_input, make_image_encoder
from controlnext.starter.world.motion import render_clip, sample_clip
from controlnext.starter.world.world import GROUNDS, HAIR, PARTS, SHIRTS, SKIES, SKIN, TROUSERS, Look
from controlnext.training.quick import cpu_autocast, quicken

logger = logging.getLogger(__name__)
_NAMES = {
    "shirt": (*SHIRTS,),
    "trousers": (*TROUSERS,),
    "hair": (*HAIR,),
    "skin": tuple(range(len(SKIN))),
    "ground": (*GROUNDS,),
    "sky": (*SKIES,),
}


HELD_OUT = 96
"""Scenes that no training sees, by which a report says how well the questions are answered."""

_UNSEEN = -100  # the label that cross entropy ignores


def answers(look: Look, *, hat: bool) -> list[int]:
    """Return the labels of a picture with this look, one index for each question; a hat hides hair."""
    found = {question: names.index(getattr(look, question)) for question, names in _NAMES.items()}
    return [*(found | ({"hair": _UNSEEN} if hat else {})).values()]


class Questions(nn.Module):
    """Linear heads on an embedding and on the patches behind it, used only in training."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        """Make one head for each question, and one for the parts of a patch, for an encoder of this configuration."""
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(config.projection_dim, len(names)) for names in _NAMES.values())
        self.parts = nn.Linear(config.hidden_size, len(PARTS))
        self.grid = config.image_size // config.patch_size

    def forward(self, embedding: Tensor) -> list[Tensor]:
        """Return (B, answers) scores for each question of (B, width) embeddings."""
        return [head(embedding) for head in self.heads]

    def parts_error(self, hidden: Tensor, parts: Tensor) -> Tensor:
        """Compare (B, 1 + patches, width) hidden states with the shares of each patch that (B, S, S) parts fill."""
        truth = functional.one_hot(parts.long(), len(PARTS)).permute(0, 3, 1, 2).float()
        truth = functional.adaptive_avg_pool2d(truth, self.grid)
        scores = self.parts(hidden[:, 1:]).transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return functional.cross_entropy(scores.float(), truth)


class _Drawn(NamedTuple):
    """B pictures as the encoder takes them, their (B, questions) answers, and the (B // 2, S, S) parts of the first half."""

    pictures: Tensor
    answers: Tensor
    parts: Tensor


def _draw(rng: np.random.Generator, shards: Shards, clips: Clips, size: int) -> _Drawn:
    pictures, looks, known = [], [], []
    for index in range(size):
        mirrored = slice(None, None, -1 if rng.random() < 0.5 else 1)
        if index < size // 2:
            sample = shards[int(rng.integers(len(shards)))]
            rgb, look, hat = sample.picture.rgb, sample.look, sample.stage.hat
            known.append(sample.picture.parts[:, mirrored])
        else:
            clip = clips[int(rng.integers(len(clips)))]
            rgb, look, hat = clip.rgb[rng.integers(len(clip.rgb))], clip.look, clip.hat
        pictures.append(as_vision_input(to_tensor(np.array(rgb[:, mirrored])[None])))
        looks.append(answers(look, hat=hat))
    return _Drawn(torch.cat(pictures), torch.tensor(looks), torch.from_numpy(np.stack(known)))


def train(
    data: Path,
    clips: Path,
    out: Path,
    plan: Plan,
    *,
    start: Path | None = None,
    rate: float = 1e-3,
    batch: int = 32,
) -> None:
    """Train on the pictures of `data` and `clips`; write the encoder's folder to `out / "image_encoder"`.

    `start` is the folder of an encoder to start from.
    """
    torch.manual_seed(2)
    begun = make_image_encoder() if start is None else CLIPVisionModelWithProjection.from_pretrained(start)
    encoder = quicken(begun).train()
    questions = Questions(encoder.config)
    loop = Loop(
        out,
        {"encoder": encoder, "questions": questions},
        [([*encoder.parameters(), *questions.parameters()], rate)],
        plan,
    )
    shards, moving = Shards(data, latents=False), Clips(clips)
    rng = np.random.default_rng(torch.initial_seed() % 2**32)
    held_out = [sample_clip(seed, 4) for seed in range(HELD_OUT)]
    seen = [render_clip(stages[:1], [look])[0][0].rgb for stages, look in held_out]

    def loss(step: int) -> Tensor:
        if step % 100 == 99:
            moving.refresh()
        drawn = _draw(rng, shards, moving, batch)
        gain = torch.empty(batch, 3, 1, 1).uniform_(0.93, 1.07)
        with cpu_autocast():
            read = encoder((drawn.pictures * gain).clamp(-1, 1))
            scores = questions(read.image_embeds)
            patches = questions.parts_error(read.last_hidden_state[: len(drawn.parts)], drawn.parts)
        errors = [functional.cross_entropy(s.float(), t) for s, t in zip(scores, drawn.answers.T, strict=True)]
        return sum(errors) / len(errors) + patches

    def report() -> None:
        averaged = loop.averaged()
        with torch.no_grad():
            pictures = torch.cat([as_vision_input(to_tensor(rgb[None])) for rgb in seen])
            scores = averaged["questions"](averaged["encoder"](pictures).image_embeds)
        truth = torch.tensor([answers(look, hat=stages[0].hat) for stages, look in held_out])
        right = [(s.argmax(1) == t)[t != _UNSEEN].float().mean().item() for s, t in zip(scores, truth.T, strict=True)]
        logger.info("held out: %s", ", ".join(f"{q} {r:.2f}" for q, r in zip(_NAMES, right, strict=True)))
        averaged["encoder"].save_pretrained(out / "image_encoder")

    loop.run(loss, report)
