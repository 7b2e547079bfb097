import numpy as np
import pytest
from video_figures import person, poses

from controlnext.video import choose_person, find_tracks
from controlnext.video.tracks import TrackError, _assign, _greedy


def shuffled(frames, seed=0):
    """The same people, in another order in each frame, as a detector gives them."""
    generator = np.random.default_rng(seed)
    return [[people[index] for index in generator.permutation(len(people))] for people in frames]


def necks(track):
    return [round(float(x)) if shown else None for x, shown in zip(track.points[:, 1, 0], track.shown, strict=True)]


def test_two_people_keep_apart_whatever_their_order():
    frames = [[person(40 + step, 30, 60), person(150 - step, 30, 50)] for step in range(12)]
    tracks = find_tracks(poses(shuffled(frames)))
    assert [necks(track) for track in tracks] == [[40 + s for s in range(12)], [150 - s for s in range(12)]]


@pytest.mark.parametrize("hidden", [(), (10,), (9, 10, 11)])
@pytest.mark.parametrize("seed", [0, 1])
def test_two_people_who_cross_keep_their_names(hidden, seed):
    """One is hidden behind the other for some frames, and both are equally tall."""
    frames = []
    for step in range(21):
        people = [person(40 + 6 * step, 30, 60, 0.04), person(160 - 6 * step, 30, 60, -0.04)]
        frames.append(people[:1] if step in hidden else people)
    tracks = find_tracks(poses(shuffled(frames, seed)))
    assert len(tracks) == 2
    ends = sorted((necks(track)[0], necks(track)[-1]) for track in tracks)
    assert ends == [(40, 160), (160, 40)]


def test_one_who_leaves_and_returns_is_the_same():
    frames = [[person(150 + 4 * step, 30, 60)] for step in range(8)]
    frames += [[] for _ in range(25)]
    frames += [[person(20 + 4 * step, 30, 62)] for step in range(8)]  # round behind the camera, in on the other side
    tracks = find_tracks(poses(frames))
    assert len(tracks) == 1
    assert tracks[0].shown.sum() == 16
    assert tracks[0].confidence[10] == 0


def test_a_child_does_not_continue_its_mother():
    frames = [[person(100, 20, 75)] for _ in range(8)] + [[]] * 15 + [[person(100, 60, 25)] for _ in range(8)]
    assert len(find_tracks(poses(frames))) == 2


def test_of_two_the_one_who_stays_is_not_the_one_who_returns():
    frames = []
    for step in range(30):
        people = [person(60, 30, 60)]
        if step < 8 or step >= 22:
            people.append(person(150, 30, 60))
        frames.append(people)
    tracks = find_tracks(poses(shuffled(frames)))
    assert [int(track.shown.sum()) for track in tracks] == [30, 16]


def test_the_most_prominent_comes_first_and_can_be_chosen():
    frames = [[person(40, 50, 20), person(120, 15, 80)] for _ in range(5)]
    tracks = find_tracks(poses(frames))
    assert necks(choose_person(tracks))[0] == 120
    assert necks(choose_person(tracks, 1))[0] == 40
    with pytest.raises(TrackError, match=r"2 people.*no person 3 "):
        choose_person(tracks, 2)
    with pytest.raises(TrackError, match=r"one person: .*no person 2 "):
        choose_person(tracks[:1], 1)


def test_a_find_of_a_single_frame_is_nobody_to_follow():
    frames = [[person(40, 15, 80), *([person(120, 50, 20)] if index == 4 else [])] for index in range(24)]
    assert len(find_tracks(poses(frames))) == 1
    assert len(find_tracks(poses([[], [], [person(40, 15, 80)], [], []]))) == 1  # where nobody else is there
    assert len(find_tracks(poses(frames[4:5]))) == 2  # a picture


def test_nobody_is_one_sentence():
    with pytest.raises(TrackError, match="Nobody was found in this part of the clip"):
        find_tracks(poses([[], []]))


def test_one_frame_is_followed():
    assert find_tracks(poses([[person(50, 30, 60)]]))[0].shown.tolist() == [True]


def test_confidence_is_of_what_was_read():
    frames = [[person(50, 30, 60, confidence=0.8)], [], [person(50, 30, 60, confidence=0.6)]]
    frames[2][0][[4, 7], 2] = 0.1  # two of eighteen points below what is drawn
    assert find_tracks(poses(frames))[0].confidence == pytest.approx([0.8, 0, 0.6 * 16 / 18])


def test_a_track_is_poses_again():
    track = find_tracks(poses([[person(50, 30, 60)], []]))[0]
    assert [len(people) for people in track.poses().frames] == [1, 0]


def test_pairs_without_scipy_are_as_good_where_they_are_plain(monkeypatch):
    costs = np.array([[0.1, 0.9, 0.8], [0.7, 0.2, 2.0]])
    assert sorted(_greedy(costs)) == [(0, 0), (1, 1)]
    monkeypatch.setitem(__import__("sys").modules, "scipy.optimize", None)
    assert sorted(_assign(costs, 1.0)) == [(0, 0), (1, 1)]
    assert _assign(np.array([[1.5]]), 1.0) == []


def test_the_least_total_is_chosen():
    assert sorted(_assign(np.array([[0.1, 0.2], [0.15, 0.9]]), 1.0)) == [(0, 1), (1, 0)]
