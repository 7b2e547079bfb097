import json

import pytest

from controlnext.recipes.recipe import LoraUse, Recipe, RecipeError
from controlnext.recipes.sweep_plan import SweepAxis, SweepError, SweepPlan, usual_values, without_control

BASE = Recipe(annotator="canny", prompt="x", seed=7, loras=(LoraUse(name="night", weight=0.5),))


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("gamma", "0:1.5:7", (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5)),
        ("gamma", " 0, 0.5 ,2,", (0, 0.5, 2)),
        ("seed", "1,2,3", (1, 2, 3)),
        ("seed", "10:18:5", (10, 12, 14, 16, 18)),
        ("lora:night", "-1, 1", (-1, 1)),
        ("annotator", "pose, canny", ("pose", "canny")),
    ],
)
def test_axes_are_read_as_people_write_them(name, text, values):
    assert SweepAxis.parse(name, text).values == values


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nonesuch", "1, 2"), ("lora:", "1, 2"), ("gamma", "1"), ("gamma", ""), ("gamma", "1, 1.0"), ("gamma", "0:1:99"), ("gamma", "0:1:x"),
        ("gamma", "0, 99"), ("gamma", "a, b"), ("gamma", "nan, 1"), ("seed", "1.5, 2"), ("seed", "-1, 2"), ("model", "one"),
        ("gamma", "0,1,2,3,0.1,0.2,0.3,0.4,0.5,0.6"), ("gamma", "1e999:2:3"),
    ],
)  # fmt: skip
def test_what_is_no_axis_is_refused(name, text):
    with pytest.raises(SweepError):
        SweepAxis.parse(name, text)


def test_a_cell_is_the_recipe_with_its_values_alone():
    plan = SweepPlan(BASE, (SweepAxis("gamma", (0, 1, 2)), SweepAxis("seed", (7, 8))))
    cells = plan.cells()
    assert [(cell.column, cell.row) for cell in cells] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    assert cells[5].recipe == BASE.replace(gamma=2, seed=8)
    assert cells[1].recipe == BASE
    assert cells[5].label == "gamma 2, seed 8"


def test_a_lora_axis_changes_its_weight_and_zero_takes_it_out():
    cells = SweepPlan(BASE, (SweepAxis("lora:night", (0, 0.5, 1)),)).cells()
    assert [cell.recipe.loras for cell in cells] == [
        (), BASE.loras, (LoraUse(name="night", weight=1.0),)
    ]  # fmt: skip


def test_another_kind_of_control_drops_what_belongs_to_the_old_one():
    base = BASE.replace(annotator_settings={"low": 3}, condition_sha256="ab")
    same, other = SweepPlan(base, (SweepAxis("annotator", ("canny", "depth")),)).cells()
    assert same.recipe == base
    assert other.recipe == base.replace(annotator="depth", annotator_settings={}, condition_sha256="")


def test_values_that_do_not_go_together_are_a_cell_with_a_reason():
    base = BASE.replace(control_end=0.4)
    cells = SweepPlan(base, (SweepAxis("control_start", (0, 0.5)),)).cells()
    assert cells[0].recipe is not None
    assert cells[1].recipe is None
    assert "0.5" in cells[1].problem


@pytest.mark.parametrize(
    ("axis", "wanted", "measured"),
    [("gamma", None, True), ("seed", None, False), ("seed", True, True), ("gamma", False, False)],
)
def test_distance_is_measured_where_one_picture_serves_many_cells_or_where_it_is_asked_for(axis, wanted, measured):
    assert SweepPlan(BASE, (SweepAxis(axis, (1, 2)),), wanted).measures_distance is measured
    assert not SweepPlan(Recipe(), (SweepAxis(axis, (1, 2)),), wanted).measures_distance  # words alone have no control


def test_a_plan_is_one_file_and_its_digest_stays_when_values_are_added():
    plan = SweepPlan(BASE.replace(num_images=3), (SweepAxis("gamma", (0, 0.5)), SweepAxis("model", ("a", "b"))), True)
    assert plan.recipe.num_images == 1
    assert SweepPlan.from_json(plan.to_json()) == plan
    more = SweepPlan(BASE.replace(gamma=0.3), (SweepAxis("gamma", (0, 0.5, 2)), plan.axes[1]))
    assert more.digest() == plan.digest()
    assert SweepPlan(BASE.replace(seed=1), plan.axes).digest() != plan.digest()
    assert SweepPlan(BASE, plan.axes[:1]).digest() != plan.digest()


@pytest.mark.parametrize("axes", [(), ("gamma", "gamma"), ("gamma", "seed", "alpha")])
def test_a_plan_has_one_axis_or_two_different_ones(axes):
    with pytest.raises(SweepError):
        SweepPlan(BASE, tuple(SweepAxis(name, (1, 0)) for name in axes))


@pytest.mark.parametrize(
    "change", [{"controlnext_sweep": 2}, {"axes": 3}, {"axes": [3]}, {"axes": [{"name": "gamma"}]}, {"recipe": []}, {"distance": "x"},
               {"recipe": {"nonesuch": 1}}, {"axes": [{"name": "gamma", "values": [[1], 2]}]}],
)  # fmt: skip
def test_a_damaged_file_is_refused(change):
    values = json.loads(SweepPlan(BASE, (SweepAxis("gamma", (0, 1)),)).to_json())
    with pytest.raises((SweepError, RecipeError)):
        SweepPlan.from_json(json.dumps({**values, **change}))


def test_text_that_is_no_json_is_refused():
    with pytest.raises(SweepError):
        SweepPlan.from_json(b"no json")


def test_the_usual_values_fit_their_axes():
    for name in (
        "gamma",
        "seed",
        "num_inference_steps",
        "guidance_scale",
        "alpha",
        "control_start",
        "control_end",
        "lora:x",
    ):
        assert 5 <= len(SweepAxis(name, usual_values(name, BASE)).values) <= 9
    assert usual_values("seed", BASE)[0] == 7
    assert usual_values("annotator", BASE, ["pose", "depth"]) == ("pose", "depth")


def test_without_control_turns_every_control_off():
    recipe = BASE.replace(gamma_curve="0:1, 1:0", control_start=0.2, controls=[{"annotator": "depth", "gamma": 2.0}])
    off = without_control(recipe)
    assert [control.gamma for control in off.all_controls] == [0, 0]
    assert (off.gamma_curve, off.control_start) == ("", 0.0)
    assert without_control(recipe.replace(gamma=0.1, control_start=0.4)) == off
