"""The page over the real studio and annotators with a tiny model, and a client that posts whatever it likes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from controlnext.bench.trust.client import Event, RawClient
from controlnext.ui import build_ui, launch_options


class Poster(RawClient):
    """The client of the bench, with answers that compare to a pair: whether it worked, and its values or its sentence."""

    def ask(self, endpoint: str, *data) -> tuple[bool, object]:
        answer = self.call(endpoint, data)
        return answer.worked, answer.values if answer.worked else answer.sentence

    def event(self, number: int, *data) -> tuple[bool, object]:
        answer = self.send(Event(number, "", "", (), (), (), ()), data)
        return answer.worked, answer.values if answer.worked else answer.sentence


@pytest.fixture(scope="session")
def outputs(tmp_path_factory) -> Path:
    """Where the app saves what it makes."""
    return tmp_path_factory.mktemp("trust-outputs")


@pytest.fixture(scope="session")
def page(tmp_path_factory, outputs):
    from tiny_studio import save_all

    import annotators
    from controlnext.studio.studio import Studio
    from controlnext.training.runs.trainings import Trainings

    folder = tmp_path_factory.mktemp("trust")
    studio = Studio(
        output_dir=outputs, presets_dir=save_all(folder), annotators=annotators, threads=1
    )  # fmt: skip
    page = build_ui(studio, trainings=Trainings(folder / "training"))
    page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield page
    page.close()


@pytest.fixture(scope="session")
def poster(page) -> Poster:
    return Poster(page.local_url)


@pytest.fixture(scope="session")
def drawing(tmp_path_factory) -> Path:
    image = Image.new("RGB", (96, 96), (200, 210, 220))
    ImageDraw.Draw(image).ellipse((20, 20, 70, 80), fill=(220, 60, 40))
    path = tmp_path_factory.mktemp("drawing") / "drawing.png"
    image.save(path)
    return path


@pytest.fixture(scope="session")
def sent(poster, drawing) -> dict:
    """An uploaded picture, as a client names it."""
    return poster.upload(drawing.name, drawing.read_bytes())
