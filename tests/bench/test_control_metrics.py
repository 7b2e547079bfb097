"""The metrics of ControlBench against brute force, and against packages where they are installed."""

import numpy as np
import pytest
import torch
from PIL import Image

from controlnext.adherence.measure import Asked
from controlnext.bench.quality import control_metrics as metrics
from controlnext.bench.quality.control_metrics import ClassCounts, clip_figures, flicker, limb_ratio_error, oks

RNG = np.random.default_rng(0)


def as_asked(array, data=None):
    return Asked(Image.fromarray(np.asarray(array, np.uint8)), data)


def grey(array):
    return as_asked(np.repeat(np.asarray(array, np.uint8)[..., None], 3, axis=2))


def test_exact_f1_counts_pixels():
    one, other = RNG.random((2, 12, 17)) < 0.3
    right = sum(a and b for a, b in zip(one.ravel(), other.ravel(), strict=True))
    expected = 2 * right / (one.sum() + other.sum())
    assert metrics.exact_f1(grey(one * 255), grey(other * 255)) == pytest.approx(expected, abs=1e-12)
    shifted = np.roll(one, 1, axis=1)
    assert metrics.exact_f1(grey(one * 255), grey(shifted * 255)) < metrics.METRICS["canny"][1].measure(
        grey(one * 255), grey(shifted * 255)
    )


def test_depth_rmse_is_on_the_scale_of_pictures():
    one, other = RNG.integers(0, 256, (2, 9, 7))
    total = 0
    for y in range(9):
        for x in range(7):
            total += (int(one[y, x]) - int(other[y, x])) ** 2
    assert metrics.depth_rmse(grey(one), grey(other)) == pytest.approx((total / 63) ** 0.5, abs=1e-9)
    assert metrics.depth_rmse(grey(np.zeros((4, 4))), grey(np.full((4, 4), 255))) == 255


def test_ssim_is_scikit_images():
    skimage = pytest.importorskip("skimage.metrics")
    one, other = RNG.integers(0, 256, (2, 24, 24), dtype=np.uint8)
    assert metrics.line_ssim(grey(one), grey(one)) == 1
    assert metrics.line_ssim(grey(one), grey(other)) == skimage.structural_similarity(one, other, data_range=255)


def brute_iou(pairs):
    codes = {tuple(pixel) for asked, _ in pairs for pixel in asked.reshape(-1, 3)}
    values = []
    for code in codes:
        both = either = 0
        for asked, found in pairs:
            a, b = (asked == code).all(-1), (found == code).all(-1)
            both, either = both + (a & b).sum(), either + (a | b).sum()
        values.append(both / either)
    return np.mean(values)


def test_classes_are_counted_over_the_data_set():
    colours = np.array([[0, 0, 0], [200, 10, 10], [10, 200, 10], [5, 5, 90]])
    pairs = [tuple(colours[RNG.integers(0, most, (2, 6, 5))]) for most in (2, 3, 4)]
    counts = ClassCounts()
    counts.add([(as_asked(a), as_asked(b)) for a, b in pairs[:2]])
    counts.add([(as_asked(a), as_asked(b)) for a, b in pairs[2:]])
    assert counts.value() == pytest.approx(brute_iou(pairs), abs=1e-12)
    assert counts.value(np.array([1, 1])) == pytest.approx(brute_iou(pairs[2:]), abs=1e-12)


def figure(shift=0.0, seed=3):
    person = np.ones((18, 3))
    person[:, :2] = np.random.default_rng(seed).uniform(10, 90, (18, 2)) + shift
    return person


def test_oks_is_coco_s_formula():
    asked, found = figure(), figure(2.0)
    asked[4, 2] = 0.0  # asks for nothing there
    found[10, 2] = 0.0  # was not found
    joints = [joint for joint in range(18) if joint != 1]
    shown = [joint for joint in joints if joint != 4]
    xs, ys = asked[shown, 0], asked[shown, 1]
    area = 0.53 * (xs.max() - xs.min()) * (ys.max() - ys.min())
    total = 0.0
    for place, joint in enumerate(joints):
        if joint == 4:
            continue
        k = 2 * metrics.OKS_SIGMAS[place]
        square = ((asked[joint, :2] - found[joint, :2]) ** 2).sum()
        total += 0.0 if joint == 10 else np.exp(-square / (2 * area * k * k))
    assert oks(asked, found) == pytest.approx(total / 16, abs=1e-9)
    assert oks(asked, asked) == 1
    assert np.isnan(oks(np.zeros((18, 3)), found))


def test_classes_are_those_of_torchmetrics():
    classification = pytest.importorskip("torchmetrics.functional.classification")
    labels = RNG.integers(0, 3, (2, 8, 9))
    colours = np.array([[0, 0, 0], [200, 10, 10], [10, 200, 10]])
    counts = ClassCounts()
    counts.add([tuple(as_asked(colours[one]) for one in labels)])
    asked, found = (torch.from_numpy(one) for one in labels)
    expected = classification.multiclass_jaccard_index(found, asked, num_classes=3, average="macro")
    assert counts.value() == pytest.approx(float(expected), abs=1e-6)


def test_oks_is_that_of_pycocotools():
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    asked, found = figure(), figure(2.0)
    shown = asked[list(metrics.COCO_JOINTS)]
    # COCO's own order: nose, then eyes and ears, then limbs, left before right
    order = [metrics.COCO_JOINTS.index(joint) for joint in (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)]
    low, high = shown[:, :2].min(0), shown[:, :2].max(0)
    evaluation = cocoeval.COCOeval(iouType="keypoints")
    evaluation.params.imgIds, evaluation.params.catIds = [1], [1]
    real = {
        "keypoints": np.column_stack([shown[order, :2], np.full(17, 2)]).ravel().tolist(), "id": 1, "ignore": 0, "iscrowd": 0,
        "bbox": [*low, *(high - low)], "area": metrics.BOX_SHARE * float(np.prod(high - low)), "num_keypoints": 17,
    }  # fmt: skip
    seen = found[list(metrics.COCO_JOINTS)][order]
    evaluation._gts[1, 1] = [real]
    evaluation._dts[1, 1] = [
        {"keypoints": np.column_stack([seen[:, :2], np.full(17, 2)]).ravel().tolist(), "score": 1.0}
    ]
    assert oks(asked, found) == pytest.approx(float(evaluation.computeOks(1, 1)[0, 0]), abs=1e-9)


def test_people_are_paired_once_and_missing_ones_count():
    one, two = figure(), figure(40.0, seed=4)
    asked = Asked(Image.new("RGB", (160, 160)), {"people": [one, two]})
    both = Asked(asked.image, {"people": [two, one]})
    half = Asked(asked.image, {"people": [two]})
    assert metrics.pose_oks(asked, both) == 1
    assert metrics.pose_oks(asked, half) == 0.5
    assert metrics.pose_oks(asked, Asked(asked.image, {"people": []})) == 0


def test_limbs_are_compared_as_shares_and_not_as_lengths():
    person = figure()
    larger = person.copy()
    larger[:, :2] *= 3
    assert limb_ratio_error(person, larger) == pytest.approx(0, abs=1e-12)
    bent = person.copy()
    bent[4, :2] = bent[3, :2] + 2 * (bent[4, :2] - bent[3, :2])  # one forearm twice as long
    lengths = [np.linalg.norm(person[a, :2] - person[b, :2]) for a, b in metrics.LIMBS]
    assert lengths[1] < max(lengths)
    assert limb_ratio_error(person, bent) == pytest.approx(1 / 7, abs=1e-9)
    assert np.isnan(limb_ratio_error(np.zeros((18, 3)), person))


def test_only_the_still_background_flickers():
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    frames[1] = 51
    moving = np.zeros((3, 4, 4), bool)
    assert flicker(frames, moving) == pytest.approx(0.2)
    moving[1] = True
    assert np.isnan(flicker(frames, moving))


def test_a_clip_that_shows_what_was_asked_is_perfect():
    people = [figure(shift) for shift in range(3)]
    frames = np.zeros((3, 128, 128, 3), np.uint8)
    figures = clip_figures(people, [[person] for person in people], frames)
    assert figures == {"PCK@0.1": 1, "limb-ratio error": 0, "flicker": 0}
    assert clip_figures(people, [[people[0]], [], [people[2]]], frames)["PCK@0.1"] == pytest.approx(2 / 3)
