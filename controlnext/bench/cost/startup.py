"""`python -m controlnext bench startup`: seconds from `python app.py` to the page, and to the first picture.

Starts the app as a person would, on a free port and with an output folder of its own, asks for the page until it answers,
then asks for one picture through the API, which waits for the model that loads behind the page.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from controlnext.assets import EXAMPLES, IMPORT_ROOT
from controlnext.errors import ControlNeXtError

PAGE_BAR = 5.0
"""Seconds within which the page should be there, on two cores."""
PICTURE_BAR = 60.0
"""Seconds after the page within which the first picture should be there."""

_POLL = 0.05


class BenchError(ControlNeXtError, RuntimeError):
    """The app did not come up, or made no picture."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0 if both bars are met, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m controlnext bench startup", description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="picture to send (default: the first example)")
    parser.add_argument("--annotator", default="canny", help="annotator to use (default: canny)")
    parser.add_argument("--page-only", action="store_true", help="do not wait for a picture")
    parser.add_argument("--timeout", type=float, default=300.0, help="give up after so many seconds (default: 300)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    figures = measure(options)
    if options.json:
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    else:
        sys.stdout.write(table(figures))
    return 0 if all(row["seconds"] <= row["bar"] for row in figures) else 1


def table(figures: Sequence[dict]) -> str:
    """Return the figures as a Markdown table."""
    rows = ["| | seconds | bar |", "|---|---|---|"]
    rows += [f"| {row['what']} | {row['seconds']:.1f} | {row['bar']:.0f} |" for row in figures]
    return "\n".join(rows) + "\n"


def measure(options: argparse.Namespace) -> list[dict]:
    """Start the app, measure, and end it again.

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
            app = subprocess.Popen(
                [
                    sys.executable,
                    "app.py",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(port),
                    "--output-dir",
                    f"{folder}/outputs",
                ],
                cwd=IMPORT_ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            url = f"http://127.0.0.1:{port}/"
            _wait_for_page(app, url, begun + options.timeout, log)
            page = time.perf_counter() - begun
            figures = [{"what": "page answers after `python app.py`", "seconds": page, "bar": PAGE_BAR}]
            if not options.page_only:
                _ask_for_picture(url, options, begun + options.timeout)
                seconds = time.perf_counter() - begun - page
                figures.append({"what": "first picture after the page", "seconds": seconds, "bar": PICTURE_BAR})
            return figures
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
    except Exception as error:  # whatever the client or the app says, it is why there is no figure
        raise BenchError(f"The app made no picture: {error or type(error).__name__}.") from error


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing."
