import numpy as np
import pytest
from annotator_helpers import astronaut, scene

from annotators import annotate
from annotators.canny import find_edges
from annotators.none import looks_like_map


def test_edges_are_white_on_black_in_three_channels():
    picture = np.asarray(annotate("canny", scene()).image)
    assert set(np.unique(picture)) == {0, 255}
    assert np.array_equal(picture[..., 0], picture[..., 1])
    assert np.array_equal(picture[..., 0], picture[..., 2])


def test_edges_lie_where_the_picture_changes():
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:, 32:] = 255
    columns = np.flatnonzero(find_edges(rgb).map.any(axis=0))
    assert set(columns) <= {31, 32}


def test_higher_thresholds_and_blur_leave_fewer_edges():
    rgb = np.asarray(astronaut())
    plain = (find_edges(rgb).map > 0).mean()
    assert (find_edges(rgb, low=200, high=400).map > 0).mean() < plain
    assert (find_edges(rgb, blur=3.0).map > 0).mean() < plain


def test_automatic_thresholds_follow_the_median_as_in_the_sdxl_preprocessor():
    rgb = np.full((32, 32, 3), 100, np.uint8)
    edges = find_edges(rgb, automatic=True)
    assert (edges.low, edges.high) == (67, 133)
    bright = find_edges(np.full((32, 32, 3), 250, np.uint8), automatic=True)
    assert (bright.low, bright.high) == (167, 255)
    made = annotate("canny", rgb, automatic=True)
    assert made.data == {"low": 67, "high": 133}
    assert "67 and 133" in made.note


def test_crossed_thresholds_are_swapped_and_said_so():
    made = annotate("canny", scene(), low=200, high=100)
    straight = annotate("canny", scene(), low=100, high=200)
    assert np.array_equal(np.asarray(made.image), np.asarray(straight.image))
    assert "swapped" in made.note
    assert straight.note == ""


def test_no_edges_are_noted():
    assert "No edges" in annotate("canny", np.full((32, 32, 3), 9, np.uint8)).note


def test_a_ready_made_map_is_taken_as_it_is_or_inverted():
    rgb = np.asarray(scene())
    assert np.array_equal(np.asarray(annotate("none", scene()).image), rgb)
    assert np.array_equal(np.asarray(annotate("none", scene(), invert=True).image), 255 - rgb)


@pytest.mark.parametrize(
    ("make", "kind"), [(lambda: annotate("canny", astronaut()).image, "edges"), (astronaut, ""), (scene, "")]
)
def test_maps_are_told_from_photos(make, kind):
    assert looks_like_map(np.asarray(make())) == kind


def test_a_black_picture_is_no_map():
    assert looks_like_map(np.zeros((64, 64, 3), np.uint8)) == ""
