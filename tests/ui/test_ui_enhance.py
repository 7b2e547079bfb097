"""Detail and enlarging on the page over the fake studio, and the endpoint `/enhance`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from gradio_client import handle_file
from PIL import Image
from tab_values import PAGE, applied, data_of, refused

from controlnext.models.upscalers import UpscalerFolders
from controlnext.recipes.png import read_png
from controlnext.studio.enhance import EnhanceError
from controlnext.ui.image.enhance_events import EnhanceEvents
from controlnext.ui.image.restore import Restore


def last(updates):
    merged = {}
    for update in updates:
        merged |= update
    return merged


def test_the_clicked_picture_is_enhanced(events, picture, studio):
    tab, area, enhance = events.tab, events.tab.enhance, EnhanceEvents(events.tab, events)
    data = data_of(events, picture=str(picture), annotator="canny", seed=3, new_seed=False, count=2)
    taken = {area.detail: ["face"], area.upscale: 2, area.upscaler: "", tab.best.chosen: 1}
    with refused(EnhanceError):
        last(enhance.add_detail({tab.files: [], **taken}, PAGE))
    files = last(events.run(data, PAGE))[tab.files]
    made = last(enhance.add_detail({tab.files: files, **taken}, PAGE))
    assert made[tab.recipe]["detail"] == ["face"]
    assert made[tab.recipe]["seed"] == 4
    large = last(enhance.upscale({tab.files: made[tab.files], **taken, tab.best.chosen: 0}, PAGE))
    assert (large[tab.recipe]["detail"], large[tab.recipe]["upscale"]) == (["face"], 2)
    assert Image.open(large[tab.files][0]).width == 2 * studio.recipes[-1].width


def test_every_picture_is_enhanced_where_asked_for_and_a_recipe_brings_it_back(events, picture, studio):
    area = events.tab.enhance
    data = data_of(events, picture=str(picture), annotator="canny", seed=3, new_seed=False)
    assert (events.recipe(data).detail, events.recipe(data).upscale) == ((), 1)
    data |= {area.always: True, area.detail: ["hands"], area.enlarged: True, area.upscale: 4}
    file = last(events.run(data, PAGE))[events.tab.files][0]
    page = applied(events, Restore(events.tab, studio, {}).asked(file))
    assert events.recipe(page).detail == ("hands",)
    assert events.recipe(page).upscale == 4


def test_models_of_the_folder_are_choices(events, studio, tmp_path):
    (tmp_path / "two.pth").write_bytes(b"")
    studio.upscalers = UpscalerFolders([tmp_path])
    choices = EnhanceEvents(events.tab, SimpleNamespace(studio=studio)).choices()["choices"]
    assert [value for _, value in choices] == ["", "two.pth"]


def test_the_endpoint_enhances_a_saved_picture(client, picture):
    pictures, _ = client.predict(handle_file(picture), annotator="canny", seed=4, api_name="/generate")
    source = handle_file(pictures[0]["image"])
    path, recipe = client.predict(source, detail=["face"], upscale=2, api_name="/enhance")
    assert (recipe["detail"], recipe["upscale"]) == (["face"], 2)
    assert read_png(path).upscale == 2
    for wrong in ({"detail": ["foot"]}, {"detail": "face"}, {"upscale": 3}, {}):
        with pytest.raises(Exception, match=r"foot|face|3|Nothing"):
            client.predict(source, **wrong, api_name="/enhance")
