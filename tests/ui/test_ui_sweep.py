"""The sweep's handlers over the fake studio, called without a browser, and the endpoint."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image
from tab_values import PAGE, applied, data_of, refused

from controlnext.recipes.sweep_plan import SweepError, SweepPlan
from controlnext.results.saved_sweeps import SavedSweep
from controlnext.results.sweep_table import SweptCell
from controlnext.ui.api import Endpoints
from controlnext.ui.image.restore import Restore
from controlnext.ui.image.sweep_events import SweepEvents
from controlnext.ui.image.sweep_view import caption, words_of
from controlnext.ui.sweep_api import SweepEndpoints
from controlnext.ui.worker import WORK


@pytest.fixture
def sweep(events):
    return SweepEvents(events.tab.sweep, events)


def asked(sweep, picture, **values):
    area = sweep.area
    data = data_of(sweep.image, picture=str(picture), prompt="a person", seed=5)
    data |= {part: part.value for part in area.inputs()}
    return data | {getattr(area, name): value for name, value in values.items()}


def last(updates):
    merged = {}
    for update in updates:
        merged |= update
    return merged


def test_a_sweep_fills_grid_plot_and_files_with_the_seed_of_the_page(sweep, picture, studio):
    area = sweep.area
    made = last(sweep.run(asked(sweep, picture, values="0:1:5"), PAGE))
    assert [recipe.gamma for recipe in studio.recipes] == [0, 0.25, 0.5, 0.75, 1]
    assert {(recipe.seed, recipe.num_images) for recipe in studio.recipes} == {(5, 1)}
    assert [caption.split(": ")[0] for _, caption in made[area.grid]["value"]] == ["0", "0.25", "0.5", "0.75", "1"]
    assert Image.open(made[area.plot]["value"]).width > 300
    assert SweepPlan.from_json(Path(made[area.save_plan]["value"]).read_bytes()).recipe.seed == 5
    with ZipFile(made[area.save_zip]["value"]) as archive:
        assert len([name for name in archive.namelist() if name.endswith("-5.png")]) == 5
        assert {"sweep.json", "sweep.csv", "grid.png", "plot.png"} <= set(archive.namelist())
    last(sweep.run(asked(sweep, picture, values="0, 1, 2"), PAGE))
    assert [recipe.gamma for recipe in studio.recipes[5:]] == [2]


def test_the_chosen_picture_puts_its_values_into_the_page(sweep, picture, events):
    area, tab = sweep.area, events.tab
    data = asked(sweep, picture, values="0.5, 3", second_axis="lora", second_values="0, 1.5")
    with refused(SweepError, "LoRA"):
        list(sweep.run(data, PAGE))
    data |= {tab.loras[0][0]: "night"}
    made = last(sweep.run(data, PAGE))
    index, button = sweep.choose(made[area.cells], SimpleNamespace(index=3))
    assert (index, "gamma 3" in button["value"]) == (3, True)
    updates = sweep.use(data | {area.cells: made[area.cells], area.chosen: 3})
    assert updates[tab.gamma]["value"] == 3
    assert updates[tab.gamma]["maximum"] >= 3
    assert (updates[tab.seed], updates[tab.new_seed], updates[tab.loras[0][1]]) == (5, False, 1.5)
    with refused(SweepError):
        sweep.use(data | {area.cells: [], area.chosen: -1})


@pytest.mark.parametrize("axis", ["gamma", "lora"])
def test_a_saved_sweep_is_opened_again_and_more_values_are_added_to_it(sweep, picture, studio, events, tmp_path, axis):
    area, tab = sweep.area, events.tab
    data = asked(sweep, picture, axis=axis, values="0, 0.5", second_axis="seed", second_values="5, 6")
    made = last(sweep.run(data | {tab.loras[0][0]: "night"}, PAGE))
    (folder,) = (studio.gallery.output_dir / "sweeps").iterdir()
    updates = sweep.reopened(SavedSweep.read(folder), Restore(tab, studio, {}))
    assert [updates[part] for part in (area.axis, area.values, area.second_axis, area.second_values)] == [
        axis, "0, 0.5", "seed", "5, 6"
    ]  # fmt: skip
    assert updates[area.fold]["open"] is True
    assert updates[area.cells] == made[area.cells]
    assert [caption for _, caption in updates[area.grid]["value"]] == [
        caption for _, caption in made[area.grid]["value"]
    ]
    assert Image.open(updates[area.plot]["value"]).width > 300
    page = applied(events, updates) | {part: updates.get(part, part.value) for part in area.inputs()}
    page[tab.picture].save(tmp_path / "condition.png")  # as the page hands it back
    page |= {tab.picture: str(tmp_path / "condition.png"), area.values: "0, 0.5, 1"}
    before = len(studio.recipes)
    made = last(sweep.run(page, PAGE))
    assert len(made[area.cells]) == 6
    assert {(recipe.gamma if axis == "gamma" else recipe.loras[0].weight) for recipe in studio.recipes[before:]} == {1}
    assert list((studio.gallery.output_dir / "sweeps").iterdir()) == [folder]
    last(sweep.run(page | {tab.prompt: "something else"}, PAGE))
    assert len(list((studio.gallery.output_dir / "sweeps").iterdir())) == 2


def test_a_sweep_of_a_page_that_was_closed_is_whole_in_its_folder(sweep, picture, studio):
    run = sweep.run(asked(sweep, picture, values="0, 1, 2"), PAGE)
    for update in run:
        if update.get(sweep.area.cells):
            break
    run.close()
    assert WORK.end(30)
    (folder,) = (studio.gallery.output_dir / "sweeps").iterdir()
    saved = SavedSweep.read(folder)
    assert 1 <= saved.table.done < 3
    assert all(path.is_file() for path in saved.pictured)
    assert sweep.image.made.of("page") == {f"sweeps/{folder.name}"}


def test_another_kind_of_control_is_read_from_the_picture(sweep, picture, studio):
    last(sweep.run(asked(sweep, picture, axis="annotator", values="pose, canny"), PAGE))
    pose, canny = (np.asarray(inputs.conditions[0]) for inputs in studio.inputs[:2])
    assert not np.array_equal(pose, canny)
    assert [recipe.condition_kind for recipe in studio.recipes] == ["pose", "canny"]


def test_wrong_values_are_a_sentence_and_the_buttons_come_back(sweep, picture):
    seen = []
    with refused(SweepError, "much"):
        seen.extend(sweep.run(asked(sweep, picture, values="much, more"), PAGE))
    seen = []
    run = sweep.run(asked(sweep, picture, values="1"), PAGE)
    with refused(SweepError):
        for update in run:
            seen.append(update)
    assert seen[-1][sweep.area.start]["interactive"] is True


@pytest.mark.parametrize(("axis", "values"), [("", ""), ("seed", "9, 10, 11, 12, 13, 14"), ("annotator", "pose, depth, canny, segmentation")])  # fmt: skip
def test_the_usual_values_of_an_axis_are_filled_in(sweep, axis, values):
    assert sweep.usual(axis, "starter", 9) == values


def test_auto_gamma_puts_the_gamma_into_the_page(sweep, picture, events):
    made = last(
        sweep.search(asked(sweep, picture, target=0.94), PAGE)
    )  # the fake studio's pictures all follow by 0.95
    assert made[events.tab.gamma]["value"] == 1.0
    assert len(made[sweep.area.cells]) == 1
    made = last(sweep.search(asked(sweep, picture, target=0.5), PAGE))
    assert len(made[sweep.area.cells]) == 6


def test_the_endpoint_takes_what_generate_takes(studio):
    own = {"axis", "values", "second_axis", "second_values", "target", "distance"}
    sweep, generate = (
        inspect.signature(one).parameters
        for one in (SweepEndpoints(studio, None).sweep, Endpoints(studio, None).generate)
    )
    assert len(set(sweep) - own) == 18
    assert set(sweep) - own < set(generate)
    assert all(sweep[name].default == generate[name].default for name in set(sweep) - own)
    assert list(sweep)[:2] == ["image", "axis"]


def test_the_endpoint_returns_pictures_plot_and_figures(client, picture):
    pictures, plot, facts = client.predict(
        handle_file(picture), axis="gamma", values=[0, 1], second_axis="seed", second_values=[1, 2], seed=1, api_name="/sweep"
    )  # fmt: skip
    assert len(pictures) == 4
    assert Image.open(plot).width > 300
    assert [(cell["gamma"], cell["seed"], cell["state"]) for cell in facts["cells"]] == [
        (0, 1, "done"), (1, 1, "done"), (0, 2, "done"), (1, 2, "done")
    ]  # fmt: skip
    assert facts["cells"][0]["distance"] == 0
    assert facts["sweep"]["axes"][1] == {"name": "seed", "values": [1, 2]}
    calls = [client.predict(handle_file(picture), values=[0, 1], api_name="/sweep")[2] for _ in range(2)]
    assert calls[0]["cells"] == calls[1]["cells"]  # without a seed, too, the same call is the same sweep
    pictures, plot, facts = client.predict(handle_file(picture), target=0.95, api_name="/sweep")
    assert (len(pictures), plot, facts["reached"], facts["gamma"]) == (1, None, True, 1.0)


def test_values_are_called_as_the_page_calls_them():
    values = {
        "num_inference_steps": 6,
        "guidance_scale": 2.5,
        "control_start": 0.1,
        "control_end": 0.9,
        "annotator": "canny",
    }
    words = "steps 6, guidance 2.5, control from 0.1, control until 0.9, control Edges"
    assert words_of(values) == words
    assert words_of({"lora:night": 0.5, "gamma": 1}) == "night 0.5, gamma 1"
    assert caption(SweptCell(0, 0, {"annotator": "canny"}, "done", adherence=0.5)) == "Edges: 50 %"
