"""What a visitor sees when too many others are waiting."""

from __future__ import annotations

import pytest
from browser_folds import TOURED

pytestmark = pytest.mark.browser

SAID = "This application is currently busy. Please try again."
"""By Gradio's own client, whatever the server's sentence is; the API gets that one."""


def test_a_full_queue_says_so_and_the_page_goes_on(chromium, tmp_path):
    from ui_fakes import FakeStudio

    from controlnext.ui import build_ui, launch_options

    blocks = build_ui(FakeStudio(tmp_path))
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    context = chromium.new_context()
    try:
        context.add_init_script(TOURED)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.goto(url)
        page.wait_for_selector("#cnx-generate")
        blocks._queue.max_size = 0
        page.click("#cnx-generate")
        page.wait_for_selector(f"[data-testid=toast-body]:has-text('{SAID}')")
        blocks._queue.max_size = 64
        page.click("#cnx-generate")
        page.wait_for_selector("#cnx-gallery img")
    finally:
        context.close()
        blocks.close()
