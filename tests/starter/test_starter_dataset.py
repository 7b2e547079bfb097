import numpy as np
import pytest

from controlnext.starter.train.dataset import Shards, encode_shard, make_samples, write_shard
from controlnext.starter.train.networks import make_vae
from controlnext.starter.train.reader import heatmaps
from controlnext.starter.world.conditions import CONDITIONS, condition
from controlnext.starter.world.styles import STYLES, restyle


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    assert write_shard(folder / "shard-00000", range(2)) == 4
    return folder


def test_shards_return_what_was_rendered(shards):
    read = Shards(shards, latents=False)
    made = make_samples(0) + make_samples(1)
    assert len(read) == 4
    for a, b in zip(read, made, strict=False):
        np.testing.assert_array_equal(a.picture.rgb, b.picture.rgb)
        np.testing.assert_array_equal(a.picture.parts, b.picture.parts)
        assert a.caption() == b.caption()
        assert np.abs(a.picture.depth - b.picture.depth).max() < 1 / 255


def test_refresh_finds_new_shards_and_only_encoded_ones(shards):
    read = Shards(shards)
    assert len(read) == 0
    encode_shard(shards / "shard-00000", make_vae().eval())
    read.refresh()
    assert len(read) == 4
    assert read[0].latent.shape == (4, 32, 32)


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_are_rgb_of_the_pictures_size(name):
    picture = make_samples(5, 1)[0].picture
    drawn = condition(name, picture, np.random.default_rng(0))
    assert drawn.shape == (256, 256, 3)
    assert drawn.dtype == np.uint8
    assert drawn.max() > 0


def test_heatmaps_peak_at_the_joints():
    people = np.zeros((1, 18, 3), np.float32)
    people[0, 3] = 130, 66, 1
    heat = heatmaps(people)
    y, x = np.unravel_index(heat[0, 3].argmax(), (64, 64))
    assert (x, y) == (32, 16)
    assert heat[0, [i for i in range(18) if i != 3]].max() == 0


@pytest.mark.parametrize("name", STYLES)
def test_styles_change_colour_but_keep_shapes(name):
    rgb = make_samples(5, 1)[0].picture.rgb
    styled = restyle(name, rgb)
    assert np.abs(styled.astype(int) - rgb).mean() > 20
    # Light stays light: grey values keep their order.
    grey, styled_grey = rgb.mean(-1).ravel(), styled.mean(-1).ravel()
    assert np.corrcoef(grey, styled_grey)[0, 1] > 0.75
