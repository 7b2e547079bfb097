import numpy as np
import pytest
from PIL import Image

from controlnext.recipes.kinds import KINDS
from controlnext.recipes.pictures import fit_box, fit_condition, picture_digest


def flat(width, height, colour):
    return Image.new("RGB", (width, height), colour)


@pytest.mark.parametrize("kind", [*KINDS, "", "something new"])
@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (512, 384), (256, 192), (100, 333), (64, 64)])
def test_fit_gives_the_size_and_twice_is_once(kind, size):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    fitted = fit_condition(picture, 256, 192, kind)
    assert fitted.size == (256, 192)
    assert fitted.mode == "RGB"
    assert np.array_equal(np.asarray(fit_condition(fitted, 256, 192, kind)), np.asarray(fitted))


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (512, 384), (100, 333)])
def test_cropping_gives_the_size_and_twice_is_once(size):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    cropped = fit_condition(picture, 256, 192, "depth", crop=True)
    assert cropped.size == (256, 192)
    assert cropped.tobytes() == fit_condition(cropped, 256, 192, "depth", crop=True).tobytes()


def test_a_crop_of_a_very_long_picture_shows_its_middle():
    array = np.zeros((4001, 1, 3), np.uint8)
    array[2000:] = 255
    cropped = np.asarray(fit_condition(Image.fromarray(array), 256, 192, "depth", crop=True))
    assert cropped[0].max() < 255  # from the middle row down it is white
    assert cropped[-1].min() == 255


def test_cropping_keeps_the_middle():
    array = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    cropped = fit_condition(Image.fromarray(array), 32, 32, "depth", crop=True)
    assert np.array_equal(np.asarray(cropped), array[:, 16:48])
    assert fit_box((64, 32), 32, 32, crop=True) == (-16, 0, 64, 32)


def test_fit_keeps_the_shape_and_pads_by_kind():
    white = flat(100, 200, "white")
    pose = np.asarray(fit_condition(white, 256, 256, "pose"))
    assert (pose[:, 64:192] == 255).all()
    assert (pose[:, :64] == 0).all()
    assert (pose[:, 192:] == 0).all()
    depth = np.asarray(fit_condition(white, 256, 256, "depth"))
    assert (depth == 255).all()


def test_fit_keeps_thin_lines_white_when_it_shrinks():
    array = np.zeros((1024, 1024, 3), np.uint8)
    array[300, :] = 255
    array[np.arange(1024), np.arange(1024)] = 255
    small = np.asarray(fit_condition(Image.fromarray(array), 256, 256, "canny"))
    assert set(np.unique(small)) == {0, 255}
    assert (small[75] == 255).all()
    assert (small[np.arange(256), np.arange(256)] == 255).all()


def test_fit_invents_no_class():
    array = np.zeros((300, 300, 3), np.uint8)
    array[:150] = (200, 40, 10)
    small = np.asarray(fit_condition(Image.fromarray(array), 256, 256, "segmentation"))
    assert {tuple(colour) for colour in small.reshape(-1, 3)} == {(0, 0, 0), (200, 40, 10)}


def test_digest_is_of_the_content(tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    picture.save(tmp_path / "a.png", compress_level=1)
    assert picture_digest(Image.open(tmp_path / "a.png")) == picture_digest(picture)
    assert picture_digest(picture.transpose(Image.Transpose.ROTATE_90)) != picture_digest(picture)
    assert picture_digest(flat(2, 8, "red")) != picture_digest(flat(8, 2, "red"))
    assert picture_digest(flat(4, 4, 77).convert("L")) == picture_digest(flat(4, 4, 77).convert("L").convert("RGB"))
