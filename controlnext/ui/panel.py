"""Run panel of a tab: start and stop buttons, progress bar, preview and result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr

from controlnext.ui.shared import Updates, progress_html

if TYPE_CHECKING:
    from controlnext.progress import Progress


@dataclass(frozen=True)
class RunPanel:
    """Components of a tab that change while it runs.

    Attributes:
        start: the button that starts a run.
        stop: the one that stops it.
        progress: where the bar is.
        preview: the picture shown while it runs.
        result: what shows the result.
        empty: placeholder before the first result.
    """

    start: gr.Button
    stop: gr.Button
    progress: gr.HTML
    preview: gr.Image
    result: gr.components.Component
    empty: gr.components.Component

    def step(self, progress: Progress) -> Updates:
        """Show how far the run is, and its preview if there is one."""
        updates: Updates = {self.progress: progress_html(progress)}
        if progress.preview is not None:
            updates |= {
                self.empty: gr.update(visible=False),
                self.result: gr.update(visible=False),
                self.preview: gr.update(visible=True, value=progress.preview),
            }
        return updates

    def idle(self, *, before: bool) -> Updates:
        """Return to rest, with the result that was there `before` the run, if one was."""
        return {
            self.start: gr.update(value=self.start.value, interactive=True),
            self.stop: gr.update(interactive=False),
            self.progress: "",
            self.preview: gr.update(visible=False),
            self.result: gr.update(visible=before),
            self.empty: gr.update(visible=not before),
        }
