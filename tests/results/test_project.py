import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from controlnext.errors import ControlNeXtError
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.png import read_inputs, read_png
from controlnext.recipes.recipe import Recipe
from controlnext.recipes.sweep_plan import SweepAxis, SweepPlan
from controlnext.results.gallery import Gallery
from controlnext.results.project import ProjectError, open_project, write_project
from controlnext.results.saved_sweeps import FOLDER, PLAN, TABLE, SavedSweep
from controlnext.results.sweep_table import SweepTable, SweptCell


def grey(value, size=(32, 32)):
    return Image.new("RGB", size, (value,) * 3)


POSE = json.dumps({"canvas_width": 64, "canvas_height": 64, "people": [{"pose_keypoints_2d": [10, 10, 1] * 18}]})
RECIPE = Recipe(annotator="canny", prompt="x 🧍", loras=[{"name": "night", "weight": 0.5}], weights={"base": "aa", "adapter": "bb", "lora:night": "cc"})  # fmt: skip
HERE = {"base": "aa", "adapter:canny": "bb", "lora:night": "cc"}


@pytest.fixture
def results(tmp_path):
    gallery = Gallery(tmp_path / "from")
    inputs = Inputs((grey(1),), grey(2), grey(255).convert("L"))
    painted = RECIPE.replace(strength=0.5).with_digests(inputs)
    return [
        gallery.save(grey(50), RECIPE.with_digests(Inputs((grey(1),))), grey(1)),
        gallery.save(grey(60), painted, inputs),
        gallery.save(grey(70), Recipe(annotator="pose", pose=POSE), None),
    ]


@pytest.fixture
def project(tmp_path, results):
    target = tmp_path / "project.zip"
    write_project(target, results, "0.2.0")
    return target


def test_a_project_opened_elsewhere_restores_every_result_to_the_byte(tmp_path, results, project):
    gallery = Gallery(tmp_path / "to")
    opened = open_project(project, gallery, lambda recipe: HERE)
    assert [path.read_bytes() for path in opened.files] == [path.read_bytes() for path in results]
    assert [path.name for path in opened.files] == [path.name for path in results]
    assert opened.recipes[0].loras == RECIPE.loras
    assert np.array_equal(np.asarray(read_inputs(opened.files[1]).mask), np.full((32, 32), 255))
    assert opened.missing == ()
    assert (
        open_project(project, gallery, lambda recipe: HERE).files == opened.files
    )  # the same results are not kept twice
    assert len(list(gallery.output_dir.iterdir())) == 3


def test_a_project_shows_what_is_in_its_results(project, results):
    with zipfile.ZipFile(project) as archive:
        names = archive.namelist()
        index = json.loads(archive.read("project.json"))
        recipe = Recipe.from_json(archive.read(f"recipes/{results[0].stem}.json"))
        with archive.open(next(name for name in names if name.startswith("maps/canny"))) as file:
            assert not ImageChops.difference(Image.open(file).convert("RGB"), grey(1)).getbbox()
    assert recipe == read_png(results[0])
    assert len([name for name in names if name.startswith("maps/")]) == 1  # two results, one map
    assert [len([name for name in names if name.startswith(f"{folder}/")]) for folder in ("masks", "starts", "poses")] == [1, 1, 1]  # fmt: skip
    assert index["results"][0]["weights"] == {"base": "aa", "adapter": "bb", "lora:night": "cc"}
    assert index["results"][0]["loras"] == [{"name": "night", "weight": 0.5}]


def test_what_is_missing_is_named_with_its_digest(tmp_path, project):
    def without(recipe):
        if recipe.loras:
            raise ControlNeXtError("There is no LoRA 'night'.")
        return {}

    gallery = Gallery(tmp_path / "to")
    for weights, words in ((lambda recipe: {**HERE, "base": "zz"}, ("base", "zz", "aa")), (without, ("'night'", "cc")), (lambda recipe: {}, ("adapter", "bb"))):  # fmt: skip
        missing = open_project(project, gallery, weights).missing
        assert missing
        assert all(word in " ".join(missing) for word in words), missing


def test_another_result_of_the_same_name_stays(tmp_path, results, project):
    gallery = Gallery(tmp_path / "to")
    gallery.output_dir.mkdir()
    (gallery.output_dir / results[0].name).write_bytes(b"mine")
    opened = open_project(project, gallery, lambda recipe: HERE)
    assert (gallery.output_dir / results[0].name).read_bytes() == b"mine"
    assert opened.files[0].name == f"{results[0].stem}_2.png"


def changed(project, name, change, index=None):
    """The project with another content of one entry, or another index."""
    with zipfile.ZipFile(project) as archive:
        contents = {one: archive.read(one) for one in archive.namelist()}
    contents[name] = change
    if index is not None:
        contents["project.json"] = json.dumps(index).encode()
    with zipfile.ZipFile(project, "w") as archive:
        for one, data in contents.items():
            if data is not None:
                archive.writestr(one, data)


@pytest.mark.parametrize("name", ["../evil.png", "results/../../evil.png", "results/.hidden.png", "results/a/b.png", "results/x.exe", "/etc/x.png", 3, None])  # fmt: skip
def test_a_project_never_writes_anywhere_else(tmp_path, project, name):
    index = {"controlnext_project": 1, "results": [{"file": name, "sha256": ""}]}
    changed(project, str(name), b"x", index)
    with pytest.raises(ProjectError):
        open_project(project, Gallery(tmp_path / "to"), lambda recipe: {})
    assert not list((tmp_path / "to").glob("*"))
    assert not (tmp_path / "evil.png").exists()


def test_a_damaged_project_restores_nothing(tmp_path, results, project):
    changed(project, f"results/{results[1].name}", b"damaged")
    gallery = Gallery(tmp_path / "to")
    with pytest.raises(ProjectError, match=results[1].name[:20]):
        open_project(project, gallery, lambda recipe: {})
    assert not list(gallery.output_dir.iterdir())


@pytest.mark.parametrize(
    "index", [None, b"{", b"[]", b'{"controlnext_project": 2}', b'{"controlnext_project": 1, "results": []}']
)
def test_what_is_no_project_is_refused(tmp_path, project, index):
    changed(project, "project.json", index)
    with pytest.raises(ProjectError):
        open_project(project, Gallery(tmp_path / "to"), lambda recipe: {})
    (tmp_path / "text.zip").write_text("no ZIP")
    with pytest.raises(ProjectError):
        open_project(tmp_path / "text.zip", Gallery(tmp_path / "to"), lambda recipe: {})
    with pytest.raises(ProjectError):
        write_project(tmp_path / "none.zip", [], "0")


def test_a_sweep_travels_as_its_folder_and_is_not_kept_twice(tmp_path, results):
    gallery, plan = Gallery(tmp_path / "from"), SweepPlan(RECIPE, (SweepAxis("gamma", (0, 1)),))
    folder = gallery.output_dir / FOLDER / "gamma-1f"
    files = [Gallery(folder).save(grey(80 + place), cell.recipe, grey(1)) for place, cell in enumerate(plan.cells())]
    cells = [SweptCell(place, 0, cell.values, "done", files[place]) for place, cell in enumerate(plan.cells())]
    (folder / PLAN).write_text(plan.to_json())
    (folder / TABLE).write_text(SweepTable(plan.axes, tuple(cells)).csv())
    write_project(tmp_path / "project.zip", [results[2], folder], "0.2.0")
    other = Gallery(tmp_path / "to")
    for _ in range(2):
        opened = open_project(tmp_path / "project.zip", other, lambda recipe: HERE)
        assert [path.relative_to(other.output_dir) for path in opened.files] == [
            Path(results[2].name),
            Path(FOLDER, "gamma-1f"),
        ]
    assert len(opened.recipes) == 3
    saved = SavedSweep.read(opened.files[1])
    assert [path.read_bytes() for path in saved.pictures] == [path.read_bytes() for path in files]
    (opened.files[1] / TABLE).write_text("other figures")
    assert open_project(tmp_path / "project.zip", other, lambda recipe: HERE).files[1].name == "gamma-1f_2"


@pytest.mark.parametrize(
    "name", ["sweeps/../x.png", "sweeps/a/../../x.png", "sweeps/a/b/x.png", "sweeps/a/x.sh", "sweeps/x.json", "x.csv"]
)
def test_a_project_names_no_file_outside_of_its_folders(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "project.zip", "w") as archive:
        archive.writestr(f"results/{name}", b"x")
        rows = [{"file": f"results/{name}", "sha256": hashlib.sha256(b"x").hexdigest()}]
        archive.writestr("project.json", json.dumps({"controlnext_project": 1, "results": rows}))
    with pytest.raises(ProjectError):
        open_project(tmp_path / "project.zip", Gallery(tmp_path / "to"), lambda recipe: {})
    assert not list(tmp_path.glob("**/x*"))
