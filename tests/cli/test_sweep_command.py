import json

import numpy as np
import pytest
from PIL import Image

from controlnext.recipes.png import read_png

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
