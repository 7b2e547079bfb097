"""The fakes of these tests keep the interfaces of what they stand in for."""

import inspect
from types import SimpleNamespace

import pytest
from ui_fakes import FakeAnnotators, FakeCatalogue, FakeStudio
from video_fakes import FakeAnimator

import annotators
from controlnext.animation.animator import Animator
from controlnext.animation.clip_reader import PoseTools
from controlnext.models.catalogue import Catalogue
from controlnext.studio.protocols import Annotators
from controlnext.studio.studio import Studio

PAIRS = ((FakeStudio, Studio), (FakeCatalogue, Catalogue), (FakeAnimator, Animator))

OF_ANNOTATORS = [
    name
    for name in {**vars(PoseTools), **vars(Annotators)}
    if not name.startswith("_") and callable(getattr(Annotators, name, None))
]


def functions(cls: type) -> list[str]:
    return [name for name, value in vars(cls).items() if inspect.isfunction(value) and not name.startswith("_")]


def parameters(function) -> dict[str, tuple]:
    """Kind and default of each parameter but `self`, by name; `**options` is left out."""
    found = inspect.signature(function).parameters.values()
    return {
        one.name: (one.kind, one.default) for one in found if one.name != "self" and one.kind is not one.VAR_KEYWORD
    }


def serves(real, wanted) -> None:
    """Everything that callers may hand to `wanted` can be handed to `real`, which asks for nothing more."""
    given, asked = parameters(real), parameters(wanted)
    assert {name: given.get(name) for name in asked} == asked
    assert all(default is not inspect.Parameter.empty for name, (_, default) in given.items() if name not in asked)


def test_the_protocol_names_what_is_there():
    assert {
        "annotate", "describe", "status", "load_picture", "PoseReader", "draw_pose", "describe_figure", "people_from_json",
        "people_to_json",
    } == set(OF_ANNOTATORS)  # fmt: skip
    assert set(annotators.ANNOTATORS) == set(FakeAnnotators.ANNOTATORS)


@pytest.mark.parametrize("name", OF_ANNOTATORS)
@pytest.mark.parametrize("package", [annotators, FakeAnnotators], ids=["real", "fake"])
def test_annotators_keep_the_protocol(package, name):
    serves(getattr(package, name), getattr(Annotators, name))


@pytest.mark.parametrize(
    ("fake", "real", "name"),
    [(fake, real, name) for fake, real in PAIRS for name in functions(fake)],
)
def test_fakes_keep_the_signatures_of_the_real_classes(fake, real, name):
    serves(getattr(fake, name), getattr(real, name))


def test_a_signature_that_differs_is_found():
    def wanted(self, name, *, backend="auto"): ...

    for other in (
        SimpleNamespace(call=lambda self, name: None),
        SimpleNamespace(call=lambda self, name, *, backend="best": None),
        SimpleNamespace(call=lambda self, name, backend="auto": None),
        SimpleNamespace(call=lambda self, name, size, *, backend="auto": None),
    ):
        with pytest.raises(AssertionError):
            serves(other.call, wanted)
