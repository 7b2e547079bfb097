import numpy as np
import pytest
from video_figures import STANDING, person, poses

from controlnext.video import crop_points, find_tracks, fit, follow, with_reference_first
from controlnext.video.alignment import FIT_JOINTS, FitError, align
from controlnext.video.fitting import BONES
from controlnext.video.poses import FACE, LEFT_HAND, RIGHT_HAND

HEIGHT, WIDTH = 320, 192
ARMS = (3, 4, 6, 7)


def track_of(frames, height=100, width=200):
    return find_tracks(poses(frames, 10.0, height, width))[0]


def dancer(count=12, hands=False):
    frames = []
    for step in range(count):
        one = person(90 + step, 20 - 2 * abs(np.sin(step)), 60, 0.05 * np.sin(step))
        if hands:
            one[RIGHT_HAND] = one[4] + [[i / 10, i / 20, 0] for i in range(21)]
            one[LEFT_HAND] = one[7] + [[i / 10, -i / 20, 0] for i in range(21)]
            one[FACE] = one[0] + [[i / 34 - 1, i % 5, 0] for i in range(68)]
        frames.append([one])
    return frames


def oracle(driver, reference, driver_size, out_size):
    """The released preprocessing, written anew with loops and normal equations: places as fractions of the picture."""
    (fh, fw), (out_h, out_w) = driver_size, out_size
    joints = [j for j in (0, 1, 2, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17) if reference[j, 2] >= 0.3]
    rows, values = [], []
    for frame in driver:
        for joint in joints:
            rows.append([frame[joint, 1] / fh, 1.0])
            values.append(reference[joint, 1] / out_h)
    (ay, by), *_ = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)
    ax = ay / ((fh / fw) / out_h * out_w)
    bx = np.mean([reference[j, 0] / out_w - ax * frame[j, 0] / fw for frame in driver for j in joints])
    return ax, ay, bx, by


@pytest.mark.parametrize("hidden", [(), (10, 13), (0, 14, 15, 16, 17)])
def test_alignment_is_the_released_formula(hidden):
    track, reference = track_of(dancer()), person(100, 90, 210)
    reference[list(hidden), 2] = 0.1
    found = align(track, reference, HEIGHT, WIDTH)
    expected = oracle(track.points, reference, (100, 200), (HEIGHT, WIDTH))
    assert (found.ax, found.ay, found.bx, found.by) == pytest.approx(expected, rel=1e-9)
    assert found.note == ""


def test_alignment_keeps_the_shape_in_pixels():
    track, reference = track_of(dancer()), person(100, 90, 210)
    found = align(track, reference, HEIGHT, WIDTH)
    assert found.ax * WIDTH / 200 == pytest.approx(found.ay * HEIGHT / 100)


def test_the_same_figure_lands_on_the_reference_with_hands_and_face():
    frames = dancer(1, hands=True)
    reference = frames[0][0] * (2, 2, 1) + (5, 40, 0)
    fitted = fit(track_of(frames), reference, HEIGHT, WIDTH)
    np.testing.assert_allclose(fitted.track.points[0], reference, atol=1e-6)
    assert (fitted.track.height, fitted.track.width) == (HEIGHT, WIDTH)


def test_joints_that_the_driver_does_not_show_do_not_count():
    frames = dancer()
    whole = align(track_of(frames), person(100, 90, 210), HEIGHT, WIDTH)
    for people in frames[::2]:
        people[0][10] = 0  # an ankle out of the picture
    cut = align(track_of(frames), person(100, 90, 210), HEIGHT, WIDTH)
    assert cut.ay == pytest.approx(whole.ay, rel=0.05)


def test_frames_without_the_person_do_not_count():
    frames = dancer()
    with_gap = [*frames[:6], [], [], *frames[6:]]
    reference = person(100, 90, 210)
    one, other = (align(track_of(given), reference, HEIGHT, WIDTH) for given in (frames, with_gap))
    assert (one.ax, one.by) == pytest.approx((other.ax, other.by))


def test_a_handstand_is_scaled_by_size_and_said():
    frames = dancer()
    for people in frames:
        people[0][:18, 1] = 100 - people[0][:18, 1]
    found = align(track_of(frames), person(100, 90, 210), HEIGHT, WIDTH)
    assert found.ay * HEIGHT / 100 == pytest.approx(210 / 60, rel=0.1)
    assert "hardly stands upright" in found.note


def test_nobody_in_the_reference_and_nothing_in_common_are_said():
    track = track_of(dancer())
    with pytest.raises(FitError, match="Nobody was found in the reference picture"):
        fit(track, np.zeros((18, 3)), HEIGHT, WIDTH)
    head = person(100, 90, 210)
    head[[joint for joint in range(18) if joint not in (0, 14)], 2] = 0
    with pytest.raises(FitError, match="have 2 joints"):
        fit(track, head, HEIGHT, WIDTH)


def bone(points, near, far):
    return points[..., far, :2] - points[..., near, :2]


def stocky():
    """A reference with other proportions: a large head, short legs, long arms."""
    body = STANDING.copy()
    body[[9, 10, 12, 13], 1] = [0.44, 0.56, 0.44, 0.56]
    body[[3, 6], 1], body[[4, 7], 1] = 0.22, 0.42
    body[0, 1], body[[14, 15], 1], body[[16, 17], 1] = -0.18, -0.22, -0.2
    return np.concatenate([body * 210 + (100, 120), np.full((18, 1), 0.9)], axis=1)


def test_proportions_are_the_characters_own_and_directions_the_drivers():
    track, reference = track_of(dancer()), stocky()
    placed = fit(track, reference, HEIGHT, WIDTH).track.points
    fitted = fit(track, reference, HEIGHT, WIDTH, keep_proportions=True)
    for pair, scale in zip(BONES, fitted.scales, strict=True):
        longest = []
        for near, far in pair:
            new, old = bone(fitted.track.points, near, far), bone(placed, near, far)
            np.testing.assert_allclose(new, scale * old, atol=1e-6)
            longest += np.hypot(*new.T).tolist()
        wanted = max(np.hypot(*bone(reference, near, far)) for near, far in pair)
        if 0.5 < scale < 2:
            assert np.percentile(longest, 90) == pytest.approx(wanted, rel=1e-6)
    assert max(fitted.scales) / min(fitted.scales) > 1.3


def test_the_same_proportions_change_nothing():
    frames = [[person(90 + step, 20, 60)] for step in range(5)]
    reference = person(100, 90, 210)
    plain = fit(track_of(frames), reference, HEIGHT, WIDTH).track.points
    own = fit(track_of(frames), reference, HEIGHT, WIDTH, keep_proportions=True).track.points
    np.testing.assert_allclose(own[:, :18], plain[:, :18], atol=1e-6)


def test_short_legs_stay_on_the_ground():
    """A driver who squats and one who jumps: the lower foot of the character does what the driver's does."""
    frames = []
    for step in range(12):
        one = person(90, 20, 60)
        if step < 6:
            depth = step * 2.0
            one[:9, 1] += depth
            one[[11, 14, 15, 16, 17], 1] += depth
            one[[9, 12], 1] += depth / 2
        else:
            one[:18, 1] -= (step - 6) * 2.0
        frames.append([one])
    track, reference = track_of(frames), stocky()
    plain = fit(track, reference, HEIGHT, WIDTH).track.points[:, (10, 13), 1].max(axis=1)
    own = fit(track, reference, HEIGHT, WIDTH, keep_proportions=True).track.points[:, (10, 13), 1].max(axis=1)
    np.testing.assert_allclose(own - own[0], plain - plain[0], atol=1e-6)


def test_hands_and_face_go_with_wrist_and_nose():
    track, reference = track_of(dancer(hands=True)), stocky()
    placed = fit(track, reference, HEIGHT, WIDTH).track.points
    fitted = fit(track, reference, HEIGHT, WIDTH, keep_proportions=True)
    own = fitted.track.points
    for part, joint, row in ((RIGHT_HAND, 4, 2), (LEFT_HAND, 7, 2), (FACE, 0, 7)):
        old, new = placed[:, part, :2] - placed[:, [joint], :2], own[:, part, :2] - own[:, [joint], :2]
        np.testing.assert_allclose(new, fitted.scales[row] * old, atol=1e-6)


def test_the_whole_is_placed_as_the_alignment_places_it():
    reference = stocky()
    own = fit(track_of(dancer()), reference, HEIGHT, WIDTH, keep_proportions=True).track.points
    joints = list(FIT_JOINTS)
    assert (own[:, joints, :2] - reference[joints, :2]).mean(axis=(0, 1)) == pytest.approx([0, 0], abs=1e-6)


def test_an_elbow_that_is_not_seen_leaves_the_wrist_where_it_was():
    frames = dancer()
    for people in frames:
        people[0][3] = 0
    track, reference = track_of(frames), person(100, 90, 210)
    own = fit(track, reference, HEIGHT, WIDTH, keep_proportions=True).track.points
    plain = fit(track, reference, HEIGHT, WIDTH).track.points
    assert np.abs(own[:, 4, :2] - plain[:, 4, :2]).max() < 12


def test_a_figure_that_leaves_the_picture_is_said():
    frames = [[person(20 + 15 * step, 20, 60)] for step in range(12)]
    fitted = fit(track_of(frames), person(100, 90, 210), HEIGHT, WIDTH)
    assert fitted.note == (
        "In 8 of 12 frames the figure leaves the picture: let the camera follow it, or choose a wider picture."
    )
    assert fit(follow(track_of(frames)), person(100, 90, 210), HEIGHT, WIDTH).note != fitted.note
    assert fit(track_of(dancer()), person(100, 90, 210), HEIGHT, WIDTH).note == ""


def test_the_reference_comes_first():
    track, reference = track_of(dancer()), person(100, 90, 210)
    control = with_reference_first(fit(track, reference, HEIGHT, WIDTH).track, reference[:18])
    assert len(control.points) == len(control.confidence) == 13
    np.testing.assert_array_equal(control.points[0, :18], reference[:18])


def test_points_follow_a_picture_that_is_filled_and_cropped():
    corners = np.array([[0.0, 0.0, 1.0], [400.0, 300.0, 1.0], [200.0, 150.0, 1.0]])
    moved = crop_points(corners, (400, 300), 600, 600)
    assert moved[:, :2].tolist() == [[-100, 0], [700, 600], [300, 300]]
