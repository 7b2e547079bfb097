"""The built wheel, installed outside of the checkout: its command works there as it does here."""

import json
import os
import shutil
import site
import subprocess
import sys
import time
import urllib.request
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import controlnext
from controlnext.recipes.png import read_png

ROOT = Path(__file__).resolve().parents[1]
GENERATE = [
    "generate",
    "--image",
    "photo.png",
    "--annotator",
    "canny",
    "--prompt",
    "a person in a red shirt",
    "--seed",
    "3",
]

pytestmark = pytest.mark.slow


def call(*command, cwd, **changes):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | changes
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, ROOT]
    status, _, said = call(sys.executable, *command, cwd=folder)
    assert status == 0, said
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Folder of the programs of an environment with the wheel; the other packages are those of this environment."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    python = home / "bin" / "python"
    command = ["-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel]
    status, _, said = call(sys.executable, *command, cwd=home)
    assert status == 0, said
    return home / "bin"


@pytest.fixture
def place(tmp_path):
    shutil.copy(ROOT / "assets" / "examples" / "arms-out.png", tmp_path / "photo.png")
    return tmp_path


def test_the_wheel_holds_data_and_types_and_leaves_the_starter_s_tools_out(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "controlnext/py.typed", "annotators/py.typed", "annotators/data/model.safetensors", "annotators/starter/starter_colours.json",
        "controlnext/data/presets/starter.yaml", "controlnext/data/presets/training/starter.yaml",
        "controlnext/ui/pose_editor/editor.js", "controlnext/ui/pose_editor/editor.html", "controlnext/ui/pose_editor/presets.json",
        "controlnext/data/assets/ui/style.css", "controlnext/data/assets/configs/clip_merges.txt.gz",
        "controlnext/training/runs/run_folder.py",
    ):  # fmt: skip
        assert needed in names
    assert not [name for name in names if name.startswith("controlnext/starter/")]
    assert not [name for name in names if name.endswith(".png") and "/examples/" not in name and "icon" not in name]
    assert {name.split("/")[0] for name in names} == {
        "annotators", "controlnext", f"controlnext_studio-{controlnext.__version__}.dist-info",
    }  # fmt: skip


def test_the_installed_command_draws_what_the_checkout_draws(installed, place):
    status, out, said = call(installed / "controlnext", *GENERATE, "--json", cwd=place)
    assert status == 0, said
    (made,) = (place / "outputs").rglob("*.png")
    assert made.name in out
    assert read_png(made).seed == 3
    here = ["-m", "controlnext", *GENERATE, "--output", "here"]
    status, _, said = call(sys.executable, *here, cwd=place, PYTHONPATH=str(ROOT))
    assert status == 0, said
    (other,) = (place / "here").rglob("*.png")
    pixels = np.asarray(Image.open(made))
    assert pixels.shape == (256, 256, 3)
    assert np.array_equal(pixels, np.asarray(Image.open(other)))


def test_the_installed_package_is_used_and_knows_its_version_and_models(installed, place):
    code = "import controlnext, annotators; print(controlnext.__file__, annotators.__file__, controlnext.__version__)"
    status, out, said = call(installed / "python", "-c", code, cwd=place)
    assert status == 0, said
    assert out.count(str(installed.parent)) == 2
    assert out.split()[-1] == controlnext.__version__
    status, out, said = call(installed / "controlnext", "models", "--json", cwd=place)
    assert status == 0, said
    models = json.loads(out)
    assert (models["starter"]["state"], models["starter-video"]["state"]) == ("ready", "video")
    assert len(models["starter"]["loras"]) == 5
    assert not list(place.glob("*/"))  # looking makes no folder


def test_what_is_left_out_is_said(installed, place):
    status, _, said = call(installed / "controlnext", "bench", "starter", cwd=place)
    assert (status, said.count("\n")) == (2, 1)
    assert "checkout" in said


def test_the_installed_page_is_served_from_any_folder(installed, place):
    from controlnext.bench.cost.startup import free_port

    port = free_port()
    command = [installed / "controlnext", "app", "--host", "127.0.0.1", "--port", port]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (place / "log.txt").open("wb") as log:
        app = subprocess.Popen([*map(str, command)], cwd=place, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(240):
            assert app.poll() is None, (place / "log.txt").read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    page = answer.read().decode()
                    break
            except OSError:
                time.sleep(0.5)
        assert "ControlNeXt" in page
    finally:
        app.terminate()
        app.wait(60)
