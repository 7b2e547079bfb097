"""Files that are not what they say: pictures, clips, recipes in them, LoRAs and ZIPs, each as bytes, made without a network."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from controlnext.recipes.png import RECIPE_KEY

SIDE = 96
"""Pixels of the sound pictures that the others are made of."""


@cache
def picture(form: str = "PNG", mode: str = "RGB") -> bytes:
    """Return a sound picture in a format of Pillow's."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, form)
    return buffer.getvalue()


def recipe_png(recipe: object) -> bytes:
    """Return a picture that carries a recipe: an object that becomes JSON, or the text itself."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(RECIPE_KEY, recipe if isinstance(recipe, str) else json.dumps(recipe))
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), "grey").save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def recipe_mp4(contents: object) -> bytes:
    """Return an MP4 of no frames whose comment carries contents, as the videos of this project do."""
    text = (contents if isinstance(contents, str) else json.dumps(contents)).encode()
    inner = _box(b"\xa9cmt", _box(b"data", struct.pack(">II", 1, 0) + text))
    meta = _box(b"meta", bytes(4) + _box(b"ilst", inner))
    return _box(b"ftyp", b"isom\0\0\2\0isomiso2mp41") + _box(b"moov", _box(b"udta", meta))


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a weights file with any header, as an object or as text, that may lie about its length."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def packed(files: Mapping[str, bytes], **lies: Any) -> bytes:
    """Return a ZIP of some files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _box(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + name + data


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, *chunks: bytes, bits: int = 8, colour: int = 2) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + _chunk(b"IEND", b"")


def _tampered(data: bytes, place: float, fill: bytes) -> bytes:
    start = int(place * len(data))
    return data[:start] + fill + data[start + len(fill) :]


def bad_pictures() -> dict[str, bytes]:
    """Return files that are no usable pictures, by name."""
    png, jpeg, webp, gif = (picture(form) for form in ("PNG", "JPEG", "WEBP", "GIF"))
    tiny = io.BytesIO()
    Image.new("RGB", (4, 4)).save(tiny, "PNG")
    strip = io.BytesIO()
    Image.new("RGB", (16, 2000)).save(strip, "PNG")
    return {
        "empty.png": b"",
        "text.png": b"this is text",
        "zeros.png": bytes(4096),
        "page.png": b"<html><script>alert(1)</script></html>",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "cut.png": png[:200],
        "cut.jpg": jpeg[: len(jpeg) // 3],
        "cut.webp": webp[: len(webp) // 2],
        "cut.gif": gif[:40],
        "head.webp": webp[:20],
        "tampered.webp": _tampered(webp, 0.2, b"\xff" * 400),
        "tampered.png": _tampered(png, 0.5, b"\0" * 200),
        "bomb.png": _png(60_000, 60_000, _chunk(b"IDAT", zlib.compress(bytes(100_000)))),
        "no pixels.png": _png(0, 0),
        "huge.png": _png(2**31 - 1, 2**31 - 1),
        "no data.png": _png(SIDE, SIDE),
        "tiny.png": tiny.getvalue(),
        "strip.png": strip.getvalue(),
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 96\n(/etc/passwd) (r) file\n",
        "program.png": b"\x7fELF" + bytes(200),
        "packed.png": packed({"a.png": png}),
        "weights.png": safetensors({}),
        "name" + "e" * 180 + ".png": b"no picture",
    }  # fmt: skip


def bad_recipes() -> dict[str, object]:
    """Return recipes that no picture was made with, by what is wrong with them."""
    good = {"model": "starter", "prompt": "a", "seed": 1}
    return {
        "no JSON": "{",
        "a list": [1, 2],
        "a number": "3",
        "deep": "[" * 5000,
        "deep settings": '{"annotator_settings": ' + '{"a":' * 2000 + "1" + "}" * 2001,
        "unknown field": good | {"nonesuch": 1},
        "future version": good | {"version": 999},
        "text as a number": good | {"gamma": "much"},
        "NaN": '{"model": "starter", "gamma": NaN}',
        "infinity": '{"model": "starter", "gamma": 1e999}',
        "integer over 64 bit": good | {"seed": 2**70},
        "settings over 64 bit": good | {"annotator": "canny", "annotator_settings": {"low": 2**70}},
        "settings of 400 digits": good | {"annotator": "canny", "annotator_settings": {"low": 10**400}},
        "settings that are a list": good | {"annotator_settings": [1]},
        "a model that is a list": good | {"model": ["starter"]},
        "a prompt that is an object": good | {"prompt": {"a": 1}},
        "a long prompt": good | {"prompt": "x" * 50_000},
        "a width of 1": good | {"width": 1},
        "a width of 10 million": good | {"width": 10_000_000},
        "LoRAs that are a number": good | {"loras": 3},
        "a LoRA without a name": good | {"loras": [{"weight": 1}]},
        "controls that are text": good | {"controls": "canny"},
        "5 controls": good | {"controls": [{"annotator": "canny"}] * 5},
        "a scheduler that is none": good | {"scheduler": "nonesuch"},
        "a gamma curve that is none": good | {"gamma_curve": "up and down"},
        "half a character": '{"model": "starter", "prompt": "\\ud800"}',
    }  # fmt: skip


def bad_clips() -> dict[str, bytes]:
    """Return files that are no usable clips, by name."""
    return {
        "empty.mp4": b"",
        "text.mp4": b"this is text",
        "no frames.mp4": recipe_mp4({}),
        "cut.mp4": recipe_mp4({"a": "b" * 900})[:300],
        "lying.mp4": struct.pack(">I", 2**31) + b"ftypisom" + bytes(300),
        "playlist.m3u8": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "playlist.mp4": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/x.ts\n",
        "list.mp4": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "cut.gif": picture("GIF")[:40],
        "poses.json": b'{"version": 99}',
        "broken.json": b"{",
        "list.json": b"[]",
        "numbers.json": json.dumps({"frames": [{"people": "many"}], "width": -1, "height": "x", "fps": 0}).encode(),
        "weights.mp4": safetensors({}),
    }  # fmt: skip


def bad_packs() -> dict[str, bytes]:
    """Return ZIPs that hold no usable clip, by name."""
    sound = packed({"a.png": picture(), "b.png": picture()})
    end = sound.rfind(b"PK\x05\x06")
    lying = sound[: end + 16] + struct.pack("<I", 2**31) + sound[end + 20 :]
    return {
        "empty.zip": b"",
        "text.zip": b"this is text",
        "nothing.zip": packed({}),
        "no pictures.zip": packed({"a.txt": b"a", "b.exe": b"b"}),
        "climbing.zip": packed({"../../../escaped.txt": b"x", "/absolute.txt": b"x"}),
        "directory that lies.zip": lying,
        "cut.zip": sound[: len(sound) // 2],
        "tampered.zip": _tampered(sound, 0.2, b"\xff" * 300),
        "damaged pictures.zip": packed({"a.png": b"no", "b.png": b"picture"}),
        "bomb.zip": packed({f"{number}.png": bytes(30_000_000) for number in range(3)}),
    }  # fmt: skip


def bad_loras() -> dict[str, bytes]:
    """Return weights files that are no usable LoRA, by name."""
    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight"

    def one(shape: object, dtype: object = "F32", offsets: object = (0, 16), name: str = key) -> dict[str, object]:
        return {name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}

    return {
        "empty.safetensors": b"",
        "text.safetensors": b"this is text",
        "no header.safetensors": safetensors({}),
        "long header.safetensors": safetensors("{}", length=2**62),
        "short.safetensors": b"\x08\0\0",
        "list.safetensors": safetensors([1, 2]),
        "deep.safetensors": safetensors("[" * 5000),
        "infinite shape.safetensors": safetensors(one([float("inf"), 2]), bytes(16)),
        "NaN shape.safetensors": safetensors(one([float("nan")]), bytes(16)),
        "negative shape.safetensors": safetensors(one([-2, 2]), bytes(16)),
        "huge shape.safetensors": safetensors(one([2**40, 2**40]), bytes(16)),
        "text shape.safetensors": safetensors(one("wide"), bytes(16)),
        "unknown dtype.safetensors": safetensors(one([2, 2], "X99"), bytes(16)),
        "dtype list.safetensors": safetensors(one([2, 2], ["F32"]), bytes(16)),
        "offsets beyond.safetensors": safetensors(one([2, 2], offsets=[0, 2**50]), bytes(16)),
        "offsets back.safetensors": safetensors(one([2, 2], offsets=[16, 0]), bytes(16)),
        "offsets text.safetensors": safetensors(one([2, 2], offsets="all"), bytes(16)),
        "no offsets.safetensors": safetensors({key: {"dtype": "F32", "shape": [2, 2]}}, bytes(16)),
        "entry number.safetensors": safetensors({key: 3}, bytes(16)),
        "metadata list.safetensors": safetensors({"__metadata__": [1], **one([2, 2])}, bytes(16)),
        "no lora.safetensors": safetensors(one([2, 2], name="model.weight"), bytes(16)),
        "half a lora.safetensors": safetensors(one([2, 2]), bytes(16)),
        "pickle.ckpt": b"\x80\x02cos\nsystem\n.",
        "picture.safetensors": picture(),
    }  # fmt: skip


def bad_presets() -> dict[str, str]:
    """Return YAML presets that describe no model, by what is wrong with them."""
    return {
        "empty": "",
        "text": "just words",
        "list": "- a\n- b\n",
        "deep": "[" * 5000,
        "deep map": "{a: " * 3000,
        "tag": "!!python/object/apply:os.system ['true']",
        "anchors": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n" + "\n".join(f"d{n}: [*c, *c]" for n in range(50)),
        "tab": "a:\n\t- b\n",
        "bytes": "\x00\x01\x02",
        "unknown field": "title: T\nnonesuch: 1\n",
        "number as title": "title: {a: 1}\n",
        "no base": "title: T\nvariant: sdxl\n",
        "unknown variant": "title: T\nvariant: nonesuch\nbase: {path: x}\n",
        "size text": "title: T\nvariant: starter\nbase: {path: x}\nsizes: wide\n",
        "size of 10 million": "title: T\nvariant: starter\nbase: {path: x}\nsizes: {width: 10000000, height: 64}\n",
        "infinite gamma": "title: T\nvariant: starter\nbase: {path: x}\nadapters: {canny: {path: y, gamma: .inf}}\n",
        "adapters list": "title: T\nvariant: starter\nbase: {path: x}\nadapters: [canny]\n",
        "huge number": f"title: T\nvariant: starter\nbatch: {10**400}\n",
    }  # fmt: skip
