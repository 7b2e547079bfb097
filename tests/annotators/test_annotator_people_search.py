"""Many and small people in large pictures, and which reader `auto` takes for a picture."""

import numpy as np
import pytest
from annotator_helpers import astronaut, coffee, hopper, needs_mediapipe
from PIL import Image

from annotators import BackendMissing, NobodyFound, annotate
from annotators.assets import STARTER_READER
from annotators.poses.people_search import Candidate, extent, is_same_body, merged, tiles
from annotators.poses.pose_reader import PoseReader
from annotators.starter import backend as starter
from annotators.weights.lite import Crop, Detection

ROOT = STARTER_READER.parents[3]


def candidate(x, y, radius, score=0.9):
    points = np.array([[x, y], [x, y - radius]], float)
    return Candidate.of(Detection(score, np.zeros(4), points))


@pytest.mark.parametrize("size", [(1080, 1920), (1920, 1080), (512, 512), (300, 2400), (90, 64)])
def test_tiles_of_every_level_cover_the_picture(size):
    height, width = size
    levels = list(tiles(height, width))
    assert levels[0][0].size == min(size)
    assert [level[0].size for level in levels] == sorted((level[0].size for level in levels), reverse=True)
    for level in levels:
        covered = np.zeros(size, bool)
        for tile in level:
            low, high = (np.array([tile.y, tile.x]) + side * tile.size / 2 for side in (-1, 1))
            assert low.min() >= -1e-6
            assert (high <= np.array(size) + 1e-6).all()
            (top, left), (bottom, right) = low.round().astype(int), high.round().astype(int)
            covered[top:bottom, left:right] = True
        assert covered.all()


def test_someone_cut_by_a_tile_is_left_to_another_tile():
    tile = Crop(500, 500, 400)
    assert candidate(500, 500, 150).fits(tile, 1000, 1000)
    assert not candidate(310, 500, 300).fits(tile, 1000, 1000)
    assert candidate(310, 500, 300).fits(Crop(200, 500, 400), 1000, 1000)  # where the picture itself ends


def test_one_person_found_in_several_tiles_is_one_candidate():
    found = [
        candidate(100, 100, 40, 0.7),
        candidate(108, 104, 44, 0.9),
        candidate(200, 100, 40),
        candidate(100, 100, 90),
    ]
    assert [one.find.score for one in merged(found)] == [0.9, 0.9, 0.9]
    assert merged(found)[0].centre.tolist() == [108, 104]


def test_skeletons_are_compared_by_the_joints_that_both_show():
    one = np.concatenate([np.random.default_rng(0).uniform(0, 100, (33, 2)), np.ones((33, 1))], axis=1)
    assert extent(one) == pytest.approx(np.hypot(*np.ptp(one[:, :2], axis=0)))
    assert is_same_body(one, one + np.array([8, 5, 0]))
    assert not is_same_body(one, one + np.array([60, 0, 0]))
    hidden = one.copy()
    hidden[10:] = (500, 500, 0.1)
    assert is_same_body(one, hidden)
    assert not is_same_body(one, one * (1, 1, 0))


def figure(name):
    """A drawn figure of the examples, its mask, and its nose."""
    picture = Image.open(ROOT / f"assets/examples/{name}.png").convert("RGB")
    data = annotate("segmentation", picture, backend="starter").data
    body = [data["names"].index(part) for part in ("face", "limb", "hair", "shirt", "trousers", "shoes")]
    mask = Image.fromarray(np.isin(data["ids"], body).astype(np.uint8) * 255)
    nose = annotate("pose", picture, backend="starter").data["people"][0][0][:2]
    box = mask.getbbox()
    return picture.crop(box), mask.crop(box), np.array(nose) - box[:2]


def crowd(places, size, heights):
    """Figures of the given heights in pixels on an enlarged photograph of a cup, and their noses."""
    picture, noses = coffee().resize(size, Image.Resampling.BICUBIC), []
    for number, (place, height) in enumerate(zip(places, heights, strict=True)):
        person, mask, nose = figure(("arms-out", "at-the-tree")[number % 2])
        zoom = height / person.height
        shape = (round(person.width * zoom), height)
        picture.paste(person.resize(shape, Image.Resampling.LANCZOS), place, mask.resize(shape))
        noses.append(nose * zoom + place)
    return picture, noses


@pytest.mark.weights
class TestPhotos:
    pytestmark = needs_mediapipe

    PLACES = ((60, 80), (420, 120), (800, 60), (240, 420), (980, 400))

    @pytest.mark.parametrize("height", [200, 100])  # a quarter and an eighth of the picture
    def test_small_people_are_all_found_and_counted(self, height):
        picture, noses = crowd(self.PLACES, (1200, 800), [height] * 5)
        with pytest.raises(NobodyFound):
            annotate("pose", picture, search=False)
        made = annotate("pose", picture)
        found = [np.array(person[0][:2]) for person in made.data["people"]]
        assert [min(np.hypot(*(nose - place)) for place in found) < height / 12 for nose in noses] == [True] * 5
        assert made.note == "5 people were found."

    def test_the_largest_come_first_and_the_rest_is_counted(self):
        picture, noses = crowd(self.PLACES[:4], (1200, 800), [150, 150, 150, 300])
        made = annotate("pose", picture, people=2)
        assert len(made.data["people"]) == 2
        assert np.hypot(*(np.array(made.data["people"][0][0][:2]) - noses[3])) < 25
        assert made.note == "4 people were found and the 2 largest are drawn: raise “People” for more."

    def test_a_large_person_is_read_as_without_a_search(self):
        for photo in (astronaut(), hopper()):
            assert annotate("pose", photo).data == annotate("pose", photo, search=False).data
            assert annotate("pose", photo).note == ""

    def test_clips_are_not_searched_frame_by_frame(self):
        assert "search=False" in PoseReader("mediapipe").key
        assert "search=True" in PoseReader("mediapipe", search=True).key

    def test_an_empty_photograph_stays_empty(self):
        with pytest.raises(NobodyFound, match="head and shoulders"):
            annotate("pose", coffee().resize((1200, 800)))

    @pytest.mark.parametrize(
        "name", ["arms-out", "at-the-tree", "cheering", "portrait-arms-up", "portrait-hat", "running"]
    )
    def test_pictures_of_the_starter_are_read_by_its_own_net(self, name):
        picture = Image.open(ROOT / f"assets/examples/{name}.png").convert("RGB")
        assert starter.is_flat(np.asarray(picture))
        assert annotate("pose", picture).backend == "starter"

    def test_photographs_are_not_read_by_the_starter_net(self, monkeypatch):
        monkeypatch.setattr(starter, "is_own_world", lambda rgb: pytest.fail("a photograph was taken for a drawing"))
        for photo in (astronaut(), hopper()):
            assert annotate("pose", photo).backend == "mediapipe"


def test_without_a_reader_of_photographs_the_starter_net_does_not_take_them(nothing_fetched):
    with pytest.raises(BackendMissing):
        annotate("pose", astronaut())
