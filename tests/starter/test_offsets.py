import numpy as np
import pytest

from annotators.poses.skeleton import KEYPOINTS
from controlnext.starter.remake import offsets
from controlnext.starter.scenes.shards import make_example

SHIFTED, SHIFT = "right_shoulder", np.array([0.03, -0.02, 0.01])


@pytest.fixture
def reader(monkeypatch):
    """A reader that finds each joint where it is told, but one shoulder moved by SHIFT in the turn of the chest."""
    shown = []

    def example_of(seed):
        shown.append(make_example(seed, (96, 96)))
        return shown[-1]

    def readings(picture, backend):
        view, shot = shown[-1].view, shown[-1].shot
        found = view.people.copy()
        for person, joints in zip(found, shot.joints(), strict=True):
            turn, size = offsets.turn_of(joints, SHIFTED)
            moved = joints.body()[KEYPOINTS.index(SHIFTED)] + size * (turn @ SHIFT)
            person[KEYPOINTS.index(SHIFTED), :2] = shot.lens.project(moved[None], *shot.size)[0, :2]
        return list(found)

    monkeypatch.setattr(offsets, "make_example", example_of)
    monkeypatch.setattr(offsets, "readings", readings)


def test_an_offset_of_the_reader_is_found(reader):
    rows = offsets.measure(range(24))
    assert len(rows[SHIFTED]) >= 3
    np.testing.assert_allclose(offsets.remaining(rows[SHIFTED]), SHIFT, atol=3e-3)
    assert np.median([row.told for row in rows[SHIFTED]]) > 0.005
    assert np.median([row.told for row in rows["nose"]]) < 1e-5 < np.median([row.drawn for row in rows["nose"]])


def test_the_command_prints_each_joint(reader, capsys):
    assert offsets.main(["--scenes", "24"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(SHIFTED))
    assert "left +0.0" in line
