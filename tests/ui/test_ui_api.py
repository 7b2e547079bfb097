"""The endpoints, driven by gradio_client as another program would."""

from __future__ import annotations

import math

import pytest
from gradio_client import handle_file
from PIL import Image

from controlnext.recipes.png import read_png

NO_DEFAULT = "no default"

CONTRACT = {
    "/annotate": {"image": NO_DEFAULT, "annotator": "canny", "resolution": 512, "settings": None},
    "/generate": {
        "image": NO_DEFAULT,
        "prompt": "",
        "negative_prompt": "",
        "model": "starter",
        "annotator": "pose",
        "gamma": None,
        "num_inference_steps": None,
        "guidance_scale": None,
        "seed": -1,
        "num_images": 1,
        "width": 0,
        "height": 0,
        "control_start": 0.0,
        "control_end": 1.0,
        "loras": None,
        "settings": None,
        "gamma_curve": "",
        "init_image": None,
        "strength": None,
        "mask": None,
        "controls": None,
        "scheduler": None,
        "alpha": None,
        "best_of": 0,
        "detail": None,
        "upscale": 1,
        "upscaler": "",
        "area": None,
        "area_outside": False,
        "area_soft": 0.0,
        "people": None,
        "reference": None,
        "ip_adapter": "",
        "ip_adapter_scale": None,
    },
    "/poses": {
        "video": NO_DEFAULT,
        "start": 0.0,
        "end": 0.0,
        "fps": 0,
        "person": 0,
        "smooth": True,
        "follow": False,
        "hands": False,
        "face": False,
        "reader": "auto",
    },
    "/animate": {
        "reference": NO_DEFAULT,
        "video": NO_DEFAULT,
        "model": "starter-video",
        "gamma": None,
        "num_inference_steps": None,
        "guidance_scale": None,
        "seed": -1,
        "fps": 0,
        "max_frames": 0,
        "start": 0.0,
        "end": 0.0,
        "person": 0,
        "fit": True,
        "keep_sound": True,
        "prompt": "",
        "negative_prompt": "",
        "gamma_curve": "",
        "width": 0,
        "height": 0,
        "window": None,
        "overlap": None,
        "motion_bucket_id": None,
        "noise_aug_strength": None,
        "shared_noise": None,
        "micro_conditioning": None,
        "limbs": False,
        "smooth": True,
        "follow": False,
        "hands": None,
        "face": None,
        "reader": "auto",
        "drawing": None,
        "area": None,
        "area_outside": False,
        "area_soft": 0.0,
        "loras": None,
    },
    "/sweep": {
        "image": NO_DEFAULT,
        "axis": "gamma",
        "values": None,
        "second_axis": "",
        "second_values": None,
        "target": None,
        "distance": None,
        "prompt": "",
        "negative_prompt": "",
        "model": "starter",
        "annotator": "pose",
        "gamma": None,
        "num_inference_steps": None,
        "guidance_scale": None,
        "seed": -1,
        "width": 0,
        "height": 0,
        "control_start": 0.0,
        "control_end": 1.0,
        "loras": None,
        "settings": None,
        "gamma_curve": "",
        "scheduler": None,
        "alpha": None,
    },
    "/score": {
        "image": NO_DEFAULT,
        "condition": NO_DEFAULT,
        "annotator": "pose",
        "settings": None,
        "model": "starter",
    },
    "/enhance": {"image": NO_DEFAULT, "detail": None, "upscale": 1, "upscaler": ""},
    "/repair": {"image": NO_DEFAULT},
    "/models": {},
    "/annotators": {},
    "/loras": {"model": "starter", "annotator": ""},
}


def test_endpoints_are_the_contract_and_nothing_else(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    parameters = {
        name: {
            row["parameter_name"]: row["parameter_default"] if row["parameter_has_default"] else NO_DEFAULT
            for row in endpoint["parameters"]
        }
        for name, endpoint in endpoints.items()
    }
    assert parameters == CONTRACT
    assert {name: list(row) for name, row in parameters.items()} == {name: list(row) for name, row in CONTRACT.items()}
    assert not client.view_api(return_format="dict", print_info=False)["unnamed_endpoints"]


def test_generate_with_picture_and_prompt_alone(client, picture):
    pictures, recipe = client.predict(handle_file(picture), prompt="a person", api_name="/generate")
    assert len(pictures) == 1
    assert recipe["prompt"] == "a person"
    assert recipe["gamma"] == 1.0
    assert 0 <= recipe["seed"] < 2**32
    assert recipe["adherence"] == [0.95]
    assert recipe["seconds"] >= 0
    assert recipe["annotator"] == "pose"


def test_generate_returns_the_saved_png_with_its_recipe(client, served, picture):
    pictures, recipe = client.predict(handle_file(picture), prompt="two", num_images=2, seed=5, api_name="/generate")
    assert recipe["seeds"] == [5, 6]
    assert [read_png(row["image"]).seed for row in pictures] == [5, 6]
    assert all((served[1].output_dir / name).is_file() for name in recipe["files"])


def test_generate_same_seed_same_pixels(client, picture):
    runs = [client.predict(handle_file(picture), prompt="a", seed=7, api_name="/generate")[0] for _ in range(2)]
    first, second = (Image.open(run[0]["image"]).tobytes() for run in runs)
    assert first == second


def test_generate_takes_every_parameter(client, served, picture):
    client.predict(
        image=handle_file(picture),
        prompt="a",
        negative_prompt="b",
        model="starter",
        annotator="canny",
        gamma=0.4,
        num_inference_steps=4,
        guidance_scale=2.5,
        seed=2**40,
        num_images=2,
        width=128,
        height=192,
        control_start=0.1,
        control_end=0.9,
        loras=["night", {"name": "clay", "weight": 0.5}],
        settings={"low": 60},
        api_name="/generate",
    )
    recipe = served[1].recipes[-1]
    assert (recipe.negative_prompt, recipe.annotator, recipe.gamma, recipe.seed) == ("b", "canny", 0.4, 2**40)
    assert (recipe.width, recipe.height, recipe.num_inference_steps, recipe.guidance_scale) == (128, 192, 4, 2.5)
    assert (recipe.control_start, recipe.control_end, recipe.num_images) == (0.1, 0.9, 2)
    assert [(use.name, use.weight) for use in recipe.loras] == [("night", 1.0), ("clay", 0.5)]
    assert recipe.annotator_settings == {"low": 60}


def test_generate_from_a_ready_map_takes_it_as_it_is(client, served, picture):
    client.predict(handle_file(picture), annotator="none", settings={"adapter": "depth"}, api_name="/generate")
    recipe = served[1].recipes[-1]
    assert (recipe.annotator, recipe.adapter, recipe.annotator_settings) == ("none", "depth", {})


def test_annotate_returns_a_png_of_the_asked_size(client, picture):
    path = client.predict(handle_file(picture), api_name="/annotate")
    with Image.open(path) as condition:
        assert condition.format == "PNG"
        assert min(condition.size) == 512
    small = client.predict(handle_file(picture), resolution=64, settings={"low": 20}, api_name="/annotate")
    with Image.open(small) as condition:
        assert min(condition.size) == 64


@pytest.mark.parametrize("name", ["/models", "/annotators", "/loras"])
def test_listings_say_what_is_usable_and_why_not(client, name):
    rows = client.predict(api_name=name)
    assert rows
    assert all({"name", "usable", "reason"} <= set(row) for row in rows)
    assert all(row["usable"] or row["reason"] for row in rows)


def test_loras_say_how_they_get_along_with_an_adapter_when_asked(client):
    assert all("conflict" not in row for row in client.predict(api_name="/loras"))
    rows = {row["name"]: row for row in client.predict(annotator="pose", api_name="/loras")}
    assert rows["night"]["conflict"]["word"] == "some"
    assert "conflict" not in rows["other-base"]


BAD = [
    ({"gamma": 50}, "gamma"),
    ({"num_inference_steps": 10_000}, "steps"),
    ({"num_inference_steps": -3}, "steps"),
    ({"prompt": "x" * 10_000}, "10,000 characters"),
    ({"model": "nonesuch"}, "nonesuch"),
    ({"annotator": "nonesuch"}, "nonesuch"),
    ({"settings": {"nonesuch": 1}, "annotator": "canny"}, "nonesuch"),
    ({"settings": "low"}, "settings"),
    ({"loras": "night"}, "loras"),
    ({"loras": [7]}, "loras"),
    ({"loras": [{"name": "night", "weight": 99}]}, "LoRA"),
    ({"width": 77}, "width"),
    ({"control_start": 0.9, "control_end": 0.1}, "control"),
    ({"seed": -2}, "seed"),
]


@pytest.mark.parametrize(
    ("values", "word"), BAD, ids=[f"{next(iter(values))}-{n}" for n, (values, _) in enumerate(BAD)]
)
def test_bad_values_give_one_sentence_and_the_app_lives(client, served, picture, values, word):
    made = len(served[1].recipes)
    with pytest.raises(Exception, match=word) as caught:
        client.predict(handle_file(picture), **values, api_name="/generate")
    sentence = str(caught.value)
    assert "Traceback" not in sentence
    assert "&lt;" not in sentence
    assert "its console says why" not in sentence
    assert len(served[1].recipes) == made
    assert client.predict(api_name="/models")


def test_gamma_that_is_no_number_gives_a_sentence(served):
    import gradio as gr

    from controlnext.ui.api import Endpoints
    from controlnext.ui.worker import stream_of

    endpoints = Endpoints(served[1], stream_of(served[1]))
    with pytest.raises(gr.Error) as caught:
        endpoints.generate("picture.png", gamma=math.nan)
    assert "NaN" in caught.value.message


@pytest.mark.parametrize(
    "content", [b"", b"this is text", b"\x89PNG\r\n\x1a\n broken"], ids=["empty", "text", "broken"]
)
@pytest.mark.parametrize("endpoint", ["/annotate", "/generate"])
def test_files_that_are_no_pictures_give_the_sentence(client, tmp_path, content, endpoint):
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(Exception, match="not a picture that can be read"):
        client.predict(handle_file(path), api_name=endpoint)


def test_an_error_nobody_foresaw_is_a_sentence_too(client, served, picture, monkeypatch):
    monkeypatch.setattr(served[1].catalogue, "resolve", lambda *_, **__: 1 / 0)
    with pytest.raises(Exception, match="its console says why"):
        client.predict(handle_file(picture), api_name="/generate")
