import threading
import time

import pytest

from controlnext.progress import Cancelled
from controlnext.studio.turns import Turns


def test_the_first_waits_for_nobody():
    places = []
    with Turns().take(places.append, threading.Event()):
        assert places == []


def test_runs_take_turns_in_the_order_they_came_and_know_their_place():
    turns, order, places = Turns(), [], {number: [] for number in range(3)}
    threads = []

    def run(number: int) -> None:
        with turns.take(places[number].append, threading.Event()):
            order.append(number)

    with turns.take(lambda place: None, threading.Event()):
        for number in range(3):
            threads.append(threading.Thread(target=run, args=(number,)))
            threads[-1].start()
            while not places[number]:
                time.sleep(0.01)
        assert {number: seen[0] for number, seen in places.items()} == {0: 1, 1: 2, 2: 3}
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2]
    assert all(seen == sorted(seen, reverse=True) for seen in places.values())


def test_one_who_leaves_the_line_lets_the_next_move_up():
    turns, cancel, places = Turns(), threading.Event(), []
    left = threading.Event()

    def leave() -> None:
        with pytest.raises(Cancelled), turns.take(lambda place: None, cancel):
            raise AssertionError("it was no turn of this one")
        left.set()

    with turns.take(lambda place: None, threading.Event()):
        first = threading.Thread(target=leave)
        first.start()
        while len(turns._line) < 2:
            time.sleep(0.01)
        done = threading.Event()
        second = threading.Thread(target=lambda: _through(turns, places, done))
        second.start()
        while not places:
            time.sleep(0.01)
        cancel.set()
        assert left.wait(10)
        while places[-1] != 1:
            time.sleep(0.01)
        assert not done.is_set()
    assert done.wait(10)
    assert places == [2, 1]


def test_a_turn_ends_with_an_error_too():
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.take(lambda place: None, threading.Event()):
        1 / 0  # noqa: B018 - the error is the test
    with turns.take(lambda place: pytest.fail("nobody is left"), threading.Event()):
        pass


def _through(turns: Turns, places: list[int], done: threading.Event) -> None:
    with turns.take(places.append, threading.Event()):
        done.set()
