"""Help of the page: the list of its keys and the tour of a first visit, as dialogs that `assets/ui/keys.js` opens."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

KEYS: Mapping[str, str] = {
    "Ctrl + Enter": "generate, or animate on the video tab (⌘ + Enter on a Mac)",
    "Esc": "stop after the current step",
    "← →": "step through the pictures of a result",
    "?": "show this list",
}
"""Keys and what they do."""

TOUR: tuple[tuple[str, str, str], ...] = (
    (
        "#cnx-picture",
        "A picture",
        "Drop a photograph in, or click an example below. Its pose, edges, depth or regions become the condition, live.",
    ),
    (
        "#cnx-prompt",
        "A prompt",
        "Describe everything that the condition does not fix: who, what colours, where, and in what light. (red shirt:1.3) "
        "weighs words, {red|blue} draws by the seed, <lora:ink:0.8> sets a style.",
    ),
    (
        "#cnx-gamma",
        "The control strength",
        "0 follows the prompt alone; more follows the condition more closely. The default suits most pictures.",
    ),
    (
        "#cnx-stage",
        "The result",
        "Each picture shows how closely it follows the condition. Saved files carry their settings: drop one back in to restore them.",
    ),
)
"""Steps of the tour: the place on the page, a title, a sentence."""


def help_html() -> str:
    """Return the button for the header and both dialogs."""
    keys = "".join(
        f"<tr><th scope='row'><kbd>{escape(key)}</kbd></th><td>{escape(text)}</td></tr>" for key, text in KEYS.items()
    )
    steps = "".join(
        f"<li data-place='{escape(place, quote=True)}'{'' if number == 1 else ' hidden'}><h2>{escape(title)}"
        f" <small>{number} of {len(TOUR)}</small></h2><p>{escape(text)}</p></li>"
        for number, (place, title, text) in enumerate(TOUR, start=1)
    )
    return (
        "<button type='button' class='cnx-round' data-open='cnx-keys' aria-label='Keys and help' title='Keys and help (?)'>?</button>"
        "<dialog id='cnx-keys' class='cnx-dialog' aria-labelledby='cnx-keys-title'><h2 id='cnx-keys-title'>Keys</h2>"
        f"<table>{keys}</table><p><button type='button' data-tour>Take the tour</button>"
        "<button type='button' data-close autofocus>Close</button></p></dialog>"
        f"<dialog id='cnx-tour' class='cnx-dialog' aria-label='Tour of the page' data-step='0'><ol>{steps}</ol>"
        "<p><button type='button' data-close>Skip the tour</button><button type='button' data-next autofocus>Next</button></p></dialog>"
    )
