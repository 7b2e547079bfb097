"""A page over a fake studio, started once a session on a free port of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from laid_out import laid_out
from PIL import Image, ImageDraw
from ui_fakes import FakeStudio
from video_fakes import write_clips

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


@pytest.fixture
def studio(tmp_path: Path) -> FakeStudio:
    return FakeStudio(tmp_path / "outputs")


@pytest.fixture(scope="session")
def image_tab(tmp_path_factory):
    """The components of the image tab, laid out once: handlers change none of them, they return updates."""

    from controlnext.ui.image.tab import build_image_tab

    with laid_out():
        return build_image_tab(FakeStudio(tmp_path_factory.mktemp("laid-out")))


@pytest.fixture(scope="session")
def whole_page(tmp_path_factory):
    """The whole page over a fake studio, without trainings, to look at: nobody serves it."""
    from controlnext.ui import build_ui

    return build_ui(FakeStudio(tmp_path_factory.mktemp("whole-page")))


@pytest.fixture
def events(image_tab, studio):
    """The image tab's handlers over the fake studio; `served` connects them."""
    from controlnext.ui.image.events import ImageEvents
    from controlnext.ui.worker import stream_of

    return ImageEvents(image_tab, studio, stream_of(studio))


@pytest.fixture
def video(studio):
    """The video tab's handlers over the fake studio, wired but not served: `fit`, `events`, `restore` and their `tab`."""

    from controlnext.ui import build_video

    with laid_out():
        return build_video(studio)


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """A folder with clips of red and blue people, see `video_fakes.write_clips`."""
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder)
    return folder


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    """A small picture with edges and colours."""
    noise = np.random.default_rng(0).integers(0, 60, (96, 128, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    ImageDraw.Draw(image).ellipse((40, 20, 90, 80), fill=(220, 60, 40))
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    image.save(path)
    return path


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Iterator[tuple[str, FakeStudio]]:
    """Address of a running page, and the studio behind it."""
    from controlnext.ui import build_ui, launch_options

    studio = FakeStudio(tmp_path_factory.mktemp("outputs"))
    page = build_ui(studio)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield url, studio
    page.close()


@pytest.fixture(scope="session")
def client(served):
    from gradio_client import Client

    return Client(served[0], verbose=False)
