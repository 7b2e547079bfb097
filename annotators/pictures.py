"""Uploads, whatever they are, become upright RGB pictures of a sensible size, or one sentence that says why not."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from annotators.base import PictureError

MIN_SIDE = 16
"""Shorter side in pixels below which there is nothing to annotate."""

MAX_ASPECT = 10
"""Longest side over shortest; a longer strip would be a line after scaling."""

MAX_PIXELS = 40_000_000
"""Pixels that are decoded; a JPEG above it is decoded at a half, quarter or eighth, which costs little."""

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""Pillow's names of the formats read; the rest are rare, and some start other programs."""

_READABLE = "PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error, MemoryError)


def load_picture(source: str | Path | bytes | Image.Image) -> Image.Image:
    """Return an upload as an upright RGB picture.

    EXIF turns are applied, transparency lies on white, colour profiles become sRGB, 16 bits become 8, and of an animation
    the first frame is taken. What people should know about that is in `info["note"]` of the picture returned.

    Args:
        source: path of a file, its bytes, or a Pillow picture in any mode.

    Returns:
        RGB picture of at most `MAX_PIXELS` pixels, at least `MIN_SIDE` on its short side; `info` holds only `note`.

    Raises:
        PictureError: it is not a picture that can be used; the text says why and what to do.
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
        image.load()
        profile = image.info.get("icc_profile")
        upright = _upright(image)
        rgb = _to_rgb(upright, profile, name)
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
            raise PictureError(
                f"{name} has {width}×{height} pixels, {_millions(width * height)}; at most {_millions(MAX_PIXELS)} are allowed. "
                "Make it smaller first."
            )
        notes.append(f"The picture of {width}×{height} pixels was read at {image.width}×{image.height}.")
    if image.format != "MPO" and getattr(image, "is_animated", False):
        image.seek(0)
        what = "The file has several pages" if image.format == "TIFF" else "The file is an animation"
        notes.append(f"{what}; the first {'page' if image.format == 'TIFF' else 'frame'} was taken.")
    return notes


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


def _to_rgb(image: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _from_deep_grey(image, name)
    if image.mode in ("RGB", "CMYK") and profile:
        image = _to_srgb(image, profile)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _from_deep_grey(image: Image.Image, name: str) -> Image.Image:
    """Turn 16-bit, 32-bit and float grey into 8-bit RGB, full scale to full scale."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise PictureError(f"{name} holds values that are not numbers: export it as an 8-bit picture.")
    top = (
        1.0
        if image.mode == "F" and values.max() <= 1
        else 255.0
        if values.max() <= 255 and image.mode != "I;16"
        else 65535.0
    )
    grey = np.rint(np.clip(values / top, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Apply a colour profile; a broken one is ignored, as browsers do."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(source):
            return image
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB") or image
    except (ImageCms.PyCMSError, *_DAMAGED):
        return image


def _millions(pixels: int) -> str:
    return f"{pixels / 1e6:.0f} million"
