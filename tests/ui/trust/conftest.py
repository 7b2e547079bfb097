"""The page over the real studio and annotators with a tiny model, and a client that posts whatever it likes."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw

from controlnext.ui import build_ui, launch_options


class Poster:
    """Posts raw requests to a running app, as a program without any client library would."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.http = httpx.Client(timeout=60)

    def upload(self, path: Path) -> str:
        """Return the path that an upload is known by."""
        with path.open("rb") as file:
            answer = self.http.post(f"{self.url}/gradio_api/upload", files={"files": (path.name, file)})
        return answer.json()[0]

    def call(self, endpoint: str, *data) -> tuple[bool, object]:
        """Call an endpoint; return whether it worked, and its values or its sentence."""
        answer = self.http.post(f"{self.url}/gradio_api/call/{endpoint}", json={"data": list(data)})
        if answer.status_code != 200:
            return False, answer.text
        event = answer.json()["event_id"]
        return _last(self.http.get(f"{self.url}/gradio_api/call/{endpoint}/{event}").text)

    def event(self, number: int, *data) -> tuple[bool, object]:
        """Send an event of the page; return whether it worked, and its values or its sentence."""
        session = uuid.uuid4().hex[:12]
        body = {"data": list(data), "fn_index": number, "session_hash": session}
        answer = self.http.post(f"{self.url}/gradio_api/queue/join", json=body)
        if answer.status_code != 200:
            return False, answer.text
        stream = self.http.get(f"{self.url}/gradio_api/queue/data", params={"session_hash": session}).text
        messages = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: ")]
        done = next(message for message in messages if message["msg"] == "process_completed")
        return done["success"], done["output"].get("data") if done["success"] else done["output"].get("error")


def _last(stream: str) -> tuple[bool, object]:
    lines = [line for line in stream.splitlines() if line.startswith(("event: ", "data: "))]
    kind, data = lines[-2][7:], json.loads(lines[-1][6:])
    return kind == "complete", data if kind == "complete" else (data or {}).get("error")


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
    return {"path": poster.upload(drawing), "meta": {"_type": "gradio.FileData"}}
