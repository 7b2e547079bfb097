import inspect
import json
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image
from tiny_models import make_module, svd_components
from training_parts import tiny_config
from video_figures import person

import annotators
from annotators.base import Backend, Drawing
from annotators.pose import draw_people
from annotators.poses.people import People, Person
from controlnext import ControlNeXtAdapter
from controlnext.assets import PRESETS
from controlnext.models.presets import load_preset
from controlnext.training.base_model import write_preset
from controlnext.training.config import ConfigError, TrainingError
from controlnext.training.data.clip_data import TIME_IDS, ClipData
from controlnext.training.data.encoders import ClipEncoder
from controlnext.training.data.rows import read_rows
from controlnext.training.data.samples import Dropping, generator_for
from controlnext.training.data.store import Store
from controlnext.training.losses import ContinuousProcess
from controlnext.training.methods import ControlNeXtMethod, DrawRequest, stock_pictures
from controlnext.training.runs.report import facts_of
from controlnext.training.runs.run_folder import RunFolder
from controlnext.training.start import filled
from controlnext.training.trainer import Trainer
from controlnext.training.validation import Validation


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


def make(clips, tmp_path, pipeline, condition="canny", start=None, **data):
    values = {"folder": str(clips), "width": 64, "height": 64, "frames": 3, "stride": 2, "caption": "c", **data}
    config = tiny_config(
        tmp_path / "out", family="svd", data=values, validation={"rows": 1}, condition=condition,
        trainable={"start": start},
    )  # fmt: skip
    rows, bad = read_rows(config.data, video=True)
    found = ClipData(config, rows, ClipEncoder(pipeline, torch.device("cpu")), Store(tmp_path / "cache", 64))
    bad += found.prepare(lambda *told: None, threading.Event())
    return config, found, bad


def test_an_adapter_trained_here_is_given_the_skeletons_it_was_trained_on(tmp_path):
    config = filled(tiny_config(tmp_path / "out", family="svd", condition="pose"))
    write_preset(config, tmp_path / "adapter", tmp_path / "mine.yaml")
    preset = load_preset(tmp_path / "mine.yaml")
    assert preset.variant == load_preset(PRESETS / "svd-v2.yaml").variant
    assert preset.adapters["pose"].drawing == "classic"  # what the annotators draw for a training


@pytest.fixture
def dancer(clips, monkeypatch):
    """The annotators see a body with a doubtful right wrist, and hands where they are asked for."""

    def read(rgb, settings):
        body = person(rgb.shape[1] / 2, rgb.shape[0] / 3, rgb.shape[0] / 2)[:18]
        body[4, 2] = 0.4
        hand = np.column_stack([np.full((21, 2), 30.0) + np.arange(21)[:, None], np.full(21, 0.6)])
        return People((Person(body, left_hand=hand if settings["hands"] else None),), *rgb.shape[:2])

    def draw(people, settings):
        return Drawing(draw_people(people, settings["confidence"]), people.to_data())

    dancer = Backend("dancer", "Dancer", read, draw, reads=("people", "hands", "face"), draws=("confidence",))
    monkeypatch.setitem(vars(annotators.ANNOTATORS["pose"]), "backends", (dancer,))
    return clips


@pytest.mark.parametrize("begun", ["svd-v2/pose", "folder"])
def test_an_adapter_begun_from_the_released_one_learns_and_gets_its_skeletons(dancer, tmp_path, pipeline, begun):
    if begun == "folder":  # as a training here leaves it
        begun = tmp_path / "begun"
        begun.mkdir()
        config = filled(
            tiny_config(tmp_path, family="svd", condition="pose", data={"drawing": "svd"}, learning={"gamma": 1.0})
        )
        (begun / "config.json").write_text(json.dumps(facts_of(config, 1, 1, 1.0, {})))
    config, data = settled(dancer, tmp_path, pipeline, condition="pose", start=str(begun))
    assert (config.data.drawing, config.data.annotator_settings) == ("svd", {"hands": True, "face": True})
    picture = data._items[0].crop.scale(Image.open(dancer / "one" / "0.png").convert("RGB"))
    read = annotators.annotate("pose", picture, hands=True, face=True)
    expected = annotators.draw_pose(read.data, drawing="svd").image.crop(data._items[0].crop.box)
    assert np.array_equal(data._condition(data._items[0], 0), np.asarray(expected))
    shown = data.shown()[0]
    (body,) = shown.people
    np.testing.assert_allclose(body[1], (32, 72 / 3 - 4, 0.9))  # the neck, in pixels of the cut
    validation = Validation(SimpleNamespace(config=config, run_folder=RunFolder(config.output)), None, [])
    assert validation._score(shown, shown.picture) == 1.0
    write_preset(config, tmp_path / "adapter", tmp_path / "mine.yaml")
    assert load_preset(tmp_path / "mine.yaml").adapters["pose"].drawing == "svd"


def test_other_skeletons_are_made_anew_beside_the_classic_ones(dancer, tmp_path, pipeline):
    drawn = {}
    for drawing in ("svd", None):
        config, data = settled(
            dancer,
            tmp_path,
            pipeline,
            condition="pose",
            drawing=drawing,
            annotator_settings={"hands": True, "face": True},
        )
        drawn[config.data.drawing] = data._condition(data._items[0], 0)
    assert not np.array_equal(drawn["svd"], drawn["classic"])


def test_only_poses_of_clips_are_drawn_otherwise(tmp_path):
    with pytest.raises(ConfigError, match=r"Only poses of clips .* leave data\.drawing=svd out"):
        tiny_config(tmp_path, data={"drawing": "svd"})


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
    with pytest.raises(TrainingError, match=r"data\.flip=false"):
        make(clips, tmp_path, pipeline, flip=True)


def test_clips_are_drawn_with_what_the_training_says_of_time():
    asked = []

    def stock(start, **options):
        asked.append(options)
        return SimpleNamespace(frames=[["frame"]])

    request = DrawRequest([""], torch.zeros(1, 3, 3, 64, 64), [0], start=Image.new("RGB", (64, 64)))
    assert stock_pictures(stock, request) == ["frame"]
    own = inspect.signature(StableVideoDiffusionPipeline.__call__).parameters
    told = (own["fps"].default - 1, asked[0]["motion_bucket_id"], own["noise_aug_strength"].default)
    assert told == TIME_IDS
    assert asked[0]["decode_chunk_size"] == 2


def test_clips_whose_conditions_are_all_alike_are_a_warning(clips, tmp_path, pipeline):
    assert settled(clips, tmp_path / "moving", pipeline)[1].warnings() == []
    for name in ("one", "two"):
        first = (clips / "one" / "0.png").read_bytes()
        for file in (clips / name).iterdir():
            file.write_bytes(first)
    (warning,) = settled(clips, tmp_path / "still", pipeline)[1].warnings()
    assert "differ by 0.0%" in warning


def test_drawn_frames_that_collapse_to_one_are_a_warning(clips, tmp_path, pipeline):
    config, data = settled(clips, tmp_path, pipeline)
    method = ControlNeXtMethod(pipeline.unet, "svd-v2", module=make_module("svd-v2", 32), pattern=".*attn2.to_out.*")
    trainer = Trainer(config, method, data, ContinuousProcess(), log=lambda text: None)
    (row,) = data.shown()
    validation = Validation(trainer, pipeline, [row])
    noise = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8)
    validation._check_frames(row, [Image.fromarray(frame) for frame in noise])
    assert trainer.run_folder.events("warning") == []
    validation._check_frames(row, [Image.fromarray(noise[0])] * 3)
    (warning,) = trainer.run_folder.events("warning")
    assert row.name in warning["text"]


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
    request = DrawRequest(
        [row.prompt], row.sample.condition.unsqueeze(0), [0], steps=2, guidance_scale=2.0, start=row.start
    )
    with torch.no_grad():
        frames = method.pictures(pipeline, request)
    assert [frame.size for frame in frames] == [(64, 64)] * 3
    method.save(tmp_path / "adapter", {"annotator": "canny"}, torch.float16)
    assert ControlNeXtAdapter.from_pretrained(tmp_path / "adapter").variant.name == "svd-v2"
