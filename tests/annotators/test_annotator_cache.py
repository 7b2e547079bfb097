import threading

import numpy as np
import pytest

from annotators.cache import Cache, digest, freeze, size_of


def test_cache_makes_once_and_keeps():
    cache, made = Cache(1000), []
    for _ in range(3):
        assert cache.get_or_make("a", lambda: made.append(1) or "value") == "value"
    assert made == [1]


def test_cache_forgets_the_least_recently_used_over_budget():
    cache = Cache(300)
    for key in "abc":
        cache.get_or_make(key, lambda: np.zeros(100, np.uint8))
    cache.get_or_make("a", lambda: pytest.fail("a is kept"))
    cache.get_or_make("d", lambda: np.zeros(100, np.uint8))
    assert cache.used == 300
    cache.get_or_make("a", lambda: pytest.fail("a was used last"))
    remade = []
    cache.get_or_make("b", lambda: remade.append(1) or np.zeros(1, np.uint8))
    assert remade


def test_cache_does_not_keep_what_is_larger_than_itself():
    cache = Cache(10)
    assert len(cache.get_or_make("a", lambda: np.zeros(100, np.uint8))) == 100
    assert len(cache) == 0
    assert cache.used == 0


def test_cache_keeps_nothing_of_a_failure_and_tries_again():
    cache = Cache(1000)

    def fail():
        raise ValueError("once")

    with pytest.raises(ValueError, match="once"):
        cache.get_or_make("a", fail)
    assert cache.get_or_make("a", lambda: 5) == 5


def test_cache_lets_a_second_thread_wait_for_the_first():
    cache, entered, leave, results = Cache(1000), threading.Event(), threading.Event(), []

    def slow():
        entered.set()
        leave.wait(5)
        return "first"

    one = threading.Thread(target=lambda: results.append(cache.get_or_make("a", slow)))
    one.start()
    entered.wait(5)
    two = threading.Thread(target=lambda: results.append(cache.get_or_make("a", lambda: "second")))
    two.start()
    leave.set()
    one.join(5)
    two.join(5)
    assert results == ["first", "first"]


def test_digest_names_content_and_shape():
    a = np.arange(24, dtype=np.uint8)
    assert digest(a.reshape(2, 4, 3)) == digest(a.reshape(2, 4, 3).copy())
    assert digest(a.reshape(2, 4, 3)) != digest(a.reshape(4, 2, 3))
    assert digest(a.reshape(2, 4, 3)) == digest(np.asfortranarray(a.reshape(2, 4, 3)))


def test_freeze_and_size_reach_into_results():
    result = {"a": np.zeros((4, 4), np.float32), "b": [np.zeros(8, np.uint8)], "c": "text"}
    assert size_of(result) >= 64 + 8
    freeze(result)
    with pytest.raises(ValueError, match="read-only"):
        result["b"][0][0] = 1
