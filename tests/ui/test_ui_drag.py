"""The pictures of a drag: drawn past Gradio's events, for the page whose secret is sent, with its own values."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import gradio as gr
import pytest
from tab_values import PAGE, data_of

from controlnext.recipes.pose import check_pose
from controlnext.recipes.recipe import RecipeError
from controlnext.ui.image.live import DRAWN_AT_ONCE, LiveEvents
from controlnext.ui.pose_editor.poses import standing_pose


@pytest.fixture
def live(events):
    return LiveEvents(events)


@pytest.fixture
def pose(studio):
    return standing_pose(studio.annotators, 256, 256)


def moved(pose: str, by: float) -> str:
    record = json.loads(pose)
    record["people"][0]["pose_keypoints_2d"][12] += by
    return json.dumps(record)


def opened(live: LiveEvents, pose: str, page=PAGE, **values) -> tuple[dict, str]:
    """The values of a page under Live, and the secret that its editor got."""
    tab = live.tab
    data = data_of(live.image, annotator="pose", new_seed=False, seed=7, **values)
    data |= {tab.live: True, tab.pose.editor: check_pose(pose)}
    return data, live.draw(data, page)[tab.pose.editor]["channel"]


def test_a_drag_draws_its_pose_with_the_values_of_the_page(live, studio, pose):
    data, channel = opened(live, pose, prompt="a person in a green coat", gamma=0.75)
    answer = live.tab.pose.drags.server_function()({"channel": channel, "pose": moved(pose, 9)})
    assert answer["picture"].startswith("data:image/jpeg;base64,")
    recipe = studio.live[-1]
    assert recipe.pose == check_pose(moved(pose, 9))
    assert (recipe.prompt, recipe.gamma, recipe.seed) == ("a person in a green coat", 0.75, 7)
    # The page tells the last one the usual way, which then only says what it was.
    data[live.tab.pose.editor] = check_pose(moved(pose, 9))
    said = live.draw(data, PAGE)
    assert live.tab.live_picture not in said
    assert said[live.tab.recipe]["pose"] == recipe.pose
    assert live.draw(data, PAGE) == gr.skip()
    assert len(studio.live) == 2


def test_pages_do_not_draw_for_each_other(live, studio, pose):
    other = SimpleNamespace(session_hash="other")
    _, mine = opened(live, pose, prompt="mine")
    _, theirs = opened(live, pose, page=other, prompt="theirs")
    assert mine != theirs
    live.drag(theirs, moved(pose, 5))
    assert studio.live[-1].prompt == "theirs"
    live.drag(mine, moved(pose, 5))
    assert studio.live[-1].prompt == "mine"


@pytest.mark.parametrize("message", [None, 3, [], "x", {}, {"channel": "x"}, {"channel": None, "pose": None}, {"channel": [], "pose": {}}])  # fmt: skip
def test_a_stranger_gets_nothing_drawn(live, studio, pose, message):
    opened(live, pose)
    assert live.tab.pose.drags.server_function()(message) == {}
    assert len(studio.live) == 1


@pytest.mark.parametrize("sent", ["", "{", "[]", {}, 7, '{"people": 3}', "x" * 10_000_000])
def test_what_is_no_pose_is_not_drawn(live, studio, pose, sent):
    _, channel = opened(live, pose)
    assert live.drag(channel, sent) == {}
    assert len(studio.live) == 1


def test_a_drag_does_not_hide_what_was_made_in_full(live, studio, pose):
    data, channel = opened(live, pose)
    list(live.image.run(data, PAGE))
    assert live.drag(channel, moved(pose, 9)) == {}
    assert live.draw(data | {live.tab.pose.editor: check_pose(moved(pose, 9))}, PAGE)[live.tab.live_picture]["visible"]
    assert live.drag(channel, moved(pose, 12))


def test_a_page_that_is_not_live_any_more_gets_nothing(live, pose):
    data, channel = opened(live, pose)
    live.draw(data | {live.tab.live: False}, PAGE)
    assert live.drag(channel, moved(pose, 9)) == {}


@pytest.fixture
def held(studio, monkeypatch):
    """Live pictures wait for `go` once they have `begun`."""
    begun, go, plain = threading.Semaphore(0), threading.Event(), studio.draw_live

    def slow(*values):
        begun.release()
        assert go.wait(20)
        return plain(*values)

    return SimpleNamespace(begun=begun, go=go, hold=lambda: monkeypatch.setattr(studio, "draw_live", slow))


def test_drags_do_not_take_all_threads_of_the_server(live, pose, held):
    pages = [SimpleNamespace(session_hash=f"page {number}") for number in range(DRAWN_AT_ONCE + 1)]
    *channels, late = [opened(live, pose, page=page)[1] for page in pages]
    held.hold()
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(live.drag, channel, moved(pose, 3)) for channel in channels]
        for _ in waiting:
            assert held.begun.acquire(timeout=20)
        assert live.drag(late, moved(pose, 12)) == {}
        held.go.set()
        assert [list(one.result(20)) for one in waiting] == [["picture", "number"]] * DRAWN_AT_ONCE
    assert live.drag(late, moved(pose, 12))  # the places are free again


def test_the_event_after_a_slow_drag_waits_for_its_picture_and_draws_none_again(live, studio, pose, held):
    data, channel = opened(live, pose)
    held.hold()
    with ThreadPoolExecutor() as pool:
        dragged = pool.submit(live.drag, channel, moved(pose, 9))
        assert held.begun.acquire(timeout=20)
        told = pool.submit(live.draw, data | {live.tab.pose.editor: check_pose(moved(pose, 9))}, PAGE)
        again = held.begun.acquire(timeout=0.3)
        held.go.set()
        assert dragged.result(20)["picture"]
        assert live.tab.live_picture not in told.result(20)
    assert not again
    assert len(studio.live) == 2


def test_the_end_of_a_drag_stops_what_is_being_drawn_of_it(live, studio, pose):
    _, channel = opened(live, pose)
    call = live.tab.pose.drags.server_function()
    studio.step_seconds = 0.2
    with ThreadPoolExecutor() as pool:
        dragged = pool.submit(call, {"channel": channel, "pose": moved(pose, 9), "final": False})
        while not studio.lock.locked():
            assert not dragged.done()
        lifted = pool.submit(call, {"channel": channel, "pose": moved(pose, 12), "final": True})
        assert dragged.result(20) == {}
        assert lifted.result(20)["picture"]
    assert [recipe.pose for recipe in studio.live[1:]] == [check_pose(moved(pose, 12))]
    assert live._passing == {}


def test_the_end_of_a_drag_takes_the_place_of_what_it_stops(live, studio, pose):
    pages = [SimpleNamespace(session_hash=f"page {number}") for number in range(DRAWN_AT_ONCE)]
    channels = [opened(live, pose, page=page)[1] for page in pages]
    studio.step_seconds = 0.1
    with ThreadPoolExecutor() as pool:
        dragged = [pool.submit(live.drag, channel, moved(pose, 9)) for channel in channels]
        while len(live._passing) < len(channels):
            assert not any(one.done() for one in dragged)
        assert live.drag(channels[0], moved(pose, 12), True)["picture"]
        assert dragged[0].result(20) == {}
        assert dragged[1].result(20)["picture"]


def test_a_final_pose_is_not_stopped_by_the_next_one(live, studio, pose):
    _, channel = opened(live, pose)
    studio.step_seconds = 0.05
    with ThreadPoolExecutor() as pool:
        first = pool.submit(live.drag, channel, moved(pose, 9), True)
        while not studio.lock.locked():
            assert not first.done()
        second = pool.submit(live.drag, channel, moved(pose, 12), True)
        assert [bool(one.result(20)) for one in (first, second)] == [True, True]


def test_pictures_have_growing_numbers_whichever_way_they_are_asked_for(live, pose):
    data, channel = opened(live, pose)
    numbers = []
    for by in (1, 2, 3):
        numbers.append(live.drag(channel, moved(pose, by))["number"])
        shown = live.draw(data | {live.tab.pose.editor: check_pose(moved(pose, by + 0.5))}, PAGE)
        numbers.append(int(re.search(r"data-number='(\d+)'", shown[live.tab.live_picture]["value"])[1]))
    assert numbers == sorted(set(numbers))


def test_two_pages_drag_at_once_each_with_its_own_words(live, studio, pose):
    pages = {word: SimpleNamespace(session_hash=word) for word in ("mine", "theirs")}
    channels = {word: opened(live, pose, page=page, prompt=word)[1] for word, page in pages.items()}
    studio.step_seconds = 0.002
    studio.live.clear()

    def drag(word, start):
        return [live.drag(channels[word], moved(pose, start + by)) for by in range(20)]

    with ThreadPoolExecutor() as pool:
        drags = [pool.submit(drag, word, start) for word, start in (("mine", 0), ("theirs", 40))]
        assert all(answer["picture"] for one in drags for answer in one.result(60))
    wanted = {
        word: [check_pose(moved(pose, start + by)) for by in range(20)]
        for word, start in (("mine", 0), ("theirs", 40))
    }
    assert {word: [recipe.pose for recipe in studio.live if recipe.prompt == word] for word in wanted} == wanted


def test_a_drag_that_fails_frees_its_place(live, studio, pose, monkeypatch):
    _, channel = opened(live, pose)

    def broken(*values):
        raise RecipeError("no")

    with monkeypatch.context() as patched:
        patched.setattr(studio, "draw_live", broken)
        assert [live.drag(channel, moved(pose, by)) for by in range(1, DRAWN_AT_ONCE + 2)] == [{}] * (
            DRAWN_AT_ONCE + 1
        )
    assert live.drag(channel, moved(pose, 12))
