import inspect
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image
from tiny_models import make_module, svd_components
from training_parts import tiny_config

import annotators
from controlnext import ControlNeXtAdapter
from controlnext.presets import PRESETS_DIR, load_preset
from controlnext.training.base import write_preset
from controlnext.training.clip_data import TIME_IDS, ClipData
from controlnext.training.encoders import ClipEncoder
from controlnext.training.errors import TrainingError
from controlnext.training.losses import ContinuousProcess
from controlnext.training.methods import ControlNeXtMethod, Request, stock_pictures
from controlnext.training.rows import read_rows
from controlnext.training.samples import Dropping, generator_for
from controlnext.training.start import filled
from controlnext.training.store import Store
from controlnext.training.trainer import Trainer


@pytest.fixture(scope="module")
def pipeline():
    pipeline = StableVideoDiffusionPipeline(**svd_components())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def clips(tmp_path):
    """Three folders of frames in which a square wanders; the last is too short."""
    for name, count in (("one", 9), ("two", 7), ("short", 2)):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.full((72, 64, 3), 30, np.uint8)
            pixels[20:50, 4 + 4 * number : 24 + 4 * number] = 200
            Image.fromarray(pixels).save(tmp_path / "clips" / name / f"{number}.png")
    return tmp_path / "clips"


def make(clips, tmp_path, pipeline, **data):
    values = {"folder": str(clips), "width": 64, "height": 64, "frames": 3, "stride": 2, "caption": "c", **data}
    config = tiny_config(tmp_path / "out", family="svd", data=values, validation={"rows": 1})
    rows, bad = read_rows(config.data, video=True)
    found = ClipData(config, rows, ClipEncoder(pipeline, torch.device("cpu")), Store(tmp_path / "cache", 64))
    bad += found.prepare(lambda *told: None, threading.Event())
    return config, found, bad


def test_an_adapter_trained_here_is_given_the_skeletons_it_was_trained_on(tmp_path):
    config = filled(tiny_config(tmp_path / "out", family="svd", condition="pose"))
    write_preset(config, tmp_path / "adapter", tmp_path / "mine.yaml")
    preset = load_preset(tmp_path / "mine.yaml")
    assert preset.variant == load_preset(PRESETS_DIR / "svd-v2.yaml").variant
    assert preset.adapters["pose"].drawing == "classic"  # what the annotators draw for a training


def settled(*given, **options):
    config, data, bad = make(*given, **options)
    data.settle(bad)
    return config, data


def test_clips_become_frames_states_and_conditions(clips, tmp_path, pipeline):
    _, data, bad = make(clips, tmp_path, pipeline)
    assert [(row.name, row.reason) for row in bad] == [
        ("short", "It has 1 frames at data.stride=2, fewer than data.frames=3.")
    ]
    data.settle(bad)
    assert len(data) == 2
    sample = data.sample(0, generator_for(0))
    assert sample.latents.shape == (3, 4, 8, 8)
    assert sample.condition.shape == (3, 3, 64, 64)
    assert {name: tuple(value.shape) for name, value in sample.states.items()} == {
        "encoder_hidden_states": (1, 32),
        "image_latents": (4, 8, 8),
        "added_time_ids": (3,),
    }
    assert sample.states["added_time_ids"].tolist() == pytest.approx([6, 128, 0.02])
    assert set(data.empty) == {"encoder_hidden_states", "image_latents"}
    assert not any(value.any() for value in data.empty.values())


def test_frames_are_every_second_one_with_their_own_conditions(clips, tmp_path, pipeline):
    _, data = settled(clips, tmp_path, pipeline)
    shown = data._items[0]
    assert (shown.row.name, shown.count) == ("one", 5)
    frame = Image.open(clips / "one" / "4.png").crop((0, 4, 64, 68))
    whole = annotators.annotate("canny", Image.open(clips / "one" / "4.png").convert("RGB")).image.crop((0, 4, 64, 68))
    drawn = {}
    for number in range(40):
        sample = data.sample(0, generator_for(number))
        start = next(
            index for index in range(3)
            if torch.equal(sample.latents[0], data._encoded(shown)["latents"][index].float())
        )  # fmt: skip
        drawn[start] = sample
    assert set(drawn) == {0, 1, 2}
    expected = torch.from_numpy(np.array(whole)).permute(2, 0, 1) / 255
    assert torch.equal(drawn[0].condition[2], expected)
    assert torch.equal(drawn[1].condition[1], expected)
    latents = ClipEncoder(pipeline, torch.device("cpu")).latents([np.asarray(frame)])[0]
    torch.testing.assert_close(drawn[2].latents[0].half(), latents, rtol=1e-2, atol=1e-2)


def test_references_are_any_frame_with_a_little_noise(clips, tmp_path, pipeline):
    _, data = settled(clips, tmp_path, pipeline)
    encoded = data._encoded(data._items[0])
    references = [data.sample(0, generator_for(number)).states["image_latents"] for number in range(40)]
    used = {index for index in range(5) for one in references if torch.equal(one, encoded["stills"][index].float())}
    assert used == set(range(5))
    plain = encoded["latents"].float() / pipeline.vae.config.scaling_factor
    assert not torch.equal(plain, encoded["stills"].float())
    torch.testing.assert_close(plain, encoded["stills"].float(), rtol=0, atol=0.5)


def test_given_conditions_must_be_as_long(clips, tmp_path, pipeline):
    (clips / "metadata.jsonl").write_text(
        '{"file_name": "one", "conditioning_image": "two"}\n{"file_name": "two", "conditioning_image": "one"}\n'
        '{"file_name": "two", "conditioning_image": "two"}\n'
    )
    _, data, bad = make(clips, tmp_path, pipeline)
    assert [row.reason for row in bad[:2]] == [
        "The clip of its conditions has 4 frames for 5.",
        "The clip of its conditions is longer than its 4 frames.",
    ]
    data.settle(bad[:1])


def test_what_clips_do_not_have_is_refused(clips, tmp_path, pipeline):
    with pytest.raises(TrainingError, match=r"data\.flip=false alone"):
        make(clips, tmp_path, pipeline, flip=True)


def test_clips_are_drawn_with_what_the_training_says_of_time():
    asked = []

    def stock(start, **options):
        asked.append(options)
        return SimpleNamespace(frames=[["frame"]])

    request = Request([""], torch.zeros(1, 3, 3, 64, 64), [0], start=Image.new("RGB", (64, 64)))
    assert stock_pictures(stock, request) == ["frame"]
    own = inspect.signature(StableVideoDiffusionPipeline.__call__).parameters
    told = (own["fps"].default - 1, asked[0]["motion_bucket_id"], own["noise_aug_strength"].default)
    assert told == TIME_IDS
    assert asked[0]["decode_chunk_size"] == 2


def test_a_video_adapter_is_trained_drawn_and_saved(clips, tmp_path, pipeline):
    config, data = settled(clips, tmp_path, pipeline)
    method = ControlNeXtMethod(
        pipeline.unet, "svd-v2", module=make_module("svd-v2", 32), pattern=".*attn2.to_out.*", rates=(1e-3, 1e-3)
    )
    trainer = Trainer(
        config.model_copy(update={"steps": 3}), method, data, ContinuousProcess(), dropping=Dropping(0.2, 0.1)
    )
    trainer.run()
    losses = [event["loss"] for event in trainer.run_folder.events("step")]
    assert len(losses) == 3
    assert all(np.isfinite(losses))
    row = data.shown()[0]
    assert row.start.size == (64, 64)
    request = Request(
        [row.prompt], row.sample.condition.unsqueeze(0), [0], steps=2, guidance_scale=2.0, start=row.start
    )
    with torch.no_grad():
        frames = method.pictures(pipeline, request)
    assert [frame.size for frame in frames] == [(64, 64)] * 3
    method.save(tmp_path / "adapter", {"annotator": "canny"}, torch.float16)
    assert ControlNeXtAdapter.from_pretrained(tmp_path / "adapter").variant.name == "svd-v2"
