"""Event handlers of the upload doctor: says in one sentence what a dropped picture already is, and mends it with one tap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from controlnext.adherence.map_kind import NORMAL, PHOTOGRAPH, MapKind, map_kind
from controlnext.errors import ControlNeXtError
from controlnext.recipes.kinds import READY_MADE, kind_of
from controlnext.recipes.png import read_png
from controlnext.ui.shared import PRIVATE, Data, Updates, note_html, open_picture, reported_errors

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio
    from controlnext.ui.image.tab import ImageTab

CALLED = {
    "pose": "a drawn skeleton", "canny": "an edge map", "depth": "a depth map", NORMAL: "a normal map",
    "segmentation": "a map of colours",
}  # fmt: skip
PHOTO = "This looks like a photograph, but it is taken as a ready-made map."
LOOK: dict[str, Any] = {"concurrency_id": "doctor", "concurrency_limit": 2}


class DoctorEvents:
    """The handlers of the panel. Its buttons set what the page's own controls could be set to by hand."""

    def __init__(self, tab: ImageTab, studio: Studio) -> None:
        """Remember the parts; `wire` connects them."""
        self.tab, self.panel, self.studio = tab, tab.doctor, studio
        self.switches = tab.panels[READY_MADE].widgets if READY_MADE in tab.panels else {}

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        tab, panel = self.tab, self.panel
        shown = [panel.group, panel.says, panel.take, panel.read, panel.invert, panel.swap, panel.other, panel.found]
        seen = {tab.picture, tab.ready_map, tab.model, *self.switches.values()}
        tab.picture.change(self.look, seen, shown, **LOOK, **PRIVATE)
        kind = [tab.annotator, tab.ready_map, panel.says, panel.take, panel.read, *self.switches.values()]
        panel.take.click(self.take, panel.found, kind, queue=False, **PRIVATE)
        panel.other.input(lambda kind: self.take(MapKind(kind)), panel.other, kind, queue=False, **PRIVATE)
        panel.read.click(self.read, None, kind, queue=False, **PRIVATE)
        for button, name in ((panel.invert, "invert"), (panel.swap, "swap")):
            if name in self.switches:
                button.click(lambda on: not on, self.switches[name], self.switches[name], queue=False, **PRIVATE)

    def look(self, data: Data) -> Updates:
        """Say what the picture is, where the page takes it for something else."""
        tab, panel, path = self.tab, self.panel, data[self.tab.picture]
        hidden: Updates = {panel.group: gr.update(visible=False), panel.found: PHOTOGRAPH}
        try:
            if path is None or read_png(path) is not None:
                return hidden
            with reported_errors():
                found = map_kind(np.asarray(open_picture(self.studio.annotators, path)))
        except (gr.Error, ControlNeXtError):  # the condition, made of the same picture, says what is wrong with it
            return hidden
        ready = bool(data[tab.ready_map])
        turned = {"invert": found.inverted, "swap": found.swapped}
        amiss = {name for name, wanted in turned.items() if wanted and not data.get(self.switches.get(name))}
        if bool(found.name) == ready and not (ready and amiss):
            return hidden
        readable = self._readable(data[tab.model])
        return {
            panel.group: gr.update(visible=True),
            panel.says: note_html(sentence(found, readable, ready), "warn"),
            panel.take: gr.update(visible=found.name in readable and not ready),
            panel.read: gr.update(visible=ready),
            panel.invert: gr.update(
                visible=bool(found.name), variant="primary" if ready and found.inverted else "secondary"
            ),
            panel.swap: gr.update(
                visible=bool(found.name) and found.name not in ("canny", "depth"),
                variant="primary" if ready and found.swapped else "secondary",
            ),
            panel.other: gr.update(visible=bool(found.name), value=""),
            panel.found: found,
        }

    def take(self, found: MapKind) -> Updates:
        """Take the picture as the ready-made map that it is: inverted and with red and blue swapped where that mends it."""
        if not found.name:
            return {}
        tab, panel = self.tab, self.panel
        turned = {"invert": found.inverted, "swap": found.swapped}
        return {
            tab.annotator: found.name,
            tab.ready_map: True,
            **{self.switches[name]: on for name, on in turned.items() if name in self.switches},
            panel.says: note_html(taken(found), "quiet"),
            panel.take: gr.update(visible=False),
            panel.read: gr.update(visible=True),
        }

    def read(self) -> Updates:
        """Read the picture with the annotator of the chosen kind."""
        off = dict.fromkeys(self.switches.values(), False)
        panel = self.panel
        return {
            self.tab.ready_map: False,
            panel.says: note_html("Read again as a picture.", "quiet"),
            panel.read: gr.update(visible=False),
            **off,
        }

    def _readable(self, model: str) -> list[str]:
        """Return the kinds that the model has adapters for."""
        rows = {row["name"]: row for row in self.studio.catalogue.models()}
        return [*self.tab.panels] if model not in rows else list(rows[model]["annotators"])


def taken(found: MapKind) -> str:
    """Return what the page says about a picture that is taken as what it is now."""
    how = ", black and white turned around" if found.inverted else ""
    how = ", red and blue swapped" if found.swapped else how
    return f"Taken as a ready-made map of {kind_of(found.name).label.lower()}{how}."


def sentence(found: MapKind, readable: list[str], ready: bool = False) -> str:
    """Return what the page says about a picture that is taken for something else, or as a map (`ready`) the wrong way around."""
    if not found.name:
        return PHOTO
    how = " with black and white turned around" if found.inverted else ""
    how = " with red and blue swapped" if found.swapped else how
    if ready:
        return f"This looks like {CALLED[found.name]}{how}."
    looks = f"This looks like {CALLED[found.name]}{how}, not like a photograph"
    if found.name not in readable:
        return f"{looks}; this model has no adapter for it."
    return f"{looks}: take it as a ready-made map of {kind_of(found.name).label.lower()}?"
