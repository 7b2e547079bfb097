"""Uploads as people really have them: each becomes an upright RGB picture, or one sentence."""

import importlib.util
import io
import struct
import zlib

import numpy as np
import pytest
from annotator_helpers import scene
from picture_files import PROFILES, alpha, as_srgb, colours, deep_png, few_bits_png, png, shown_by_browsers
from PIL import Image, ImageCms

from annotators import PictureError, load_picture
from annotators.jpeg_xl import size_of_jxl
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


def test_float_greys_between_0_and_1_keep_their_range():
    values = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (32, 1))
    assert load_picture(encoded(Image.fromarray(values), format="TIFF")).getpixel((31, 0)) == (255, 255, 255)
    values[3, 3] = np.nan
    assert load_picture(encoded(Image.fromarray(values), format="TIFF")).getpixel((3, 3)) == (0, 0, 0)
    fails(encoded(Image.fromarray(np.full((32, 32), np.nan, np.float32)), format="TIFF"), "no values that are numbers")


def millimetres(near=500, far=4000):
    """Depth (64, 64) of a slope from near (left) to far, a hole in it."""
    values = np.tile(np.linspace(near, far, 64), (64, 1))
    values[:8, :8] = 0
    return values


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (millimetres().astype(np.uint16), "PNG"),
        (millimetres().astype(np.uint16), "TIFF"),
        (millimetres().astype(np.int32), "TIFF"),
        (millimetres(0.5, 9).astype(np.float32), "TIFF"),
        (millimetres(0.3, 80).astype(np.float32), "TIFF"),
        (np.where(millimetres(0.5, 9) > 0, millimetres(0.5, 9), np.inf).astype(np.float32), "TIFF"),
        (millimetres().astype(np.float32), "TIFF"),
    ],
)
def test_measured_depth_is_stretched_with_near_bright(values, form):
    picture = load_picture(encoded(Image.fromarray(values), format=form))
    row = np.asarray(picture)[32, :, 0].astype(int)
    assert row[0] == 255
    assert row[-1] == 0
    assert np.abs(row - np.linspace(255, 0, 64)).max() <= 6  # the percentiles cut one step off at each end
    assert picture.getpixel((2, 2)) == (0, 0, 0)
    low, high = np.percentile(values[np.isfinite(values) & (values > 0)], (1, 99))
    assert f"{low:.4g} to {high:.4g}" in picture.info["note"]
    assert len(picture.info["note"]) < 300


def test_a_dark_photograph_of_8_bits_is_not_taken_for_depth():
    dark = Image.fromarray(np.full((32, 32), 70, np.float32))
    assert load_picture(encoded(dark, format="TIFF")).getpixel((3, 3)) == (70, 70, 70)
    assert load_picture(Image.new("I", (32, 32), 0)).getpixel((3, 3)) == (0, 0, 0)


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


def test_srgb_and_broken_profiles_change_nothing():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"not a profile", PROFILES["grey 1.8"].data):
        picture = load_picture(encoded(scene(), format="PNG", icc_profile=profile))
        assert np.array_equal(np.asarray(picture), np.asarray(scene()))


@pytest.mark.parametrize("name", ["Display P3", "Adobe RGB", "linear sRGB"])
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_colour_profiles_become_srgb(name, form):
    profile = PROFILES[name]
    options = {"lossless": True} if form == "WEBP" else {}
    expected = as_srgb(colours(), profile.space, profile.gamma)
    opaque = load_picture(encoded(Image.fromarray(colours()), format=form, icc_profile=profile.data, **options))
    assert np.abs(np.asarray(opaque) - expected).max() <= 2
    rgba = Image.fromarray(np.dstack([colours(), alpha()]))
    clear = load_picture(encoded(rgba, format=form, icc_profile=profile.data, **options))
    mixed = expected * (alpha() / 255)[..., None] + 255 - alpha()[..., None]
    seen = alpha() > 0  # WebP drops the colours of transparent pixels
    assert np.abs(np.asarray(clear) - mixed)[seen].max() <= 2


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("name", ["grey 1.8", "grey linear", "linear sRGB"])
def test_profiles_of_grey_pictures_become_srgb(form, name):
    grey = Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1)))
    picture = load_picture(encoded(grey, format=form, icc_profile=PROFILES[name].data))
    expected = as_srgb(np.asarray(grey)[..., None].repeat(3, 2), "srgb", PROFILES[name].gamma)
    assert np.abs(np.asarray(picture) - expected)[:, 2:].max() <= 2  # the first steps are steep in 8 bits


def test_profiles_of_palettes_become_srgb():
    palette = Image.fromarray(colours()).quantize(64)
    expected = as_srgb(np.asarray(palette.convert("RGB")), "p3")
    picture = load_picture(encoded(palette, format="PNG", icc_profile=PROFILES["Display P3"].data))
    assert np.abs(np.asarray(picture) - expected).max() <= 2


def test_colour_chunks_of_png_become_srgb():
    files = shown_by_browsers()
    for name, space, gamma in (
        ("gAMA 1.0", "srgb", 1.0),
        ("gAMA and cHRM", "p3", 2.2),
        ("cICP Display P3", "p3", None),
        ("sRGB overrides gAMA", "srgb", None),
        ("cHRM alone", "srgb", None),
    ):
        picture = load_picture(files[f"PNG {name}"][1])
        assert np.abs(np.asarray(picture) - as_srgb(colours(), space, gamma)).max() <= 2, name


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_one_transparent_grey_is_white_in_every_depth(bits):
    values = np.tile(np.linspace(0, 2**bits - 1, 96).round().astype(int), (64, 1))
    clear = int(values[0, 20])
    chunk = (b"tRNS", struct.pack(">H", clear))
    data = (
        deep_png(values, 0, chunk)
        if bits == 16
        else png(values.astype(np.uint8), 8, 0, chunk)
        if bits == 8
        else few_bits_png(values, bits, clear)
    )
    row = np.asarray(load_picture(data))[0, :, 0]
    expected = np.where(values[0] == clear, 255, values[0] * 255 / (2**bits - 1))
    assert np.abs(row - expected).max() <= 1


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_that_is_cut_or_lies_about_its_size_is_refused(lossless):
    data = encoded(scene(400, 400), format="WEBP", lossless=lossless)
    for less in (1, 2, 10, 100, len(data) // 10):
        fails(data[:-less], "damaged|not a picture")
    for size in (len(data) + 1000, len(data) // 2):
        fails(data[:4] + struct.pack("<I", size) + data[8:], "damaged|not a picture")


@pytest.mark.parametrize(
    ("head", "package"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "pillow-heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "pillow-heif"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "pillow-jxl-plugin"),
        (b"\xff\x0a" + bytes(14), "pillow-jxl-plugin"),
    ],
)
def test_a_picture_that_needs_a_package_names_it(head, package, monkeypatch):
    found = importlib.util.find_spec
    missing = ("pillow_heif", "pillow_jxl")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else found(name))
    fails(head + bytes(100), package)


@pytest.mark.parametrize(("module", "form"), [("pillow_heif", "HEIF"), ("pillow_jxl", "JXL")])
def test_heic_and_jpeg_xl_are_read_with_their_packages(module, form):
    plugin = pytest.importorskip(module)
    if form == "HEIF":
        plugin.register_heif_opener()
    data = encoded(Image.fromarray(colours()), format=form, quality=95)
    picture = load_picture(data)
    assert picture.size == (96, 64)
    assert np.abs(np.asarray(picture).astype(int) - colours()).mean() < 4
    fails(data[: len(data) // 2], "damaged|not a picture")


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (1000, 17), (12_000, 9_000), (300, 200)])
@pytest.mark.parametrize("container", [True, False])
def test_the_size_of_a_jpeg_xl_is_read_from_its_header(size, container):
    pytest.importorskip("pillow_jxl")
    data = encoded(Image.new("RGB", size), format="JXL", lossless=True, effort=1, use_container=container)
    assert size_of_jxl(data[:4096]) == size
    assert size_of_jxl(data[:8]) is None
    if size[0] > 10_000:
        fails(data, "12000×9000 pixels")


def test_formats_that_start_other_programs_are_not_read():
    fails(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "not a picture")


def test_what_was_loaded_loads_again_with_its_note():
    picture = scene()
    picture.info["note"] = "Kept."
    assert load_picture(picture).info["note"] == "Kept."
