"""Picture files in every depth, colour space and transparency that people upload, written chunk by chunk."""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 64, 96
D50 = np.array([0.9642, 1.0, 0.8249])
D65 = (0.3127, 0.3290)
PRIMARIES = {
    "srgb": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "adobe": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
    "prophoto": ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)),
}


def colours() -> np.ndarray:
    """(64, 96, 3) uint8: ramps of all colours, and two saturated patches."""
    ys, xs = np.mgrid[0:HEIGHT, 0:WIDTH]
    rgb = np.stack([xs * 255 // WIDTH, ys * 255 // HEIGHT, (xs + ys) * 255 // (HEIGHT + WIDTH)], -1).astype(np.uint8)
    rgb[10:30, 10:40], rgb[30:50, 50:80] = (240, 30, 40), (20, 200, 60)
    return rgb


def alpha() -> np.ndarray:
    """(64, 96) uint8, opaque to the right."""
    return np.clip(np.mgrid[0:HEIGHT, 0:WIDTH][1] * 300 // WIDTH, 0, 255).astype(np.uint8)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def png(rows: np.ndarray, depth: int, kind: int, *chunks: tuple[bytes, bytes], width: int = WIDTH) -> bytes:
    """A PNG of packed rows (height, bytes) uint8."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def deep_png(values: np.ndarray, kind: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits a channel."""
    return png(values.astype(">u2").reshape(len(values), -1).view(np.uint8), 16, kind, *chunks)


def few_bits_png(values: np.ndarray, depth: int, clear: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits with one transparent grey."""
    parts = 8 // depth
    packed = sum(values[:, i::parts].astype(int) << (8 - depth * (i + 1)) for i in range(parts)).astype(np.uint8)
    return png(packed, depth, 0, (b"tRNS", struct.pack(">H", clear)))


def linear(values: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] as linear light."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def as_srgb(rgb: np.ndarray, space: str, gamma: float | None = None) -> np.ndarray:
    """Colours (..., 3) uint8 of a space, whose white is D65, in sRGB (..., 3) float 0..255; `gamma` None is sRGB's curve."""
    values = rgb / 255
    light = linear(values) if gamma is None else values**gamma
    light = light @ (np.linalg.inv(_matrix("srgb")) @ _matrix(space)).T
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _matrix(space: str, white: tuple[float, float] = D65) -> np.ndarray:
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in PRIMARIES[space]]).T
    return columns * np.linalg.solve(columns, (white[0] / white[1], 1, (1 - sum(white)) / white[1]))


@dataclass(frozen=True)
class Profile:
    """An ICC profile, and what makes it."""

    data: bytes
    space: str
    gamma: float | None


def rgb_profile(space: str, gamma: float | None) -> Profile:
    white = (0.3457, 0.3585) if space == "prophoto" else D65
    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    seen = np.array((white[0] / white[1], 1, (1 - sum(white)) / white[1]))
    columns = np.linalg.inv(cone) @ np.diag((cone @ D50) / (cone @ seen)) @ cone @ _matrix(space, white)
    names = zip((b"r", b"g", b"b"), columns.T, strict=True)
    tags = [tag for name, column in names for tag in ((name + b"XYZ", _xyz(column)), (name + b"TRC", _curve(gamma)))]
    return Profile(_profile(b"RGB ", tags), space, gamma)


def grey_profile(gamma: float) -> Profile:
    return Profile(_profile(b"GRAY", [(b"kTRC", _curve(gamma))]), "srgb", gamma)


def _xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)


def _curve(gamma: float | None) -> bytes:
    if gamma is None:
        numbers = (linear(np.arange(1024) / 1023) * 65535).round().astype(">u2").tobytes()
        return b"curv\0\0\0\0" + struct.pack(">I", 1024) + numbers
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _profile(space: bytes, tags) -> bytes:
    tags = [(b"desc", b"desc\0\0\0\0\0\0\0\5test\0" + bytes(78)), (b"wtpt", _xyz(D50)), *tags]
    start, table, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags:
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI", start + len(body), 0x02400000) + b"mntr" + space + b"XYZ " + bytes(12) + b"acsp"
    return head + bytes(28) + _xyz(D50)[8:] + bytes(48) + struct.pack(">I", len(tags)) + table + body


PROFILES = {
    "Display P3": rgb_profile("p3", None),
    "ProPhoto": rgb_profile("prophoto", 1.8),
    "Adobe RGB": rgb_profile("adobe", 2.19921875),
    "linear sRGB": rgb_profile("srgb", 1.0),
    "grey 1.8": grey_profile(1.8),
    "grey linear": grey_profile(1.0),
}


def shown_by_browsers() -> dict[str, tuple[str, bytes]]:
    """Name -> (MIME type, file) of pictures that browsers show."""
    rgb = Image.fromarray(colours())
    clear = Image.fromarray(np.dstack([colours(), alpha()]))
    grey = rgb.convert("L")
    grey_clear = Image.merge("LA", (grey, Image.fromarray(alpha())))
    best = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}
    files = {}

    def add(name: str, image: Image.Image, form: str, **options) -> None:
        files[f"{form} {image.mode}, {name}"] = (form, encoded(image, form, **best.get(form, {}), **options))

    for form in ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF"):
        add("plain", rgb.quantize(64) if form == "GIF" else rgb, form)
    for name, profile in PROFILES.items():
        if name.startswith("grey"):
            for image, form in ((grey, "PNG"), (grey, "JPEG"), (grey_clear, "PNG"), (rgb, "PNG"), (rgb, "JPEG")):
                add(name, image, form, icc_profile=profile.data)
            continue
        for image, form in (
            *((rgb, form) for form in ("PNG", "JPEG", "WEBP", "AVIF")),
            *((clear, form) for form in ("PNG", "WEBP")),
            *((image, "PNG") for image in (rgb.quantize(64), grey)),
        ):
            add(name, image, form, icc_profile=profile.data)
    add("CMYK", rgb.convert("CMYK"), "JPEG")
    files |= {f"PNG {name}": ("PNG", data) for name, data in _by_chunks().items()}
    return {name: (f"image/{form.lower()}", data) for name, (form, data) in files.items()}


def _by_chunks() -> dict[str, bytes]:
    rgb = colours()
    grey = np.asarray(Image.fromarray(rgb).convert("L"))
    ramp = np.linspace(0, 65535, WIDTH).astype(int)[None].repeat(HEIGHT, 0)
    ramp[20:40, 20:40] = 12345
    deep, deep_alpha = rgb.astype(int) * 257, alpha().astype(int)[..., None] * 257
    p3 = (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))

    def gamma(value: int) -> tuple[bytes, bytes]:
        return b"gAMA", struct.pack(">I", value)

    def profile(name: str) -> tuple[bytes, bytes]:
        return b"iCCP", b"x\0\0" + zlib.compress(PROFILES[name].data)

    return {
        "16 bit grey": deep_png(ramp, 0),
        "16 bit grey, one transparent": deep_png(ramp, 0, (b"tRNS", struct.pack(">H", 12345))),
        "16 bit grey, grey 1.8": deep_png(ramp, 0, profile("grey 1.8")),
        "16 bit grey with alpha": deep_png(np.dstack([grey.astype(int) * 257, deep_alpha]), 4),
        "16 bit colours": deep_png(deep, 2),
        "16 bit colours, one transparent": deep_png(deep, 2, (b"tRNS", struct.pack(">3H", *deep[15, 15]))),
        "16 bit colours with alpha, Display P3": deep_png(np.dstack([deep, deep_alpha]), 6, profile("Display P3")),
        "8 bit grey, one transparent": png(grey, 8, 0, (b"tRNS", struct.pack(">H", int(grey[15, 15])))),
        **{f"{depth} bit grey, one transparent": few_bits_png(grey >> (8 - depth), depth, 1) for depth in (1, 2, 4)},
        "8 bit colours, one transparent": png(
            rgb.reshape(HEIGHT, -1), 8, 2, (b"tRNS", struct.pack(">3H", *rgb[15, 15]))
        ),
        "gAMA 1.0": png(rgb.reshape(HEIGHT, -1), 8, 2, gamma(100_000)),
        "gAMA 1/1.8, grey": png(grey, 8, 0, gamma(55_556)),
        "gAMA 1/2.2": png(rgb.reshape(HEIGHT, -1), 8, 2, gamma(45_455)),
        "gAMA and cHRM": png(rgb.reshape(HEIGHT, -1), 8, 2, gamma(45_455), p3),
        "cHRM alone": png(rgb.reshape(HEIGHT, -1), 8, 2, p3),
        "sRGB overrides gAMA": png(rgb.reshape(HEIGHT, -1), 8, 2, (b"sRGB", b"\0"), gamma(100_000), p3),
        "cICP Display P3": png(rgb.reshape(HEIGHT, -1), 8, 2, (b"cICP", bytes((12, 13, 0, 1)))),
    }
