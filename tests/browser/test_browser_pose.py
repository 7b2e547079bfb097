"""The pose editor in the real page, by pointer, touch and keys."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from conftest import TOURED

import annotators
from controlnext.adherence.skeletons import joints_in_drawing
from controlnext.recipes.png import read_png
from controlnext.ui.pose_editor.component import read_part, script

pytestmark = pytest.mark.browser

RIGHT_WRIST, LEFT_WRIST, LEFT_ELBOW = 4, 7, 6
LIMBS = json.loads(read_part("skeleton.json"))["limbs"]

VALUE = """() => {
  const svg = document.querySelector('#cnx-pose-editor svg');
  const circles = [...svg.querySelectorAll('[data-person] [data-joint]')];
  return circles.map(c => [+c.getAttribute('cx'), +c.getAttribute('cy')]);
}"""

SAVED = """async () => {
  const made = URL.createObjectURL;
  let blob = null;
  URL.createObjectURL = given => { blob = given; return made.call(URL, given); };
  document.querySelector('#cnx-pose-editor [data-do=save]').click();
  URL.createObjectURL = made;
  return await blob.text();
}"""
"""What "Save JSON" saves."""


def opened(page) -> str:
    page.click("#cnx-pose-open")
    page.wait_for_selector("#cnx-pose-editor [data-joint='4']")
    page.evaluate("() => document.querySelector('#cnx-pose-editor svg').scrollIntoView({block: 'center'})")
    return page.evaluate(SAVED)


def points(text: str, person: int = 0) -> np.ndarray:
    return np.array(json.loads(text)["people"][person]["pose_keypoints_2d"]).reshape(-1, 3)


def lengths(places: np.ndarray) -> np.ndarray:
    return np.array([np.linalg.norm(places[a, :2] - places[b, :2]) for a, b in LIMBS])


def middle(page, joint: int, person: int = 0) -> tuple[float, float]:
    box = page.locator(f"#cnx-pose-editor [data-person='{person}'] [data-joint='{joint}']").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def unit(page) -> float:
    """Pixels of the screen to one of the picture."""
    return page.evaluate("() => document.querySelector('#cnx-pose-editor svg').getScreenCTM().a")


def drag(page, joint: int, dx: float, dy: float) -> None:
    """Drag a joint by pixels of the picture."""
    (x, y), scale = middle(page, joint), unit(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx * scale / 2, y + dy * scale / 2, steps=3)
    page.mouse.move(x + dx * scale, y + dy * scale, steps=3)
    page.mouse.up()


def test_a_dragged_wrist_takes_the_elbow_along_and_keeps_every_length(page):
    before = points(opened(page))
    drag(page, LEFT_WRIST, -20, -48)
    after = points(page.evaluate(SAVED))
    assert after[LEFT_WRIST, :2] - before[LEFT_WRIST, :2] == pytest.approx([-20, -48], abs=0.05)
    assert np.abs(lengths(after) / lengths(before) - 1).max() < 0.01
    assert np.linalg.norm(after[LEFT_ELBOW] - before[LEFT_ELBOW]) > 2
    still = [joint for joint in range(18) if joint not in (LEFT_WRIST, LEFT_ELBOW)]
    assert after[still].tolist() == before[still].tolist()


def test_undo_gives_the_bytes_back_and_redo_the_change(page):
    before = opened(page)
    drag(page, RIGHT_WRIST, 10, -30)
    changed = page.evaluate(SAVED)
    assert changed != before
    page.keyboard.press("Control+z")
    assert page.evaluate(SAVED) == before
    page.keyboard.press("Control+Shift+Z")
    assert page.evaluate(SAVED) == changed
    page.click("#cnx-pose-editor [data-do=undo]")
    assert page.evaluate(SAVED) == before


def test_without_the_lock_a_joint_moves_alone(page):
    before = points(opened(page))
    page.uncheck("#cnx-pose-editor .pe-keep")
    drag(page, LEFT_ELBOW, 15, 5)
    after = points(page.evaluate(SAVED))
    assert (after[LEFT_ELBOW] - before[LEFT_ELBOW])[:2] == pytest.approx([15, 5], abs=0.05)
    assert np.delete(after, LEFT_ELBOW, axis=0).tolist() == np.delete(before, LEFT_ELBOW, axis=0).tolist()


def test_the_condition_and_the_picture_follow_the_editor(page, studio):
    opened(page)
    drag(page, LEFT_WRIST, -20, -48)
    text = page.evaluate(SAVED)
    page.fill("#cnx-prompt textarea", "a person")
    page.click("#cnx-generate")
    page.wait_for_selector("#cnx-summary:has-text('follows')")
    recipe, inputs = studio.recipes[-1], studio.inputs[-1]
    assert recipe.pose == text
    drawn = np.asarray(inputs.conditions[0])
    assert drawn.tolist() == np.asarray(annotators.draw_pose(annotators.people_from_json(text)).image).tolist()
    (found,) = joints_in_drawing(drawn)
    body = slice(2, 14)  # the dots of a face of this size overlap
    assert np.abs(found[body, :2] - points(text)[body, :2]).max() < 1
    assert read_png(studio.output_dir / f"{len(studio.recipes):04d}-{recipe.seed}.png").pose == text


def test_the_arrow_keys_move_and_delete_hides(page):
    before = points(opened(page))
    page.focus(f"#cnx-pose-editor [data-joint='{LEFT_WRIST}']")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowUp")
    after = points(page.evaluate(SAVED))
    assert (after - before)[LEFT_WRIST] == pytest.approx([0, -11, 0], abs=0.01)
    assert "left wrist" in page.inner_text("#cnx-pose-editor .pe-said")
    page.keyboard.press("Delete")
    assert points(page.evaluate(SAVED))[LEFT_WRIST, 2] == 0
    page.keyboard.press("Delete")
    assert points(page.evaluate(SAVED))[LEFT_WRIST].tolist() == after[LEFT_WRIST].tolist()
    page.focus("#cnx-pose-editor [data-handle=move]")
    page.keyboard.press("Shift+ArrowRight")
    assert (points(page.evaluate(SAVED)) - after)[:, 0] == pytest.approx(10, abs=0.01)


def test_figures_are_added_copied_mirrored_and_deleted(page):
    first = points(opened(page))
    editor = "#cnx-pose-editor"
    page.click(f"{editor} [data-do=add]")
    page.select_option(f"{editor} .pe-presets", "Running")
    text = page.evaluate(SAVED)
    assert len(json.loads(text)["people"]) == 2
    assert points(text).tolist() == first.tolist()
    page.click(f"{editor} [data-do=copy]")
    page.click(f"{editor} [data-do=mirror]")
    two, three = (points(page.evaluate(SAVED), person) for person in (1, 2))
    wide = [places[:, 0].max() - places[:, 0].min() for places in (two, three)]
    assert wide[0] == pytest.approx(wide[1], abs=0.01)
    assert three[RIGHT_WRIST, 1] == two[LEFT_WRIST, 1]
    page.click(f"{editor} [data-do=remove]")
    page.click(f"{editor} [data-do=remove]")
    assert len(json.loads(page.evaluate(SAVED))["people"]) == 1
    assert page.is_disabled(f"{editor} [data-do=remove]")


def test_whole_figures_are_scaled_and_turned_by_their_handles(page):
    before = points(opened(page))
    centre = (before[:, :2].max(axis=0) + before[:, :2].min(axis=0)) / 2
    for handle, angle, scale in (("turn", 30, 1.0), ("scale", 0, 0.8)):
        box = page.locator(f"#cnx-pose-editor [data-handle={handle}]").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        matrix = page.evaluate(
            "() => { const m = document.querySelector('#cnx-pose-editor svg').getScreenCTM(); return [m.a, m.e, m.f]; }"
        )
        middle_x, middle_y = matrix[0] * centre[0] + matrix[1], matrix[0] * centre[1] + matrix[2]
        turn = np.radians(angle)
        dx, dy = scale * (x - middle_x), scale * (y - middle_y)
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(
            middle_x + np.cos(turn) * dx - np.sin(turn) * dy, middle_y + np.sin(turn) * dx + np.cos(turn) * dy, steps=4
        )
        page.mouse.up()
        after = points(page.evaluate(SAVED))
        assert lengths(after) == pytest.approx(scale * lengths(before), rel=0.02)
        limb = (after - before)[12, :2]
        assert np.linalg.norm(limb) > 3
        page.click("#cnx-pose-editor [data-do=undo]")


def opened_on_a_phone(chromium, url: str, width: int, height: int):
    """Return the page on a screen for fingers, with the editor open."""
    page = chromium.new_context(viewport={"width": width, "height": height}, has_touch=True, is_mobile=True).new_page()
    page.add_init_script(TOURED)
    page.set_default_timeout(60_000)
    page.goto(url)
    page.wait_for_selector("#cnx-generate")
    page.evaluate("() => document.querySelector('#cnx-pose-open').click()")
    page.wait_for_selector("#cnx-pose-editor [data-joint='7']")
    return page


def test_a_finger_drags_from_24_pixels_around_a_joint(chromium, served, studio):
    page = opened_on_a_phone(chromium, served[0], 420, 900)
    page.locator("#cnx-pose-editor svg").scroll_into_view_if_needed()
    before = points(page.evaluate(SAVED))
    (x, y), scale = middle(page, LEFT_WRIST), unit(page)
    x += 11  # of the 12 on this side; nothing else is nearer
    client = page.context.new_cdp_session(page)
    touch = lambda kind, *place: client.send(  # noqa: E731
        "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": place[0], "y": place[1]}] if place else []}
    )
    touch("touchStart", x, y)
    touch("touchMove", x, y - 10 * scale)
    touch("touchMove", x, y - 30 * scale)
    touch("touchEnd")
    after = points(page.evaluate(SAVED))
    assert (after - before)[LEFT_WRIST, :2] == pytest.approx([0, -30], abs=0.6)
    page.context.close()


PLACE = """([x, y]) => {
  const svg = document.querySelector('#cnx-pose-editor svg');
  const place = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM().inverse());
  return [place.x, place.y];
}"""
"""Where a point of the screen lies in the picture."""


CIRCLES = "document.querySelectorAll('#cnx-pose-editor svg circle').length"


def view(page) -> list[float]:
    return [float(part) for part in page.get_attribute("#cnx-pose-editor svg", "viewBox").split()]


def test_the_wheel_zooms_where_the_pointer_is_and_the_background_pans(page):
    text = opened(page)
    whole, (x, y) = view(page), middle(page, LEFT_WRIST)
    wrist = page.evaluate(PLACE, [x, y])
    page.mouse.move(x, y)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -500)
    page.keyboard.up("Control")
    page.wait_for_function(
        "width => document.querySelector('#cnx-pose-editor svg').viewBox.baseVal.width < width", arg=whole[2] / 2
    )
    assert page.evaluate(PLACE, [x, y]) == pytest.approx(wrist, abs=0.5)
    drag(page, LEFT_WRIST, -6, -9)  # as far as in the whole picture, to a fraction of a pixel
    moved = points(page.evaluate(SAVED))[LEFT_WRIST] - points(text)[LEFT_WRIST]
    assert moved[:2] == pytest.approx([-6, -9], abs=0.3)
    page.click("#cnx-pose-editor [data-do=undo]")
    page.click("#cnx-pose-editor [data-do=fit]")
    assert view(page) == whole

    page.click("#cnx-pose-editor [data-do=in]")
    box = page.locator("#cnx-pose-editor svg").bounding_box()
    before, scale = view(page), unit(page)
    page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 0.9 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.95 * box["width"] - 40, box["y"] + 0.9 * box["height"] - 25, steps=4)
    page.mouse.up()
    after = view(page)
    assert after[2:] == before[2:]
    assert (before[0] - after[0], before[1] - after[1]) == pytest.approx((-40 / scale, -25 / scale), abs=0.5)
    assert page.evaluate(SAVED) == text


def test_two_fingers_zoom_and_change_no_pose(chromium, served, studio):
    page = opened_on_a_phone(chromium, served[0], 420, 900)
    page.locator("#cnx-pose-editor svg").scroll_into_view_if_needed()
    text, whole, (x, y) = page.evaluate(SAVED), view(page), middle(page, LEFT_WRIST)
    client = page.context.new_cdp_session(page)
    touch = lambda kind, *places: client.send(  # noqa: E731
        "Input.dispatchTouchEvent",
        {"type": kind, "touchPoints": [{"x": a, "y": b, "id": number} for number, (a, b) in enumerate(places)]},
    )
    touch("touchStart", (x, y))
    touch("touchStart", (x, y), (x - 40, y))
    for span in (60, 90, 120):
        touch("touchMove", (x, y), (x - span, y))
    touch("touchEnd", (x, y))
    touch("touchMove", (x + 30, y + 30))  # one finger is still there
    touch("touchEnd")
    assert view(page)[2] == pytest.approx(whole[2] / 3, rel=0.05)
    assert page.evaluate(SAVED) == text
    page.context.close()


def test_a_point_of_a_hand_moves_alone_once_it_is_near(page, tmp_path):
    record = json.loads(opened(page))
    person = record["people"][0]
    wrist = points(json.dumps(record))[LEFT_WRIST, :2]
    hand = np.stack([[wrist[0] + number - 10, wrist[1] - 8 - number % 5, 1] for number in range(21)])
    person["hand_left_keypoints_2d"] = hand.ravel().tolist()
    file = tmp_path / "hand.json"
    file.write_text(json.dumps(record))
    circles = page.evaluate(CIRCLES)
    with page.expect_file_chooser() as chooser:
        page.click("#cnx-pose-load")
    chooser.value.set_files(file)
    page.wait_for_function(f"count => {CIRCLES} >= count + 21", arg=circles)
    (x, y), tip = middle(page, LEFT_WRIST), 20
    before = json.loads(page.evaluate(SAVED))["people"][0]
    page.mouse.move(x, y)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -700)
    page.keyboard.up("Control")
    page.wait_for_function("() => document.querySelector('#cnx-pose-editor svg').viewBox.baseVal.width < 100")
    scale = unit(page)
    x, y = x + 10 * scale, y - 8 * scale
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 4 * scale, y - 5 * scale, steps=4)
    page.mouse.up()
    after = json.loads(page.evaluate(SAVED))["people"][0]
    assert after["pose_keypoints_2d"] == before["pose_keypoints_2d"]
    moved = np.subtract(after["hand_left_keypoints_2d"], before["hand_left_keypoints_2d"]).reshape(-1, 3)
    assert moved[tip, :2] == pytest.approx([4, -5], abs=0.4)
    assert not moved[:tip].any()


def test_two_pages_edit_poses_of_their_own(page, chromium, served, studio):
    other = chromium.new_page()
    other.add_init_script(TOURED)
    other.set_default_timeout(20_000)
    other.goto(served[0])
    other.wait_for_selector("#cnx-generate")
    for one, dx in ((page, -12), (other, 14)):
        opened(one)
        drag(one, LEFT_WRIST, dx, -30)
    texts = [one.evaluate(SAVED) for one in (page, other)]
    assert texts[0] != texts[1]
    for one, text in zip((page, other), texts, strict=True):
        one.click("#cnx-generate")
        one.wait_for_selector("#cnx-summary:has-text('follows')")
        assert studio.recipes[-1].pose == text
    other.close()


def test_the_picture_s_own_pose_comes_back(page):
    opened(page)
    drag(page, LEFT_WRIST, -20, -48)
    page.wait_for_selector("#cnx-served:has-text('Pose editor')")
    page.click("#cnx-pose-discard")
    page.wait_for_function("() => !document.querySelector('#cnx-served').innerText.includes('Pose editor')")
    page.wait_for_selector("#cnx-picture")


def test_a_pose_is_loaded_from_json(page, tmp_path):
    saved = json.loads(opened(page))
    saved["people"][0]["pose_keypoints_2d"][3 * LEFT_WRIST : 3 * LEFT_WRIST + 2] = [200.5, 30.25]
    (tmp_path / "pose.json").write_text(json.dumps(saved, indent=2))
    with page.expect_file_chooser() as chooser:
        page.click("#cnx-pose-load")
    chooser.value.set_files(tmp_path / "pose.json")
    page.wait_for_function(
        f"() => document.querySelector('#cnx-pose-editor [data-joint=\"{LEFT_WRIST}\"]').getAttribute('cx') === '200.5'"
    )
    assert points(page.evaluate(SAVED))[LEFT_WRIST].tolist() == [200.5, 30.25, 1]


LIVE = "#cnx-live-picture img"


def test_live_redraws_during_the_drag_and_ends_on_the_last_change(page, studio):
    opened(page)
    studio.live.clear()
    page.check("#cnx-live input")
    page.wait_for_selector(LIVE)
    page.wait_for_selector("#cnx-new-seed input:not(:checked)")
    (x, y), scale = middle(page, LEFT_WRIST), unit(page)
    page.mouse.move(x, y)
    page.mouse.down()
    before, calls = len(studio.live), []
    page.on(
        "request", lambda request: calls.append(request.post_data_json) if "component_server" in request.url else None
    )
    for step in range(1, 30):
        page.mouse.move(x - step * scale / 2, y - 1.5 * step * scale)
        page.wait_for_timeout(40)
    during = len(studio.live)
    assert during - before >= 3
    page.mouse.up()
    text = page.evaluate(SAVED)
    page.wait_for_selector("#cnx-summary:has-text('follows 90 %')")
    page.wait_for_selector(
        f"#cnx-pose-editor [data-joint='{RIGHT_WRIST}'][stroke='#ff2d2d']"
    )  # the joint that is off glows
    assert studio.live[-1].pose == text
    assert [call["data"]["final"] for call in calls] == [False] * (len(calls) - 1) + [True]
    assert len(calls) >= 3  # not by events of Gradio's, which hold the page up
    assert len({recipe.seed for recipe in studio.live}) == 1
    assert (studio.live[-1].num_inference_steps, studio.live[-1].guidance_scale) == (4, 1.0)
    assert "4 steps" in page.inner_text("#cnx-progress")


def test_live_follows_sliders_and_words_and_stops_when_it_is_off(page, studio):
    page.check("#cnx-live input")
    opened(page)
    page.wait_for_selector(LIVE)
    page.fill("#cnx-prompt textarea", "a person in a green coat")
    page.fill("#cnx-gamma input[type=number]", "0.5")
    page.press("#cnx-gamma input[type=number]", "Tab")
    for _ in range(100):
        if (studio.live[-1].prompt, studio.live[-1].gamma) == ("a person in a green coat", 0.5):
            break
        page.wait_for_timeout(50)
    assert (studio.live[-1].prompt, studio.live[-1].gamma) == ("a person in a green coat", 0.5)
    page.uncheck("#cnx-live input")
    page.wait_for_selector(LIVE, state="hidden")
    count = len(studio.live)
    page.fill("#cnx-prompt textarea", "something else")
    page.wait_for_timeout(500)
    assert len(studio.live) == count


def test_generate_makes_the_full_picture_with_the_seed_of_the_live_one(page, studio):
    opened(page)
    page.check("#cnx-live input")
    page.wait_for_selector(LIVE)
    page.wait_for_selector("#cnx-new-seed input:not(:checked)")
    page.click("#cnx-generate")
    page.wait_for_selector("#cnx-gallery img")
    assert page.is_hidden(LIVE)
    assert studio.recipes[-1].seed == studio.live[-1].seed
    assert (studio.recipes[-1].num_inference_steps, studio.recipes[-1].precision) == (20, "")


# The kinematics, compared with numpy


@pytest.fixture(scope="module")
def kinematics(chromium):
    """Calls a function of the script with JSON values."""
    text = script()
    pure = text[: text.index("// State of the pose editor")]
    tab = chromium.new_page()
    yield lambda name, *values: tab.evaluate(f"values => {{ {pure}; return {name}(...values); }}", list(values))
    tab.close()


def turned(vector: np.ndarray, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]]) @ vector


def reference_chain(root, middle, end, target):
    """Two-bone inverse kinematics by the law of cosines, on angles."""
    upper, lower = np.linalg.norm(middle - root), np.linalg.norm(end - middle)
    reach = np.clip(np.linalg.norm(target - root), abs(upper - lower), upper + lower)
    heading = np.arctan2(*(target - root)[::-1])
    inner = np.arccos(np.clip((upper**2 + reach**2 - lower**2) / (2 * upper * reach), -1, 1))
    side = np.sign(np.linalg.det([end - root, middle - root])) or 1.0
    place = root + turned(np.array([upper, 0]), heading + side * inner)
    return place, root + turned(np.array([reach, 0]), heading)


@pytest.mark.parametrize("seed", range(12))
def test_two_bones_agree_with_numpy(kinematics, seed):
    random = np.random.default_rng(seed)
    root, middle_place, end, target = random.uniform(0, 256, (4, 2))
    made = kinematics("twoBone", *(place.tolist() for place in (root, middle_place, end, target)))
    wanted = reference_chain(root, middle_place, end, target)
    # a stretched chain asks for the arc cosine of 1, where half of the digits are lost
    assert made["middle"] == pytest.approx(wanted[0].tolist(), abs=1e-4)
    assert made["end"] == pytest.approx(wanted[1].tolist(), abs=1e-4)


def test_two_bones_out_of_reach_stretch_and_never_break(kinematics):
    far = kinematics("twoBone", [0, 0], [10, 2], [18, 0], [1000, 0])
    total = np.hypot(10, 2) + np.hypot(8, 2)
    assert far["end"] == pytest.approx([total, 0])
    for case in (
        [[0, 0], [10, 0], [20, 0], [0, 0]],
        [[0, 0], [0, 0], [0, 0], [5, 5]],
        [[3, 3], [3, 3], [9, 3], [3, 3]],
    ):
        made = kinematics("twoBone", *case)
        assert np.isfinite([made["middle"], made["end"]]).all()


@pytest.mark.parametrize("joint", range(18))
def test_a_pulled_joint_keeps_every_length(kinematics, joint):
    standing = json.loads(read_part("presets.json"))["Waving"]
    person = kinematics("figureOf", standing, 256, 256)
    before = np.array(person["body"])
    moved = np.array(kinematics("pulled", person, joint, [140, 90], True)["body"])
    assert lengths(moved) == pytest.approx(lengths(before), rel=1e-9)
    if joint != 1:
        free = np.array(kinematics("pulled", person, joint, [140, 90], False)["body"])
        assert free[joint, :2].tolist() == [140, 90]
        assert np.delete(free, joint, 0).tolist() == np.delete(before, joint, 0).tolist()


def test_mirroring_twice_and_turning_around_give_the_figure_back(kinematics):
    person = kinematics("figureOf", json.loads(read_part("presets.json"))["Kicking"], 256, 256)
    twice = kinematics("mirrored", kinematics("mirrored", person))
    assert np.array(twice["body"]) == pytest.approx(np.array(person["body"]))
    back = kinematics("turned", kinematics("turned", person, [128, 128], 0.7, 1.3), [128, 128], -0.7, 1 / 1.3)
    assert np.array(back["body"]) == pytest.approx(np.array(person["body"]))


def test_hands_go_with_their_wrist_and_turn_with_the_forearm(kinematics):
    person = kinematics("figureOf", json.loads(read_part("presets.json"))["Standing"], 256, 256)
    x, y = person["body"][LEFT_WRIST][:2]
    person["left"] = [[x + finger % 5, y + finger // 5, 1] for finger in range(21)]
    moved = kinematics("pulled", person, LEFT_WRIST, [x + 20, y - 60], True)
    old, new = (np.array(one["body"])[:, :2] for one in (person, moved))
    angle = np.subtract(*(np.arctan2(*(p[LEFT_WRIST] - p[LEFT_ELBOW])[::-1]) for p in (new, old)))
    wanted = [new[LEFT_WRIST] + turned(np.array(point[:2]) - old[LEFT_WRIST], angle) for point in person["left"]]
    assert np.array(moved["left"])[:, :2] == pytest.approx(np.array(wanted))


def test_the_script_says_no_name_of_gradio_s_properties_in_quotes():
    """Gradio takes a quoted name of a property for an event, and then cannot update it."""
    assert not re.search(r"""['"`](photo|live|drift|channel|target|recording)['"`]""", script())
