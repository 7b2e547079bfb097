"""Event handlers of what a result followed: shown, hidden, another picture chosen."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.adherence.overlay import Overlay, colour_of
from controlnext.ui.image.following import HIDE
from controlnext.ui.shared import PRIVATE, Updates, note_html, reported_errors

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio
    from controlnext.ui.image.tab import ImageTab

READ: dict[str, Any] = {"concurrency_id": "following", "concurrency_limit": 2}


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
