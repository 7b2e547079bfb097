"""Pages to lay components out on and to wire, which nobody serves."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import gradio as gr
from gradio.routes import App


@contextmanager
def laid_out() -> Iterator[gr.Blocks]:
    """`gr.Blocks` without a server's routes and configuration, which take nearly all of its time."""
    with patch.object(App, "create_app"), patch.object(gr.Blocks, "get_config_file"), gr.Blocks() as page:
        yield page
