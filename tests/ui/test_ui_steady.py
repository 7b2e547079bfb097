"""What a handler said holds after its last report, however fast the reports come."""

import inspect

import gradio as gr
import pytest

from controlnext.ui import steady as module
from controlnext.ui.steady import make_steady, steady


@pytest.fixture
def parts():
    with gr.Blocks() as page:
        parts = {
            "button": gr.Button("Start"), "note": gr.HTML(), "maps": gr.Gallery(interactive=False, visible=False),
            "kinds": gr.State([]), "words": gr.Textbox(), "preview": gr.Image(interactive=False),
        }  # fmt: skip
        parts["page"] = page
    return parts


def reports(*updates):
    def handler():
        yield from updates

    return list(steady(handler)())


def test_buttons_and_texts_are_said_again_and_the_newest_wins(parts):
    button, note = parts["button"], parts["note"]
    busy, idle = gr.update(value="Working", interactive=False), gr.update(interactive=True, value="Start")
    said = reports({button: busy, note: "begins"}, {note: "half"}, {note: "done", button: idle})
    assert [one[button]["value"] for one in said] == ["Working", "Working", "Start"]
    assert [one[button]["interactive"] for one in said] == [False, False, True]
    assert [one[note] for one in said] == ["begins", "half", "done"]


def test_the_last_report_names_pictures_that_it_left_out_and_no_state(parts):
    maps, kinds, note = parts["maps"], parts["kinds"], parts["note"]
    said = reports({maps: gr.update(value=["a"], visible=True), kinds: ["pose"]}, {note: "click"})
    assert maps not in said[1]
    assert said[-1] == {note: "click", maps: gr.update(value=["a"], visible=True)}


def test_a_value_that_later_reports_change_in_part_is_kept_whole(parts):
    maps = parts["maps"]
    said = reports({maps: ["a", "b"]}, {maps: gr.update(visible=True)})
    assert said[-1][maps] == {"value": ["a", "b"], "visible": True, "__type__": "update"}


def test_what_is_hidden_in_the_end_is_not_sent_again(parts):
    preview = parts["preview"]
    said = reports({preview: gr.update(value="a.png", visible=True)}, {preview: gr.update(visible=False)})
    assert len(said) == 2
    assert "value" not in said[-1][preview]


def test_fields_that_a_visitor_fills_in_are_said_once(parts):
    words, note = parts["words"], parts["note"]
    assert words not in reports({words: "a person"}, {note: "drawing"})[-1]


def test_old_reports_are_not_said_again_so_that_a_visitor_can_press_meanwhile(parts, monkeypatch):
    monkeypatch.setattr(module, "FRESH_SECONDS", 0.0)
    button, note = parts["button"], parts["note"]
    assert button not in reports({button: gr.update(interactive=True)}, {note: "half"})[1]


def test_gradio_may_take_values_out_of_what_it_is_given(parts):
    button, note, values = parts["button"], parts["note"], []

    def handler():
        yield {button: gr.update(value="Working")}
        yield {note: "half"}

    for one in steady(handler)():
        values.append(one[button].pop("value"))
    assert values == ["Working", "Working"]


def test_errors_come_out_and_the_handler_is_closed_with_its_reader(parts):
    closed = []

    def handler():
        try:
            yield {parts["note"]: "begins"}
            raise gr.Error("no picture")
        finally:
            closed.append(True)

    running = steady(handler)()
    next(running)
    with pytest.raises(gr.Error, match="no picture"):
        next(running)
    running = steady(handler)()
    next(running)
    running.close()
    assert closed == [True, True]


def test_lists_and_signatures_stay(parts):
    def handler(text: str, request: gr.Request):
        yield [text]
        yield gr.skip()

    assert list(steady(handler)("a", None)) == [["a"], gr.skip()]
    assert inspect.signature(steady(handler)) == inspect.signature(handler)


def test_every_reporting_handler_of_the_page_is_steady(tmp_path):
    from ui_fakes import FakeStudio

    from controlnext.ui import build_ui

    reporting = [one for one in build_ui(FakeStudio(tmp_path)).fns.values() if inspect.isgeneratorfunction(one.fn)]
    assert len(reporting) > 10
    assert all(hasattr(one.fn, "__wrapped__") == (one.api_visibility != "public") for one in reporting)


def test_public_endpoints_answer_as_before():
    def answer():
        yield {"text": "a"}

    with gr.Blocks() as page:
        out = gr.JSON()
        gr.Button().click(answer, None, out, api_visibility="public")
    make_steady(page)
    assert next(function for function in page.fns.values()).fn is answer
