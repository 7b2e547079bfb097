import json
from pathlib import Path

import pytest
import yaml

from controlnext.errors import ControlNeXtError
from controlnext.models import hub
from controlnext.models.catalogue import Catalogue
from controlnext.recipes.recipe import LoraUse
from controlnext.studio.studio import Studio

PRESET = """
title: Tiny
variant: starter
base: {path: base, licence: none, source: tests}
sizes: {width: 64, height: 96, minimum: 64, maximum: 128}
defaults: {num_inference_steps: 7, guidance_scale: 2.5, gamma: 1.25, negative_prompt: blur}
adapters:
  canny: {path: canny}
  pose: {path: pose, gamma: 0.5, num_inference_steps: 3, control_end: 0.8}
  depth: {path: depth}
loras: [loras]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "starter.yaml").write_text(PRESET)
    (tmp_path / "base" / "unet").mkdir(parents=True)
    (tmp_path / "base" / "model_index.json").write_text("{}")
    config = {"cross_attention_dim": 32, "block_out_channels": [64, 64]}
    (tmp_path / "base" / "unet" / "config.json").write_text(json.dumps(config))
    for kind in ("canny", "pose"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "controlnet.safetensors").touch()
        (tmp_path / kind / "config.json").write_text('{"gamma": 0.75}')
    return tmp_path


@pytest.fixture
def catalogue(folder):
    return Catalogue(folder)


def test_models_say_what_is_there_and_what_is_missing(catalogue):
    (row,) = catalogue.models()
    assert json.dumps(row)
    assert row["name"] == "starter"
    assert row["label"] == "Tiny"
    assert row["family"] == "starter"
    assert row["usable"]
    assert row["reason"] == ""
    assert row["annotators"] == ["canny", "pose"]
    assert list(row["missing"]) == ["depth"]
    assert "depth adapter of Tiny is not there" in row["missing"]["depth"]
    assert row["defaults"]["num_inference_steps"] == 7
    assert row["defaults"]["gamma"] == {"canny": 0.75, "pose": 0.5, "depth": 1.25}
    assert (row["defaults"]["width"], row["defaults"]["height"]) == (64, 96)


def test_models_follow_the_files(catalogue, folder):
    (folder / "base" / "model_index.json").unlink()
    (row,) = catalogue.models()
    assert not row["usable"]
    assert "holds no model_index.json" in row["reason"]
    (folder / "mine.yaml").write_text(PRESET.replace("title: Tiny", "titel: Tiny"))
    rows = catalogue.models()
    assert [row["name"] for row in rows] == ["starter", "mine"]
    assert "mine.yaml" in rows[1]["reason"]
    with pytest.raises(ControlNeXtError, match=r"mine\.yaml"):
        catalogue.resolve("mine")


def test_a_model_of_the_hub_says_that_it_is_not_here(catalogue, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (folder / "hub.yaml").write_text(PRESET.replace("path: base", "repo: nobody/nothing"))
    row = catalogue.models()[1]
    assert json.dumps(row)
    assert not row["usable"]
    assert (row["state"], row["download_bytes"]) == ("offline", 0)
    assert row["reason"].startswith("Tiny is not on this machine, and HF_HUB_OFFLINE forbids downloading it; unset it")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(hub, "NETWORK", hub.Network())
    hub.NETWORK.learned(False)
    row = catalogue.models()[1]
    assert row["reason"].startswith("Tiny is not on this machine and https://huggingface.co cannot be reached")
    assert "hub.yaml" in row["reason"]


def test_resolve_takes_the_nearest_default(catalogue):
    plain = catalogue.resolve("starter")
    assert (plain.num_inference_steps, plain.guidance_scale, plain.width, plain.height) == (7, 2.5, 64, 96)
    assert plain.negative_prompt == "blur"
    canny = catalogue.resolve("starter", "canny")
    assert (canny.gamma, canny.num_inference_steps, canny.control_end) == (0.75, 7, 1.0)
    pose = catalogue.resolve("starter", "pose")
    assert (pose.gamma, pose.num_inference_steps, pose.control_end) == (0.5, 3, 0.8)
    assert catalogue.resolve("starter", "depth").gamma == 1.25
    given = catalogue.resolve("starter", "none", adapter="pose", gamma=0.0, width=72, negative_prompt="")
    assert (given.gamma, given.num_inference_steps, given.width, given.height) == (0.0, 3, 72, 96)
    assert (given.annotator, given.adapter, given.condition_kind, given.negative_prompt) == (
        "none",
        "pose",
        "pose",
        "",
    )


def test_none_minus_one_and_zero_mean_the_default(catalogue):
    recipe = catalogue.resolve(
        "starter",
        "pose",
        gamma=None,
        num_inference_steps=None,
        guidance_scale=None,
        seed=-1,
        width=0,
        height=0,
        loras=None,
    )
    assert recipe.replace(seed=0) == catalogue.resolve("starter", "pose", seed=0)
    assert 0 <= recipe.seed < 2**32
    assert recipe.seed != catalogue.resolve("starter", "pose", seed=-1).seed
    assert catalogue.resolve("starter", seed=2**40).seed == 2**40


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model": "sdxxl"}, "There is no model 'sdxxl'; choose one of starter."),
        ({"model": 7}, "There is no model 7"),
        ({"annotator": "scribble"}, "Tiny has no adapter for 'scribble'; choose one of canny, pose, depth."),
        ({"adapter": "scribble"}, "Tiny has no adapter for 'scribble'"),
        ({"num_inference_steps": 0}, "The number of steps must be"),
        ({"num_inference_steps": 10_000}, "The number of steps must be"),
        ({"gamma": float("nan")}, "Control strength (gamma) must be"),
        ({"gamma": 50}, "Control strength (gamma) must be"),
        ({"width": 512}, "The width must be a whole number between 64 and 128"),
        ({"height": 65}, "multiple of 8"),
        ({"prompt": "x" * 10_000}, "10,000 characters"),
        ({"clarity": 1}, "unknown field 'clarity'"),
        ({"loras": ["night"]}, "There is no LoRA 'night'; the folder for Tiny holds none."),
        ({"loras": "night"}, "LoRAs are a list of names"),
        ({"loras": [3]}, "A LoRA is a name"),
        ({"loras": [["night", "much"]]}, "The weight of a LoRA must be"),
        ({"loras": [{"name": "night", "wait": 1}]}, "unknown field 'wait'"),
        ({"annotator_settings": 3}, "annotator_settings"),
    ],
)
def test_resolve_says_what_is_wrong(catalogue, values, says):
    with pytest.raises(ControlNeXtError) as caught:
        catalogue.resolve(**values)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_loras_may_be_named_in_any_way(catalogue, monkeypatch):
    monkeypatch.setattr(catalogue, "check", lambda recipe, preset: [])
    expected = (LoraUse(name="a"), LoraUse(name="b", weight=0.5))
    for loras in (
        ["a", ("b", 0.5)],
        [LoraUse(name="a"), ["b", 0.5]],
        [{"name": "a"}, {"name": "b", "weight": 0.5}],
        {"a": 1, "b": 0.5},
    ):
        assert catalogue.resolve("starter", loras=loras).loras == expected


def test_loras_of_the_model_and_of_the_user_are_listed(folder, tmp_path):
    mine = tmp_path / "mine"
    for place, name in ((folder / "loras", "night"), (mine, "own"), (mine, "night")):
        place.mkdir(exist_ok=True)
        (place / f"{name}.safetensors").write_bytes(b"rubbish")
    studio = Studio(output_dir=tmp_path / "out", presets_dir=folder, lora_dirs=[mine])
    rows = studio.catalogue.loras()
    assert [row["name"] for row in rows] == ["night", "own"]
    assert not any(row["usable"] for row in rows)
    assert "damaged" in rows[0]["reason"]
    with pytest.raises(ControlNeXtError, match="There is no model"):
        studio.catalogue.loras("nothing")


def test_a_folder_without_presets_is_a_sentence(tmp_path):
    with pytest.raises(ControlNeXtError, match="no preset was found"):
        Catalogue(tmp_path).resolve()


def trained(folder, name="run", description="Trained."):
    """A preset as a training writes it."""
    preset = yaml.safe_load((folder / "starter.yaml").read_text())
    preset |= {
        "description": description,
        "base": {"path": str(folder / "base"), "licence": "none"},
        "adapters": {"canny": {"path": str(folder / name)}},
    }
    file = folder / "run" / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(preset))
    return file


def test_a_training_becomes_a_model_and_no_other_is_overwritten(catalogue, folder):
    before = (folder / "starter.yaml").read_bytes()
    assert catalogue.add_model(trained(folder), "starter") == "starter-2"
    assert (folder / "starter.yaml").read_bytes() == before
    assert catalogue.add_model(trained(folder, "other"), "starter") == "starter-3"
    assert catalogue.add_model(trained(folder), "../my run/", "After 9 steps.") == "my-run"
    assert catalogue.preset("my-run").description == "Trained. After 9 steps."
    (folder / "broken.yaml").write_text("- no mapping")
    assert catalogue.add_model(trained(folder), "broken") == "broken-2"


def test_the_same_training_renews_its_model(catalogue, folder):
    assert catalogue.add_model(trained(folder), "mine", "After 9 steps.") == "mine"
    first = catalogue.preset("mine")
    assert catalogue.add_model(trained(folder), "mine", "After 90 steps.") == "mine"
    assert catalogue.preset("mine") != first  # so that the studio loads it anew
    assert sorted(path.name for path in folder.glob("mine*")) == ["mine.yaml"]


def test_a_model_that_cannot_be_added_is_one_sentence(catalogue, folder, monkeypatch):
    with pytest.raises(ControlNeXtError, match="cannot be read"):
        catalogue.add_model(folder / "gone.yaml", "mine")
    catalogue.models()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    with pytest.raises(ControlNeXtError, match=r"Read-only file system.*copy .*run\.yaml there yourself"):
        catalogue.add_model(trained(folder), "mine")
