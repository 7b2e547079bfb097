import pytest
from laid_out import laid_out

from controlnext.models.readiness import WORDS
from controlnext.ui.image.events import ImageEvents
from controlnext.ui.image.tab import build_image_tab
from controlnext.ui.models import model_choices, model_info, state_word
from controlnext.ui.worker import stream_of

READY = {
    "name": "a",
    "label": "A",
    "usable": True,
    "state": "ready",
    "reason": "",
    "description": "Draws.",
    "licence": "MIT",
}
REASON = "B is not on this machine yet: the first run downloads 2.2 GB from owner/b."
AWAY = {
    "name": "b",
    "label": "B",
    "usable": False,
    "state": "download",
    "reason": REASON,
    "download_bytes": 2_214_000_000,
}


def test_the_list_says_which_models_are_ready_and_what_the_others_need():
    gated = {**AWAY, "name": "c", "state": "gated"}
    assert model_choices([READY, AWAY, gated]) == [
        ("A", "a"),
        ("B (download 2.2 GB)", "b"),
        ("B (needs a token)", "c"),
    ]
    assert state_word({**AWAY, "download_bytes": 0}) == "download"


@pytest.mark.parametrize("state", [state for state in WORDS if state != "ready"])
def test_every_state_has_a_word(state):
    assert WORDS[state] in state_word({**AWAY, "state": state})


def test_the_line_at_the_models_is_the_reason_or_the_description():
    assert model_info(READY) == "Draws. Licence: MIT."
    assert model_info(AWAY) == REASON


def test_a_model_without_the_shown_control_takes_one_of_its_own(studio):
    with laid_out():
        events = ImageEvents(build_image_tab(studio), studio, stream_of(studio))
    annotator, model, gamma = events.model_defaults("sdxl", "pose")[:3]
    assert annotator["value"] == "depth"
    assert "Its base model is not downloaded." in model["info"]
    assert ("SDXL (not here)", "sdxl") in model["choices"]
    assert gamma["value"] == studio.catalogue.resolve("sdxl", "depth").gamma
    assert events.model_defaults("sdxl", "canny")[0]["value"] == "canny"
    assert events.model_defaults("starter", "pose")[0]["value"] == "pose"
