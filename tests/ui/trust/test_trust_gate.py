"""No file is read that was not uploaded: raw requests to a running app, for every file of every endpoint and event."""

from __future__ import annotations

import http.server
import os
import threading
from pathlib import Path

import gradio as gr
import pytest
from gradio.utils import get_upload_folder

from controlnext.ui.trust.gate import NOT_FETCHED, REFUSED, UploadError, uploaded

META = {"_type": "gradio.FileData"}


@pytest.fixture(scope="module")
def private(tmp_path_factory, drawing) -> Path:
    """A picture that nobody uploaded."""
    path = tmp_path_factory.mktemp("private") / "private.png"
    path.write_bytes(drawing.read_bytes())
    return path


@pytest.fixture(scope="module")
def named(private, sent) -> dict[str, dict]:
    """Ways to name a file that was not uploaded."""
    folder = Path(get_upload_folder())
    outside, link, missing = str(private), folder / ("a" * 64) / "link.png", str(private.with_name("nothing.png"))
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    os.symlink(private, link)
    loose = folder / "loose.png"
    loose.write_bytes(private.read_bytes())
    up = f"{sent['path']}/../../../{os.path.relpath(private, folder.parent)}"
    return {
        "no meta": {"path": outside},
        "meta": {"path": outside, "meta": META},
        "stream": {"path": outside, "meta": META, "is_stream": True},
        "missing": {"path": missing},
        "text file": {"path": "/etc/hostname"},
        "device": {"path": "/dev/zero"},
        "folder": {"path": str(private.parent)},
        "link in the upload folder": {"path": str(link), "meta": META},
        "loose file of the upload folder": {"path": str(loose)},
        "upload folder": {"path": str(folder)},
        "up and away": {"path": up},
        "relative": {"path": "app.py"},
        "file address": {"path": f"file://{outside}"},
        "address beside a path": {"path": outside, "url": "http://127.0.0.1/x.png", "meta": META},
        "address alone": {"url": f"file://{outside}"},
        "data address": {"url": "data:image/png;base64,AAAA"},
        "null byte": {"path": "a\0b"},
        "number": {"path": 3},
        "list": {"path": [outside]},
        "empty": {"path": ""},
        "null": {"path": None},
        "long": {"path": "/" + "a/" * 5000},
    }


WAYS = (
    "no meta", "meta", "stream", "missing", "text file", "device", "folder", "link in the upload folder",
    "loose file of the upload folder", "upload folder", "up and away", "relative", "file address", "address beside a path",
    "address alone", "data address", "null byte", "number", "list", "empty", "null", "long",
)  # fmt: skip


def values_of(poster, endpoint: str, **given) -> list:
    """The values of a call: those given, and the defaults of the page for the rest."""
    parameters = poster.parameters()[endpoint]
    assert given.keys() <= {name for name, _ in parameters}
    return [given.get(name, default) for name, default in parameters]


def generate(poster, **given) -> list:
    return values_of(poster, "generate", **{"annotator": "canny", "seed": 1} | given)


@pytest.mark.parametrize("way", WAYS)
def test_annotate_takes_no_file_that_was_not_uploaded(poster, named, way):
    assert poster.ask("annotate", named[way], "none", 512, None) == (False, REFUSED)


@pytest.mark.parametrize("way", ["no meta", "meta", "missing", "text file", "link in the upload folder"])
@pytest.mark.parametrize("place", ["image", "init_image", "mask", "controls", "deep"])
def test_generate_takes_no_file_that_was_not_uploaded(poster, named, sent, way, place):
    bad = named[way]
    further = [{"annotator": "canny", "image": bad}]
    values = {"controls": further} if place == "controls" else {place: bad}
    if place == "deep":
        values = {"controls": [{"annotator": "canny", "settings": {"x": [[{"y": bad}]]}}]}
    assert poster.ask("generate", *generate(poster, **{"image": sent} | values)) == (False, REFUSED)


@pytest.mark.parametrize("way", ["no meta", "meta", "missing", "text file", "link in the upload folder"])
def test_videos_take_no_file_that_was_not_uploaded(poster, named, sent, way):
    bad = named[way]
    for given in ({"reference": bad, "video": sent}, {"reference": sent, "video": bad}):
        assert poster.ask("animate", *values_of(poster, "animate", **given)) == (False, REFUSED)
    assert poster.ask("poses", *values_of(poster, "poses", video=bad)) == (False, REFUSED)


def test_every_event_of_the_page_refuses_files_that_were_not_uploaded(page, poster, named):
    tried = 0
    for number, function in page.fns.items():
        for place, component in enumerate(function.inputs):
            if not isinstance(
                component, gr.Image | gr.Video | gr.File | gr.UploadButton | gr.ImageEditor | gr.Gallery
            ):
                continue
            for way in ("no meta", "meta", "missing", "text file"):
                bad: object = named[way]
                if isinstance(component, gr.ImageEditor):
                    bad = {"background": None, "layers": [named[way]], "composite": None}
                elif getattr(component, "file_count", "") == "multiple":
                    bad = [named[way]]
                values = [getattr(one, "value", None) for one in function.inputs]
                values[place] = bad
                assert poster.event(number, *values) == (False, REFUSED), (function.api_name, component.label, way)
                tried += 1
    assert tried >= 100


def test_an_upload_is_taken_with_and_without_its_mark(poster, sent):
    for file in (sent, {"path": sent["path"]}):
        worked, values = poster.ask("annotate", file, "canny", 64, None)
        assert worked, values
    worked, values = poster.ask(
        "generate", *generate(poster, image=sent, controls=[{"annotator": "canny", "image": {"path": sent["path"]}}])
    )
    assert not worked
    assert values != REFUSED  # the model has one canny adapter, which is another sentence


def test_results_are_not_served_by_the_path_they_were_saved_at(poster, sent, outputs, tmp_path):
    worked, (pictures, recipe) = poster.ask("generate", *generate(poster, image=sent, prompt="a cat"))
    assert worked
    saved = next(outputs.rglob("*.png"))
    for path in (saved, tmp_path / "x.png", Path("/etc/hostname")):
        assert poster.http.get(f"{poster.url}/gradio_api/file={path}").status_code == 403
    shown = pictures[0]["image"]["path"]
    assert poster.http.get(f"{poster.url}/gradio_api/file={shown}").status_code == 200
    assert recipe["prompt"] == "a cat"


@pytest.fixture
def counting():
    """A server on this machine that counts who asks."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"secret")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, asked
    server.shutdown()


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:{}/x.png", "http://localhost:{}/x.png", "http://[::1]:{}/x.png", "http://2130706433:{}/x.png",
     "http://0.0.0.0:{}/x.png", "http://10.0.0.1/x.png", "http://169.254.169.254/latest/meta-data", "HTTP://127.1:{}/x.png",
     "https://192.168.0.1/", "http://[::ffff:127.0.0.1]:{}/x.png", "http://", "http://a b/"],
)  # fmt: skip
def test_addresses_of_this_machine_and_its_network_are_refused(poster, counting, address):
    port, asked = counting
    address = address.format(port)
    assert poster.ask("annotate", {"path": address, "meta": META}, "none", 512, None) == (False, NOT_FETCHED)
    assert not asked


def test_uploaded_tells_a_file_that_is_there_from_none_by_nothing(private):
    sentences = set()
    for path in (private, private.with_name("nothing"), Path("/root/.ssh/id_rsa"), Path("/")):
        with pytest.raises(UploadError) as caught:
            uploaded(str(path))
        sentences.add(str(caught.value))
    assert sentences == {REFUSED}
