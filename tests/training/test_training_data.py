import threading

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image, ImageOps
from tiny_models import sd_components, sdxl_components
from training_parts import tiny_config

import annotators
from controlnext.progress import Cancelled
from controlnext.training.config import TrainingError
from controlnext.training.data.crops import buckets, crop_for, nearest_bucket
from controlnext.training.data.encoders import PictureEncoder
from controlnext.training.data.picture_data import PictureData
from controlnext.training.data.row_data import check_conditions
from controlnext.training.data.rows import read_rows
from controlnext.training.data.samples import generator_for
from controlnext.training.data.store import Store

FIRST = generator_for(0)


class CountingEncoder(PictureEncoder):
    """Counts what it encodes."""

    def __init__(self, pipeline):
        super().__init__(pipeline, torch.device("cpu"))
        self.pictures, self.captions = 0, 0

    def latents(self, pictures):
        self.pictures += len(pictures)
        return super().latents(pictures)

    def states(self, captions):
        self.captions += len(captions)
        return super().states(captions)


@pytest.fixture(scope="module")
def pipeline():
    return StableDiffusionPipeline(**sd_components())


def make(folder, tmp_path, pipeline, validation=None, condition="canny", **data):
    values = {"folder": str(folder), "width": 64, "height": 64, **data}
    changes = {"condition": condition, "data": values, "validation": {"rows": 0, **(validation or {})}}
    config = tiny_config(tmp_path / "out", **changes)
    rows, bad = read_rows(config.data)
    encoder = CountingEncoder(pipeline)
    found = PictureData(config, rows, encoder, Store(tmp_path / "cache", 64))
    return found, bad, encoder


def prepared(*given, **options):
    data, bad, encoder = make(*given, **options)
    bad = [*bad, *data.prepare(lambda *told: None, threading.Event())]
    data.settle(bad)
    return data, bad, encoder


def test_annotators_make_conditions_and_everything_is_kept(photos, tmp_path, pipeline, monkeypatch):
    data, bad, encoder = prepared(photos, tmp_path, pipeline)
    assert (len(data), bad) == (10, [])
    assert (encoder.pictures, encoder.captions) == (10, 9)
    sample = data.sample(0, FIRST)
    picture = annotators.load_picture(photos / "0.png")
    expected = np.asarray(annotators.annotate("canny", picture).image)[8:72]
    assert torch.equal(sample.condition, torch.from_numpy(expected.copy()).permute(2, 0, 1) / 255)
    assert sample.condition.max() == 1
    assert sample.latents.shape == (4, 8, 8)
    assert sample.latents.dtype == torch.float32

    monkeypatch.setattr("annotators.annotate", None)
    again, _, encoder = prepared(photos, tmp_path, pipeline)
    assert (encoder.pictures, encoder.captions) == (0, 0)
    assert torch.equal(again.sample(0, FIRST).latents, sample.latents)
    assert torch.equal(again.sample(0, FIRST).condition, sample.condition)


def test_latents_are_the_autoencoders(photos, tmp_path, pipeline):
    data, _, _ = prepared(photos, tmp_path, pipeline, cache_latents=False)
    pixels = np.asarray(Image.open(photos / "0.png"))[8:72]
    batch = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        expected = pipeline.vae.encode(batch).latent_dist.mode()[0] * pipeline.vae.config.scaling_factor
    torch.testing.assert_close(data.sample(0, FIRST).latents, expected, rtol=2e-3, atol=2e-3)  # kept as float16


def test_states_are_the_text_encoders(photos, tmp_path, pipeline):
    data, _, _ = prepared(photos, tmp_path, pipeline, cache_text=False)
    expected = pipeline.encode_prompt("square 0", "cpu", 1, False)[0][0]
    torch.testing.assert_close(data.sample(0, FIRST).states["encoder_hidden_states"], expected, rtol=2e-3, atol=2e-3)
    empty = pipeline.encode_prompt("", "cpu", 1, False)[0][0]
    torch.testing.assert_close(data.empty["encoder_hidden_states"], empty, rtol=2e-3, atol=2e-3)
    assert not (tmp_path / "cache" / "texts").exists()


def test_given_conditions_are_cut_as_their_pictures(scribbles, tmp_path, pipeline):
    data, _, _ = prepared(scribbles, tmp_path, pipeline, condition="scribble")
    condition = data.sample(3, FIRST).condition
    assert condition.shape == (3, 64, 64)
    torch.testing.assert_close(condition.mean((1, 2)), torch.tensor([0, 60 / 255, 1.0]))


def test_bad_rows_are_named_and_skipped_up_to_a_limit(photos, tmp_path, pipeline):
    (photos / "5.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 8)).save(photos / "tiny.png")
    data, bad, _ = prepared(photos, tmp_path, pipeline)
    assert [row.name for row in bad] == ["5.png", "tiny.png"]
    assert all(row.reason.endswith(".") for row in bad)
    assert len(data) == 9
    with pytest.raises(
        TrainingError, match=r"2 rows cannot be used, more than data\.max_bad_rows=1; the last is tiny\.png"
    ):
        prepared(photos, tmp_path, pipeline, max_bad_rows=1)


def test_no_room_to_keep_what_is_made_is_not_the_rows_fault(photos, tmp_path, pipeline):
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(TrainingError, match=r"cache \(.*data\.cache"):
        prepared(photos, tmp_path, pipeline)


def test_a_data_set_of_bad_rows_alone_is_refused(photos, tmp_path, pipeline):
    for file in photos.glob("*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(TrainingError, match="None of the 10 rows can be used"):
        prepared(photos, tmp_path, pipeline)


def test_missing_conditions_need_an_annotator(scribbles, tmp_path):
    lines = (scribbles / "metadata.jsonl").read_text().replace(', "conditioning_image": "c4.png"', "")
    (scribbles / "metadata.jsonl").write_text(lines)
    config = tiny_config(tmp_path / "out", data={"folder": str(scribbles), "annotator": "scribble"})
    with pytest.raises(TrainingError, match=r"4\.png has no condition, and there is no annotator 'scribble'"):
        check_conditions(config, read_rows(config.data)[0])


def test_mirrored_pictures_have_mirrored_conditions(photos, tmp_path, pipeline):
    data, _, _ = prepared(photos, tmp_path, pipeline, flip=True)
    assert len(data) == 20
    plain, mirrored = (data.sample(index, FIRST) for index in (0, 1))
    assert not torch.equal(plain.latents, mirrored.latents)
    picture = ImageOps.mirror(annotators.load_picture(photos / "0.png"))
    expected = np.asarray(annotators.annotate("canny", picture).image)[8:72]
    assert torch.equal(mirrored.condition, torch.from_numpy(expected.copy()).permute(2, 0, 1) / 255)


def test_given_conditions_are_mirrored_too(scribbles, tmp_path, pipeline):
    half = Image.new("RGB", (64, 80))
    half.paste((255, 255, 255), (0, 0, 32, 80))
    half.save(scribbles / "c0.png")
    data, _, _ = prepared(scribbles, tmp_path, pipeline, condition="scribble", flip=True)
    plain, mirrored = (data.sample(index, FIRST).condition for index in (0, 1))
    assert plain[:, :, 0].min() == 1
    assert torch.equal(mirrored, plain.flip(-1))


def test_random_cuts_come_from_the_samples_generator(photos, tmp_path, pipeline):
    data, _, _ = prepared(photos, tmp_path, pipeline, crop="random", cache_latents=False)
    conditions = [data.sample(0, generator_for(0, number)).condition for number in range(12)]
    assert len({tuple(condition.flatten().tolist()) for condition in conditions}) > 3
    assert torch.equal(data.sample(0, generator_for(0, 5)).condition, conditions[5])


def test_sizes_keep_shapes_and_sdxl_is_told_of_the_cut(photos, tmp_path):
    Image.new("RGB", (200, 100), "blue").save(photos / "0.png")
    data, _, _ = prepared(
        photos, tmp_path, StableDiffusionXLPipeline(**sdxl_components()), aspect="buckets", width=128, height=128
    )
    wide = data.sample(0, FIRST)
    assert data.shape(0) == (160, 96)
    assert wide.latents.shape == (4, 12, 20)
    assert wide.condition.shape == (3, 96, 160)
    assert wide.states["time_ids"].tolist() == [100, 200, 0, 16, 96, 160]
    assert wide.states["text_embeds"].ndim == 1
    assert set(data.empty) == {"encoder_hidden_states", "text_embeds"}
    high = data.sample(1, FIRST)  # 72 x 80, scaled to 128 x 142
    assert high.states["time_ids"].tolist() == [80, 72, 7, 0, 128, 128]


def test_preparing_can_be_stopped(photos, tmp_path, pipeline):
    data, _, _ = make(photos, tmp_path, pipeline)
    stop, told = threading.Event(), []

    def report(stage, done, total):
        told.append((stage, done, total))
        if done == 3:
            stop.set()

    with pytest.raises(Cancelled):
        data.prepare(report, stop)
    assert told[-1] == ("Preparing rows", 3, 10)


def test_processes_prepare_their_share(photos, tmp_path, pipeline):
    data, _, encoder = make(photos, tmp_path, pipeline)
    assert data.prepare(lambda *told: None, threading.Event(), (1, 3)) == []
    assert encoder.pictures == 3


def test_held_out_rows_are_not_learned_from(photos, tmp_path, pipeline):
    data, _, _ = prepared(photos, tmp_path, pipeline, validation={"rows": 2})
    shown = data.shown()
    assert len(data) == 8
    assert len(shown) == 2
    learned = [data.sample(index, FIRST).latents for index in range(8)]
    assert not any(torch.equal(row.sample.latents, other) for row in shown for other in learned)
    assert shown[0].condition.size == shown[0].picture.size == (64, 64)
    assert {row.prompt for row in shown} <= {"", *(f"square {number}" for number in range(8))}


@pytest.mark.parametrize("original", [(100, 50), (50, 100), (64, 64), (1000, 37), (63, 65)])
def test_a_cut_covers_its_size_and_lies_inside(original):
    for generator in (None, generator_for(1, 2)):
        frame = crop_for(original, (64, 48), generator=generator)
        left, top, right, bottom = frame.box
        assert (right - left, bottom - top) == (64, 48)
        assert 0 <= left <= right <= frame.scaled[0]
        assert 0 <= top <= bottom <= frame.scaled[1]
        assert frame.scaled[0] == 64 or frame.scaled[1] == 48


def test_buckets_have_about_equal_area_and_their_own_size():
    sizes = buckets(1024, 1024)
    assert (1024, 1024) in sizes
    assert (832, 1216) in sizes
    assert all(width % 64 == height % 64 == 0 for width, height in sizes)
    assert all(0.85 < width * height / 1024**2 <= 1 for width, height in sizes)
    assert nearest_bucket((2000, 3000), sizes) == (832, 1216)
    assert nearest_bucket((500, 500), sizes) == (1024, 1024)
