"""Uploads as people really have them: each becomes an upright RGB picture, or one sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
from annotator_helpers import scene
from PIL import Image, ImageCms

from annotators import PictureError, load_picture
from annotators.pictures import MAX_PIXELS


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def huge_png(width, height):
    """A valid PNG of one colour, a few kilobytes whatever its size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes((width + 7) // 8 + 1)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def fails(source, match):
    with pytest.raises(PictureError, match=match) as caught:
        load_picture(source)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_common_formats_are_read(form):
    picture = load_picture(encoded(scene(), format=form))
    assert picture.mode == "RGB"
    assert picture.size == (128, 96)
    assert picture.info == {}


def test_a_path_and_a_picture_are_read_too(tmp_path):
    path = tmp_path / "a.png"
    scene().save(path)
    assert np.array_equal(np.asarray(load_picture(path)), np.asarray(scene()))
    assert np.array_equal(np.asarray(load_picture(str(path))), np.asarray(load_picture(Image.open(path))))


def test_text_renamed_to_png(tmp_path):
    path = tmp_path / "photo.png"
    path.write_text("this is not a picture" * 50)
    fails(path, "“photo.png” is not a picture.*PNG, JPEG")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_file_cut_short(form):
    data = encoded(scene(400, 400), format=form)
    fails(data[: len(data) // 2], "damaged|not a picture")


def test_a_file_with_flipped_bytes():
    data = bytearray(encoded(scene(), format="PNG"))
    data[60:120] = bytes(60)
    fails(bytes(data), "damaged")


@pytest.mark.parametrize("source", [None, 5, ["a.png"]])
def test_no_picture(source):
    fails(source, "upload one")


def test_missing_empty_and_folder(tmp_path):
    fails(tmp_path / "gone.png", "no file “gone.png”")
    (tmp_path / "empty.png").touch()
    fails(tmp_path / "empty.png", "empty")
    fails(b"", "empty")
    fails(tmp_path, "cannot be opened")


@pytest.mark.parametrize(
    ("size", "match"), [((1, 1), "only 1×1"), ((1, 4000), "only 1×4000"), ((20, 4000), "strip of 20×4000")]
)
def test_pictures_with_nothing_in_them(size, match):
    fails(encoded(Image.new("RGB", size), format="PNG"), match)


def test_12000_by_12000_is_refused_before_decoding():
    fails(huge_png(12_000, 12_000), "12000×12000 pixels, 144 million; at most 40 million")


def test_a_decompression_bomb_is_refused():
    fails(huge_png(30_000, 30_000), "far more pixels")


def test_a_large_jpeg_is_read_smaller(monkeypatch):
    monkeypatch.setattr("annotators.pictures.MAX_PIXELS", 100_000)
    picture = load_picture(encoded(scene(600, 800), format="JPEG"))
    assert picture.size == (200, 150)
    assert picture.info["note"] == "The picture of 800×600 pixels was read at 200×150."
    assert MAX_PIXELS == 40_000_000


def test_cmyk_keeps_its_colours():
    picture = load_picture(encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), format="JPEG"))
    red, green, blue = picture.getpixel((16, 16))
    assert red > 200
    assert green < 60
    assert blue < 60


def test_16_bit_grey_keeps_its_range():
    values = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (32, 1))
    grey = np.asarray(load_picture(encoded(Image.fromarray(values), format="PNG")))[0, :, 0].astype(int)
    assert grey[0] == 0
    assert grey[-1] == 255
    assert abs(int(grey[32]) - 130) <= 2


def test_float_pictures_are_read_and_nonsense_in_them_is_refused():
    values = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (32, 1))
    assert load_picture(encoded(Image.fromarray(values), format="TIFF")).getpixel((31, 0)) == (255, 255, 255)
    values[3, 3] = np.nan
    fails(encoded(Image.fromarray(values), format="TIFF"), "not numbers")


def test_palette_with_alpha_lies_on_white():
    image = Image.new("P", (32, 32), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.paste(1, (16, 0, 32, 32))
    picture = load_picture(encoded(image, format="PNG", transparency=0))
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert picture.getpixel((31, 31)) == (200, 0, 0)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_half_transparent_pixels_mix_with_white(mode):
    image = Image.new(mode, (32, 32), (0, 0, 0, 128) if mode == "RGBA" else (0, 128))
    assert load_picture(encoded(image, format="PNG")).getpixel((3, 3)) == pytest.approx((127, 127, 127), abs=1)


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_turns_are_applied(turn):
    upright = scene()
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transposes that undo each EXIF orientation
    stored = upright if turn == 1 else upright.transpose(Image.Transpose(back[turn]))
    exif = Image.Exif()
    exif[0x0112] = turn
    picture = load_picture(encoded(stored, format="PNG", exif=exif))
    assert np.array_equal(np.asarray(picture), np.asarray(upright))
    assert not picture.getexif()


def test_broken_exif_is_ignored():
    data = encoded(scene(), format="JPEG", exif=b"Exif\x00\x00MM\x00*broken")
    assert load_picture(data).size == (128, 96)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken_and_said_so(form):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue")]
    picture = load_picture(encoded(frames[0], format=form, save_all=True, append_images=frames[1:], duration=100))
    assert picture.getpixel((20, 20))[0] > 240
    assert picture.info["note"] == "The file is an animation; the first frame was taken."


def test_a_colour_profile_becomes_srgb():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = load_picture(encoded(scene(), format="PNG", icc_profile=lab))
    assert np.array_equal(np.asarray(same), np.asarray(scene()))
    broken = load_picture(encoded(scene(), format="PNG", icc_profile=b"not a profile"))
    assert np.array_equal(np.asarray(broken), np.asarray(scene()))


def test_formats_that_start_other_programs_are_not_read():
    fails(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "not a picture")


def test_what_was_loaded_loads_again_with_its_note():
    picture = scene()
    picture.info["note"] = "Kept."
    assert load_picture(picture).info["note"] == "Kept."
