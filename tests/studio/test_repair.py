from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_studio import Annotation, picture

from annotators.base import AnnotatorError
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.png import read_facts, read_inputs, read_png, write_png
from controlnext.recipes.recipe import Recipe
from controlnext.studio.best_of import ranked
from controlnext.studio.repair import Repairer, RepairError


def edges(*columns):
    map_ = np.zeros((64, 64, 3), np.uint8)
    for column in columns:
        map_[10:50, column] = 255
    return Image.fromarray(map_)


ASKED = edges(10, 50)


@pytest.fixture
def saved(studio):
    """A result of the tiny studio that was asked for two lines."""
    recipe = studio.catalogue.resolve("starter", adapter="canny", prompt="x", seed=5, num_inference_steps=4)
    return studio.generate(recipe, Inputs((ASKED,))).files[0]


def reader(*found):
    """Reads pictures as these maps, one after the other, the last one again and again."""
    left = list(found)

    def annotate(name, image, **options):
        one = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(one, Exception):
            raise one
        return Annotation(one)

    return annotate


def test_a_better_region_is_kept_and_nothing_outside_of_it_changes(studio, saved):
    before = np.asarray(Image.open(saved))
    done = Repairer(reader(edges(10, 30), ASKED), "auto", studio.generate).repair(saved)
    assert done.before < done.after == 1
    assert [one.kept for one in done.tries] == [True]
    after, inputs, recipe = np.asarray(Image.open(done.file)), read_inputs(done.file), read_png(done.file)
    outside = np.asarray(inputs.mask) == 0
    assert np.array_equal(after[outside], before[outside])
    assert not np.array_equal(after, before)
    assert recipe.gamma > read_png(saved).gamma
    again = studio.generate(recipe, inputs)  # a repair is a recipe as any other
    assert np.array_equal(np.asarray(again.images[0]), after)


def test_what_is_not_better_is_dropped_with_its_file(studio, saved):
    files = set(studio.gallery.output_dir.iterdir())
    done = Repairer(reader(edges(10, 30)), "auto", studio.generate).repair(saved)
    assert done.file == saved
    assert done.before == done.after
    assert done.tries
    assert not any(one.kept for one in done.tries)
    assert set(studio.gallery.output_dir.iterdir()) == files


def test_a_picture_that_follows_is_left_alone(studio, saved):
    done = Repairer(reader(ASKED), "auto", studio.generate).repair(saved)
    assert (done.file, done.tries, done.before) == (saved, (), 1)


def test_a_picture_without_anybody_in_it_is_drawn_again_as_a_whole(studio, saved):
    nobody = AnnotatorError("nobody")
    nobody.found_nothing = True
    done = Repairer(reader(nobody, ASKED), "auto", studio.generate).repair(saved)
    assert (done.before, done.after) == (0, 1)
    assert done.tries[0].area == 1


def test_what_cannot_be_repaired_is_refused(studio, tmp_path, saved):
    plain = tmp_path / "plain.png"
    picture().save(plain)
    words = tmp_path / "words.png"
    write_png(words, picture(), Recipe())
    own = tmp_path / "own.png"
    write_png(own, picture(), Recipe(adapter="own"), ASKED)
    for file in (plain, words, own):
        with pytest.raises(RepairError):
            Repairer(reader(ASKED), "auto", studio.generate).repair(file)
    with pytest.raises(RepairError):
        Repairer(reader(AnnotatorError("broken")), "auto", studio.generate).repair(saved)


def test_the_best_of_several_seeds_comes_first_with_all_that_is_its_own(studio):
    recipe = studio.catalogue.resolve(
        "starter", adapter="canny", prompt="x", seed=5, num_inference_steps=1, num_images=3
    )
    result = replace(
        studio.generate(recipe, Inputs((ASKED,))), adherence=[0.2, None, 0.9], adherences={"canny": [0.2, None, 0.9]}
    )
    best = ranked(result)
    assert (best.seeds, best.adherence, best.adherences["canny"]) == ([7, 5, 6], [0.9, 0.2, None], [0.9, 0.2, None])
    assert [read_png(Path(file)).seed for file in best.files] == [7, 5, 6]
    assert np.array_equal(np.asarray(best.images[0]), np.asarray(Image.open(best.files[0])))
    assert "adherence" not in read_facts(best.files[0])
