"""What the video starter's image encoder is asked in training, and that its stage can be run and gone on with."""

import numpy as np
import pytest
import torch
from tiny_models import make_small_vae

from controlnext.starter.train import encoder
from controlnext.starter.train.clips import write_clips
from controlnext.starter.train.dataset import make_samples, write_shard
from controlnext.starter.train.encoder import Questions, answers, train
from controlnext.starter.train.loop import Plan
from controlnext.starter.train.video_networks import make_image_encoder
from controlnext.starter.world.world import PARTS


def test_hair_under_a_hat_is_not_asked_for():
    look = make_samples(3, 1)[0].look
    bare, hatted = answers(look, hat=False), answers(look, hat=True)
    assert [a == b for a, b in zip(bare, hatted, strict=True)] == [True, True, False, True, True, True]
    assert hatted[2] == torch.nn.CrossEntropyLoss().ignore_index


def test_patches_are_asked_for_the_parts_they_show():
    config = make_image_encoder().config
    questions = Questions(config)
    shown = torch.from_numpy(make_samples(3, 1)[0].picture.parts)[None]
    cells = shown[:, 8::16, 8::16].long()
    assert cells.shape[-1] == 16  # of a picture of 256; the encoder has 14 patches a side
    with torch.no_grad():
        questions.parts.weight.copy_(torch.eye(len(PARTS), config.hidden_size))
        questions.parts.bias.zero_()
    hidden = torch.zeros(1, 1 + 14 * 14, config.hidden_size)
    centres = torch.linspace(0, 255, 14).round().long()
    there = shown[0][centres][:, centres].flatten().long()
    hidden[0, 1:].scatter_(1, there[:, None], 6.0)
    elsewhere = hidden.clone()
    elsewhere[0, 1:] = hidden[0, 1:].flip(0)
    right, wrong, nothing = (questions.parts_error(h, shown).item() for h in (hidden, elsewhere, 0 * hidden))
    assert nothing == pytest.approx(np.log(len(PARTS)), rel=1e-3)
    assert right < 0.6 * nothing < nothing < wrong


def test_stage_writes_an_encoder_and_another_begins_from_it(tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(encoder, "HELD_OUT", 4)
    data, clips, plan = tmp_path / "data", tmp_path / "clips", Plan(minutes=0.0)
    write_shard(data / "shard-00000", range(1_000_000, 1_000_001))
    write_clips(clips / "clips-00000", range(1_000_000, 1_000_001), make_small_vae())
    train(data, clips, tmp_path / "first", Plan(minutes=0.01), batch=2)
    made = tmp_path / "first" / "image_encoder"
    train(data, clips, tmp_path / "second", plan, start=made, batch=2)
    first, second = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("first", "second"))
    assert first["step"] >= 1
    fresh = make_image_encoder()
    count = len(list(fresh.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first["averages"][:count], second["parameters"][:count], strict=True))
    assert not torch.equal(first["parameters"][0], next(iter(fresh.parameters())))
