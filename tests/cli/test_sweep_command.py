import json
import os
import signal
import time

import numpy as np
import pytest
from PIL import Image
from test_batch_command import PATIENCE, launch_two

from controlnext.cli.batch import ProcessRank
from controlnext.recipes.png import read_png
from controlnext.results.saved_sweeps import SavedSweep

COMMAND = ("sweep", "--image", "photo.png", "--annotator", "canny", "--prompt", "x", "--seed", 4, "--num-inference-steps", 1, "--device", "cpu")  # fmt: skip


def test_a_sweep_writes_its_grid_and_its_file_makes_it_again(place, run):
    status, out, err = run(*COMMAND, "--axis", "gamma=0,1,2", "--json")
    assert status == 0
    facts = json.loads(out)
    assert [cell["gamma"] for cell in facts["cells"]] == [0, 1, 2]
    assert facts["cells"][0]["distance"] == 0
    assert err.count(" made in ") == 3
    folder = place / facts["folder"]
    assert all((folder / name).is_file() for name in ("sweep.json", "sweep.csv", "grid.png", "plot.png"))
    cell = folder / facts["cells"][2]["file"]
    _, alone, _ = run("generate", "--recipe", cell, "--device", "cpu")
    assert np.array_equal(np.asarray(Image.open(alone.split("  ")[0])), np.asarray(Image.open(cell)))
    assert read_png(cell).gamma == 2
    status, again, err = run("sweep", "--recipe", folder / "sweep.json", "--image", "photo.png", "--device", "cpu")
    assert (status, err) == (0, "")  # all is there
    assert "3 of 3 pictures" in again


def test_a_search_says_what_it_reached(place, run):
    status, out, _ = run(*COMMAND, "--target", 1.0, "--json")
    facts = json.loads(out)
    assert status == (0 if facts["reached"] else 1)
    assert 1 <= len(facts["tries"]) <= 6
    assert facts["tries"][0]["gamma"] == 1


@pytest.mark.parametrize("axis", ["gamma", "gamma=1", "nonesuch=1,2", "gamma=much,more"])
def test_wrong_axes_are_refused(place, run, axis):
    with pytest.raises(SystemExit):
        run(*COMMAND, "--axis", axis)
    assert run("sweep", "--recipe", "nowhere.json")[0] == 2


def test_without_a_seed_the_same_command_resumes(place, run):
    command = (*COMMAND[:7], *COMMAND[9:], "--axis", "gamma=0,1", "--json")
    assert "--seed" not in command
    facts = json.loads(run(*command)[1])
    status, out, err = run(*command)
    assert (status, json.loads(out)["cells"], err) == (0, facts["cells"], "")
    assert facts["cells"][0]["seed"] == facts["cells"][1]["seed"] > 0
    other = (*command[:6], "another prompt", *command[7:])
    assert json.loads(run(*other)[1])["cells"][0]["seed"] != facts["cells"][0]["seed"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_two_processes_share_a_sweep_stop_and_resume(place, models):
    command = ("sweep", "--image", "photo.png", "--annotator", "canny", "--prompt", "x", "--num-inference-steps", 40, "--device", "cpu",
               "--threads", 1, "--output", "made", "--axis", "gamma=0,0.5,1,1.5", "--axis", "seed=1,2")  # fmt: skip
    launcher, deadline = launch_two(place, models, *command), time.time() + PATIENCE

    def records():
        return {path.name: path.stat().st_mtime_ns for path in (place / "made").glob("sweeps/*/.batch/*.json")}

    while len(records()) < 2 and launcher.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    assert launcher.poll() is None, launcher.communicate()[0]
    os.killpg(launcher.pid, signal.SIGINT)  # Ctrl+C
    output, _ = launcher.communicate(timeout=PATIENCE)
    before = records()
    assert 2 <= len(before) < 8, output
    assert output.count("the same command resumes") >= 1, output
    again = launch_two(place, models, *command)
    output, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, output
    assert output.count(" made in ") == 8 - len(before), output
    assert {name: stamp for name, stamp in records().items() if name in before} == before  # none was made twice
    (folder,) = (place / "made" / "sweeps").iterdir()  # both processes have the same recipe
    saved = SavedSweep.read(folder)
    assert (saved.table.done, len({*saved.pictures}), len(list(folder.glob("*.png")))) == (
        8,
        8,
        10,
    )  # with grid and plot
    assert output.count("8 of 8 pictures") == 1, output


def test_a_search_of_several_processes_is_done_by_the_first(place, run, monkeypatch):
    monkeypatch.setattr("controlnext.cli.sweep.place_of", lambda device: ProcessRank(1, 2))
    assert run(*COMMAND, "--target", 0.5) == (0, "", "")
    assert not list(place.glob("**/*_4.png"))
