"""What an upload is, on 200 made examples; `pytest -s` prints how many of each kind are told right."""

from __future__ import annotations

import io
import json
from collections import Counter
from functools import cache
from pathlib import Path

import gradio
import numpy as np
import pytest
import skimage
from PIL import Image, ImageFilter, ImageOps

import annotators
from annotators.canny import find_edges
from controlnext.adherence.map_kind import MapKind, map_kind
from controlnext.assets import EXAMPLES
from controlnext.bench.quality.scenes import held_out_scenes
from controlnext.ui.pose_editor.component import read_part

OF_SKIMAGE = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "motorcycle_left")
PHOTOS = [
    *sorted((Path(gradio.__file__).parent / "media_assets" / "images").glob("*.jp*g")),
    *(Path(skimage.__file__).parent / "data" / f"{name}.png" for name in OF_SKIMAGE),
    Path(skimage.__file__).parent / "data" / "rocket.jpg",
    *sorted(EXAMPLES.glob("*.png")),
]
PALETTE = np.random.default_rng(7).integers(0, 256, (16, 3), dtype=np.uint8)


def saved(picture: Image.Image, rng: np.random.Generator, quality: tuple[int, int] = (80, 96)) -> Image.Image:
    """Half of them went through a JPEG."""
    if rng.random() < 0.5:
        return picture
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=int(rng.integers(*quality)))
    return Image.open(file).convert("RGB")


@cache
def photograph(index: int) -> Image.Image:
    return Image.open(PHOTOS[index]).convert("RGB")


def photographs(rng):
    for index in range(50):
        photo = photograph(index % len(PHOTOS))
        part = rng.uniform(0.5, 1)
        wide, high = round(part * photo.width), round(part * photo.height)
        left, top = rng.integers(0, photo.width - wide + 1), rng.integers(0, photo.height - high + 1)
        photo = photo.crop((left, top, left + wide, top + high)).resize(
            [(512, 384), (320, 448), (640, 640)][index % 3]
        )
        if index % 5 == 4:
            photo = ImageOps.grayscale(photo).convert("RGB")
        light = rng.uniform(0.5, 1.2)
        yield saved(photo.point(lambda value, light=light: min(255, value * light)), rng, (50, 96)), MapKind()


def skeletons(rng):
    for index, points in zip(range(30), [*json.loads(read_part("presets.json")).values()] * 3, strict=False):
        side = (256, 512, 768)[index % 3]
        people = []
        for place in (0.5,) if index % 4 else (0.3, 0.7):
            body = np.array([[*point, 1.0] for point in points])
            body[:, :2] = (
                side * np.array((place, 0.5)) + side * rng.uniform(0.3, 0.75) * body[:, :2] + rng.normal(0, 3, (18, 2))
            )
            body[rng.integers(0, 18, index % 3), 2] = 0
            people.append(body)
        swapped = index % 5 == 0
        drawing = np.asarray(annotators.draw_pose({"people": people, "width": side, "height": side}).image)
        yield saved(Image.fromarray(drawing[..., ::-1] if swapped else drawing), rng), MapKind("pose", swapped=swapped)


def edges(rng):
    for index in range(30):
        photo = photograph(index % len(PHOTOS)).resize((512, 512))
        photo = photo.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))
        lines = Image.fromarray(find_edges(np.asarray(photo), automatic=True).map)
        if index % 3 == 1:
            lines = lines.filter(ImageFilter.MaxFilter(3))
        inverted = index % 3 == 2
        lines = ImageOps.invert(lines) if inverted else lines
        yield saved(lines.convert("RGB"), rng), MapKind("canny", inverted=inverted)


def surface(scene, index, side=384):
    depth = np.where(np.isfinite(scene.picture.depth), scene.picture.depth, 0).astype(np.float32)
    near = Image.fromarray(depth).resize((side, side), Image.Resampling.BILINEAR)
    return np.rot90(np.asarray(near), index // 6 % 4)


def depths(rng, scenes):
    for index in range(30):
        near = surface(scenes[index % len(scenes)], index)
        low, high = near.min(), near.max()
        grey = Image.fromarray((255 * (near - low) / (high - low or 1)).astype(np.uint8))
        grey = grey.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2)))
        grey = ImageOps.invert(grey) if index % 4 == 3 else grey
        yield saved(grey.convert("RGB"), rng), MapKind("depth")


def normals(rng, scenes):
    for index in range(30):
        near = np.asarray(surface(scenes[index % len(scenes)], index), float)
        near = (near - near.min()) / (np.ptp(near) or 1)
        dy, dx = np.gradient(near * rng.uniform(20, 60))
        vector = np.stack([-dx, dy, np.ones_like(dx)], 2)
        vector /= np.linalg.norm(vector, axis=2, keepdims=True)
        rgb = (127.5 * (vector + 1)).round().astype(np.uint8)
        swapped = index % 5 == 0
        yield saved(Image.fromarray(rgb[..., ::-1] if swapped else rgb), rng), MapKind("normal", swapped=swapped)


def colour_maps(rng, scenes):
    for index in range(30):
        parts = scenes[index % len(scenes)].picture.parts
        colours = rng.permutation(PALETTE)[parts % len(PALETTE)]
        size = (256, 512, 640)[index % 3]
        yield (
            saved(Image.fromarray(colours).resize((size, size), Image.Resampling.NEAREST), rng),
            MapKind("segmentation"),
        )


def test_of_200_made_pictures_19_in_20_are_recognised():
    rng, scenes = np.random.default_rng(0), held_out_scenes(6)
    made = [
        *photographs(rng), *skeletons(rng), *edges(rng), *depths(rng, scenes), *normals(rng, scenes), *colour_maps(rng, scenes),
    ]  # fmt: skip
    assert len(made) == 200
    right, wrong = Counter(), Counter()
    for picture, wanted in made:
        found = map_kind(np.asarray(picture))
        right[wanted.name or "photograph"] += found == wanted
        if found != wanted:
            wrong[wanted, found] += 1
    print(f"\n{sum(right.values())} of {len(made)} right: {dict(right)}\n{dict(wrong)}")  # noqa: T201 - the figure of docs/pose-editor.md
    assert sum(right.values()) >= 0.95 * len(made), wrong


@pytest.mark.parametrize(
    "picture", [np.zeros((64, 64, 3)), np.full((5, 5, 3), 9), np.eye(64)[..., None] * np.ones(3) * 20]
)
def test_what_shows_nothing_is_no_map(picture):
    assert map_kind(picture.astype(np.uint8)) == MapKind()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.png")), ids=lambda path: path.stem)
def test_a_bundled_example_is_a_picture_however_dark_it_is_and_however_it_is_cut(path):
    rng = np.random.default_rng(1)
    whole = Image.open(path).convert("RGB")
    assert map_kind(np.asarray(whole)) == MapKind()
    for light in (0.3, 0.4, 0.6, 1.2):
        side = round(rng.uniform(0.5, 1) * whole.width)
        left, top = rng.integers(0, whole.width - side + 1, 2)
        part = whole.crop((left, top, left + side, top + side)).point(
            lambda value, light=light: min(255, value * light)
        )
        assert map_kind(np.asarray(saved(part, rng, (50, 96)))) == MapKind(), (light, side, left, top)
