import shutil
from typing import get_args

import pytest

from controlnext.assets import PRESETS
from controlnext.bench.trust.files import bad_presets
from controlnext.models.defaults import default_values
from controlnext.models.presets import PresetError, load_preset, load_presets
from controlnext.recipes.recipe import Recipe
from controlnext.recipes.video_recipe import Drawing

MINIMAL = """
title: Mine
variant: sdxl
base: {repo: someone/model, licence: openrail++}
sizes: {width: 1024, height: 1024, minimum: 512, maximum: 1536}
"""


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_of_the_project_loads(path):
    preset = load_preset(path)
    assert preset.name == path.stem
    assert preset.description
    for kind in preset.adapters:
        values = default_values(preset, kind)
        Recipe(model=preset.name, adapter=kind, width=preset.sizes.width, height=preset.sizes.height, **values)
    for width, height in preset.sizes.choices.values():
        preset.sizes.check(width, height, preset.title)


def test_starter_has_the_four_adapters_inside_the_project():
    preset = load_preset(PRESETS / "starter.yaml")
    assert set(preset.adapters) == {"canny", "depth", "pose", "segmentation"}
    assert preset.family == "starter"
    root = PRESETS.parent
    assert preset.located(preset.base) == root / "assets/starter/base"
    assert preset.located(preset.adapters["pose"]) == root / "assets/starter/adapters/pose"
    assert preset.lora_dirs() == [root / "assets/starter/loras", root / "assets/starter/few-steps"]


def test_the_video_starter_lies_inside_the_project_and_reads_poses():
    preset = load_preset(PRESETS / "starter-video.yaml")
    assert preset.video
    assert (preset.family, list(preset.adapters), preset.adherence_backend) == ("starter-video", ["pose"], "starter")
    root = PRESETS.parent
    assert preset.located(preset.base) == root / "assets/starter/video/base"
    assert preset.located(preset.adapters["pose"]) == root / "assets/starter/video/adapters/pose"


def test_poses_are_drawn_for_the_released_svd_adapters_as_they_learned_them():
    from annotators.table import POSE_DRAWINGS

    drawn = {path.stem: load_preset(path).adapters for path in PRESETS.glob("*.yaml")}
    drawn = {name: rows["pose"].drawing for name, rows in drawn.items() if "pose" in rows}
    assert {name for name, drawing in drawn.items() if drawing == "svd"} == {"svd-v1", "svd-v2"}
    assert {"starter", "starter-video", "sd15"} <= drawn.keys()
    assert set(get_args(Drawing)) == set(POSE_DRAWINGS)


def test_a_dropped_file_is_a_model_and_a_broken_one_takes_none_away(tmp_path):
    shutil.copy(PRESETS / "starter.yaml", tmp_path)
    (tmp_path / "another.yaml").write_text(MINIMAL)
    (tmp_path / "another-one.yaml").write_text(MINIMAL)
    (tmp_path / "broken.yaml").write_text(MINIMAL + "gama: 1\n")
    (tmp_path / "notes.txt").write_text("nothing")
    presets, broken = load_presets(tmp_path)
    assert list(presets) == ["starter", "another", "another-one"]
    assert presets["another"].family == "sdxl"
    assert presets["another"].located(presets["another"].base) == "someone/model"
    assert list(broken) == ["broken"]
    assert "broken.yaml" in broken["broken"]
    assert "gama" in broken["broken"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MINIMAL + "gama: 1\n", "'gama'"),
        (MINIMAL + "defaults: {gamma: 1, steps: 3}\n", "'defaults.steps'"),
        (MINIMAL + "defaults: {gamma: 50}\n", "between 0 and 4, but it is 50"),
        (MINIMAL + "adapters: {pose: {path: x, gamma: .nan}}\n", "NaN"),
        (MINIMAL + "batch: 0\n", "'batch'"),
        (MINIMAL + "defaults: {scheduler: magic}\n", "there is no scheduler 'magic'; choose one of ddim"),
        (MINIMAL + "adapters: {pose: {gamma: 1}}\n", "the pose adapter needs either a `path` or a `repo`"),
        (MINIMAL + "adapters: {pose: {path: x, kind: increase}}\n", "'adapters.pose.kind'"),
        (MINIMAL + "adapters: {pose: {path: x, drawing: thick}}\n", "'adapters.pose.drawing'"),
        (MINIMAL + "adapters: {canny: {path: x, drawing: svd}}\n", "only the pose adapter takes a `drawing`"),
        (MINIMAL.replace("someone/model", "model"), "names no hub repository"),
        (MINIMAL.replace("licence", "gated: perhaps, licence"), "'base.gated'"),
        (MINIMAL + "vae: {}\n", "the vae needs either"),
        (MINIMAL.replace("sdxl", "sdxxl"), "no variant 'sdxxl'"),
        (MINIMAL.replace("repo: someone/model, ", ""), "either a `path` or a `repo`"),
        (MINIMAL.replace("title: Mine", ""), "lacks the field 'title'"),
        (MINIMAL + "name: other\n", "'name'"),
        ("- a\n- b\n", "key: value"),
        ("", "key: value"),
        ("1: 2\n", "key: value"),
        ("a: [1,\n", "cannot be read"),
        ("\x00", "cannot be read"),
    ],
)
def test_a_wrong_preset_is_a_sentence_with_file_and_key(tmp_path, text, says):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(PresetError) as caught:
        load_preset(path)
    assert says in str(caught.value)
    assert "wrong.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_are_relative_to_the_preset(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL.replace("repo: someone/model", "path: base") + "loras: [/somewhere/loras, ~/loras]\n")
    preset = load_preset(path)
    assert preset.located(preset.base) == tmp_path / "base"
    assert str(preset.lora_dirs()[0]) == "/somewhere/loras"
    assert "~" not in str(preset.lora_dirs()[1])


def test_sizes_of_a_model_narrow_those_of_a_recipe():
    sizes = load_preset(PRESETS / "starter.yaml").sizes
    sizes.check(256, 256, "Starter")
    with pytest.raises(ValueError, match=r"The height must be .* but it is 2048\. Starter draws 256x256 best\."):
        sizes.check(256, 2048, "Starter")


@pytest.mark.parametrize("what", bad_presets())
def test_a_damaged_preset_is_left_out_with_a_sentence(tmp_path, what):
    (tmp_path / "broken.yaml").write_text(bad_presets()[what])
    presets, broken = load_presets(tmp_path)
    assert not presets
    assert 0 < len(broken["broken"]) <= 300
    assert "broken.yaml" in broken["broken"]
    assert str(tmp_path) not in broken["broken"]
