"""The reference picture of the image tab and of `/generate`, over the fake studio."""

from __future__ import annotations

import pytest
from gradio_client import handle_file
from tab_values import PAGE, applied, data_of

from controlnext.ui.image.restore import Restore


def test_the_fold_is_hidden_where_no_file_fits_the_model(events, studio):
    panel = events.tab.reference
    assert not panel.fold.visible
    studio.references.names = ["ip.safetensors"]
    assert panel.for_model(studio, "starter")[panel.fold]["visible"]
    assert panel.for_model(studio, "starter")[panel.file]["value"] == "ip.safetensors"
    assert not panel.for_model(studio, "sdxl")[panel.fold]["visible"]


def test_a_run_takes_the_reference_and_a_restored_one_is_back(events, studio, picture):
    tab, panel = events.tab, events.tab.reference
    studio.references.names = ["ip.safetensors"]
    data = data_of(events, picture=str(picture), annotator="canny", seed=3, new_seed=False)
    data |= {panel.file: "ip.safetensors", panel.scale: 0.3}
    assert events.recipe(data).ip_adapter == ""  # no reference
    data |= {panel.picture: str(picture)}
    file = list(events.run(data, PAGE))[-1][tab.files][0]
    assert studio.inputs[-1].reference is not None
    page = applied(events, Restore(tab, studio, {}).asked(file))
    assert (page[panel.file], page[panel.scale]) == ("ip.safetensors", 0.3)
    assert page[panel.picture] is not None


def test_the_endpoint_takes_the_first_file_that_fits(served, client, picture):
    served[1].references.names = ["ip.safetensors"]
    source = handle_file(picture)
    _, recipe = client.predict(source, annotator="canny", reference=source, api_name="/generate")
    assert (recipe["ip_adapter"], len(recipe["reference_sha256"])) == ("ip.safetensors", 64)
    with pytest.raises(Exception, match="7"):
        client.predict(source, annotator="canny", reference=source, ip_adapter_scale=7, api_name="/generate")
    served[1].references.names = []
