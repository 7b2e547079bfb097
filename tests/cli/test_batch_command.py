import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from controlnext.models import presets
from controlnext.recipes.png import read_png

ROOT = presets.PRESETS.parent
PATIENCE = 600  # seconds; two processes that load torch on a busy machine


@pytest.fixture
def place(place):
    """The working folder, with photos in a folder of their own."""
    (place / "photos").mkdir()
    for index in range(3):
        array = np.zeros((96, 96, 3), np.uint8)
        array[20 + 10 * index : 70, 20:70] = 255
        Image.fromarray(array).save(place / "photos" / f"{index}.png")
    return place


def rows_of(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_folder_becomes_results_with_their_recipes(place, run):
    options = ("photos", "--annotator", "canny", "--prompt", "a person", "--num-inference-steps", 2, "--device", "cpu")
    status, out, err = run("batch", *options, "--output", "made")
    assert (status, out) == (0, f"3 done, 0 failed; see {'made/manifest.jsonl'}\n")
    rows = rows_of(place / "made")
    assert [row["job"] for row in rows] == ["0.png", "1.png", "2.png"]
    seeds = {row["recipe"]["seed"] for row in rows}
    assert len(seeds) == 3
    for row in rows:
        (name,) = row["files"]
        recipe = read_png(place / "made" / name)
        assert (recipe.prompt, recipe.annotator, recipe.num_inference_steps) == ("a person", "canny", 2)
        assert json.loads(recipe.to_json()) == row["recipe"]
        assert 0 <= row["adherence"][0] <= 1
    first = {name: (place / "made" / name).read_bytes() for row in rows for name in row["files"]}
    status, out, err = run("batch", *options, "--output", "made")
    assert (status, out, err) == (0, "0 done, 3 were done before, 0 failed; see made/manifest.jsonl\n", "")
    assert run("batch", *options, "--output", "elsewhere")[0] == 0
    for row in rows_of(place / "elsewhere"):  # a repeated job makes the same pixels, drawn seed and all
        (name,) = row["files"]
        assert np.array_equal(
            np.asarray(Image.open(place / "elsewhere" / name)), np.asarray(Image.open(place / "made" / name))
        )
        assert name in first


def test_lines_say_what_they_want_and_bad_ones_are_named(place, run):
    lines = [
        {"image": "photos/0.png", "annotator": "canny", "prompt": "x", "seed": 7, "num_images": 2},
        {"prompt": "words alone", "num_inference_steps": 1},
        {"image": "photos/missing.png", "annotator": "canny"},
        {"prompt": "x", "promt": "a slip"},
        {"image": "photos/1.png", "model": "sdxxl"},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    (place / "jobs.jsonl").write_text(f"{text}\nno json\n", encoding="utf-8")
    (place / "recipe.json").write_text('{"model": "starter", "num_inference_steps": 2, "width": 64, "height": 64}')
    command = ("batch", "jobs.jsonl", "--recipe", "recipe.json", "--device", "cpu")
    status, out, err = run(*command)
    assert (status, out) == (1, "2 done, 4 failed; see outputs/manifest.jsonl\n")
    for text in ("line 3 (missing.png)", "promt", "sdxxl", "line 6: It is not valid JSON"):
        assert text in err
    controlled, words = rows_of(place / "outputs")
    assert [read_png(place / "outputs" / name).seed for name in controlled["files"]] == [7, 8]
    assert controlled["recipe"]["num_inference_steps"] == 2
    assert (words["image"], words["recipe"]["num_inference_steps"]) == (None, 1)
    status, out, err = run(*command, "--max-errors", 1)
    assert "gave up" in err


def test_a_further_control_takes_the_picture_that_is_named_for_it(place, run):
    (place / "photos" / "1.png").unlink()
    (place / "photos" / "2.png").unlink()
    options = ("photos", "--annotator", "canny", "--control", "depth=photo.png", "--num-inference-steps", 2)
    for done in ("1 done, 0 failed", "0 done, 1 were done before, 0 failed"):
        assert run("batch", *options)[1].startswith(done)
    Image.new("RGB", (96, 96), "white").save("photo.png")
    assert run("batch", *options)[1].startswith("1 done, 0 failed")
    recipes = [row["recipe"] for row in rows_of(place / "outputs")]
    assert len({recipe["condition_sha256"] for recipe in recipes}) == 1
    assert len({recipe["controls"][0]["condition_sha256"] for recipe in recipes}) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "cannot be read"),
        (["photos", "--recipe", "missing.json"], "cannot be read"),
        (["photos", "--max-errors", "-1"], "--max-errors"),
        (["photos", "--set", "low"], "NAME=VALUE"),
    ],
)
def test_what_goes_wrong_is_one_sentence(place, run, arguments, says):
    status, out, err = run("batch", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err


LAUNCHED = """
import sys
import controlnext.models.catalogue
from pathlib import Path
controlnext.models.catalogue.PRESETS = Path(sys.argv.pop(1))
from controlnext.cli import main
sys.exit(main())
"""


def launch(place, models, *options):
    """Start a batch in two processes."""
    batch = ("batch", "photos", "--annotator", "canny", "--output", "made", "--device", "cpu", "--threads", "1")
    return launch_two(place, models, *batch, *options)


def launch_two(place, models, *arguments):
    """Start a command in two processes, as people do; accelerate's own `--cpu` would start only one."""
    script = place / "launched.py"
    script.write_text(LAUNCHED)
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", script, models, *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [str(part) for part in command], cwd=place, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def workers(launcher):
    """Process numbers of the two workers, by the parent they have."""
    import psutil

    return [child.pid for child in psutil.Process(launcher.pid).children() if "batch" in child.cmdline()]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a system that can kill")
def test_two_processes_under_accelerate_lose_no_job_when_one_dies(place, models):
    for index in range(3, 8):
        Image.new("RGB", (96, 96), (30 * index, 0, 0)).save(place / "photos" / f"{index}.png")
    records = place / "made" / ".batch"
    launcher = launch(place, models, "--num-inference-steps", 40)
    deadline = time.time() + PATIENCE
    while len(list(records.glob("*.json"))) < 2 and launcher.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    assert launcher.poll() is None, launcher.communicate()[0]
    both = workers(launcher)
    assert len(both) == 2
    os.kill(both[1], signal.SIGKILL)
    output, _ = launcher.communicate(timeout=PATIENCE)
    assert launcher.returncode != 0, output
    before = {path.name: path.stat().st_mtime_ns for path in records.glob("*.json")}
    assert 2 <= len(before) < 8, output
    again = launch(place, models, "--num-inference-steps", 40)
    output, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, output
    rows = rows_of(place / "made")
    assert [row["job"] for row in rows] == [f"{index}.png" for index in range(8)]
    assert sorted(name for row in rows for name in row["files"]) == sorted(
        path.name for path in (place / "made").glob("*.png")
    )
    assert {name: (records / name).stat().st_mtime_ns for name in before} == before  # none was done twice
    done = [int(line.split(": ")[1].split(" done")[0]) for line in output.splitlines() if line.startswith("Process ")]
    assert (len(done), sum(done)) == (2, 8 - len(before)), output
