import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

import annotators
import controlnext
from controlnext.bench import BENCHES
from controlnext.cli import main
from controlnext.cli.options import read_lora, read_settings
from controlnext.models import presets
from controlnext.recipes.pictures import picture_digest
from controlnext.recipes.png import read_png


def test_generate_makes_pictures_from_a_photo(place, run):
    status, out, err = run(
        "generate", "--image", "photo.png", "--annotator", "canny", "--prompt", "a person", "--seed", "4",
        "--num-images", "2", "--num-inference-steps", "2", "--set", "low=50", "--lora", "one:-0.5", "--device", "cpu",
    )  # fmt: skip
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split("  ")[1] for line in lines] == ["seed 4", "seed 5"]
    assert all("edge F1" in line for line in lines)
    recipe = read_png(lines[1].split("  ")[0])
    assert (recipe.prompt, recipe.seed, recipe.annotator_settings) == ("a person", 5, {"low": 50})
    assert [(use.name, use.weight) for use in recipe.loras] == [("one", -0.5)]


def test_generate_again_from_a_result_gives_the_same_pixels(place, run):
    _, out, _ = run("generate", "--image", "photo.png", "--annotator", "canny", "--prompt", "x", "--seed", 4)
    first = out.split("  ")[0]
    status, out, err = run("generate", "--recipe", first, "--json")
    assert (status, err) == (0, "")
    facts = json.loads(out)
    assert np.array_equal(np.asarray(Image.open(facts["files"][0])), np.asarray(Image.open(first)))
    assert facts["recipe"] == json.loads(read_png(first).to_json())
    status, out, err = run("generate", "--recipe", first, "--seed", 9, "--json")
    assert json.loads(out)["seeds"] == [9]


def test_generate_draws_the_pose_of_a_recipe_and_drops_it_for_a_new_picture(place, run):
    body = [number for joint in range(18) for number in (20 + joint, 10 + 2 * joint, 1)]
    pose = {"people": [{"pose_keypoints_2d": body}], "canvas_width": 64, "canvas_height": 64}
    values = {"model": "starter", "annotator": "pose", "pose": json.dumps(pose), "width": 64, "height": 64, "seed": 3}
    (place / "recipe.json").write_text(json.dumps(values))
    status, out, err = run("generate", "--recipe", place / "recipe.json", "--json")
    assert status == 0, err
    facts = json.loads(out)
    assert facts["recipe"]["pose"] == json.dumps(pose)
    drawn = annotators.draw_pose(annotators.people_from_json(json.dumps(pose))).image
    assert facts["recipe"]["condition_sha256"] == picture_digest(drawn)
    status, out, err = run(
        "generate", "--recipe", place / "recipe.json", "--image", place / "photo.png", "--annotator", "canny", "--json"
    )
    assert status == 0, err
    assert "pose" not in json.loads(out)["recipe"]


def test_generate_from_a_recipe_file(place, run):
    recipe = place / "recipe.json"
    recipe.write_text('{"model": "starter", "prompt": "x", "seed": 3, "width": 64, "height": 64}')
    status, out, _ = run("generate", "--recipe", recipe)
    assert (status, len(out.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "--annotator", "canny"], "no condition picture was given"),
        (["generate", "--image", "missing.png"], "missing.png"),
        (["generate", "--image", "text.png"], "text.png"),
        (["generate", "--model", "sdxxl"], "There is no model 'sdxxl'"),
        (["generate", "--gamma", "nan", "--image", "photo.png"], "Control strength (gamma)"),
        (["generate", "--num-inference-steps", "0"], "The number of steps"),
        (["generate", "--recipe", "missing.json"], "cannot be read"),
        (["generate", "--recipe", "text.png"], "not valid JSON"),
        (["generate", "--set", "low"], "NAME=VALUE"),
        (["generate", "--lora", "nothing"], "There is no LoRA 'nothing'"),
        (["generate", "--device", "toaster", "--seed", "1"], "toaster"),
        (["annotate", "--image", "photo.png", "--annotator", "scribble", "--output", "o.png"], "scribble"),
        (["annotate", "--image", "photo.png", "--output", "no/such/folder.png"], "cannot be written"),
        (["annotate", "--image", "photo.png", "--output", "o.png", "--set", "low=9999"], "low"),
        (["annotate", "--image", "photo.png", "--output", "o.png", "--keypoints", "k.json"], "no people"),
        (["bench", "nothing"], "There is no bench 'nothing'"),
        (["loras", "--model", "sdxxl"], "There is no model 'sdxxl'"),
        (["loras", "--annotator", "scribble"], "no adapter for 'scribble'"),
    ],
)
def test_what_goes_wrong_is_one_sentence(place, run, arguments, says):
    (place / "text.png").write_text("no picture")
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_annotate_writes_a_condition(place, run):
    status, out, _ = run("annotate", "--image", "photo.png", "--resolution", 64, "--output", "edges.png")
    assert status == 0
    assert "64x64" in out
    assert np.asarray(Image.open("edges.png")).max() == 255


def test_models_lists_what_there_is(place, run):
    status, out, _ = run("models")
    assert status == 0
    assert "starter  ready\n" in out
    assert "control  pose, gamma 0.5" in out
    assert "LoRA     one\n" in out
    assert "LoRA     other base: It was made for a sdxl base model" in out
    status, out, _ = run("models", "--json")
    assert json.loads(out)["starter"]["usable"]


def test_loras_are_listed_with_what_is_known_of_them(place, models, run):
    status, out, err = run("loras")
    assert (status, err) == (0, "")
    head, *lines = out.splitlines()
    assert head.split() == ["LoRA", "state", "rank", "keys", "MB", "weight"]  # nothing to say about the others
    assert lines[0].split() == ["one", "usable", "4", "peft", "0.1", "1"]
    assert "other base: It was made for a sdxl base model" in lines[-1]
    status, out, _ = run("loras", "--model", "starter", "--annotator", "pose")
    assert " layers)" in out.splitlines()[1]
    assert "cosine" in out
    status, out, _ = run("loras", "--annotator", "depth", "--json", "--lora-dir", models / "loras")
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["one"]["conflict"]["word"] == "none"
    assert rows["one"]["size"] == (models / "loras" / "one.safetensors").stat().st_size


def test_bench_hands_its_arguments_on(run, monkeypatch):
    seen = []
    module = types.SimpleNamespace(main=lambda arguments: seen.append(list(arguments)))
    for name, bench in BENCHES.items():
        monkeypatch.setitem(sys.modules, f"controlnext.bench{bench.module}", module)
        assert run("bench", name, "--quick", "3")[0] == 0
    assert seen == [["--quick", "3"]] * len(BENCHES)


def test_a_bench_says_what_an_installed_package_leaves_out(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "controlnext.starter", None)  # as if it were not there
    for name in [
        name for name in sys.modules if name.startswith(("controlnext.starter.", "controlnext.bench.quality"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    status, out, err = run("bench", "controls")
    assert (status, out) == (2, "")
    assert "'controls'" in err
    assert "checkout" in err


def test_settings_are_what_they_look_like():
    pairs = ["low=50", "blur=1.5", "automatic=true", "near=white", "text=[1]", "nothing="]
    assert read_settings(pairs) == {
        "low": 50, "blur": 1.5, "automatic": True, "near": "white", "text": "[1]", "nothing": "",
    }  # fmt: skip


def test_loras_are_named_with_or_without_weight():
    assert [read_lora(text) for text in ("night", "night:0.5", "a:b", "a:b:-1")] == [
        ("night", 1.0),
        ("night", 0.5),
        ("a:b", 1.0),
        ("a:b", -1.0),
    ]


def test_importing_the_command_line_imports_nothing_heavy():
    import subprocess

    code = "import sys, controlnext.cli.program, controlnext.studio.studio; print([m for m in ('torch', 'gradio', 'diffusers', 'cv2') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=presets.PRESETS.parent, check=True
    )
    assert done.stdout.strip() == "[]"


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"controlnext {controlnext.__version__}\n"
