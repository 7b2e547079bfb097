import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder

from controlnext.starter.train import video_vae
from controlnext.starter.train.dataset import write_shard
from controlnext.starter.train.loop import Plan
from controlnext.starter.train.networks import make_vae
from controlnext.starter.train.video_decoder import (
    COLOURED,
    HEAD,
    RIM,
    UNSEEN,
    Known,
    cut,
    part_colour_loss,
    shrink,
    train,
)
from controlnext.starter.train.video_networks import CLIP_SIZE, make_video_vae
from controlnext.starter.world.world import PARTS


def test_a_picture_and_its_parts_shrink_alike():
    parts = np.zeros((256, 256), np.uint8)
    parts[64:128, 128:192] = HEAD[0]
    rgb = np.repeat(parts[..., None] * 50, 3, axis=2)
    small, its_parts = shrink(rgb, parts)
    assert small.shape == (CLIP_SIZE, CLIP_SIZE, 3)
    assert np.array_equal(its_parts[48:96, 96:144], np.full((48, 48), HEAD[0]))
    assert np.array_equal(small[..., 0] > 50, its_parts > 0)


def test_windows_show_the_same_place_of_latents_pictures_and_parts():
    rng = np.random.default_rng(0)
    cells = np.arange(24 * 24).reshape(24, 24)
    place = np.kron(cells, np.ones((8, 8), int))
    parts = np.zeros((1, 192, 192), np.uint8)
    parts[0, 40:48, 150:158] = HEAD[1]
    known = Known(
        np.stack([place // 24, place % 24, place * 0], -1)[None].astype(np.uint8),
        parts,
        torch.from_numpy(cells).float().expand(1, 4, -1, -1),
    )
    drawn = cut(known, 32, rng)
    assert drawn.target.shape == (32, 3, 96, 96)
    corner = ((drawn.target[:, :2, ::8, ::8] + 1) * 127.5).round()
    assert torch.equal(corner[:, 0] * 24 + corner[:, 1], drawn.latents[:, 0])
    assert 16 <= sum((window == HEAD[1]).any() for window in drawn.parts) < 32


def test_a_window_is_not_compared_along_sides_that_are_not_the_pictures():
    known = Known(np.zeros((1, 192, 192, 3), np.uint8), np.ones((1, 192, 192), np.uint8), torch.zeros(1, 4, 24, 24))
    known.latents[0, 0] = torch.arange(24)
    drawn = cut(known, 32, np.random.default_rng(1))
    for latents, parts in zip(drawn.latents, drawn.parts, strict=True):
        first = int(latents[0, 0, 0])
        assert (parts[48, 0] == UNSEEN) == (first > 0)
        assert (parts[48, -1] == UNSEEN) == (first < 12)
        assert (parts[RIM:-RIM, RIM:-RIM] == 1).all()


def test_colours_of_parts_are_compared_as_a_whole():
    parts = torch.zeros(2, 16, 16, dtype=torch.uint8)
    parts[0, :4] = COLOURED[1]
    parts[1, 0, :5] = COLOURED[2]  # too few pixels to have a colour
    target = torch.zeros(2, 3, 16, 16)
    grain = target.clone()
    grain[..., ::2], grain[..., 1::2] = 0.2, -0.2
    assert part_colour_loss(grain, target, parts) == pytest.approx(0, abs=1e-6)
    faded = target.clone()
    faded[0, 0, :4] = 0.3
    faded[:, :, 4:] = 1  # not in a part that counts
    assert part_colour_loss(faded, target, parts) == pytest.approx(0.1)
    assert part_colour_loss(target, target, parts * 0 + PARTS.index("sky")) == 0


def test_only_the_decoder_of_single_frames_learns(tmp_path, monkeypatch):
    torch.manual_seed(1)
    monkeypatch.setattr(video_vae, "HELD_OUT", 2)
    teacher = make_vae()
    teacher.save_pretrained(tmp_path / "teacher")
    make_video_vae(teacher)[0].save_pretrained(tmp_path / "start")
    (tmp_path / "data").mkdir()
    write_shard(tmp_path / "data" / "shard-00000", range(2))
    train(
        tmp_path / "data", tmp_path / "teacher", tmp_path / "start", tmp_path / "out",
        Plan(minutes=0.001, warm_up=1, ema=0.0), batch=1,
    )  # fmt: skip
    before, after = (
        AutoencoderKLTemporalDecoder.from_pretrained(tmp_path / name).state_dict() for name in ("start", "out")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "decoder.up_blocks.3.resnets.0.spatial_res_block.conv1.weight" in changed
    assert all(name.startswith("decoder.") for name in changed)
    assert not [name for name in changed if "temporal" in name or "time" in name]
    assert (tmp_path / "out" / "sheet.png").exists()
