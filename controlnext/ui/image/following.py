"""What a result followed: the picture beside its overlay, and a table of the numbers, at one click."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.adherence.overlay import Overlay, colour_of
from controlnext.ui.shared import PRIVATE, Updates, note_html, reported_errors

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio
    from controlnext.ui.image.tab import ImageTab

SHOW, HIDE = "What it followed", "Hide overlay"
READ: dict[str, Any] = {"concurrency_id": "following", "concurrency_limit": 2}


@dataclass(frozen=True)
class FollowingPanel:
    """The components.

    Attributes:
        button: shows and hides the others.
        group: everything that is shown.
        slider: the picture on the left, its overlay on the right.
        table: what the colours mean, and the numbers.
        open: whether it is shown.
        picked: number of the picture that was clicked last.
    """

    button: gr.Button
    group: gr.Column
    slider: gr.ImageSlider
    table: gr.HTML
    open: gr.State
    picked: gr.State

    def closed(self, *, usable: bool) -> Updates:
        """Return the updates that hide it; `usable` says whether there is a result."""
        return {
            self.group: gr.update(visible=False), self.open: False, self.picked: 0,
            self.button: gr.update(value=SHOW, interactive=usable),
        }  # fmt: skip


def following_panel() -> FollowingPanel:
    """Lay the panel out, hidden; must be called inside a `gr.Blocks` context. The button is not rendered yet."""
    with gr.Column(visible=False, elem_id="cnx-following") as group:
        slider = gr.ImageSlider(
            show_label=False, interactive=False, format="png", slider_position=0, buttons=["fullscreen"], elem_id="cnx-following-slider",
        )  # fmt: skip
        table = gr.HTML(elem_id="cnx-following-table")
    button = gr.Button(SHOW, size="md", interactive=False, min_width=130, elem_id="cnx-follow", render=False)
    return FollowingPanel(button, group, slider, table, gr.State(False), gr.State(0))


class FollowingEvents:
    """The handlers of the panel."""

    def __init__(self, tab: ImageTab, studio: Studio) -> None:
        """Remember the parts; `wire` connects them."""
        self.tab, self.panel, self.studio = tab, tab.following, studio

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        tab, panel = self.tab, self.panel
        outputs = [panel.group, panel.slider, panel.table, panel.button, panel.open, panel.picked]
        panel.button.click(self.toggle, [tab.files, panel.picked, panel.open], outputs, **READ, **PRIVATE)
        tab.gallery.select(self.pick, [tab.files, panel.open], outputs, **READ, **PRIVATE)
        tab.files.change(
            lambda files: self.panel.closed(usable=bool(files)), tab.files, outputs, queue=False, **PRIVATE
        )

    def toggle(self, files: list[str], picked: int, opened: bool) -> Updates:
        """Show what the picture followed, or hide it again."""
        if opened or not files:
            return self.panel.closed(usable=bool(files))
        return self._shown(files, picked)

    def pick(self, files: list[str], opened: bool, event: gr.SelectData) -> Updates:
        """Remember the picture that was clicked, and show it where the panel is open."""
        if not opened:
            return {self.panel.picked: event.index}
        return self._shown(files, event.index)

    def _shown(self, files: list[str], picked: int) -> Updates:
        panel = self.panel
        with reported_errors():
            made = self.studio.show_following(Path(files[picked if picked < len(files) else 0]))
        return {
            panel.group: gr.update(visible=True),
            panel.slider: (made.plain, made.image),
            panel.table: numbers_html(made),
            panel.button: HIDE,
            panel.open: True,
            panel.picked: picked,
        }


def numbers_html(made: Overlay) -> str:
    """Return the legend of an overlay and the table of its numbers."""
    cells = "".join(
        f"<div><span>{_dot(name, drift)}{escape('region' if name.startswith('#') else name)}</span><b>{escape(value)}</b></div>"
        for name, value, drift in made.rows
    )
    return f"{note_html(made.legend, 'quiet')}<div class='cnx-numbers'>{cells}</div>"


def _dot(name: str, drift: float | None) -> str:
    colour = name if name.startswith("#") else "" if drift is None else "rgb({}, {}, {})".format(*colour_of(drift))
    return f"<i style='background: {colour}'></i>" if colour else ""
