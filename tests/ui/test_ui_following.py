"""The panel that shows what a result followed: handlers over a saved picture."""

from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from ui_fakes import KINDS

from controlnext.recipes.inputs import Inputs
from controlnext.recipes.recipe import Recipe
from controlnext.ui.image.following import SHOW
from controlnext.ui.image.following_events import FollowingEvents


@pytest.fixture
def events(image_tab, studio):
    return FollowingEvents(image_tab, studio)


def saved(studio, kind, name):
    edges = np.zeros((64, 64, 3), np.uint8)
    edges[:, 32:34] = 255
    inputs = Inputs((Image.fromarray(edges),) if kind else ())
    recipe = Recipe(annotator=kind, prompt=name, width=64, height=64).with_digests(inputs)
    return str(studio.gallery.save(Image.fromarray(edges), recipe, inputs))


def test_one_click_shows_it_and_the_next_hides_it(events, studio):
    panel, files = events.panel, [saved(studio, kind, kind) for kind in KINDS]
    shown = events.toggle(files, 2, False)
    plain, image = shown[panel.slider]
    assert plain.size == image.size == (512, 512)
    assert "F1" in shown[panel.table]
    assert shown[panel.open] is True
    hidden = events.toggle(files, 2, True)
    assert (hidden[panel.open], hidden[panel.group]["visible"], hidden[panel.button]["value"]) == (False, False, SHOW)


def test_a_click_on_another_picture_shows_that_one(events, studio):
    panel, files = events.panel, [saved(studio, kind, kind) for kind in KINDS]
    click = SimpleNamespace(index=3)
    assert events.pick(files, False, click) == {panel.picked: 3}
    shown = events.pick(files, True, click)
    assert "mean IoU" in shown[panel.table]
    assert shown[panel.picked] == 3


def test_a_picture_without_control_says_so(events, studio):
    file = saved(studio, "none", "words alone")
    with pytest.raises(gr.Error, match=Path(file).name):
        events.toggle([file], 0, False)
