import numpy as np
import pytest
from PIL import Image

from annotators import describe_figure
from annotators.starter.colours import ColourNames, bundled, in_words
from controlnext.starter.train.dataset import make_samples
from controlnext.starter.world.colours import learn_colours


@pytest.fixture(scope="module")
def samples():
    """Held-out scenes."""
    return [sample for seed in (1, 2, 3) for sample in make_samples(seed, 2)]


def test_scenes_are_told_in_their_own_colours(samples):
    right = []
    for sample in samples:
        words = in_words(sample.picture.rgb, sample.picture.parts, bundled())
        look = sample.look
        right += [f"{look.shirt} shirt" in words, f"{look.trousers} trousers" in words, f"{look.hair} hair" in words]
        assert words.split(" on ")[0].startswith("a person")
        assert {"day": "at day", "sunset": "at sunset", "night": "at night", "dawn": "at dawn"}[look.sky] in words
    assert np.mean(right) >= 0.8


def test_a_figure_is_read_and_told(samples):
    words = describe_figure(Image.fromarray(samples[0].picture.rgb))
    assert words.startswith("a person")
    assert " shirt" in words


def test_a_picture_of_nothing_is_a_person_and_what_is_around(samples):
    rgb, parts = samples[0].picture.rgb, np.zeros_like(samples[0].picture.parts)
    assert in_words(rgb, parts, bundled()).startswith("a person at ")


def test_what_is_behind_somebody_indoors_is_no_sky(samples):
    rgb, parts = samples[0].picture.rgb, samples[0].picture.parts
    outdoors, indoors = in_words(rgb, parts, bundled()), in_words(rgb, parts, bundled(), outdoors=False)
    assert outdoors.split()[-2] == "at"
    assert " at " not in indoors
    assert indoors.startswith("a person with ")


def test_names_survive_their_file(samples, tmp_path):
    names = ColourNames(*learn_colours(samples))
    names.save(tmp_path / "table.json")
    back = ColourNames.load(tmp_path / "table.json")
    assert back.means.keys() == names.means.keys()
    picture = samples[0].picture
    sky = samples[0].look.sky
    assert back.name(picture.rgb, picture.parts, "shirt", sky) == samples[0].look.shirt
    assert back.name(picture.rgb, np.zeros_like(picture.parts), "shirt", sky) is None
