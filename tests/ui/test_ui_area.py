"""Areas of controls on the page, through the API and the command line, over the fake studio."""

from __future__ import annotations

import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image
from tab_values import PAGE, applied, data_of

from controlnext.recipes.areas import area_picture
from controlnext.ui.image.area import INSIDE, OUTSIDE, RESTORED
from controlnext.ui.image.restore import Restore
from controlnext.ui.image.start_picture import OPACITY, PAINT


@pytest.fixture
def painted(tmp_path):
    """What an editor holds after its left half was painted."""
    layer = Image.new("RGBA", (128, 96))
    layer.paste(Image.new("RGBA", (64, 96), f"{PAINT}{round(255 * OPACITY):02x}"), (0, 0))
    layer.save(tmp_path / "layer.png")
    return {"background": None, "layers": [str(tmp_path / "layer.png")], "composite": None}


@pytest.fixture
def mask(tmp_path):
    picture = Image.new("L", (64, 64))
    picture.paste(255, (0, 0, 32, 64))
    picture.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def test_what_is_painted_is_where_the_control_acts(events, picture, studio, painted):
    area = events.tab.area
    data = data_of(events, picture=str(picture), annotator="canny", seed=3, new_seed=False)
    assert events.recipe(data | {area.where: INSIDE}).area == ""  # nothing was painted
    data |= {area.editor: painted, area.soft: 0}
    assert events.recipe(data).area == ""  # everywhere
    inside = np.asarray(area_picture(events.recipe(data | {area.where: INSIDE}).area))
    assert (inside[48, 10], inside[48, 100]) == (255, 0)
    outside = np.asarray(area_picture(events.recipe(data | {area.where: OUTSIDE}).area))
    assert np.array_equal(outside, 255 - inside)


def test_each_control_has_an_area_and_a_restored_one_is_the_same(events, picture, studio, painted):
    tab, row = events.tab, events.tab.controls[0]
    data = data_of(events, picture=str(picture), annotator="canny", seed=3, new_seed=False)
    data |= {row.kind: "depth", row.area.editor: painted, row.area.where: INSIDE, row.area.soft: 6}
    recipe = events.recipe(data)
    assert (recipe.area, bool(recipe.controls[0].area)) == ("", True)
    file = list(events.run(data, PAGE))[-1][tab.files][0]
    page = applied(events, Restore(tab, studio, {}).asked(file))
    assert page[row.area.where] == RESTORED
    assert events.recipe(page).controls[0].area == recipe.controls[0].area


def test_the_endpoints_take_masks(client, picture, mask):
    sent = {"annotator": "depth", "area": handle_file(mask), "area_outside": True}
    _, recipe = client.predict(
        handle_file(picture), annotator="canny", seed=4, width=256, height=256, area=handle_file(mask), controls=[sent],
        api_name="/generate",
    )  # fmt: skip
    own, other = (np.asarray(area_picture(text)) for text in (recipe["area"], recipe["controls"][0]["area"]))
    assert np.abs(own.astype(int) - (255 - other)).max() <= 1  # rounded before and after it was inverted
    for wrong in ({"area_soft": "much"}, {"area_soft": -1}, {"area_outside": "yes"}):
        with pytest.raises(Exception, match="area_"):
            client.predict(
                handle_file(picture), annotator="canny", area=handle_file(mask), **wrong, api_name="/generate"
            )
