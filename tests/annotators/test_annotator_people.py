import json

import numpy as np
import pytest

from annotators import AnnotatorError, draw_pose, people_from_json, people_to_json
from annotators.poses.people import People, Person
from annotators.poses.skeleton import draw_skeleton


def points(count, seed):
    random = np.random.default_rng(seed)
    places, confidence = random.uniform(5, 200, (count, 2)), random.uniform(0.4, 1, (count, 1))
    return np.round(np.concatenate([places, confidence], axis=1), 3)


def people():
    first = Person(points(18, 1), points(21, 2), None, points(68, 3))
    return People((first, Person(points(18, 4))), 240, 320)


def test_json_round_trip_keeps_everything():
    data = people().to_data()
    assert people_from_json(people_to_json(data)) == data


def test_json_is_openpose_with_the_canvas():
    record = json.loads(people_to_json(people().to_data()))
    assert (record["canvas_width"], record["canvas_height"]) == (320, 240)
    first, second = record["people"]
    assert len(first["pose_keypoints_2d"]) == 54
    assert len(first["hand_left_keypoints_2d"]) == 63
    assert first["hand_right_keypoints_2d"] == []
    assert second["face_keypoints_2d"] == []


def test_what_is_drawn_from_json_is_what_was_drawn():
    original = people()
    drawn = draw_pose(people_from_json(people_to_json(original.to_data())))
    first = original.persons[0]
    expected = draw_skeleton([p.body for p in original.persons], 240, 320, hands=[first.left_hand], faces=[first.face])
    assert np.array_equal(np.asarray(drawn.image), expected)
    assert drawn.image.size == (320, 240)


def test_a_pose_is_scaled_with_its_picture():
    double = draw_pose(people().to_data(), height=480, width=640)
    assert double.image.size == (640, 480)
    assert np.allclose(np.array(double.data["people"][0])[:, :2], people().persons[0].body[:, :2] * 2)


def test_a_25_point_body_is_understood():
    body = np.stack([np.arange(25) * 10.0, np.full(25, 50.0), np.ones(25)], axis=1)
    record = {"people": [{"pose_keypoints_2d": body.reshape(-1).tolist()}], "canvas_height": 100, "canvas_width": 300}
    read = np.array(people_from_json(record)["people"][0])
    assert read[7, 0] == 70  # left wrist
    assert read[8, 0] == 90  # right hip: the middle of the hips is left out
    assert read[14, 0] == 150  # right eye


def test_fractions_of_the_canvas_are_understood():
    body = np.concatenate([np.full((18, 2), 0.5), np.ones((18, 1))], axis=1)
    text = json.dumps(
        [{"people": [{"pose_keypoints_2d": body.reshape(-1).tolist()}], "canvas_height": 100, "canvas_width": 300}]
    )
    assert people_from_json(text)["people"][0][0] == [150, 50, 1]


def test_the_canvas_may_be_given():
    record = {"people": []}
    assert people_from_json(record, height=10, width=20) == {
        "people": [],
        "hands": [],
        "faces": [],
        "height": 10,
        "width": 20,
    }


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("not json", "not JSON"),
        ("[1, 2]", "object"),
        ('{"people": 5, "canvas_width": 9, "canvas_height": 9}', "list"),
        ('{"people": []}', "canvas_height"),
        ('{"people": [], "canvas_width": 1e9, "canvas_height": 5}', "canvas_width"),
        ('{"people": [{"pose_keypoints_2d": [1, 2]}], "canvas_width": 9, "canvas_height": 9}', "cannot be read"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3]}], "canvas_width": 9, "canvas_height": 9}', "18 or 25"),
        ('{"people": [{"pose_keypoints_2d": "abc"}], "canvas_width": 9, "canvas_height": 9}', "cannot be read"),
        ('{"people": [7], "canvas_width": 9, "canvas_height": 9}', "cannot be read"),
        ('{"people": [{}], "canvas_width": 9, "canvas_height": 9}', "18 or 25"),
    ],
)
def test_wrong_json_is_a_sentence(text, match):
    with pytest.raises(AnnotatorError, match=match):
        people_from_json(text)


@pytest.mark.parametrize(
    "data", [{}, {"people": [[1, 2, 3]], "height": 5, "width": 5}, {"people": None, "height": 5, "width": 5}]
)
def test_wrong_data_is_a_sentence(data):
    with pytest.raises(AnnotatorError, match="18 points"):
        draw_pose(data)
