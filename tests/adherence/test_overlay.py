"""Overlays: colours where a picture followed its condition and where it drifted, and the numbers."""

import numpy as np
import pytest
from PIL import Image

from controlnext.adherence.measure import Asked
from controlnext.adherence.overlay import AMBER, BLUE, GREEN, OVERLAYS, RED, colour_of, overlay
from controlnext.adherence.score import SCORES, score

SIDE = 256
GREY = Image.new("RGB", (SIDE, SIDE), (120, 120, 120))


def person(x=128.0):
    body = np.zeros((18, 3))
    body[:, 0] = x + 30 * np.sin(np.arange(18))
    body[:, 1], body[:, 2] = np.linspace(28, 228, 18), 1
    return body


def pose(*people):
    return Asked(Image.new("RGB", (SIDE, SIDE)), {"people": list(people)})


def drawn(pixels):
    return Asked(Image.fromarray(np.repeat(np.asarray(pixels, np.uint8)[..., None], 3, 2)))


def near(image, x, y, colour):
    pixels = np.asarray(image)
    zoom = image.width // SIDE
    patch = pixels[zoom * y - 3 : zoom * y + 4, zoom * x - 3 : zoom * x + 4].reshape(-1, 3).astype(int)
    return bool((np.abs(patch - colour).sum(1) < 12).any())


def test_every_kind_with_a_score_has_an_overlay():
    assert OVERLAYS.keys() == SCORES.keys()
    assert overlay("scribble", GREY, Asked(GREY), Asked(GREY)) is None


@pytest.mark.parametrize(("drift", "colour"), [(0, GREEN), (0.05, AMBER), (0.1, RED), (1, RED)])
def test_colours_go_from_green_over_amber_to_red(drift, colour):
    assert colour_of(drift) == colour


def test_joints_are_coloured_by_their_distance_with_the_worst_first():
    asked, found = person(), person()
    found[4, 0] += 20  # of 200 px
    found[7, 2] = 0
    asked[13, 2] = 0
    made = overlay("pose", GREY, pose(asked), pose(found))
    assert made.image.size == made.plain.size == (512, 512)
    names = [name for name, _, _ in made.rows]
    assert names[:2] == ["left wrist", "right wrist"]
    assert (made.rows[0][2], len(names), "left ankle" in names) == (1.0, 17, False)
    assert abs(made.rows[1][2] - 0.1) < 1e-3
    where = asked[:, :2].round().astype(int)
    assert near(made.image, *where[10], GREEN)
    assert near(made.image, *where[4], RED)
    assert not near(made.image, *where[7], GREEN)


def test_nobody_and_several_people():
    made = overlay("pose", GREY, pose(person(70), person(190)), pose(person(190)))
    assert {(name[:3], value) for name, _, value in made.rows[:18]} == {("1: ", 1.0)}
    assert {(name[:3], value) for name, _, value in made.rows[18:]} == {("2: ", 0.0)}


def test_edges_are_matched_missed_or_not_asked_for():
    asked, found = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    asked[:, 60] = found[:, 61] = 255
    asked[:, 120] = 255
    found[:, 200] = 255
    made = overlay("canny", GREY, drawn(asked), drawn(found))
    assert [near(made.image, x, 128, colour) for x, colour in ((60, GREEN), (120, RED), (200, BLUE))] == [True] * 3
    assert [value for _, value, _ in made.rows] == ["50 %", "50 %", "0.500"]


@pytest.mark.parametrize("kind", ["depth", "segmentation"])
def test_the_difference_is_red_and_its_number_is_the_score(kind):
    asked = np.tile(np.repeat(np.arange(4) * 60, SIDE // 4), (SIDE, 1))
    found = asked.copy()
    found[96:112, 20:52] = 240
    made = overlay(kind, GREY, drawn(asked), drawn(found))
    assert near(made.image, 200, 100, (120, 120, 120))
    red, green, _ = np.asarray(made.image)[208, 72].astype(int)
    assert red > green + 60
    assert float(made.rows[0][1]) == pytest.approx(score(kind, drawn(asked), drawn(found)), abs=1e-3)
