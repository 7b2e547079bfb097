"""What every row of the table promises, whoever serves it."""

import json
import threading
import time

import numpy as np
import pytest
from annotator_helpers import astronaut, scene
from PIL import Image

import annotators
from annotators import AnnotatorError, annotate, describe, status
from annotators.table import ANNOTATORS, CACHE

ROWS = [(row.name, backend.name) for row in ANNOTATORS.values() for backend in row.backends]
MODELS = {"depth-anything", "segformer", "upernet"}
ELSEWHERE = {"midas", "dwpose"}  # their files cannot be made small: tested with stand-ins in their own tests
STARTER = ("depth", "pose", "segmentation")


def picture_for(backend):
    return astronaut() if backend in ("mediapipe", "person", "figure") else scene()


@pytest.fixture(params=[row for row in ROWS if row[1] not in ELSEWHERE], ids="-".join)
def served(request):
    """Each backend that can be asked here, with a picture it can read."""
    name, backend = request.param
    if backend in MODELS:
        request.getfixturevalue("tiny_models")
    if backend == "starter":
        request.getfixturevalue("untrained_starter")
    state = next(row for row in describe(name)["backends"] if row["name"] == backend)
    if not state["usable"] or "fetched once" in state["reason"]:
        pytest.skip(state["reason"])
    return name, backend, picture_for(backend)


def test_annotate_returns_rgb_of_the_input_size(served):
    name, backend, picture = served
    made = annotate(name, picture, backend=backend)
    assert made.image.mode == "RGB"
    assert made.image.size == picture.size
    assert made.backend == backend


def test_annotate_scales_the_short_side_to_the_resolution(served):
    name, backend, picture = served
    made = annotate(name, picture, backend=backend, resolution=128)
    assert min(made.image.size) == 128
    assert all(side % 8 == 0 for side in made.image.size)
    assert max(made.image.size) / 128 == pytest.approx(max(picture.size) / min(picture.size), abs=0.05)


def test_annotate_is_deterministic(served):
    name, backend, picture = served
    first = annotate(name, picture, backend=backend)
    CACHE.clear()
    second = annotate(name, np.asarray(picture), backend=backend)
    assert np.array_equal(np.asarray(first.image), np.asarray(second.image))


def test_annotate_again_reads_nothing_and_is_equal(served, monkeypatch):
    name, backend, picture = served
    first = annotate(name, picture, backend=backend)
    first.image.putpixel((0, 0), (1, 2, 3))  # what a caller does to a result must not reach the cache
    monkeypatch.setattr("annotators.table._scaled", lambda *_: pytest.fail("the picture was read again"))
    again = annotate(name, picture, backend=backend)
    assert again.image.getpixel((0, 0)) != (1, 2, 3)
    first.image.putpixel((0, 0), again.image.getpixel((0, 0)))
    assert np.array_equal(np.asarray(first.image), np.asarray(again.image))


def test_drawing_settings_read_nothing_again(served, monkeypatch):
    name, backend, picture = served
    row = next(b for b in ANNOTATORS[name].backends if b.name == backend)
    if not row.draws:
        pytest.skip("it has none")
    annotate(name, picture, backend=backend)
    monkeypatch.setattr("annotators.table._scaled", lambda *_: pytest.fail("the picture was read again"))
    other = {
        "confidence": 0.5,
        "clip": 3.0,
        "invert": True,
        "threshold": 0.4,
        "colours": "ade20k",
        "people": 2,
        "swap": True,
    }
    made = annotate(name, picture, backend=backend, **{setting: other[setting] for setting in row.draws})
    assert made.backend == backend


@pytest.mark.parametrize("name", ANNOTATORS)
def test_every_number_out_of_range_is_a_sentence(name):
    for setting in describe(name)["settings"]:
        if setting.kind in ("int", "float"):
            for value in (setting.minimum - 1, setting.maximum + 1, float("nan"), "much", None, True):
                with pytest.raises(AnnotatorError, match=setting.name):
                    annotate(name, scene(), **{setting.name: value})
        elif setting.kind == "bool":
            with pytest.raises(AnnotatorError, match=setting.name):
                annotate(name, scene(), **{setting.name: "perhaps"})
        else:
            with pytest.raises(AnnotatorError, match=setting.choices[0]):
                annotate(name, scene(), **{setting.name: "mauve"})


@pytest.mark.parametrize("name", ANNOTATORS)
def test_unknown_names_are_sentences_that_say_what_there_is(name):
    with pytest.raises(AnnotatorError, match="no setting 'colour'"):
        annotate(name, scene(), colour=1)
    with pytest.raises(AnnotatorError, match=r"no backend 'magic'.*auto"):
        annotate(name, scene(), backend="magic")


@pytest.mark.parametrize("name", ["normal", "", None, 3])
def test_an_unknown_annotator_is_a_sentence(name):
    with pytest.raises(AnnotatorError, match="there are canny, depth, pose, segmentation, none"):
        annotate(name, scene())


@pytest.mark.parametrize("resolution", [0, -1, 63, 4096, 99.5, float("nan"), "512", True])
def test_a_wrong_resolution_is_a_sentence(resolution):
    with pytest.raises(AnnotatorError, match="resolution"):
        annotate("canny", scene(), resolution=resolution)


@pytest.mark.parametrize(
    "image",
    [
        None,
        "a.png",
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_something_that_is_no_picture_is_a_sentence(image):
    with pytest.raises(AnnotatorError):
        annotate("canny", image)


def test_other_modes_are_read_as_pictures():
    transparent = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    assert annotate("none", transparent).image.getpixel((5, 5)) == (255, 255, 255)


def test_numbers_of_a_slider_may_be_floats():
    whole = annotate("canny", scene(), low=80, high=160)
    slid = annotate("canny", scene(), low=80.0, high=160.0)
    assert np.array_equal(np.asarray(whole.image), np.asarray(slid.image))


def test_a_setting_the_backend_cannot_honour_is_noted(tiny_models):
    assert "person threshold" in annotate("segmentation", scene(), backend="segformer", threshold=0.7).note


def test_the_callers_array_stays_the_callers():
    rgb = np.asarray(scene()).copy()
    before = annotate("none", rgb).image
    rgb[:] = 0  # neither refused nor seen by the cache
    assert np.array_equal(np.asarray(annotate("none", before).image), np.asarray(before))


def test_a_note_of_the_upload_is_passed_on():
    picture = scene()
    picture.info["note"] = "The first frame was taken."
    assert annotate("canny", picture).note.startswith("The first frame was taken.")


def test_two_threads_compute_the_same_thing_once(monkeypatch):
    reads = []

    def slow(rgb, resolution):
        reads.append(1)
        time.sleep(0.1)
        return rgb

    monkeypatch.setattr("annotators.table._scaled", slow)
    threads = [threading.Thread(target=annotate, args=("canny", scene())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1


def test_status_is_plain_json_and_says_why_not():
    rows = json.loads(json.dumps(status()))
    assert [row["name"] for row in rows] == list(ANNOTATORS)
    for row in rows:
        assert row["usable"] in (True, False)
        assert row["usable"] or row["reason"]
        for backend in row["backends"]:
            assert backend["usable"] or backend["reason"]


def test_describe_gives_widgets_what_they_need():
    for name, row in ANNOTATORS.items():
        for setting in describe(name)["settings"]:
            assert setting.label, row.name
            assert setting.help
            if setting.kind in ("int", "float"):
                assert setting.minimum <= setting.default <= setting.maximum
                assert setting.step > 0
        for backend in row.backends:
            assert set(backend.settings) <= {setting.name for setting in row.settings}


def test_every_setting_is_honoured_by_some_backend():
    for row in ANNOTATORS.values():
        honoured = {setting for backend in row.backends for setting in backend.settings}
        assert honoured == {setting.name for setting in row.settings}


def test_a_fresh_machine_says_what_is_missing_and_where_it_comes_from(nothing_fetched, monkeypatch):
    monkeypatch.setattr("annotators.starter.backend.STARTER_READER", nothing_fetched / "none")
    with pytest.raises(AnnotatorError, match=r"mediapipe==0.10.21.*python -m annotators fetch"):
        annotate("pose", astronaut())
    with pytest.raises(AnnotatorError, match=r"Depth-Anything-V2-Small-hf \(99 MB.*fetch depth-anything"):
        annotate("depth", astronaut())
    with pytest.raises(AnnotatorError, match=r"segformer-b0"):
        annotate("segmentation", astronaut())
    assert annotate("canny", astronaut()).backend == "opencv"


def test_the_backend_that_works_is_offered(tiny_models):
    (tiny_models / "openmmlab--upernet-convnext-small" / "config.json").rename(tiny_models / "away")
    try:
        with pytest.raises(AnnotatorError, match=r"fetch upernet. What works now: .*“segformer”"):
            annotate("segmentation", scene(), backend="upernet")
    finally:
        (tiny_models / "away").rename(tiny_models / "openmmlab--upernet-convnext-small" / "config.json")


def test_public_names_are_all_there():
    for name in annotators.__all__:
        assert getattr(annotators, name) is not None
    with pytest.raises(AttributeError):
        _ = annotators.nothing
