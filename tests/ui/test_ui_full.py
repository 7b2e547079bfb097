"""A live picture never replaces the full one of the same recipe, whichever of the two is drawn first."""

from __future__ import annotations

import gradio as gr
from PIL import Image
from tab_values import PAGE, data_of

from controlnext.ui.image.live import LiveEvents


def live_data(events, **values) -> dict:
    return data_of(events, **values) | {events.tab.live: True}


def shows(update: object, part: object) -> bool:
    return isinstance(update, dict) and part in update and update[part].get("visible") is True


def test_live_is_drawn_until_the_same_is_made_in_full(events):
    live, tab = LiveEvents(events), events.tab
    data = live_data(events, prompt="a person", new_seed=False, seed=7, count=2)
    assert shows(live.draw(data, PAGE), tab.live_picture)
    last = list(events.run(data, PAGE))[-1]
    assert last[tab.gallery]["visible"] is True
    assert last[tab.live_picture]["visible"] is False
    assert live.draw(data, PAGE) == gr.skip()
    changed = live_data(events, prompt="a dog", new_seed=False, seed=7, count=2)
    assert shows(live.draw(changed, PAGE), tab.live_picture)
    assert shows(live.draw(data, PAGE), tab.live_picture)  # back again: the full one is gone by now


def test_a_change_that_is_sent_twice_is_drawn_once(events, studio):
    live = LiveEvents(events)
    data = live_data(events, prompt="a person", new_seed=False, seed=7)
    live.draw(data, PAGE)
    assert live.draw(data, PAGE) == gr.skip()
    assert len(studio.live) == 1
    live.draw(data | {events.tab.live: False}, PAGE)  # switched off, then on again
    assert shows(live.draw(data, PAGE), events.tab.live_picture)


def test_a_live_picture_that_a_full_one_has_hidden_is_drawn_again(events):
    live = LiveEvents(events)
    first = live_data(events, prompt="a person", new_seed=False, seed=7)
    live.draw(first, PAGE)
    list(events.run(live_data(events, prompt="a dog", new_seed=False, seed=7), PAGE))
    assert shows(live.draw(first, PAGE), events.tab.live_picture)


def test_another_picture_with_the_same_settings_is_drawn_live(events, picture, tmp_path):
    live, tab = LiveEvents(events), events.tab
    data = live_data(events, picture=str(picture), new_seed=False, seed=7)
    list(events.run(data, PAGE))
    other = tmp_path / "other.png"
    Image.open(picture).rotate(90, expand=True).save(other)
    assert live.draw(data, PAGE) == gr.skip()
    assert shows(live.draw(data | {tab.picture: str(other)}, PAGE), tab.live_picture)


def test_a_live_picture_that_was_begun_before_generate_is_not_shown_after_it(events, monkeypatch):
    live = LiveEvents(events)
    data = live_data(events, prompt="a person", new_seed=False, seed=7)
    draw = events.studio.draw_live

    def generate_meanwhile(recipe, inputs, cancel=None):
        list(events.run(data, PAGE))
        return draw(recipe, inputs)

    monkeypatch.setattr(events.studio, "draw_live", generate_meanwhile)
    assert live.draw(data, PAGE) == gr.skip()


def test_a_random_seed_is_covered_by_the_seed_it_turned_out_to_be(events):
    live, tab = LiveEvents(events), events.tab
    last = list(events.run(data_of(events, new_seed=True), PAGE))[-1]
    assert live.draw(live_data(events, new_seed=False, seed=last[tab.seed]), PAGE) == gr.skip()
