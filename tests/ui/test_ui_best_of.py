"""Best-of and repair over the fake studio, and the endpoints `/score`, `/repair` and `best_of`."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image
from tab_values import PAGE, data_of, refused

from controlnext.recipes.png import read_png
from controlnext.studio.repair import RepairError
from controlnext.ui.image.best_of_events import BestOfEvents


@pytest.fixture
def best(events):
    return BestOfEvents(events.tab.best, events)


def last(updates):
    merged = {}
    for update in updates:
        merged |= update
    return merged


def test_the_best_of_several_seeds_is_shown_first(best, picture, studio, events):
    area, tab = best.area, events.tab
    data = data_of(events, picture=str(picture), seed=3, new_seed=False) | {area.count: 3}
    made = last(best.run(data, PAGE))
    assert studio.recipes[0].num_images == 3
    assert len(made[tab.files]) == 3
    assert made[tab.recipe]["adherence"] == sorted(made[tab.recipe]["adherence"], reverse=True)


def test_repair_shows_the_repaired_picture_or_says_that_nothing_was_better(best, picture, studio, events):
    area, tab = best.area, events.tab
    with refused(RepairError, "first"):
        list(best.repair_chosen({tab.files: [], area.chosen: 0}, PAGE))
    data = data_of(events, picture=str(picture), annotator="canny", seed=3, new_seed=False)
    files = last(events.run(data, PAGE))[tab.files]
    made = last(best.repair_chosen({tab.files: files, area.chosen: 7}, PAGE))
    if tab.recipe in made:
        assert made[tab.recipe]["mask_sha256"]
        assert "rose" in made[tab.summary]
    else:
        assert "%" in made[tab.progress]
    assert all(recipe.gamma > 0.8 for recipe in studio.recipes[1:])
    assert best.choose(SimpleNamespace(index=2)) == 2


def test_a_map_follows_itself_and_another_picture_less(client, picture):
    edges = client.predict(handle_file(picture), annotator="canny", resolution=None, api_name="/annotate")
    full = client.predict(handle_file(picture), handle_file(edges), annotator="canny", api_name="/score")
    assert full == {"adherence": 1.0, "name": "edge F1", "annotator": "canny"}


@pytest.mark.parametrize("annotator", ["nonesuch", "none"])
def test_a_kind_without_a_measure_is_refused(client, picture, annotator):
    with pytest.raises(Exception, match=annotator):
        client.predict(handle_file(picture), handle_file(picture), annotator=annotator, api_name="/score")


@pytest.mark.parametrize("name", ["resolution", "backend"])
def test_a_score_is_read_in_its_own_way(client, picture, name):
    with pytest.raises(Exception, match=name):
        client.predict(
            handle_file(picture), handle_file(picture), annotator="canny", settings={name: 3}, api_name="/score"
        )


def test_the_endpoints_of_repair_and_best_of(client, picture):
    pictures, recipe = client.predict(handle_file(picture), annotator="canny", seed=4, best_of=2, api_name="/generate")
    assert (len(pictures), recipe["num_images"]) == (2, 2)
    path, facts = client.predict(handle_file(pictures[0]["image"]), api_name="/repair")
    assert facts["after"] >= facts["before"]
    assert read_png(path) is not None
    with pytest.raises(Exception, match="recipe"):
        client.predict(handle_file(picture), api_name="/repair")
    assert np.asarray(Image.open(path)).shape[2] == 3
