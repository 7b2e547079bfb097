import json
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageChops

from controlnext.errors import ControlNeXtError
from controlnext.recipes.inputs import Inputs
from controlnext.recipes.png import read_inputs, read_png
from controlnext.recipes.recipe import Recipe
from controlnext.results.gallery import Gallery
from controlnext.results.project import ProjectError, open_project, write_project


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
