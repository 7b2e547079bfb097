"""The pose editor's own parts and handlers, called without a browser."""

from __future__ import annotations

import json

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from tab_values import applied, data_of

import annotators
from annotators.poses.skeleton import COLOURS, HAND_LIMBS, KEYPOINTS, LIMBS
from controlnext.recipes.pictures import picture_digest
from controlnext.recipes.png import write_png
from controlnext.recipes.pose import PoseError, check_pose
from controlnext.ui.image.restore import Restore
from controlnext.ui.pose_editor.component import FOLDER, SCRIPTS, read_part, script
from controlnext.ui.pose_editor.events import PoseEvents
from controlnext.ui.pose_editor.poses import LARGEST_FILE, editable_pose, pose_of_file, standing_pose


@pytest.fixture
def pose(events):
    return PoseEvents(events)


def figure(width=256, height=192, hand=False) -> dict:
    body = [[100.125 + 3 * joint, 40.5 + 5 * joint, 0.9] for joint in range(18)]
    hands = [[[[50.0 + point, 60.0, 0.8] for point in range(21)], None]] if hand else None
    return {"people": [body], "hands": hands, "width": width, "height": height}


def test_its_tables_are_those_of_the_drawing():
    table = json.loads(read_part("skeleton.json"))
    assert table["joints"] == [name.replace("_", " ") for name in KEYPOINTS]
    assert [tuple(limb) for limb in table["limbs"]] == list(LIMBS)
    assert [tuple(limb) for limb in table["handLimbs"]] == list(HAND_LIMBS)
    assert [tuple(bytes.fromhex(colour[1:])) for colour in table["colours"]] == list(COLOURS)


def test_there_are_twelve_poses_with_limbs_alike_left_and_right():
    presets = json.loads(read_part("presets.json"))
    assert len(presets) == 12
    for points in presets.values():
        points = np.array(points)
        assert points.shape == (18, 2)
        for right, left in (((2, 3), (5, 6)), ((3, 4), (6, 7)), ((8, 9), (11, 12)), ((9, 10), (12, 13))):
            lengths = [np.linalg.norm(points[a] - points[b]) for a, b in (right, left)]
            assert lengths[0] == pytest.approx(lengths[1], rel=2e-3)


def test_its_files_lie_next_to_the_module_and_hold_no_template_marks():
    assert all((FOLDER / name).is_file() for name in (*SCRIPTS, "editor.html", "editor.css"))
    assert "${" not in read_part("editor.html")  # Gradio would draw the whole editor again at each change of the value
    assert "`" not in read_part("editor.html") + read_part("editor.css")
    assert "{{" not in read_part("editor.html") + read_part("editor.css")
    assert script().startswith("const SKELETON = {")


def test_a_reading_becomes_a_pose_that_is_drawn_to_the_same_pixels():
    data = figure(hand=True)
    data["people"][0][4][2] = 0.1  # not sure enough to be drawn
    text = editable_pose(annotators, data, 0.3)
    assert annotators.draw_pose(annotators.people_from_json(text)).image.tobytes() == (
        annotators.draw_pose(data).image.tobytes()
    )
    shown = json.loads(text)["people"][0]["pose_keypoints_2d"][2::3]
    assert shown == [float(joint != 4) for joint in range(18)]
    assert len(json.loads(text)["people"][0]["hand_left_keypoints_2d"]) == 63


def test_points_outside_are_kept_hidden():
    data = figure()
    data["people"][0][0] = [255.9999, -3.0, 1.0]
    numbers = json.loads(editable_pose(annotators, data))["people"][0]["pose_keypoints_2d"]
    assert numbers[:3] == [256.0, -3.0, 0.0]


def test_a_standing_figure_fills_any_picture():
    for size in ((256, 256), (512, 768), (768, 512), (64, 1024)):
        pose = json.loads(standing_pose(annotators, *size))
        points = np.array(pose["people"][0]["pose_keypoints_2d"]).reshape(-1, 3)
        assert (pose["canvas_width"], pose["canvas_height"]) == size
        assert (points[:, 2] == 1).all()
        assert max(np.ptp(points[:, 1]) / size[1], np.ptp(points[:, 0]) / size[0]) == pytest.approx(0.8, abs=0.01)


def test_a_file_of_another_program_is_read(tmp_path):
    file = tmp_path / "pose.json"
    body = [
        number for joint in range(25) for number in ((joint + 1) / 40, (joint + 1) / 50, 0.9)
    ]  # 25 points, fractions
    file.write_text(json.dumps({"people": [{"pose_keypoints_2d": body}]}))
    points = np.array(json.loads(pose_of_file(annotators, str(file), (400, 200)))["people"][0]["pose_keypoints_2d"])
    assert points.reshape(-1, 3)[0].tolist() == [10.0, 4.0, 1.0]
    file.write_text(json.dumps([{"people": [{"pose_keypoints_2d": body}], "canvas_width": 400, "canvas_height": 200}]))
    assert json.loads(pose_of_file(annotators, str(file), (1, 1)))["canvas_width"] == 400


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{}", b"[1]", b'{"people": []}', b" " * (LARGEST_FILE + 1)])
def test_a_file_without_a_pose_is_refused(tmp_path, content):
    (tmp_path / "pose.json").write_bytes(content)
    with pytest.raises((PoseError, annotators.AnnotatorError)):
        pose_of_file(annotators, str(tmp_path / "pose.json"), (256, 256))


def test_what_the_browser_sends_is_checked(events):
    editor = events.tab.pose.editor
    text = standing_pose(annotators, 256, 256)
    assert editor.preprocess(text) == text
    assert editor.preprocess("") == editor.preprocess(None) == ""
    for wrong in (text.replace("256", "1e999"), {"people": []}, 5, "null"):
        with pytest.raises(gr.Error):
            editor.preprocess(wrong)


def test_without_a_picture_a_standing_figure_is_the_condition(pose, events):
    update = pose.open(data_of(events))
    text = check_pose(update[events.tab.pose.editor])
    assert update[events.tab.pose.pair]["elem_classes"] == ["cnx-pair", "cnx-hidden"]
    assert update[events.tab.pose.group]["elem_classes"] == []
    data = applied(events, {events.tab.pose.editor: text})
    made = events.condition(data)
    assert made.annotation.image.tobytes() == annotators.draw_pose(annotators.people_from_json(text)).image.tobytes()
    recipe = events.recipe(data)
    assert (recipe.annotator, recipe.adapter, recipe.pose, recipe.annotator_settings) == ("pose", "", text, {})


def test_a_ready_made_skeleton_opens_with_its_joints(pose, events, tmp_path):
    drawn = annotators.draw_pose(figure()).image
    drawn.save(tmp_path / "skeleton.png")
    text = pose.open(data_of(events, picture=str(tmp_path / "skeleton.png"), ready_map=True))[events.tab.pose.editor]
    points = np.array(json.loads(text)["people"][0]["pose_keypoints_2d"]).reshape(-1, 3)
    assert np.abs(points[2:14, :2] - np.array(figure()["people"][0])[2:14, :2]).max() < 2


def test_opening_again_keeps_the_edited_pose(pose, events, picture):
    text = standing_pose(annotators, 128, 96)
    data = data_of(events, picture=str(picture)) | {events.tab.pose.editor: text}
    assert pose.open(data)[events.tab.pose.editor] == text
    assert events.size(data | {events.tab.shape: "picture"})[0] > events.size(data | {events.tab.shape: "picture"})[1]


def test_other_kinds_make_their_condition_of_the_picture(pose, events, picture):
    text = standing_pose(annotators, 128, 96)
    data = data_of(events, picture=str(picture), annotator="canny") | {events.tab.pose.editor: text}
    assert events.recipe(data).pose == ""
    assert events.condition(data).label != "Pose editor"
    assert pose.choose_kind("canny")[events.tab.pose.open]["visible"] is False


def test_a_saved_picture_brings_its_edited_pose_back(events, studio, tmp_path, picture):
    text = standing_pose(annotators, 256, 256)
    data = applied(events, {events.tab.pose.editor: text, events.tab.seed: 3, events.tab.new_seed: False})
    recipe = events.recipe(data)
    inputs = events.inputs(data)
    image = inputs.conditions[0].image
    write_png(tmp_path / "made.png", Image.new("RGB", image.size), recipe.with_digests(inputs), image)
    restore = Restore(events.tab, studio, {})
    back = applied(events, restore.uploaded(str(tmp_path / "made.png"), False))
    assert events.recipe(back).pose == text
    assert picture_digest(events.condition(back).annotation.image) == picture_digest(image)
    assert restore.uploaded(str(picture), False)[events.tab.pose.editor] == ""
