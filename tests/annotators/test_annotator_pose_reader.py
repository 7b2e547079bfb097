import numpy as np
import pytest
from annotator_helpers import astronaut, needs_mediapipe

from annotators import ANNOTATORS, annotate
from annotators.base import AnnotatorError, Availability, Backend, BackendMissing, Drawing, NobodyFound
from annotators.poses.pose_reader import PoseReader
from annotators.table import CACHE


@pytest.fixture
def backend(monkeypatch):
    """The pose annotator with one backend that sees a person in bright frames, and counts what it is asked."""
    asked = []

    def read(rgb, settings):
        asked.append(settings["people"])
        return rgb

    def draw(reading, settings):
        if reading.mean() < 128:
            raise NobodyFound("Nobody.")
        return Drawing(reading, {"people": [[[1.0, 2.0, 0.9]] * 18], "hands": [[None, None]], "faces": [None]})

    row = ANNOTATORS["pose"]
    served = Backend("fake", "Fake", read, draw, reads=("people",), draws=("confidence",))
    away = Backend("away", "Away", read, draw, lambda: Availability(usable=False, reason="It is away."))
    object.__setattr__(row, "backends", (away, served))
    yield asked
    object.__setattr__(row, "backends", BACKENDS)


BACKENDS = ANNOTATORS["pose"].backends


def frame(value):
    return np.full((32, 48, 3), value, np.uint8)


def test_frames_are_read_past_the_cache_and_nobody_is_an_empty_list(backend):
    CACHE.clear()
    reader = PoseReader(people=2)
    assert reader.backend == "fake"
    assert len(reader(frame(200))["people"]) == 1
    assert reader(frame(0)) == {"people": [], "hands": [], "faces": [], "height": 32, "width": 48}
    assert backend == [2, 2]
    assert len(CACHE) == 0


def test_the_reading_is_the_annotators_own(backend):
    assert PoseReader()(frame(200)) == annotate("pose", frame(200)).data


def test_the_key_says_what_the_reading_depends_on(backend):
    assert PoseReader(people=1).key != PoseReader(people=2).key
    assert PoseReader(confidence=0.2).key == PoseReader(confidence=0.6).key


def test_what_cannot_be_used_is_said_at_once(backend):
    with pytest.raises(BackendMissing, match="It is away"):
        PoseReader("away")
    with pytest.raises(AnnotatorError, match="no setting 'colour'"):
        PoseReader(colour=1)
    with pytest.raises(AnnotatorError, match="no backend 'nobody'; it has away"):
        PoseReader("nobody")


class TestWithMediapipe:
    pytestmark = needs_mediapipe

    def test_a_person_is_read_and_an_empty_frame_is_empty(self):
        reader = PoseReader(hands=True, face=True)
        picture = np.asarray(astronaut())
        data = reader(picture)
        assert data["height"] == 512
        assert np.array(data["people"][0])[0, 2] > 0.5
        assert reader(np.full((128, 128, 3), 90, np.uint8))["people"] == []
