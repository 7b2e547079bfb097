"""Pose on real photos, as MediaPipe's own solution reads them."""

import numpy as np
import pytest
from annotator_helpers import astronaut, coffee, hopper, needs_mediapipe
from PIL import Image

from annotators import NobodyFound, annotate
from annotators.poses.openpose import body_points, hidden_points
from annotators.poses.skeleton import KEYPOINTS

# Places read by `mp.solutions.holistic` of mediapipe 0.10.21 (static mode). Ours come from a second crop, so they may
# differ by a few pixels; 16 px of 512 is less than the width of an eye.
ASTRONAUT = {
    "nose": (220, 128),
    "right_eye": (206, 104),
    "left_eye": (244, 113),
    "right_shoulder": (110, 234),
    "left_shoulder": (306, 255),
}
HOPPER = {
    "nose": (267, 228),
    "right_eye": (228, 198),
    "left_eye": (304, 193),
    "right_shoulder": (95, 422),
    "left_shoulder": (455, 426),
}


def points(made, person=0):
    return dict(zip(KEYPOINTS, np.array(made.data["people"][person]), strict=True))


def head(turn, width=40.0):
    """Landmarks and depths of a head turned by degrees to the person's right; the body is between (10, 10) and (30, 20)."""
    landmarks, depths = np.full((33, 3), 1.0), np.zeros(33)
    radians = np.radians(turn)
    for ear, side in ((7, 0.5), (8, -0.5)):
        landmarks[ear, 0], depths[ear] = 100 + side * width * np.cos(radians), side * width * np.sin(radians)
    depths[0] = -30 * np.cos(radians)
    landmarks[11], landmarks[12] = (30, 10, 0.9), (10, 20, 0.4)
    return landmarks, depths


def test_the_neck_is_between_the_shoulders_and_as_sure_as_the_less_sure():
    landmarks, depths = head(0)
    body = body_points(landmarks, depths)
    assert body[1] == pytest.approx((20, 15, 0.4))
    assert body[2] == pytest.approx(landmarks[12])


@pytest.mark.parametrize(
    ("turn", "hidden"),
    [
        (0, set()),
        (20, set()),
        (60, {"left_ear"}),
        (-60, {"right_ear"}),
        (85, {"left_ear", "left_eye"}),
        (130, {"left_ear", "left_eye", "right_eye", "nose"}),
        (180, {"left_eye", "right_eye", "nose"}),
    ],
)
def test_a_turned_head_hides_its_far_side(turn, hidden):
    assert hidden_points(*head(turn)) == hidden


@pytest.mark.weights
class TestPhotos:
    pytestmark = needs_mediapipe

    @pytest.mark.parametrize(("photo", "expected"), [(astronaut, ASTRONAUT), (hopper, HOPPER)])
    def test_heads_and_shoulders_are_where_they_are(self, photo, expected):
        made = annotate("pose", photo())
        assert len(made.data["people"]) == 1
        found = points(made)
        for name, place in expected.items():
            assert found[name][:2] == pytest.approx(place, abs=16), name
            assert found[name][2] > 0.8

    def test_what_the_photo_does_not_show_is_not_drawn(self):
        found = points(annotate("pose", hopper()))
        assert all(found[name][2] < 0.3 for name in ("right_knee", "left_knee", "right_ankle", "left_ankle"))

    def test_points_outside_the_picture_are_not_shown(self):
        made = annotate("pose", astronaut().crop((0, 0, 512, 330)), confidence=0.0)
        body = np.array(made.data["people"][0])
        outside = (body[:, 1] >= 330) | (body[:, 0] < 0) | (body[:, 0] >= 512)
        assert outside.any()
        assert not body[outside, 2].any()

    def test_two_people_are_both_found_at_their_places(self):
        left, right = astronaut(), hopper().resize((437, 512))
        both = Image.new("RGB", (949, 512))
        both.paste(left, (0, 0))
        both.paste(right, (512, 0))
        made = annotate("pose", both)
        noses = sorted(person[0][0] for person in made.data["people"])
        assert len(noses) == 2
        assert noses[0] == pytest.approx(ASTRONAUT["nose"][0], abs=20)
        assert noses[1] == pytest.approx(512 + HOPPER["nose"][0] * 437 / 512, abs=20)
        assert len(annotate("pose", both, people=1).data["people"]) == 1

    def test_a_person_far_away_is_found(self):
        far = Image.new("RGB", (1200, 900), (90, 100, 90))
        far.paste(astronaut().resize((160, 160)), (700, 500))
        nose = points(annotate("pose", far))["nose"]
        assert nose[:2] == pytest.approx((700 + 220 * 160 / 512, 500 + 128 * 160 / 512), abs=10)

    def test_nobody_is_a_sentence_with_advice(self):
        with pytest.raises(NobodyFound, match="head and shoulders"):
            annotate("pose", coffee())

    def test_a_skeleton_fed_to_the_annotator_is_told_to_be_one(self):
        drawn = annotate("pose", astronaut()).image
        with pytest.raises(NobodyFound, match="Ready-made map"):
            annotate("pose", drawn)

    def test_the_face_is_read_on_request(self):
        made = annotate("pose", astronaut(), face=True)
        face = np.array(made.data["faces"][0])
        assert face.shape == (68, 3)
        eyes, nose = face[36:48, :2].mean(axis=0), face[27:36, :2].mean(axis=0)
        assert eyes == pytest.approx((225, 108), abs=12)
        assert nose == pytest.approx((221, 122), abs=12)
        assert annotate("pose", astronaut()).data["faces"] == [None]

    def test_hands_that_are_not_seen_are_not_invented(self):
        assert annotate("pose", hopper(), hands=True).data["hands"] == [[None, None]]

    def test_a_mirrored_photo_gives_the_mirrored_pose(self):
        straight = points(annotate("pose", astronaut()))
        mirrored = points(annotate("pose", astronaut().transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
        for name in ("nose", "right_shoulder", "left_shoulder", "right_eye"):
            twin = name.replace("right", "?").replace("left", "right").replace("?", "left")
            assert mirrored[twin][0] == pytest.approx(511 - straight[name][0], abs=16), name

    def test_a_higher_confidence_draws_less(self):
        all_of_it = np.asarray(annotate("pose", astronaut(), confidence=0.0).image).any(axis=2).mean()
        usual = np.asarray(annotate("pose", astronaut()).image).any(axis=2).mean()
        sure = np.asarray(annotate("pose", astronaut(), confidence=0.95).image).any(axis=2).mean()
        assert all_of_it > usual > sure

    def test_the_person_mask_covers_the_person(self):
        made = annotate("segmentation", astronaut(), backend="person")
        ids = made.data["ids"]
        assert made.data["names"] == ("background", "person")
        assert ids[130, 220] == 1
        assert ids[400, 150] == 1
        assert ids[30, 30] == 0
        assert ids[60, 480] == 0
        assert set(map(tuple, np.asarray(made.image).reshape(-1, 3))) == {(0, 0, 0), (255, 255, 255)}
        coloured = annotate("segmentation", astronaut(), backend="person", colours="ade20k")
        assert coloured.image.getpixel((220, 130)) == (150, 5, 61)

    def test_the_mask_of_a_person_far_away_is_found_too(self):
        far = Image.new("RGB", (900, 900), (90, 100, 90))
        far.paste(astronaut().resize((180, 180)), (400, 500))
        ids = annotate("segmentation", far, backend="person").data["ids"]
        assert ids[500 + 45, 400 + 77] == 1
        assert ids[:400].mean() < 0.01

    def test_a_mask_of_nobody_is_a_sentence(self):
        with pytest.raises(NobodyFound, match="No person"):
            annotate("segmentation", Image.new("RGB", (300, 300), (90, 120, 90)), backend="person")

    def test_a_mask_of_something_else_says_that_it_is_no_person(self):
        assert "No person was recognised" in annotate("segmentation", coffee(), backend="person").note
        assert annotate("segmentation", astronaut(), backend="person").note == ""


class TestStarter:
    def test_the_starter_net_serves_depth_parts_and_pose_with_one_reading(self, untrained_starter, monkeypatch):
        from annotators.starter import net as starter_net

        readings = []
        real = starter_net.read
        monkeypatch.setattr(starter_net, "read", lambda net, rgb: readings.append(1) or real(net, rgb))
        picture = hopper()
        depth = annotate("depth", picture, backend="starter")
        parts = annotate("segmentation", picture, backend="starter")
        people = annotate("pose", picture, backend="starter", confidence=0.0)
        assert len(readings) == 1
        assert depth.data["depth"].shape == (600, 512)
        assert np.array_equal(np.asarray(parts.image), starter_net.PARTS_PALETTE[parts.data["ids"]])
        assert len(people.data["people"]) == 1
        assert depth.note == ""

    def test_auto_serves_depth_with_an_honest_note_when_there_is_nothing_else(
        self, untrained_starter, nothing_fetched
    ):
        made = annotate("depth", hopper())
        assert made.backend == "starter"
        assert "rough guess" in made.note
        assert "Depth-Anything-V2-Small-hf (99 MB)" in made.note

    def test_auto_never_takes_the_starter_net_for_the_pose_of_a_photo(self, untrained_starter, nothing_fetched):
        with pytest.raises(Exception, match="What works now: the backend “starter”"):
            annotate("pose", hopper())
