"""The pose annotator: an OpenPose-18 skeleton of every person found, with hands and face on request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from annotators.base import Annotator, Backend, Drawing, NobodyFound, Setting, Settings
from annotators.poses import dwpose
from annotators.poses.people import People, Person
from annotators.starter import backend as starter
from annotators.weights import fetch

if TYPE_CHECKING:
    from annotators.starter.net import SceneReading

_MOST_PEOPLE = 32

NOBODY = (
    "No person was found in this picture: take one that shows head and shoulders clearly and not too small, "
    "or choose the canny or depth annotator."
)
ALREADY_A_MAP = "No person was found, and this picture looks like a condition picture already: choose the annotator “Ready-made map” (none)."


@dataclass(frozen=True)
class PoseReading:
    """The people of a picture, and how many were found; if there is nobody, whether the picture is a map already."""

    people: People
    is_map: bool = False
    total: int = 0


def _read_mediapipe(rgb: np.ndarray, settings: Settings) -> PoseReading:
    from annotators.poses.blazepose import find_people
    from annotators.poses.holistic import read_face, read_hand
    from annotators.poses.openpose import body_points

    persons, limit = [], int(settings["people"])
    everyone = find_people(rgb, limit, everyone=bool(settings["search"]))
    for found in everyone[:limit]:
        person = Person(body_points(found.landmarks, found.depths))
        if settings["hands"]:
            hands = {side: read_hand(rgb, found.landmarks, side) for side in ("left", "right")}
            person = replace(person, left_hand=hands["left"], right_hand=hands["right"])
        if settings["face"]:
            person = replace(person, face=read_face(rgb, found.landmarks))
        persons.append(person)
    return replace(_people(rgb, persons), total=len(everyone))


def _read_dwpose(rgb: np.ndarray, settings: Settings) -> PoseReading:
    persons = dwpose.find_people(rgb, int(settings["people"]))
    if not settings["hands"]:
        persons = [replace(person, left_hand=None, right_hand=None) for person in persons]
    if not settings["face"]:
        persons = [replace(person, face=None) for person in persons]
    return _people(rgb, persons)


def _people(rgb: np.ndarray, persons: list[Person]) -> PoseReading:
    height, width = rgb.shape[:2]
    if persons:
        return PoseReading(People(tuple(_inside(person, height, width) for person in persons), height, width))
    from annotators.none import looks_like_map

    return PoseReading(People((), height, width), looks_like_map(rgb) != "")


def _inside(person: Person, height: int, width: int) -> Person:
    """Take the confidence of points outside the picture: they are guesses, and no pose model was trained on such."""

    def seen(points: np.ndarray) -> np.ndarray:
        kept = points.copy()
        kept[((points[:, :2] < 0) | (points[:, :2] >= (width, height))).any(axis=1), 2] = 0.0
        return kept

    return replace(person, **{name: seen(part) for name, part in vars(person).items() if part is not None})


def draw_people(people: People, confidence: float) -> np.ndarray:
    """Draw people on black, leaving out points below a confidence in [0, 1]; returns RGB (H, W, 3) uint8."""
    from annotators.poses.skeleton import draw_skeleton

    def sure(points: np.ndarray) -> np.ndarray:
        drawn = points.copy()
        drawn[:, 2] = points[:, 2] >= confidence
        return drawn

    return draw_skeleton(
        [sure(person.body) for person in people.persons],
        people.height,
        people.width,
        hands=[sure(hand) for hand in _hands(people)],
        faces=[sure(face) for face in _faces(people)],
    )


def draw_people_svd(people: People) -> np.ndarray:
    """Draw people as the released SVD adapters learned it: nothing of hands and faces is left out, all is dimmed."""
    from annotators.poses.skeleton_svd import draw_svd_skeleton

    bodies = [person.body for person in people.persons]
    return draw_svd_skeleton(bodies, people.height, people.width, hands=_hands(people), faces=_faces(people))


def _hands(people: People) -> list[np.ndarray]:
    return [hand for person in people.persons for hand in (person.left_hand, person.right_hand) if hand is not None]


def _faces(people: People) -> list[np.ndarray]:
    return [person.face for person in people.persons if person.face is not None]


def _draw(reading: PoseReading, settings: Settings) -> Drawing:
    if not reading.people.persons:
        raise NobodyFound(ALREADY_A_MAP if reading.is_map else NOBODY)
    rgb = draw_people(reading.people, float(settings["confidence"]))
    note = _counted(reading) if rgb.any() else "Nothing is drawn at this confidence: lower it."
    return Drawing(rgb, reading.people.to_data(), note)


def _counted(reading: PoseReading) -> str:
    """Return how many people were found, where it is more than one."""
    drawn, total = len(reading.people.persons), max(reading.total, len(reading.people.persons))
    if total > drawn:
        return f"{total} people were found and the {drawn} largest are drawn: raise “People” for more."
    return f"{total} people were found." if total > 1 else ""


def _draw_starter(reading: SceneReading, settings: Settings) -> Drawing:
    bodies = [np.asarray(person, dtype=np.float64) for person in reading.people][: int(settings["people"])]
    if not bodies:
        raise NobodyFound(
            "The starter net found no figure in this picture: it knows only pictures drawn by the starter model."
        )
    return _draw(PoseReading(People(tuple(map(Person, bodies)), *reading.parts.shape)), settings)


POSE = Annotator(
    name="pose",
    label="Pose skeleton",
    help="The OpenPose skeleton of every person: keeps the pose, leaves the looks to the prompt.",
    settings=(
        Setting(
            "people", "People", "int", 10, 1, _MOST_PEOPLE, 1, help="At most this many, the most prominent first."
        ),
        Setting(
            "search",
            "Small people",
            "bool",
            True,
            help="Search a picture in which nobody is large for many or small people; takes a second or two.",
        ),
        Setting("hands", "Hands", "bool", False, help="Draw the fingers, where they are seen."),
        Setting("face", "Face", "bool", False, help="Draw the outline of faces, eyes and mouths."),
        Setting(
            "confidence",
            "Confidence",
            "float",
            0.3,
            0.0,
            1.0,
            0.05,
            help="Points the model is less sure of are left out.",
        ),
    ),
    backends=(
        Backend(
            starter.NAME,
            starter.LABEL,
            starter.read,
            _draw_starter,
            starter.check,
            draws=("people", "confidence"),
            source="assets/starter/annotator",
            licence="this project's",
            suits=lambda rgb: starter.is_flat(rgb) and starter.is_own_world(rgb),
            suited_only=True,
        ),
        Backend(
            "mediapipe",
            "MediaPipe BlazePose",
            _read_mediapipe,
            _draw,
            fetch.availability,
            reads=("people", "hands", "face", "search"),
            draws=("confidence",),
            prepare=fetch.ensure,
            fetch=fetch.fetch_mediapipe,
            source=f"{fetch.WHEEL} (model files of the wheel)",
            licence="Apache-2.0",
            megabytes=fetch.WHEEL_MEGABYTES,
        ),
        Backend(
            "dwpose",
            "DWPose",
            _read_dwpose,
            _draw,
            dwpose.check,
            reads=("people", "hands", "face"),
            draws=("confidence",),
            fetch=dwpose.fetch,
            source=dwpose.REPO,
            licence="Apache-2.0",
            megabytes=dwpose.MEGABYTES,
        ),
    ),
)
