"""`python -m controlnext bench startup`: seconds from `python app.py` to the page, and to the first picture.

Starts the app on a free port with its own output folder, requests the page until it answers, then asks for one picture
through the API, which waits for the model that loads in the background.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from controlnext.assets import EXAMPLES, IMPORT_ROOT
from controlnext.bench.command import BenchError, bench_parser, publish
from controlnext.bench.tables import markdown

PAGE_BAR = 5.0
"""Seconds within which the page should answer, on two cores."""
PICTURE_BAR = 60.0
"""Seconds after the page within which the first picture should be done."""

_POLL = 0.05


@dataclass(frozen=True)
class Wait:
    """How long something took, and how long it may take, in seconds."""

    what: str
    seconds: float
    bar: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 if both bars are met, else 1."""
    parser = bench_parser("startup", __doc__)
    parser.add_argument("--image", type=Path, help="picture to send (default: the first example)")
    parser.add_argument("--annotator", default="canny", help="annotator to use")
    parser.add_argument("--page-only", action="store_true", help="do not wait for a picture")
    parser.add_argument("--timeout", type=float, default=300.0, help="give up after so many seconds")
    options = parser.parse_args(arguments)
    waits = measure(options)
    rows = [(wait.what, f"{wait.seconds:.1f}", f"{wait.bar:.0f}") for wait in waits]
    text = markdown(["event", "seconds", "bar"], rows)
    return publish(options, [asdict(wait) for wait in waits], text, passed=all(w.seconds <= w.bar for w in waits))


def measure(options: argparse.Namespace) -> list[Wait]:
    """Start the app, measure, and end it.

    Raises:
        BenchError: the app ended, did not answer in time, or refused the picture, or this is no checkout.
    """
    if not (IMPORT_ROOT / "app.py").is_file():
        raise BenchError("There is no app.py in an installed package: run this bench in a checkout of the project.")
    with tempfile.TemporaryDirectory(prefix="controlnext-startup-") as folder:
        port = free_port()
        log = Path(folder) / "app.log"
        with log.open("wb") as output:
            begun = time.perf_counter()
            command = [sys.executable, "app.py", "--host", "127.0.0.1", "--port", str(port)]
            app = subprocess.Popen(
                [*command, "--output-dir", f"{folder}/outputs"],
                cwd=IMPORT_ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            url = f"http://127.0.0.1:{port}/"
            _wait_for_page(app, url, begun + options.timeout, log)
            page = time.perf_counter() - begun
            waits = [Wait("page answers after `python app.py`", page, PAGE_BAR)]
            if not options.page_only:
                _ask_for_picture(url, options, begun + options.timeout)
                seconds = time.perf_counter() - begun - page
                waits.append(Wait("first picture after the page", seconds, PICTURE_BAR))
            return waits
        finally:
            app.terminate()
            try:
                app.wait(10)
            except subprocess.TimeoutExpired:
                app.kill()
                app.wait()


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for_page(app: subprocess.Popen, url: str, deadline: float, log: Path) -> None:
    while time.perf_counter() < deadline:
        if app.poll() is not None:
            raise BenchError(f"`python app.py` ended with status {app.returncode}: {_last_line(log)}")
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # the app we just started, on this machine
                answer.read()
                return
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL)
    raise BenchError(f"The page did not answer in time: {_last_line(log)}")


def _ask_for_picture(url: str, options: argparse.Namespace, deadline: float) -> None:
    from gradio_client import Client, handle_file

    image = options.image or next(iter(sorted(EXAMPLES.glob("*.png"))), None)
    if image is None:
        raise BenchError("There is no example picture in assets/examples; name one with --image.")
    try:
        client = Client(url, verbose=False)
        job = client.submit(
            image=handle_file(str(image)), prompt="a person", annotator=options.annotator, seed=1, api_name="/generate"
        )
        job.result(timeout=max(1.0, deadline - time.perf_counter()))
    except Exception as error:  # the client raises many kinds; each is the reason why there is no figure
        raise BenchError(f"The app made no picture: {error or type(error).__name__}.") from error


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing."
