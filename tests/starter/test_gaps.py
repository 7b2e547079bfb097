import numpy as np
import pytest
from PIL import Image

from annotators.poses.skeleton import KEYPOINTS
from controlnext.starter.remake.gaps import cuts, distance, gaps, main


def standing() -> np.ndarray:
    """Return a person who faces the camera, 70 pixels tall, in a picture of 128."""
    points = {
        "nose": (64, 20), "neck": (64, 34), "right_eye": (61, 18), "left_eye": (67, 18), "right_ear": (57, 20), "left_ear": (71, 20),
        "right_shoulder": (52, 34), "right_elbow": (48, 48), "right_wrist": (46, 60), "left_shoulder": (76, 34), "left_elbow": (80, 48),
        "left_wrist": (82, 60), "right_hip": (57, 60), "right_knee": (56, 74), "right_ankle": (55, 88), "left_hip": (71, 60),
        "left_knee": (72, 74), "left_ankle": (73, 88),
    }  # fmt: skip
    return np.array([(*points[name], 1.0) for name in KEYPOINTS])


def test_what_is_all_there_has_no_gaps():
    person = standing()
    told = list(gaps(person, person))
    assert {name for name, _ in told} == {"hips", "legs", "arm", "leg", "face_side", "joint", "jitter"}
    assert all(value == 0 for _, value in told)


@pytest.mark.parametrize(
    ("lacking", "expected"),
    [
        (("left_knee", "left_ankle"), {"leg": 1}),
        (("right_elbow", "right_wrist"), {"arm": 1}),
        (("left_eye", "left_ear"), {"face_side": 1}),
        (("right_knee", "right_ankle", "left_knee", "left_ankle"), {"legs": 1}),
        (("nose",), {"joint": 1}),
    ],
)
def test_a_gap_counts_once_and_by_its_largest_name(lacking, expected):
    found = standing()
    found[[KEYPOINTS.index(name) for name in lacking], 2] = 0
    lost = [name for name, value in gaps(standing(), found) if value and name != "jitter"]
    assert {name: lost.count(name) for name in set(lost)} == expected


def test_joints_outside_of_the_picture_are_no_gaps():
    shown, found = standing(), standing()
    shown[8:14, 2] = 0
    found[8:14, 2] = 0
    names = [name for name, _ in gaps(shown, found)]
    assert "legs" not in names
    assert names.count("joint") == 12


def test_jitter_is_a_share_of_the_extent_and_no_shift():
    found = standing()
    found[:, 0] += 5
    assert dict(gaps(standing(), found))["jitter"] == pytest.approx(0)
    found[::2, 0] += 4
    assert dict(gaps(standing(), found))["jitter"] == pytest.approx(1.41 / np.ptp(standing()[:, 1]), rel=0.02)
    assert distance(standing(), standing() + np.array([3, 4, 0])) == pytest.approx(5)


def test_cuts_lie_in_the_picture_and_grow():
    person = standing() * np.array([4, 4, 1])
    boxes = dict(cuts(person, 1024, 1024))
    assert list(boxes) == ["head", "bust", "half", "whole"]
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in boxes.values()]
    assert areas == sorted(areas)
    for left, top, right, bottom in boxes.values():
        assert 0 <= left < right <= 1024
        assert 0 <= top < bottom <= 1024


def test_a_folder_without_people_is_one_clear_sentence(tmp_path, capsys):
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "wall.png")
    assert main([str(tmp_path)]) == 1
    assert "Nobody was found" in capsys.readouterr().err
