import json

import pytest
from animation_clips import noise_clip

from controlnext.animation import read_video_recipe
from controlnext.cli import program as cli


@pytest.fixture
def place(tmp_path, presets_dir, reference, monkeypatch):
    monkeypatch.setattr("controlnext.models.catalogue.PRESETS", presets_dir)
    monkeypatch.chdir(tmp_path)
    reference.save("figure.png")
    return tmp_path


def run(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def test_animate_writes_a_video_and_again_from_its_recipe(place, dance, capsys):
    common = ("--device", "cpu", "--threads", 1, "--output", "out")
    status, out, err = run(
        capsys, "animate", "figure.png", dance, "--model", "starter", "--prompt", "x", "--seed", 5, "--fps", 3,
        "--max-frames", 2, "--num-inference-steps", 2, "--limbs", "--no-smooth", "--gamma", "linear 1 to 0", "--poses",
        "--json", *common,
    )  # fmt: skip
    assert status == 0, err
    assert "2 frames at 3 a second will be used" in err
    made = json.loads(out)
    assert (made["frames"], made["fps"], made["seed"], made["limbs"], made["smooth"]) == (2, 3.0, 5, True, False)
    recipe = read_video_recipe(made["file"])
    assert (recipe.gamma_curve, recipe.reader) == ("linear 1 to 0", "auto")
    assert (place / made["poses"]).is_file()
    status, out, err = run(
        capsys, "animate", "figure.png", made["pose_data"], "--model", "starter", "--prompt", "x",
        "--num-inference-steps", 2, *common,
    )  # fmt: skip
    assert status == 0, err
    assert "2 frames" in out
    status, out, err = run(
        capsys, "animate", "figure.png", dance, "--recipe", made["file"], "--max-frames", 1, "--no-keep-sound", *common
    )
    assert status == 0, err
    assert "1 frames" in out or "1 frame" in out
    again = read_video_recipe(out.split("  ")[0])
    assert again == recipe.replace(max_frames=1, keep_sound=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("figure.png", "none.mp4"), "There is no file"),
        (("none.png", "dance.mp4"), "none.png"),
        (("figure.png", "noise.mp4", "--model", "starter"), "Nobody was found in this part of the clip"),
        (("figure.png", "dance.mp4", "--fps", 999), "between 0 and 120"),
        (
            ("figure.png", "other.json", "--model", "starter"),
            "“other.json” cannot be used. This is not a pose sequence",
        ),
        (("figure.png", "dance.mp4", "--model", "magic"), "There is no model 'magic'"),
        (("figure.png", "dance.mp4", "--recipe", "none.mp4"), "cannot be read"),
        (("figure.png", "dance.mp4", "--recipe", "dance.mp4"), "not valid JSON"),
    ],
)
def test_bad_input_is_one_sentence(place, dance, capsys, arguments, said):
    (place / "dance.mp4").write_bytes(dance.read_bytes())
    noise_clip(place / "noise.mp4")
    (place / "other.json").write_text('{"format": "other"}')
    status, out, err = run(capsys, "animate", *arguments, "--output", "out")
    assert status == 2
    assert said in err
    assert "Traceback" not in err
    assert not out
