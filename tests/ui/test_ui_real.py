"""The page over the real studio and the real annotators, with a tiny random model: nothing here is a fake."""

from __future__ import annotations

import json
import re
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

import annotators
from controlnext.bench.trust.client import RawClient
from controlnext.recipes.png import read_condition, read_png
from controlnext.ui import build_ui, launch_options
from controlnext.ui.pose_editor.poses import standing_pose


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A real studio with the presets' folder of a tiny model."""
    from tiny_studio import save_all

    from controlnext.studio.studio import Studio

    folder = tmp_path_factory.mktemp("studio")
    return Studio(
        output_dir=folder / "outputs",
        presets_dir=save_all(folder),
        annotators=annotators,
        threads=1,
    )


@pytest.fixture(scope="module")
def client(real):
    page = build_ui(real)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield Client(url, verbose=False)
    page.close()


@pytest.fixture(scope="module")
def drawing(tmp_path_factory) -> Path:
    rgb = np.full((96, 96, 3), 230, np.uint8)
    rgb[30:70, 20:60] = (30, 60, 160)
    path = tmp_path_factory.mktemp("pictures") / "drawing.png"
    Image.fromarray(rgb).save(path)
    return path


def test_generate_runs_the_model_and_saves_what_it_returns(client, real, drawing):
    pictures, recipe = client.predict(
        handle_file(drawing),
        prompt="a cat",
        annotator="canny",
        seed=3,
        num_images=3,
        loras=["one"],
        api_name="/generate",
    )
    assert len(pictures) == 3
    assert (recipe["gamma"], recipe["num_inference_steps"], recipe["seeds"]) == (0.75, 4, [3, 4, 5])
    assert len(recipe["adherence"]) == 3
    assert all(0 <= score <= 1 for score in recipe["adherence"])
    assert recipe["weights"]
    path = real.gallery.output_dir / recipe["files"][1]
    assert read_png(path).seed == 4
    assert read_condition(path).size == (64, 64)
    assert Path(pictures[1]["image"]).read_bytes() == path.read_bytes()
    json.dumps(recipe, allow_nan=False)


def test_generate_same_seed_same_pixels(client, drawing):
    runs = [
        client.predict(handle_file(drawing), prompt="a cat", annotator="canny", seed=8, api_name="/generate")[0]
        for _ in range(2)
    ]
    first, second = (Image.open(run[0]["image"]).tobytes() for run in runs)
    assert first == second


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": "nonesuch"}, "There is no model"),
        ({"annotator": "nonesuch"}, "nonesuch"),
        ({"annotator": "canny", "gamma": 50}, "gamma"),
        ({"annotator": "canny", "num_inference_steps": 0}, "steps"),
        ({"annotator": "canny", "num_inference_steps": 10_000}, "steps"),
        ({"annotator": "canny", "prompt": "x" * 10_000}, "10,000"),
        ({"annotator": "canny", "width": 63}, "width"),
        ({"annotator": "canny", "loras": ["nonesuch"]}, "nonesuch"),
        ({"annotator": "canny", "loras": ["other base"]}, "other base"),
        ({"annotator": "canny", "settings": {"low": "much"}}, "low"),
        ({"annotator": "none"}, "kind"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_values_give_one_sentence(client, drawing, values, words):
    with pytest.raises(Exception, match=words) as caught:
        client.predict(handle_file(drawing), **values, api_name="/generate")
    assert "its console says why" not in str(caught.value)


@pytest.mark.parametrize("prompt", ["", "🦊 猫 ﷽ \u200d"], ids=["empty", "emoji"])
def test_unusual_prompts_are_drawn(client, drawing, prompt):
    _, recipe = client.predict(
        handle_file(drawing), prompt=prompt, annotator="canny", seed=2**40, api_name="/generate"
    )
    assert recipe["prompt"] == prompt
    assert recipe["seed"] == 2**40


def test_output_folder_that_cannot_be_written_to_is_one_sentence(client, real, drawing, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(real.gallery, "output_dir", blocked / "outputs")
    with pytest.raises(Exception, match="outputs") as caught:
        client.predict(handle_file(drawing), annotator="canny", api_name="/generate")
    assert "its console says why" not in str(caught.value)


def save(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def rotated() -> dict:
    exif = Image.Exif()
    exif[274] = 6
    return {"exif": exif}


UNREADABLE = {
    "text.png": lambda path: path.write_text("hello"),
    "cut.png": lambda path: path.write_bytes(_png_bytes()[:200]),
    "1x1.png": lambda path: save(path, Image.new("RGB", (1, 1))),
    "1x4000.png": lambda path: save(path, Image.new("RGB", (1, 4000))),
    "12000x12000.png": lambda path: save(path, Image.new("1", (12_000, 12_000))),
    "empty.png": lambda path: path.write_bytes(b""),
}
READABLE = {
    "cmyk.jpg": lambda path: save(path, _gradient().convert("CMYK")),
    "deep.png": lambda path: save(
        path, Image.fromarray(np.linspace(0, 65535, 96 * 64).reshape(64, 96).astype(np.uint16))
    ),
    "palette.png": lambda path: save(path, _gradient().quantize(8), transparency=0),
    "rotated.jpg": lambda path: save(path, _gradient(), **rotated()),
    "animated.gif": lambda path: save(path, _gradient(), save_all=True, append_images=[Image.new("RGB", (96, 64))]),
}


def _gradient() -> Image.Image:
    return Image.fromarray(np.tile(np.linspace(0, 255, 96, dtype=np.uint8)[None, :, None], (64, 1, 3)))


def _png_bytes() -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("name", UNREADABLE)
def test_unusable_uploads_give_one_sentence_and_the_app_goes_on(client, tmp_path, name):
    path = tmp_path / name
    UNREADABLE[name](path)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - gradio_client's own class; the text is looked at
        client.predict(handle_file(path), annotator="canny", api_name="/annotate")
    sentence = str(caught.value)
    assert sentence.rstrip("'").endswith(".")
    assert "its console says why" not in sentence
    assert client.predict(api_name="/models")


@pytest.mark.parametrize("name", READABLE)
def test_unusual_pictures_are_taken(client, tmp_path, name):
    path = tmp_path / name
    READABLE[name](path)
    condition = Image.open(client.predict(handle_file(path), resolution=64, api_name="/annotate"))
    assert condition.size == ((64, 96) if name == "rotated.jpg" else (96, 64))


class Visitor:
    """A page without a browser: it switches Live on by the page's own event, and drags by the server's function."""

    def __init__(self, url: str, pose: str) -> None:
        self.http, self.session = RawClient(url), uuid.uuid4().hex[:12]
        (event,) = (
            one for one in self.http.events() if {"cnx-live", "cnx-pose-editor"} <= set(one.ids) and "draw" in one.name
        )
        values = {"cnx-live": True, "cnx-pose-editor": pose, "cnx-annotator": "pose", "cnx-new-seed": False}
        data = [values.get(name, value) for name, value in zip(event.ids, event.values, strict=True)]
        answer = self.http.send(event, data, self.session)
        assert answer.worked, answer
        self.channel = re.search(r"'channel': '([^']+)'", str(answer.values))[1]
        config = self.http.http.get(f"{self.http.url}/config").json()["components"]
        self.editor = next(part["id"] for part in config if part["props"].get("elem_id") == "cnx-pose-editor")

    def drag(self, pose: str) -> dict:
        message = {"channel": self.channel, "pose": pose}
        body = {"data": message, "component_id": self.editor, "fn_name": "drag", "session_hash": self.session}
        answer = self.http.http.post(f"{self.http.url}/gradio_api/component_server", json=body)
        answer.raise_for_status()
        return answer.json()


def test_another_visitors_full_picture_is_finished_while_a_drag_draws(client, drawing):
    record = json.loads(standing_pose(annotators, 64, 64))
    visitor = Visitor(client.src, json.dumps(record))
    full = client.submit(handle_file(drawing), annotator="canny", num_images=3, seed=5, api_name="/generate")
    numbers, until = [], time.monotonic() + 60
    while not full.done() and time.monotonic() < until:
        record["people"][0]["pose_keypoints_2d"][12] += 0.01
        numbers.append(visitor.drag(json.dumps(record))["number"])
    assert full.done()
    pictures, recipe = full.result()
    assert (len(pictures), recipe["seeds"]) == (3, [5, 6, 7])
    assert numbers  # the drag was drawn meanwhile, and still is
    assert numbers == sorted(set(numbers))
    record["people"][0]["pose_keypoints_2d"][12] += 0.01
    assert visitor.drag(json.dumps(record))["number"] > numbers[-1]
