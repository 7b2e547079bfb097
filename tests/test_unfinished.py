"""Half-written files: whose they are, and when they are swept."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controlnext.scratch import PREFIX, STALE_SECONDS, sweep_unfinished, unfinished

ROOT = Path(__file__).parent.parent
SAVE = """
import sys; from pathlib import Path; from PIL import Image
from controlnext.recipes.recipe import Recipe; from controlnext.results.gallery import Gallery
gallery, image = Gallery(sys.argv[1]), Image.effect_noise((900, 900), 90).convert("RGB")
gallery.check(); print("ready", flush=True)
while True: gallery.save(image, Recipe(seed=1))
"""


def test_a_file_of_this_process_stays_and_that_of_a_dead_one_goes(tmp_path):
    mine = unfinished(tmp_path, ".png")
    mine.touch()
    done = subprocess.Popen([sys.executable, "-c", "pass"])
    done.wait()
    left = tmp_path / mine.name.replace(f"-{os.getpid()}-", f"-{done.pid}-")
    left.touch()
    assert sweep_unfinished(tmp_path) == 1
    assert mine.exists()
    assert not left.exists()


@pytest.mark.parametrize("name", [f"{PREFIX}0123456789.png", f"{PREFIX}ffffffff-1-x.png"])
def test_a_file_of_nobody_known_goes_once_it_is_stale(tmp_path, name):
    path = tmp_path / name
    path.touch()
    assert sweep_unfinished(tmp_path) == 0
    then = time.time() - STALE_SECONDS - 1
    os.utime(path, (then, then))
    assert sweep_unfinished(tmp_path) == 1


def test_other_files_and_missing_folders_are_left_alone(tmp_path):
    (tmp_path / "picture.png").touch()
    assert sweep_unfinished(tmp_path) == 0
    assert sweep_unfinished(tmp_path / "nothing") == 0


def test_a_killed_saver_leaves_whole_pictures_and_nothing_after_the_next_check(tmp_path):
    from controlnext.recipes.png import read_png
    from controlnext.results.gallery import Gallery

    for delay in (0.05, 0.12, 0.19):
        saver = subprocess.Popen([sys.executable, "-c", SAVE, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        saver.stdout.readline()
        time.sleep(delay)
        saver.kill()
        saver.wait()
    Gallery(tmp_path).check()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert all(read_png(path).seed == 1 for path in tmp_path.glob("*.png"))
