"""The area of styles (LoRA), without a browser."""

from __future__ import annotations

import gradio as gr
import pytest

from controlnext.loras.conflicts import Conflict
from controlnext.ui.image.lora_events import LoraEvents
from controlnext.ui.image.loras import LORA_ROWS, NO_LORA, WORDS, lora_html

FACTS = {"rank": 16, "style": "kohya", "size": 151_000_000, "trigger": "<b>clay</b>"}


@pytest.fixture
def events(image_tab, studio) -> LoraEvents:
    return LoraEvents(image_tab, studio)


def test_a_chosen_lora_is_told_in_one_line_with_its_conflict(events):
    html = events.describe("starter", "pose", "night", 0.8)
    assert "rank 8 · kohya · 1.5 MB · say “at night”" in html
    assert "some conflict with pose" in html
    assert "0.40 times as large" in html  # 0.5 at weight 1
    assert "mid_block" in html
    assert "<details" in html
    assert "conflict" not in events.describe("starter", "scribble", "night", 0.8)


@pytest.mark.parametrize("name", [None, NO_LORA, "gone", "other-base"])
def test_a_row_without_a_usable_lora_says_nothing(events, name):
    assert events.describe("starter", "pose", name, 0.8) == ""


def test_the_line_shows_what_there_is_and_escapes_it():
    html = lora_html(FACTS, None, "pose")
    assert "rank 16 · kohya · 151.0 MB" in html
    assert "<b>clay" not in html
    bare = lora_html({"rank": 0, "style": "", "size": 2_400_000_000, "trigger": ""}, Conflict("none"), "pose")
    assert "<span>2.4 GB</span>" in bare
    assert "no conflict with pose" in bare
    assert "It changes no layer" in bare
    unknown = lora_html(FACTS, Conflict("unknown", "The adapter's file is <odd>."), "pose")
    assert "conflict unknown" in unknown
    assert "&lt;odd&gt;" in unknown
    assert all(lora_html(FACTS, Conflict(word), "pose") for word in WORDS)


def test_refresh_keeps_what_is_chosen_while_it_is_there(events, studio):
    studio.catalogue.added.append("new")
    message, *rows = events.refresh("starter", "clay", "gone", NO_LORA)
    assert [row["value"] for row in rows] == ["clay", NO_LORA, NO_LORA]
    assert rows[0]["choices"] == [NO_LORA, "night", "clay", "new"]
    assert "3 can be used" in message
    assert "other-base" in message


def test_dropped_files_are_added_chosen_and_refused_with_a_sentence(events, studio, tmp_path):
    paths = [str(tmp_path / name) for name in ("a.safetensors", "b.pt", "c.safetensors")]
    cleared, message, *rows = events.upload("starter", paths, "night", NO_LORA, None)
    assert cleared is None
    assert studio.catalogue.added == ["a", "c"]
    assert [row["value"] for row in rows] == ["night", "a", "c"]
    assert "Added: a, c." in message
    assert "&lt;no&gt; LoRA file" in message
    _, message, *rows = events.upload("starter", [str(tmp_path / "d.safetensors")], "night", "a", "c")
    assert [row["value"] for row in rows] == ["night", "a", "c"]  # no row is free, so it is only there to choose
    assert "d" in rows[0]["choices"]
    assert events.upload("starter", None, *[NO_LORA] * LORA_ROWS)[1] == ""


def test_the_page_connects_every_row(whole_page):
    private = [fn for fn in whole_page.fns.values() if fn.name == "describe"]
    assert len(private) == LORA_ROWS
    assert all(fn.api_visibility == "private" for fn in private)
    assert {"refresh", "upload"} <= {fn.name for fn in whole_page.fns.values()}


def test_the_lora_for_few_steps_brings_its_steps_and_takes_them_away(events):
    few = [4, 1.0, "ddim_trailing"]
    assert events.few_steps("starter", "pose", 20, 3.0, "", "night", "few-steps", None) == [
        *few, gr.update(), 1.0, gr.update(),
    ]  # fmt: skip
    usual = events.studio.catalogue.resolve("starter", "pose", loras=[])
    back = events.few_steps("starter", "pose", *few, "night", NO_LORA, None)
    assert back[:2] == [usual.num_inference_steps, usual.guidance_scale]
    mine = events.few_steps("starter", "pose", 12, 1.0, "ddim_trailing", "night", NO_LORA, None)
    assert all("value" not in one for one in mine)  # what a person chose stays
