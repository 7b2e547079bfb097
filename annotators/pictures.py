"""Decoding of uploads: an upright RGB picture of a bounded size, or one sentence with the reason why not."""

from __future__ import annotations

import importlib
import importlib.util
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from annotators.base import PictureError
from annotators.deep_grey import is_deep, to_grey
from annotators.jpeg_xl import size_of_jxl
from annotators.srgb import on_white, png_profile

MIN_SIDE = 16
"""Shorter side in pixels below which there is nothing to annotate."""

MAX_ASPECT = 10
"""Longest side over shortest; a longer strip would be a line after scaling."""

MAX_PIXELS = 40_000_000
"""Pixels that are decoded; a JPEG above it is decoded at a half, quarter or eighth, which costs little."""

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "HEIF", "JXL")
"""Pillow's names of the formats read; the others are rare, and some of them start other programs."""

_READABLE = "PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"


@dataclass(frozen=True)
class _Decoder:
    """A format that Pillow reads with another package.

    Attributes:
        title: what people call the format.
        package: to install.
        module: to import.
        matches: whether the first 12 bytes of a file are of this format.
        register: lets Pillow read it.
        size: reads width and height from the beginning of a file, where opening it decodes all of it.
    """

    title: str
    package: str
    module: str
    matches: Callable[[bytes], bool]
    register: Callable[[], object]
    size: Callable[[bytes], tuple[int, int] | None] | None = None


_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL ")
_DECODERS = (
    _Decoder(
        "HEIC",
        "pillow-heif",
        "pillow_heif",
        lambda head: head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS,
        lambda: importlib.import_module("pillow_heif").register_heif_opener(),
    ),
    _Decoder(
        "JPEG XL",
        "pillow-jxl-plugin",
        "pillow_jxl",
        lambda head: head.startswith(_JXL),
        lambda: importlib.import_module("pillow_jxl"),
        size_of_jxl,
    ),
)
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    struct.error,
    zlib.error,
    MemoryError,
    RuntimeError,
)
_HEADER = 64 << 10  # bytes in front of a JPEG XL picture, such as its EXIF


def load_picture(source: str | Path | bytes | Image.Image) -> Image.Image:
    """Return an upload as an upright RGB picture.

    EXIF turns are applied, transparency becomes white, colours become sRGB, 16 bits become 8, measured depth is stretched,
    and of an animation the first frame is taken. `info["note"]` of the picture has a sentence about changes that matter.

    Args:
        source: path of a file, its bytes, or a Pillow picture in any mode.

    Returns:
        RGB picture of at most `MAX_PIXELS` pixels, at least `MIN_SIDE` on its short side; `info` holds only `note`.

    Raises:
        PictureError: the picture cannot be used; the text gives the reason and the remedy.
    """
    if isinstance(source, Image.Image):
        return _finished(source, "The picture")
    if isinstance(source, bytes | bytearray):
        return _read(io.BytesIO(source), len(source), "The upload")
    if not isinstance(source, str | Path):
        raise PictureError("There is no picture yet: upload one first.")
    path = Path(source)
    try:
        with path.open("rb") as file:
            return _read(file, path.stat().st_size, f"“{path.name}”")
    except FileNotFoundError as error:
        raise PictureError(f"There is no file “{path.name}”.") from error
    except OSError as error:
        raise PictureError(f"“{path.name}” cannot be opened ({error.strerror or error}).") from error


def _read(file: BinaryIO, size: int, name: str) -> Image.Image:
    if size == 0:
        raise PictureError(f"{name} is an empty file: its upload or copy was cut short, try again.")
    Image.init()
    _add_decoder(file, name)
    formats = [known for known in FORMATS if known in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file, formats=formats)
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"{name} has far more pixels than the {_millions(MAX_PIXELS)} allowed: make it smaller first."
        ) from error
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{name} is not a picture this program can read, whatever its name ends in: save it as {_READABLE}."
        ) from error
    except _DAMAGED as error:
        raise _damaged(name) from error
    return _finished(image, name)


def _damaged(name: str) -> PictureError:
    return PictureError(f"{name} is damaged or incomplete and cannot be decoded: save or download it again.")


def _finished(image: Image.Image, name: str) -> Image.Image:
    notes = [image.info["note"]] if isinstance(image.info.get("note"), str) else []
    _check_size(image, name)
    try:
        notes += _settle(image, name)
        profile, grey_bits = _colour_space(image)
        image.load()
        upright = _upright(image)
        if is_deep(upright):
            upright, note = to_grey(upright, name)
            notes += [note] if note else []
            profile = None if note else profile
        rgb = on_white(upright, profile, grey_bits)
    except _DAMAGED as error:
        raise _damaged(name) from error
    _check_size(rgb, name)
    rgb.info = {"note": " ".join(notes)} if notes else {}
    return rgb


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    size = f"{width}×{height} pixels"
    if min(width, height) < MIN_SIDE:
        raise PictureError(f"{name} is only {size}: its shorter side needs at least {MIN_SIDE}.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(
            f"{name} is a strip of {size}: crop it to at most {MAX_ASPECT} times as long as it is wide."
        )


def _settle(image: Image.Image, name: str) -> list[str]:
    """Choose, before anything is decoded, how large and which frame it will be; returns notes about that."""
    notes = []
    width, height = image.size
    if width * height > MAX_PIXELS:
        shrunk = _drafted(image)
        if not shrunk:
            _check_pixels(width, height, name)
        notes.append(f"The picture of {width}×{height} pixels was read at {image.width}×{image.height}.")
    if image.format != "MPO" and getattr(image, "is_animated", False):
        image.seek(0)
        what = "The file has several pages" if image.format == "TIFF" else "The file is an animation"
        notes.append(f"{what}; the first {'page' if image.format == 'TIFF' else 'frame'} was taken.")
    return notes


def _check_pixels(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"{name} has {width}×{height} pixels, {_millions(width * height)}; at most {_millions(MAX_PIXELS)} are allowed. "
            "Make it smaller first."
        )


def _drafted(image: Image.Image) -> bool:
    """Ask a JPEG's decoder for a half, quarter or eighth of its size, the largest that is allowed."""
    width, height = image.size
    for divisor in (2, 4, 8):
        if -(-width // divisor) * -(-height // divisor) <= MAX_PIXELS:
            image.draft(image.mode, (width // divisor, height // divisor))
            break
    return image.width * image.height <= MAX_PIXELS


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image) or image
    except _DAMAGED:  # broken EXIF says nothing about the pixels, which are fine
        return image


def _colour_space(image: Image.Image) -> tuple[bytes | None, int]:
    """Return the ICC profile of an opened picture, and how many bits a grey of it has in the file."""
    profile = image.info.get("icc_profile")
    if image.format != "PNG":
        return profile, 8
    file = getattr(image, "fp", None)
    declared = png_profile(file) if file is not None and file.seekable() else None
    tiles = getattr(image, "tile", None)
    raw = tiles[0][3] if tiles else "L"  # by its place: a plain tuple before Pillow 11
    bits = {"1": 1, "L;2": 2, "L;4": 4}.get(str(raw), 8)
    return declared or profile, bits


def _add_decoder(file: BinaryIO, name: str) -> None:
    """Let Pillow read HEIC and JPEG XL if the package for it is installed.

    Raises:
        PictureError: the file is such a picture, and the package is missing.
    """
    head = file.read(12)
    file.seek(0)
    for decoder in _DECODERS:
        if not decoder.matches(head):
            continue
        if importlib.util.find_spec(decoder.module) is None:
            raise PictureError(
                f"{name} is a {decoder.title} picture: install the package {decoder.package}, or save it as {_READABLE}."
            )
        decoder.register()
        if decoder.size is not None:
            head = file.read(_HEADER)
            file.seek(0)
            size = decoder.size(head)
            if size is None:
                raise _damaged(name)
            _check_pixels(*size, name)


def _millions(pixels: int) -> str:
    return f"{pixels / 1e6:.0f} million"
