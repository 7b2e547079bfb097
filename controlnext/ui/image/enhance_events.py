"""Event handlers of detail and enlarging."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from controlnext.studio.enhance import EnhanceError, enhanced
from controlnext.ui.image.enhance import upscaler_choices
from controlnext.ui.image.events import RUN, ImageEvents
from controlnext.ui.shared import PRIVATE, Data, Updates

if TYPE_CHECKING:
    from controlnext.recipes.inputs import Inputs
    from controlnext.recipes.recipe import Recipe
    from controlnext.ui.image.tab import ImageTab
    from controlnext.ui.shared import Update


class EnhanceEvents:
    """The handlers of the area. Runs are those of the tab, so its Stop button stops them."""

    def __init__(self, tab: ImageTab, image: ImageEvents) -> None:
        """Remember the parts; `wire` connects them."""
        self.tab, self.area, self.image = tab, tab.enhance, image

    def wire(self) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        area, tab = self.area, self.tab
        taken = {tab.files, tab.best.chosen, area.detail, area.upscale, area.upscaler}
        for button, handler in ((area.detail_button, self.add_detail), (area.upscale_button, self.upscale)):
            button.click(handler, taken, self.image.run_outputs(), trigger_mode="once", **RUN, **PRIVATE)
        area.fold.expand(self.choices, None, area.upscaler, queue=False, **PRIVATE)

    def choices(self) -> Update:
        """List the upscaling models as they are now."""
        return gr.update(choices=upscaler_choices(self.image.studio.upscalers))

    def add_detail(self, data: Data, request: gr.Request) -> Iterator[Updates]:
        """Draw faces or hands of the picture that was clicked last, or of the first, again."""
        order = partial(self._order, data, detail=data[self.area.detail] or [])
        yield from self.image.run_order(order, data, request, doing="Adding detail …")

    def upscale(self, data: Data, request: gr.Request) -> Iterator[Updates]:
        """Enlarge the picture that was clicked last, or the first."""
        area = self.area
        order = partial(self._order, data, upscale=data[area.upscale], upscaler=data[area.upscaler] or "")
        yield from self.image.run_order(order, data, request, doing="Enlarging …")

    def _order(self, data: Data, **values: object) -> tuple[Recipe, Inputs]:
        files = data[self.tab.files]
        if not files:
            raise EnhanceError("There is no picture yet: make one first, then click the one to enhance.")
        return enhanced(Path(files[min(data[self.tab.best.chosen], len(files) - 1)]), **values)  # type: ignore[arg-type]
