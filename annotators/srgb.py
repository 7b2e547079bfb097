"""Conversion of pictures to sRGB on white: ICC profiles, the colour chunks of PNG, and transparency, as browsers do it."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageCms

WHITE = (0.3127, 0.3290)  # CIE xy of D65
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))  # CIE xy of red, green and blue
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))

_D50 = np.array([0.9642, 1.0, 0.8249])  # XYZ of the white of every ICC profile
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # IEC 61966-2-1, as an ICC parametric curve
_SRGB_GAMMA = 1 / 2.2
_LIKE_SRGB = 0.05  # relative difference of a gAMA chunk from sRGB's that is ignored, as libpng does
_CICP_P3, _CICP_SRGB = (12, 13), (1, 13)  # colour primaries and transfer of ITU-T H.273
_PROBE = np.array(
    [(v, v, v) for v in range(0, 256, 17)] + [(200, 60, 40), (40, 180, 60), (60, 70, 200), (220, 200, 40)], np.uint8
)  # muted colours: the pure ones are clipped alike from every wider space
_BROKEN = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


def on_white(image: Image.Image, profile: bytes | None, grey_bits: int = 8) -> Image.Image:
    """Return a picture of 8 bits a channel in sRGB, its transparency on white.

    Args:
        image: in any mode of 8 bits a channel, decoded.
        profile: ICC profile of its colours; a broken one, or one of another colour space, is ignored as browsers do.
        grey_bits: bits of a grey picture in its file; a transparent grey is given in this depth.

    Returns:
        RGB picture.
    """
    colours, alpha = _split(image, grey_bits)
    rgb = _to_srgb(colours, profile) if profile else colours.convert("RGB")
    if alpha is None:
        return rgb.copy() if rgb is image else rgb
    white = Image.new("RGB", rgb.size, (255, 255, 255))
    white.paste(rgb, mask=alpha)
    return white


def png_profile(file: io.BufferedIOBase) -> bytes | None:
    """Return an ICC profile of the colour space that the chunks of a PNG declare, or None.

    A `cICP` chunk comes before an ICC profile, `gAMA` and `cHRM` after one; `sRGB` overrides those two. Chunks that ask for a
    high dynamic range are ignored.

    Args:
        file: open PNG; its position is restored.

    Source: PNG specification, third edition, section 4.3 "Color spaces".
    """
    chunks = _colour_chunks(file)
    if "cICP" in chunks and len(chunks["cICP"]) == 4 and chunks["cICP"][3]:
        code = (chunks["cICP"][0], chunks["cICP"][1])
        if code in (_CICP_P3, _CICP_SRGB):
            return matrix_profile(DISPLAY_P3 if code == _CICP_P3 else SRGB)
    if "iCCP" in chunks or "sRGB" in chunks or len(chunks.get("gAMA", b"")) != 4:
        return None
    gamma = struct.unpack(">I", chunks["gAMA"])[0] / 100_000
    if not 0.01 <= gamma <= 10:
        return None
    if len(chunks.get("cHRM", b"")) != 32:
        return None if abs(gamma / _SRGB_GAMMA - 1) < _LIKE_SRGB else matrix_profile(SRGB, gamma=1 / gamma)
    values = [value / 100_000 for value in struct.unpack(">8I", chunks["cHRM"])]
    places = [(values[i], values[i + 1]) for i in (0, 2, 4, 6)]
    try:
        return matrix_profile(places[1:], places[0], gamma=1 / gamma)
    except (ZeroDivisionError, np.linalg.LinAlgError, struct.error):
        return None


def matrix_profile(
    primaries: Sequence[tuple[float, float]], white: tuple[float, float] = WHITE, gamma: float | None = None
) -> bytes:
    """Build an ICC profile of an RGB colour space.

    Args:
        primaries: CIE xy of red, green and blue.
        white: CIE xy of white.
        gamma: exponent of its transfer function; None is that of sRGB.

    Raises:
        ZeroDivisionError, numpy.linalg.LinAlgError, struct.error: the primaries span no colour space.

    Source: ICC.1:2022, sections 7.2 (header), 9.2 (tags), 10.6 and 10.18 (curves); white adapted by the Bradford transform.
    """
    columns = np.array([_xyz(*place) for place in primaries]).T
    target = np.array(_xyz(*white))
    columns = columns * np.linalg.solve(columns, target)
    adapt = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ target)) @ _BRADFORD
    columns = adapt @ columns
    numbers = _SRGB_CURVE if gamma is None else (gamma,)
    curve = b"para\0\0\0\0" + struct.pack(">HH", 3 if gamma is None else 0, 0) + b"".join(map(_fixed, numbers))
    tags = [(b"desc", b"desc\0\0\0\0\0\0\0\1\0" + bytes(78)), (b"cprt", b"text\0\0\0\0\0"), (b"wtpt", _xyz_tag(_D50))]
    tags += [(name + b"XYZ", _xyz_tag(columns[:, i])) for i, name in enumerate((b"r", b"g", b"b"))]
    tags += [(name + b"TRC", curve) for name in (b"r", b"g", b"b")]
    return _packed_profile(tags)


def _xyz(x: float, y: float) -> tuple[float, float, float]:
    return x / y, 1.0, (1 - x - y) / y


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(float(value) * 65536))


def _xyz_tag(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _packed_profile(tags: Sequence[tuple[bytes, bytes]]) -> bytes:
    start = 128 + 4 + 12 * len(tags)
    table, body = b"", b""
    for name, data in tags:
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4xI", start + len(body), 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    header += b"".join(map(_fixed, _D50)) + bytes(48)
    return header + struct.pack(">I", len(tags)) + table + body


def _colour_chunks(file: io.BufferedIOBase) -> dict[str, bytes]:
    """Return the chunks of a PNG before its pixels; those longer than 64 bytes without their content."""
    found: dict[str, bytes] = {}
    position = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name in (b"IDAT", b"IEND"):
                break
            found[name.decode("latin-1")] = file.read(length) if length <= 64 else b""
            file.seek(4 if length <= 64 else length + 4, io.SEEK_CUR)
    finally:
        file.seek(position)
    return found


def _split(image: Image.Image, grey_bits: int) -> tuple[Image.Image, Image.Image | None]:
    """Return the colours of a picture (L, RGB or CMYK) and its alpha (L), or None where it is opaque."""
    clear = image.info.get("transparency")
    if image.mode in ("1", "L") and isinstance(clear, int):
        grey = np.asarray(image.convert("L"))
        full = 255 // (2 ** min(grey_bits, 8) - 1)
        return image.convert("L"), Image.fromarray(np.where(grey == clear * full, 0, 255).astype(np.uint8))
    if image.mode in ("LA", "La"):
        grey_alpha = image.convert("LA")
        return grey_alpha.getchannel("L"), grey_alpha.getchannel("A")
    if image.mode in ("RGBA", "RGBa", "PA") or clear is not None:
        rgba = image.convert("RGBA")
        return rgba.convert("RGB"), rgba.getchannel("A")
    if image.mode == "1":
        return image.convert("L"), None
    return (image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")), None


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Apply a profile to an L, RGB or CMYK picture; one that does not fit the picture is ignored."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = str(source.profile.xcolor_space).strip()
        if space == "RGB":
            image = image.convert("RGB")
        elif (space, image.mode) not in (("GRAY", "L"), ("CMYK", "CMYK")):
            return image.convert("RGB")
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), image.mode, "RGB")
        if image.mode == "RGB" and _changes_nothing(transform):
            return image
        return ImageCms.applyTransform(image, transform) or image.convert("RGB")
    except _BROKEN:
        return image.convert("RGB")


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Return whether a transform is that of sRGB to itself, rounding aside."""
    probe = ImageCms.applyTransform(Image.fromarray(_PROBE[None]), transform)
    return probe is not None and int(np.abs(np.asarray(probe)[0].astype(int) - _PROBE).max()) <= 1
