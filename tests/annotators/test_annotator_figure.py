"""Photos of people drawn as the starter's world would have them, and which backend `auto` takes for them."""

import numpy as np
import pytest
from annotator_helpers import astronaut, coffee, hopper, needs_mediapipe

from annotators import NobodyFound, annotate
from annotators.starter import backend as starter
from annotators.starter import net as starter_net
from annotators.starter.figure import PARTS, draw_scene

pytestmark = needs_mediapipe


def part_at(scene, x, y):
    return PARTS[scene.parts[y, x]]


def test_parts_lie_where_the_person_has_them():
    scene = draw_scene(np.asarray(astronaut()))
    assert scene.people == 1
    assert part_at(scene, 220, 130) == "face"
    assert part_at(scene, 220, 30) == "hair"
    assert part_at(scene, 200, 330) == "shirt"
    assert part_at(scene, 20, 20) == "sky"
    assert part_at(scene, 500, 100) == "sky"


def test_people_are_nearer_than_the_ground_behind_them_and_the_sky_is_far():
    scene = draw_scene(np.asarray(hopper()))
    assert scene.near.max() <= 1
    assert scene.near[300, 260] > 0.8
    assert scene.near[:20].max() == 0
    rows = np.flatnonzero((scene.parts == PARTS.index("ground")).any(axis=1))
    assert len(rows) == 0 or (np.diff(scene.near[rows[0] :, 0]) >= -1e-6).all() or scene.near[-1, 0] > 0.5


def test_the_names_are_the_starter_nets():
    assert set(PARTS) <= set(starter_net.PARTS)


def test_both_annotators_draw_one_reading(monkeypatch):
    from annotators.starter import figure

    readings = []
    monkeypatch.setattr(figure, "draw_scene", lambda rgb: readings.append(1) or draw_scene(rgb))
    depth = annotate("depth", astronaut(), backend="figure")
    parts = annotate("segmentation", astronaut(), backend="figure")
    assert len(readings) == 1
    assert parts.data["names"] == starter_net.PARTS
    assert np.array_equal(np.asarray(parts.image), starter_net.PARTS_PALETTE[parts.data["ids"]])
    assert np.array_equal(np.asarray(depth.image)[..., 0], np.rint(depth.data["depth"] * 255).astype(np.uint8))


def test_nobody_is_a_sentence():
    for name in ("depth", "segmentation"):
        with pytest.raises(NobodyFound, match="choose another"):
            annotate(name, coffee(), backend="figure")


@pytest.mark.parametrize("name", ["depth", "segmentation"])
def test_auto_draws_the_figure_of_a_photo_and_says_that_it_is_drawn(name):
    made = annotate(name, astronaut())
    assert made.backend == "figure"
    assert "drawn" in made.note
    assert "python -m annotators fetch" in made.note


def test_auto_takes_the_mask_of_a_photo_with_nobody_in_it(monkeypatch, tmp_path):
    monkeypatch.setattr(starter, "STARTER_READER", tmp_path / "none")
    assert annotate("segmentation", coffee()).backend == "person"


class TestOwnWorld:
    def body(self, **moved):
        points = np.stack([np.linspace(100, 140, 18), np.linspace(50, 250, 18), np.ones(18)], axis=1)
        points[:, 0] += moved.get("by", 0)
        points[moved.get("unseen", slice(0, 0)), 2] = 0
        return points

    @pytest.mark.parametrize(
        ("moved", "same"), [({}, True), ({"by": 8}, True), ({"by": 60}, False), ({"unseen": slice(0, 14)}, False)]
    )
    def test_two_nets_that_agree_make_a_picture_of_the_starters_world(self, moved, same):
        assert starter._agree(self.body(), self.body(**moved)) is same

    def test_an_untrained_net_agrees_with_nobody(self, untrained_starter):
        assert not starter.is_own_world(np.asarray(astronaut()))

    def test_auto_takes_the_starter_net_for_its_own_world_without_a_warning(self, untrained_starter, monkeypatch):
        monkeypatch.setattr(starter_net, "_people", lambda heat, height, width: [self.body()])
        monkeypatch.setattr("annotators.poses.openpose.body_points", lambda *_: self.body(by=3))
        for name in ("depth", "segmentation"):
            made = annotate(name, astronaut())
            assert made.backend == "starter"
            assert made.note == ""
