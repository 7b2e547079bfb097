"""Detail and enlarging of finished pictures, in the run that draws them and after it."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_studio import Annotation, picture

from annotators.base import AnnotatorError
from controlnext.adherence.body_parts import PartCircle, parts_of_people
from controlnext.models.upscalers import UpscalerFolders
from controlnext.recipes.inputs import Drawn, Inputs
from controlnext.recipes.png import read_inputs, read_png
from controlnext.recipes.recipe import Recipe, RecipeError
from controlnext.studio.detail import AROUND, DetailCut
from controlnext.studio.enhance import EnhanceError, enhanced
from controlnext.studio.repair import Repairer, RepairError


def person():
    joints = np.zeros((18, 3))
    joints[[0, 14, 15]] = (32, 20, 1), (30, 18, 1), (34, 18, 1)
    joints[[3, 4]] = (44, 40, 1), (52, 40, 1)
    return joints


def people(name, image, **options):
    if name == "pose":
        return Annotation(image, {"people": [person().tolist()]})
    return Annotation(image)


@pytest.fixture
def drawn(studio):
    """A studio that finds one person in every picture, and how it draws a recipe."""
    studio._annotators = type("Reader", (), {"annotate": staticmethod(people)})

    def draw(**values):
        recipe = studio.catalogue.resolve(
            "starter", adapter="canny", prompt="x", seed=5, num_inference_steps=2, **values
        )
        return studio.generate(recipe, Inputs((picture(3),)))

    return draw


def test_a_face_has_its_own_points_or_those_of_the_body():
    (joints,) = parts_of_people({"people": [person()]}, "face")
    points = np.array([(30, 10, 1), (40, 10, 1), (35, 20, 1), (0, 0, 0)])
    (own,) = parts_of_people({"people": [person()], "faces": [points.tolist()]}, "face")
    assert joints.centre == pytest.approx((32, 18.67), abs=0.01)
    assert own.centre == pytest.approx((35, 15))
    assert own.radius == pytest.approx(np.hypot(5, 5))
    hands = parts_of_people({"people": [person()], "hands": [[None, points.tolist()]]}, "hands")
    assert [hand.centre.tolist() for hand in hands] == [own.centre.tolist()]
    assert parts_of_people({"people": [np.zeros((18, 3))]}, "hands") == parts_of_people(None, "face") == []


def test_a_cut_has_the_shape_of_the_picture_and_lies_in_it():
    cut = DetailCut.around(PartCircle(np.array([90.0, 5.0]), 6.0), (96, 64))
    left, top, right, bottom = cut.box
    assert (right, top) == (96, 0)
    assert (right - left, bottom - top) == (36, 2 * AROUND * 6)
    assert DetailCut.around(PartCircle(np.array([20.0, 20.0]), 1.0), (96, 64)) is None  # nothing to see
    assert DetailCut.around(PartCircle(np.array([20.0, 20.0]), 20.0), (96, 64)) is None  # all of it is drawn already


def test_detail_changes_the_part_alone_and_is_in_the_recipe(studio, drawn):
    plain, detailed = drawn(), drawn(detail=["face"])
    before, after = np.asarray(plain.images[0]).astype(int), np.asarray(detailed.images[0]).astype(int)
    y, x = np.mgrid[:64, :64] + 0.5
    (face,) = parts_of_people({"people": [person()]}, "face")
    apart = np.hypot(x - face.centre[0], y - face.centre[1]) / face.radius
    assert np.array_equal(before[apart > AROUND * 1.5], after[apart > AROUND * 1.5])
    assert np.abs(before - after)[apart < 1].mean() > 1
    assert read_png(detailed.files[0]).detail == ("face",)
    assert "1 face" in " ".join(detailed.notes)
    assert "detail" not in read_png(plain.files[0]).to_json()


def test_a_saved_picture_is_enhanced_to_the_pixels_of_its_recipe(studio, drawn):
    plain = drawn()
    recipe, inputs = enhanced(plain.files[0], ["face"])
    face = studio.generate(recipe, inputs)
    recipe, inputs = enhanced(face.files[0], ["face", "hands"], 2)
    assert recipe.detail == ("face", "hands")
    both = studio.generate(recipe, inputs)
    assert both.images[0].size == (128, 128)
    assert both.adherence == pytest.approx(face.adherence, abs=0.1)  # measured in the size that was asked for
    saved = read_png(both.files[0])
    again = studio.generate(saved, read_inputs(both.files[0]))
    assert np.array_equal(both.images[0], again.images[0])
    assert not np.array_equal(drawn(upscale=2).images[0], again.images[0])


def test_where_nobody_is_found_the_people_of_the_pose_control_count(studio):
    nobody = AnnotatorError("nobody")
    nobody.found_nothing = True

    def annotate(name, image, **options):
        raise nobody

    studio._annotators = type("Reader", (), {"annotate": staticmethod(annotate)})
    recipe = studio.catalogue.resolve("starter", adapter="pose", prompt="x", seed=5, detail=["hands"])
    asked = Annotation(Image.new("RGB", (128, 128)), {"people": [(person() * (2, 2, 1)).tolist()]})
    assert "1 hand " in " ".join(studio.generate(recipe, Inputs((asked,))).notes)
    assert "0 hands" in " ".join(studio.generate(recipe, Inputs((Image.new("RGB", (64, 64)),))).notes)


def test_what_a_mask_keeps_is_kept_by_details(studio, drawn):
    start, mask = picture(9), Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 64, 19))  # the upper half of the face
    recipe = studio.catalogue.resolve("starter", adapter="canny", seed=5, strength=1.0, detail=["face"])
    made = np.asarray(studio.generate(recipe, Inputs((picture(3),), start, mask)).images[0])
    assert np.array_equal(made[19:], np.asarray(start)[19:])


def test_a_model_of_the_folder_enlarges_and_its_digest_is_kept(studio, drawn, tmp_path, monkeypatch):
    compact = pytest.importorskip("spandrel.architectures.Compact").Compact
    torch.manual_seed(0)
    save_file(compact(num_feat=4, num_conv=1, upscale=2).state_dict(), tmp_path / "two.safetensors")
    monkeypatch.setattr(studio, "upscalers", UpscalerFolders([tmp_path]))
    made = drawn(upscale=2, upscaler="two.safetensors")
    assert made.images[0].size == (128, 128)
    assert len(read_png(made.files[0]).weights["upscaler"]) == 64
    assert not np.array_equal(made.images[0], drawn(upscale=2).images[0])


def test_what_cannot_be_enhanced_is_refused(studio, drawn, tmp_path):
    large = drawn(upscale=2).files[0]
    picture().save(tmp_path / "plain.png")
    face = drawn(detail=["face"]).files[0]
    for file, values in (
        (large, {"upscale": 2}),
        (tmp_path / "plain.png", {"upscale": 2}),
        (face, {"detail": ["face"]}),
    ):
        with pytest.raises(EnhanceError):
            enhanced(file, **values)
    with pytest.raises(RepairError):
        Repairer(people, "auto", studio.generate).repair(large)
    for wrong in ({"detail": ["foot"]}, {"detail": ["face", "face"]}, {"upscale": 3}, {"upscaler": "x.pth"}):
        with pytest.raises(RecipeError):
            Recipe(**wrong)
    recipe = read_png(face)
    for given in (Drawn(picture(size=(32, 32)), ("face",)), Drawn(picture(), ("hands",))):
        with pytest.raises(RecipeError):
            studio.generate(recipe, Inputs((picture(3),), drawn=given))
