"""The upload doctor: what it says about a dropped picture, and what its buttons set."""

import numpy as np
import pytest
from PIL import Image
from tab_values import data_of

import annotators
from controlnext.adherence.map_kind import MapKind
from controlnext.recipes.png import write_png
from controlnext.recipes.recipe import Recipe
from controlnext.ui.image.doctor_events import DoctorEvents, sentence
from controlnext.ui.pose_editor.poses import standing_pose


@pytest.fixture
def doctor(events):
    return DoctorEvents(events.tab, events.studio)


@pytest.fixture
def skeleton(tmp_path):
    drawing = annotators.draw_pose(annotators.people_from_json(standing_pose(annotators, 256, 256))).image
    Image.fromarray(np.asarray(drawing)[..., ::-1]).save(tmp_path / "skeleton.png")
    drawing.save(tmp_path / "right.png")
    return str(tmp_path / "skeleton.png")


def seen(doctor, path, ready=False):
    return doctor.look(data_of(doctor, picture=path, ready_map=ready))


def test_a_skeleton_with_swapped_colours_is_named_and_taken(doctor, skeleton):
    panel, tab = doctor.panel, doctor.tab
    shown = seen(doctor, skeleton)
    assert shown[panel.group]["visible"] is True
    assert "red and blue" in shown[panel.says]
    assert shown[panel.found] == MapKind("pose", swapped=True)
    taken = doctor.take(shown[panel.found])
    assert (taken[tab.annotator], taken[tab.ready_map]) == ("pose", True)
    assert (taken[doctor.switches["swap"]], taken[doctor.switches["invert"]]) == (True, False)
    assert doctor.take(MapKind("")) == {}


def test_a_map_that_is_taken_the_wrong_way_around_is_named(doctor, skeleton):
    panel, group = doctor.panel, doctor.panel.group
    shown = seen(doctor, skeleton, ready=True)
    assert shown[group]["visible"] is True
    assert (shown[panel.swap]["variant"], shown[panel.take]["visible"]) == ("primary", False)
    mended = data_of(doctor, picture=skeleton, ready_map=True) | {doctor.switches["swap"]: True}
    assert doctor.look(mended)[group]["visible"] is False


def test_there_is_nothing_to_say_about_what_is_as_it_should_be(doctor, skeleton, picture, tmp_path):
    group = doctor.panel.group
    assert seen(doctor, str(tmp_path / "right.png"), ready=True)[group]["visible"] is False
    assert seen(doctor, str(picture))[group]["visible"] is False
    assert seen(doctor, None)[group]["visible"] is False
    write_png(tmp_path / "made.png", Image.open(skeleton), Recipe())
    assert seen(doctor, str(tmp_path / "made.png"))[group]["visible"] is False
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert seen(doctor, str(tmp_path / "broken.png"))[group]["visible"] is False


def test_a_photograph_taken_as_a_map_is_read_again(doctor, picture):
    panel, tab = doctor.panel, doctor.tab
    shown = seen(doctor, str(picture), ready=True)
    assert (shown[panel.read]["visible"], shown[panel.take]["visible"], shown[panel.found]) == (True, False, MapKind())
    assert doctor.read()[tab.ready_map] is False


def test_a_map_that_no_adapter_reads_is_not_offered():
    assert "no adapter" in sentence(MapKind("normal"), ["pose", "depth"])
    assert "no adapter" not in sentence(MapKind("depth"), ["pose", "depth"])
