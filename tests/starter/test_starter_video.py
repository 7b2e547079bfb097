"""The video starter's stages on untrained networks: what one stage hands to the next, and what is drawn to learn from."""

import json

import numpy as np
import pytest
import torch
from tiny_models import make_small_vae

from controlnext.method.model import ControlNeXtModel
from controlnext.starter.train.clips import FRAMES, Clips, write_clips
from controlnext.starter.train.networks import make_unet, make_vae
from controlnext.starter.train.video import ClipBatches, VideoStage, _as_frames, motion_bucket, sample, weigh
from controlnext.starter.train.video_networks import (
    as_vision_input,
    make_frame_unet,
    make_image_encoder,
    make_video_unet,
    make_video_vae,
    start_frame_unet,
    start_video_unet,
)
from controlnext.starter.world.motion import CLIP_SIZE


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder / "clips-00000", range(1_000_000, 1_000_001), make_small_vae())
    return folder


@pytest.fixture(scope="module")
def encoder():
    return make_image_encoder().eval()


def test_the_video_unet_starts_as_the_frame_unet():
    torch.manual_seed(1)
    frames, video = make_frame_unet().eval(), make_video_unet().eval()
    start_video_unet(video, frames)
    x, embedding = torch.randn(2, 3, 8, 8, 8), torch.randn(2, 1, 128)
    times = torch.tensor([[6.0, 127.0, 0.02]] * 2)
    with torch.no_grad():
        together = video(x, torch.tensor([300, 700]), embedding, added_time_ids=times).sample
        for clip, t in ((0, 300), (1, 700)):
            alone = frames(x[clip], torch.tensor(t), embedding[clip : clip + 1].expand(3, -1, -1)).sample
            assert torch.allclose(together[clip], alone, atol=2e-3)  # normalisations differ in eps


def test_the_frame_unet_starts_from_the_image_starter_and_ignores_the_reference():
    torch.manual_seed(1)
    base, unet = make_unet(), make_frame_unet().eval()
    start_frame_unet(unet, base.state_dict())
    shared = "down_blocks.0.resnets.0.conv1.weight"
    assert torch.equal(unet.state_dict()[shared], base.state_dict()[shared])
    noisy, embedding = torch.randn(1, 4, 8, 8), torch.randn(1, 1, 128)
    with torch.no_grad():
        results = [
            unet(torch.cat([noisy, reference], 1), 500, embedding).sample
            for reference in (torch.zeros(1, 4, 8, 8), torch.randn(1, 4, 8, 8))
        ]
    assert torch.equal(*results)


def test_the_video_decoder_starts_frame_by_frame():
    torch.manual_seed(2)
    vae, turned = make_video_vae(make_vae())
    latents = torch.randn(3, 4, 4, 4)
    with torch.no_grad():
        together = vae.decode(latents, num_frames=3).sample
        alone = torch.cat([vae.decode(frame[None], num_frames=1).sample for frame in latents])
    assert torch.allclose(together, alone, atol=1e-4)
    assert {tuple(matrix.shape) for matrix in turned.values()} == {(64, 32), (64, 64)}


def test_clips_come_back_as_they_were_written(clips):
    rows = Clips(clips)
    assert len(rows) == 2
    clip, other = rows[0], rows[1]
    assert clip.rgb.shape == (FRAMES, CLIP_SIZE, CLIP_SIZE, 3)
    assert clip.latents.shape == (FRAMES, 4, CLIP_SIZE // 8, CLIP_SIZE // 8)
    assert clip.look != other.look
    told = json.loads((clips / "clips-00000" / "told.json").read_text())
    assert told[0]["look"]["shirt"] == clip.look.shirt
    assert 0.005 < (clip.figure > 128).mean() < 0.5


def test_windows_have_a_reference_of_the_same_clip(clips, encoder):
    torch.manual_seed(3)
    batch = ClipBatches(clips, encoder, 0.5, frames=4).draw(3)
    cells = CLIP_SIZE // 8
    assert batch.latents.shape == (3, 4, 4, cells, cells)
    assert batch.poses.shape == (3, 4, 3, CLIP_SIZE, CLIP_SIZE)
    assert batch.poses.amax() > 0.5
    assert torch.allclose(batch.weight.mean((1, 2, 3, 4)), torch.ones(3), atol=1e-5)
    rows = Clips(clips)
    latents = torch.from_numpy(np.concatenate([rows[i].latents for i in range(2)])).float()
    for reference in batch.reference:
        assert (latents - reference * 0.5).abs().flatten(1).amax(1).min() < 1e-3


def test_the_head_counts_most_and_the_background_least(clips):
    clip = Clips(clips)[0]
    weight = weigh(clip.figure, clip.people)
    assert weight.mean() == pytest.approx(1)
    x, y = (clip.people[0, 0, :2] / 8).astype(int)  # its nose
    assert weight[0, y, x] == weight.max() == pytest.approx(9 * weight.min())
    assert 0.005 < (weight == weight.max()).mean() < 0.1
    hidden = clip.people.copy()
    hidden[:, [0, 14, 15, 16, 17], 2] = 0
    assert weigh(clip.figure, hidden).max() == pytest.approx(3 * weigh(clip.figure, hidden).min(), rel=0.02)


def test_the_place_where_the_reference_shows_the_figure_counts_too(clips, encoder):
    torch.manual_seed(5)
    batch = ClipBatches(clips, encoder, 1.0, frames=1).draw(16)
    rows = Clips(clips)
    known = [
        (torch.from_numpy(latents).float(), torch.from_numpy(figure) / 255)
        for row in rows
        for latents, figure in zip(row.latents, row.figure, strict=True)
    ]
    gone = []
    for latents, reference, weight in zip(batch.latents, batch.reference, batch.weight, strict=True):
        now, before = (next(f for k, f in known if torch.allclose(k, x)) for x in (latents[0], reference))
        left = now == 0
        assert (weight[0, 0][left] / weight.min() >= 0.99 * (1 + 2 * before[left])).all()
        gone.append(before[left])
    assert torch.cat(gone).max() > 0.2


def test_the_reference_is_rather_from_far_away(clips, encoder):
    torch.manual_seed(4)
    batches = ClipBatches(clips, encoder, 0.5, frames=1)
    drawn = np.bincount([batches._reference(FRAMES, 0.0) for _ in range(2000)], minlength=FRAMES)
    assert drawn.min() > 0
    assert drawn[-4:].sum() > 2 * drawn[:4].sum()


def test_the_motion_bucket_grows_with_the_motion():
    people = np.ones((4, 18, 3), np.float32) * 50
    moved = people.copy()
    moved[..., 0] += np.arange(4)[:, None] * 4
    assert motion_bucket(people, 12, 192) == 0
    assert motion_bucket(moved, 12, 192) == pytest.approx(127 * (4 * 12 / 192) / 0.25)
    assert motion_bucket(people[:1], 12, 192) == 127


@pytest.mark.parametrize("make", [make_frame_unet, make_video_unet])
def test_both_stages_generate_under_control(clips, encoder, make):
    torch.manual_seed(5)
    batch = ClipBatches(clips, encoder, 0.5, frames=2).draw(1)
    stage = VideoStage(make().eval(), ControlNeXtModel.from_variant("starter-video").eval())
    drawn = batch if stage.over_time else _as_frames(batch)
    latents = sample(stage, drawn, steps=1)
    assert latents.shape == drawn.latents.shape
    assert latents.isfinite().all()
    uncontrolled = sample(stage, drawn._replace(poses=0 * drawn.poses), steps=1)
    assert not torch.equal(latents, uncontrolled)


def test_the_image_encoder_reads_pictures_of_any_size(encoder):
    with torch.no_grad():
        assert encoder(as_vision_input(torch.zeros(2, 3, 192, 144))).image_embeds.shape == (2, 128)


def test_the_image_starters_autoencoder_lends_its_scale():
    base = make_vae()
    base.register_to_config(scaling_factor=0.7)
    assert make_video_vae(base)[0].config.scaling_factor == 0.7
