"""The character of a photograph on the video tab, called without a browser."""

from __future__ import annotations

import pytest
from tab_values import PAGE, refused

from controlnext.studio.character import PICTURES
from controlnext.ui.board.made import MadeResults
from controlnext.ui.video.character_events import CharacterEvents, NoPhotographError
from controlnext.ui.worker import stream_of


@pytest.fixture
def character(video, studio):
    return CharacterEvents(video.tab, studio, stream_of(studio), MadeResults())


def shown(updates) -> dict:
    last: dict = {}
    for one in updates:
        last |= one
    return last


def test_words_are_read_and_the_figure_is_drawn_in_the_photographs_shape(character, studio, picture):
    last, area = shown(character.draw(str(picture), "  ", PAGE)), character.area
    (recipe,) = studio.recipes
    assert (recipe.prompt, last[area.words]) == (2 * ("a person with brown hair in a red shirt",))
    assert (recipe.condition_kind, recipe.num_images) == ("pose", PICTURES)
    assert (recipe.width, recipe.height) == (256, 192)
    assert last[area.picture]["visible"]
    assert last[area.use]["visible"]
    assert last[area.draw]["interactive"]


def test_written_words_are_kept(character, studio, picture):
    list(character.draw(str(picture), "a person in a blue shirt", PAGE))
    assert studio.recipes[-1].prompt == "a person in a blue shirt"


def test_another_photograph_is_not_drawn_in_the_words_of_the_one_before(character):
    cleared, area = character.clear(), character.area
    assert cleared[area.words] == ""
    assert not cleared[area.use]["visible"]


def test_without_a_photograph_one_sentence_says_so_and_the_button_comes_back(character):
    steps, last = character.draw(None, "", PAGE), {}
    with refused(NoPhotographError):
        for step in steps:
            last |= step
    assert last[character.area.draw]["interactive"]
