import json
import threading
from dataclasses import replace

import numpy as np
from PIL import Image
from tiny_studio import picture

from controlnext.recipes.inputs import Inputs
from controlnext.recipes.png import read_png
from controlnext.recipes.sweep_plan import SweepAxis, SweepPlan
from controlnext.studio.sweep import FOLDER, Sweep

GAMMA = SweepAxis("gamma", (0, 0.5, 1, 2))
GIVEN = Inputs((picture(),))


def opened(studio, *axes, given=GIVEN, **values):
    recipe = studio.catalogue.resolve(
        "starter", "canny", **{"prompt": "x", "seed": 3, "num_inference_steps": 2, **values}
    )
    return Sweep.open(SweepPlan(recipe, axes), given, studio.gallery.output_dir, studio.catalogue)


def ran(studio, sweep, cancel=None, draw=None, given=GIVEN):
    draw = draw or (lambda recipe, inputs: studio.generate(recipe, inputs, cancel=cancel))
    return sweep.run(draw, lambda recipe: given, cancel=cancel, tell=lambda line: None)


def pixels(path):
    return np.asarray(Image.open(path))


def test_every_cell_is_bit_for_bit_the_single_run_of_its_recipe(studio):
    sweep = opened(studio, GAMMA, SweepAxis("seed", (3, 4)))
    assert ran(studio, sweep).done == 8  # at gamma 0 the picture without control is a cell itself
    table = sweep.table()
    assert table.done == 8
    for cell in table.cells[1:4]:
        alone = studio.generate(read_png(cell.file), GIVEN)
        assert alone.notes == ()
        assert np.array_equal(pixels(cell.file), pixels(alone.files[0]))
        assert (alone.recipe.gamma, alone.recipe.seed) == (cell.values["gamma"], cell.values["seed"])
    assert table.row(0)[0].distance == 0
    assert table.row(1)[3].distance > 0


def test_a_stopped_sweep_resumes_and_more_values_keep_what_is_there(studio):
    sweep, cancel, made = opened(studio, GAMMA), threading.Event(), []

    def draw(recipe, inputs):
        made.append(recipe.gamma)
        if len(made) == 2:
            cancel.set()
        return studio.generate(recipe, inputs, cancel=cancel)

    assert ran(studio, sweep, cancel, draw).stopped
    assert (made, sweep.table().done, sweep.left) == ([0, 0.5], 1, 3)
    assert [cell.state for cell in sweep.table().cells] == ["done", "left", "left", "left"]
    again = opened(studio, GAMMA)
    assert again.folder == sweep.folder
    cancel.clear()
    assert ran(studio, again, cancel, draw).done == 3
    assert made == [0, 0.5, 0.5, 1, 2]
    more = opened(studio, replace(GAMMA, values=(0, 0.5, 1, 1.5)), gamma=0.2)
    ran(
        studio,
        more,
        threading.Event(),
        lambda recipe, inputs: made.append(recipe.gamma) or studio.generate(recipe, inputs),
    )
    assert made[5:] == [1.5]
    assert more.table().done == 4


def test_a_deleted_picture_is_made_again_and_other_weights_make_all_anew(studio, models):
    sweep = opened(studio, SweepAxis("gamma", (0, 1)))
    ran(studio, sweep)
    sweep.table().cells[1].file.unlink()
    assert [cell.state for cell in sweep.table().cells] == ["done", "left"]
    assert ran(studio, sweep).done == 1
    before = {job.digest() for job in sweep.jobs}
    assert {job.digest() for job in opened(studio, SweepAxis("gamma", (0, 1))).jobs} == before
    sweep.catalogue = type("Changed", (), {"weights": lambda self, recipe: {"base": "other"}})()
    sweep._lay_out()
    assert not before & {job.digest() for job in sweep.jobs}


def test_the_cache_serves_every_gamma_after_the_first_and_the_files_say_so(studio):
    unseen = Inputs((picture(99),))
    sweep = opened(studio, SweepAxis("gamma", (0.5, 1, 1.5)), given=unseen)
    ran(studio, sweep, given=unseen)
    table, paths = sweep.table(), sweep.write()
    found, computed, seconds = table.saved
    assert (found, computed) == (4, 2)  # two steps, three pictures; the one without control asks for none
    assert seconds > 0
    assert [path.name for path in paths.values()] == ["sweep.json", "sweep.csv", "grid.png", "plot.png"]
    assert all(path.is_file() for path in paths.values())
    assert SweepPlan.from_json(paths["sweep.json"].read_text()) == sweep.plan
    assert sweep.folder.parent.name == FOLDER


def test_a_cell_that_cannot_be_made_says_why_and_the_others_are_made(studio):
    sweep = opened(studio, SweepAxis("model", ("starter", "nonesuch")))
    ran(studio, sweep)
    done, failed = sweep.table().cells
    assert (done.state, failed.state) == ("done", "failed")
    assert "nonesuch" in failed.reason
    sweep = opened(studio, SweepAxis("lora:nowhere", (0, 1)))
    assert ran(studio, sweep).failed
    assert [cell.state for cell in sweep.table().cells] == ["done", "failed"]


def test_another_kind_of_control_gets_a_condition_of_its_own(studio):
    asked = []

    def inputs_for(recipe):
        asked.append(recipe.condition_kind)
        return GIVEN

    sweep = opened(studio, SweepAxis("annotator", ("canny", "depth")))
    sweep.run(studio.generate, inputs_for, tell=lambda line: None)
    assert asked == ["canny", "depth"]
    assert [cell.recipe["annotator"] for cell in sweep.table().cells] == ["canny", "depth"]


def test_the_record_of_a_cell_is_plain_data(studio):
    sweep = opened(studio, SweepAxis("gamma", (0, 1)))
    ran(studio, sweep)
    rows = [json.loads(line) for line in (sweep.folder / "manifest.jsonl").read_text().splitlines()]
    assert [row["job"] for row in rows] == ["gamma 0", "gamma 1"]
    assert rows[1]["recipe"]["gamma"] == 1
