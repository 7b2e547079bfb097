"""DWPose around its two models: what goes in, and what is made of what comes out."""

import numpy as np
import pytest
from annotator_helpers import scene

from annotators import ANNOTATORS, annotate
from annotators.poses import dwpose
from annotators.weights import loading


class Session:
    """Stands in for an onnxruntime session."""

    def __init__(self, answer):
        self.answer, self.batches = answer, []

    def get_inputs(self):
        return [type("Input", (), {"name": "input"})()]

    def run(self, outputs, feeds):
        self.batches.append(feeds["input"])
        return self.answer


def detector(boxes, side=640):
    """A detector that puts these (x0, y0, x1, y1, score) boxes, in pixels of its input, into cells of stride 8."""
    raw = np.zeros((1, 8400, 85), np.float32)
    raw[..., 4] = 0.01
    for x0, y0, x1, y1, score in boxes:
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        column, row = int(cx // 8), int(cy // 8)
        cell = raw[0, row * (side // 8) + column]
        cell[:4] = cx / 8 - column, cy / 8 - row, np.log((x1 - x0) / 8), np.log((y1 - y0) / 8)
        cell[4], cell[5] = score, 1
    return Session([raw])


def pose(places, confidence=0.9):
    """A pose model that answers these 133 places in pixels of its 288x384 input."""
    xs, ys = np.zeros((1, 133, 576), np.float32), np.zeros((1, 133, 768), np.float32)
    for i, (x, y) in enumerate(places):
        xs[0, i, int(2 * x)] = confidence
        ys[0, i, int(2 * y)] = confidence
    return Session([xs, ys])


def test_boxes_come_back_in_pixels_without_doubles_surest_first():
    rgb = np.full((320, 480, 3), 7, np.uint8)  # 480 wide fills 640: boxes are 4/3 as large in the detector
    session = detector([(40, 40, 200, 400, 0.6), (48, 48, 208, 408, 0.5), (400, 40, 560, 400, 0.9), (0, 0, 8, 8, 0.2)])
    boxes = dwpose.detect_people(session, rgb)
    assert boxes == pytest.approx(np.array([[300, 30, 420, 300], [30, 30, 150, 300]]), abs=1e-3)
    batch = session.batches[0]
    assert batch.shape == (1, 3, 640, 640)
    assert batch[0, 0, 600, 300] == 114  # padding below the picture
    assert batch[0, 0, 100, 100] == 7


def test_the_detector_reads_bgr():
    session = detector([])
    assert len(dwpose.detect_people(session, np.full((64, 64, 3), (255, 0, 10), np.uint8))) == 0
    assert session.batches[0][0, :, 10, 10] == pytest.approx((10, 0, 255))


def test_points_come_back_in_pixels_of_the_picture():
    rgb = np.zeros((600, 600, 3), np.uint8)
    box = np.array([200.0, 100.0, 392.0, 356.0])  # 192x256 grows by 1.25 to 240x320: the crop is 1.2 times as large
    places = np.full((133, 2), (144.0, 192.0))
    places[0] = (0.0, 0.0)
    points = dwpose.read_points(pose(places), rgb, box)
    assert points[5, :2] == pytest.approx((296, 228))
    assert points[0, :2] == pytest.approx((176, 68))
    assert points[5, 2] == pytest.approx(0.9)


def test_a_person_has_the_openpose_order():
    points = np.stack([np.arange(133.0), np.arange(133.0), np.ones(133)], axis=1)
    person = dwpose.to_person(points)
    assert person.body[:, 0].tolist() == [0, 5.5, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
    assert (len(person.face), len(person.left_hand), len(person.right_hand)) == (68, 21, 21)
    assert person.left_hand[0, 0] == 91
    assert person.right_hand[-1, 0] == 132


def test_dwpose_serves_the_pose_annotator(own_cache, monkeypatch):
    places = np.random.default_rng(0).uniform((40, 40), (240, 340), (133, 2))
    sessions = {"yolox_l.onnx": detector([(100, 20, 500, 460, 0.8)]), "dw-ll_ucoco_384.onnx": pose(places)}
    monkeypatch.setattr(dwpose, "_session", sessions.get)
    dwpose_row = next(backend for backend in ANNOTATORS["pose"].backends if backend.name == "dwpose")
    monkeypatch.setattr("annotators.table._chosen", lambda *_: (dwpose_row, ""))
    plain = annotate("pose", scene(), backend="dwpose")
    assert plain.data["hands"] == [[None, None]]
    assert plain.data["faces"] == [None]
    full = annotate("pose", scene(), backend="dwpose", hands=True, face=True)
    assert len(full.data["hands"][0][0]) == 21
    assert len(full.data["faces"][0]) == 68
    assert full.data["people"] == plain.data["people"]
    loading.unload()


def test_without_onnxruntime_or_files_it_says_so(monkeypatch):
    monkeypatch.setattr(dwpose.importlib.util, "find_spec", lambda name: None)
    assert "pip install onnxruntime" in dwpose.check().reason
    monkeypatch.setattr(dwpose.importlib.util, "find_spec", lambda name: object())
    assert "yzd-v/DWPose (351 MB" in dwpose.check().reason
