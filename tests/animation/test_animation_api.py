"""The endpoints over the real studio with tiny random models, driven by gradio_client as another program would."""

import json
from pathlib import Path

import pytest
from animation_clips import noise_clip
from gradio_client import Client, handle_file

from controlnext.animation import read_video_recipe
from controlnext.ui import build_ui, launch_options
from controlnext.video import Poses, open_clip


@pytest.fixture(scope="module")
def client(whole):
    page = build_ui(whole)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield Client(url, verbose=False)
    page.close()


@pytest.fixture(scope="module")
def figure(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("figure") / "figure.png"
    reference.save(path)
    return path


def test_poses_returns_json_and_a_video_of_them(client, dance):
    record, video = client.predict(handle_file(dance), fps=3, api_name="/poses")
    poses = Poses.from_json(json.dumps(record))
    assert (len(poses), poses.fps, poses.width, poses.height) == (3, 3, 96, 128)
    assert all(len(people) == 1 for people in poses.frames)
    clip = open_clip(video)
    assert (clip.frames, clip.width, clip.height) == (3, 96, 128)


def test_poses_saved_as_json_are_a_clip_of_both_endpoints(client, figure, dance, tmp_path):
    record, _ = client.predict(handle_file(dance), fps=3, api_name="/poses")
    file = tmp_path / "dance.json"
    file.write_text(json.dumps(record))
    again, drawn = client.predict(handle_file(file), api_name="/poses")
    assert again["frames"] == record["frames"]
    assert open_clip(drawn).frames == 3
    video, recipe = client.predict(
        handle_file(figure), handle_file(file), model="starter", num_inference_steps=1, max_frames=2,
        api_name="/animate",
    )  # fmt: skip
    assert (recipe["frames"], recipe["fps"]) == (2, 3)
    assert open_clip(video).frames == 2


def test_animate_takes_what_the_command_line_takes(client, figure, dance):
    given = {
        "prompt": "a person with red hair", "negative_prompt": "trees", "gamma_curve": "linear 1 to 0", "width": 64, "height": 128,
        "window": 3, "overlap": 1, "limbs": True, "smooth": False, "follow": True, "hands": True, "face": False,
        "reader": "starter", "drawing": "svd", "shared_noise": 0.5, "micro_conditioning": False,
    }  # fmt: skip
    _, recipe = client.predict(
        handle_file(figure), handle_file(dance), model="starter", num_inference_steps=1, max_frames=1, **given, api_name="/animate"
    )  # fmt: skip
    assert {name: recipe[name] for name in given} == given


def test_poses_are_read_as_asked_for(client, dance):
    smooth, _ = client.predict(handle_file(dance), api_name="/poses")
    raw, _ = client.predict(handle_file(dance), smooth=False, reader="starter", api_name="/poses")
    assert smooth["frames"] != raw["frames"]
    with pytest.raises(Exception, match="has no backend 'nobody'"):
        client.predict(handle_file(dance), reader="nobody", api_name="/poses")


@pytest.mark.parametrize("model", ["starter", "starter-video"])
def test_animate_returns_an_mp4_and_its_recipe(client, figure, dance, model, whole):
    video, recipe = client.predict(
        handle_file(figure), handle_file(dance), model=model, num_inference_steps=2, seed=7, max_frames=2,
        gamma=0.5, fit=True, api_name="/animate",
    )  # fmt: skip
    assert (recipe["frames"], recipe["fps"], recipe["seed"], recipe["gamma"]) == (2, 6, 7, 0.5)
    assert 0 <= recipe["adherence"] <= 1
    assert recipe["seconds"] > 0
    clip = open_clip(video)
    assert clip.frames == 2
    assert clip.has_sound
    assert read_video_recipe(video).seed == 7
    assert (whole.gallery.output_dir / recipe["file"]).read_bytes() == Path(video).read_bytes()
    json.dumps(recipe, allow_nan=False)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": "nonesuch"}, "There is no model"),
        ({"gamma": 50}, "Control strength"),
        ({"start": 90}, "earlier start"),
        ({"person": 4}, "no person 5"),
        ({"fps": "fast"}, "frames a second"),
        ({"fit": "maybe"}, "fit"),
    ],
)
def test_bad_values_are_one_sentence(client, figure, dance, values, said):
    with pytest.raises(Exception, match=said) as caught:
        client.predict(handle_file(figure), handle_file(dance), **{"model": "starter", **values}, api_name="/animate")
    assert "its console says why" not in str(caught.value)


def test_a_clip_of_nobody_and_a_file_that_is_no_clip_are_one_sentence(client, figure, tmp_path):
    text = tmp_path / "clip.mp4"
    text.write_text("hello")
    for clip, said in ((noise_clip(tmp_path / "noise.mp4"), "Nobody was found"), (text, "clip.mp4")):
        with pytest.raises(Exception, match=said) as caught:
            client.predict(handle_file(clip), api_name="/poses")
        assert "its console says why" not in str(caught.value)
