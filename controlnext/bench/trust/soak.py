"""`python -m controlnext bench soak`: a thousand requests of eight clients at once to an app of its own.

Conditions, pictures with LoRAs in turn, stops, videos of a few frames and lists, two models in turn, every second picture a new
one. Each answer is compared with what a single client got before, or for new pictures with the library's own answer. Resident
memory after the second half may be at most 1.05 of that after the first.
"""

from __future__ import annotations

import hashlib
import io
import queue
import random
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin

from controlnext.assets import EXAMPLES
from controlnext.bench.command import BenchError, bench_parser, publish, whole
from controlnext.bench.tables import markdown
from controlnext.bench.trust.client import Answer, RawClient
from controlnext.bench.trust.running import RunningApp

GROWTH = 1.05
"""Resident memory after the second half, at most so many times that after the first."""

SHARES = {"annotate": 40, "fresh": 30, "generate": 16, "lists": 6, "stop": 4, "animate": 4}
"""How many of a hundred requests are of each kind."""

_SETTLE_SECONDS = 5.0
_SIDE = 192


@dataclass(frozen=True)
class Request:
    """One request: its kind, which of the kind's variants, and its number in the run."""

    kind: str
    variant: int
    number: int


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    requests: int
    lost: int
    wrong: int
    seconds: float
    start_mib: float
    half_mib: float
    end_mib: float
    growth: float
    temporary_files: int
    temporary_mib: float
    kinds: dict[str, int]
    complaints: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, compare and print; return 0 if nothing was lost or wrong and memory stayed."""
    parser = bench_parser("soak", __doc__)
    parser.add_argument("--requests", type=whole(2, 2), default=1000, help="requests, an even number")
    parser.add_argument("--clients", type=whole(), default=8, help="clients at once")
    options = parser.parse_args(arguments)
    figures = measure(options.requests, options.clients)
    rows = [
        ("requests", figures.requests, ""),
        ("clients", options.clients, ""),
        ("lost", figures.lost, "0"),
        ("wrong", figures.wrong, "0"),
        ("seconds", f"{figures.seconds:.0f}", ""),
        ("resident after the single client, MiB", f"{figures.start_mib:.0f}", ""),
        ("resident after the first half, MiB", f"{figures.half_mib:.0f}", ""),
        ("resident after the second half, MiB", f"{figures.end_mib:.0f}", ""),
        ("second half over first", f"{figures.growth:.3f}", f"<= {GROWTH}"),
        ("files in the temporary folder", figures.temporary_files, ""),
        ("size of the temporary folder, MiB", f"{figures.temporary_mib:.0f}", ""),
    ]
    notes = [
        f"Requests by kind: {', '.join(f'{name} {count}' for name, count in figures.kinds.items())}.",
        *figures.complaints[:10],
    ]
    passed = not figures.lost and not figures.wrong and figures.growth <= GROWTH
    return publish(options, asdict(figures), markdown(["what", "figure", "bar"], rows, notes=notes), passed=passed)


def measure(requests: int, clients: int) -> Figures:
    """Start an app, ask it alone, ask it with many at once, and end it.

    Raises:
        BenchError: the app does not start, or refuses a single client.
    """
    with tempfile.TemporaryDirectory(prefix="controlnext-soak-") as folder, RunningApp(Path(folder)) as app:
        load = Load(app.client)
        load.ask_alone()
        start = _settled(app)
        order = _order(requests)
        begun = time.perf_counter()
        load.run(order[: requests // 2], clients)
        half = _settled(app)
        load.run(order[requests // 2 :], clients)
        seconds = time.perf_counter() - begun
        end = _settled(app)
        files, size = app.kept()
        return Figures(
            requests, load.lost, load.wrong, seconds, start / 2**20, half / 2**20, end / 2**20, end / half, files, size / 2**20,
            dict(Counter(request.kind for request in order)), load.complaints,
        )  # fmt: skip


def _settled(app: RunningApp) -> int:
    """Resident bytes once the work is over: the least of some looks, since freed memory goes back little by little."""
    least = app.resident_bytes()
    until = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < until:
        time.sleep(0.5)
        least = min(least, app.resident_bytes())
    return least


def _order(requests: int) -> list[Request]:
    """The requests in an order that is the same each time, every hundred of them with the shares of `SHARES`."""
    draw, order = random.Random(0), []
    while len(order) < requests:
        hundred = [kind for kind, share in SHARES.items() for _ in range(share)]
        draw.shuffle(hundred)
        order += [Request(kind, draw.randrange(1000), len(order) + place) for place, kind in enumerate(hundred)]
    return order[:requests]


class Load:
    """Asks an app, and compares what it answers."""

    def __init__(self, client: RawClient) -> None:
        """Ask the app what it has, and make the pictures that are sent."""
        self.client, self.url = client, client.url
        self.parameters, self.events = client.parameters(), client.events()
        self.loras = [row["name"] for row in client.call("loras", ["starter", ""]).values[0] if row["usable"]][:3]
        self.expected: dict[tuple[str, int], str] = {}
        self.lost = self.wrong = 0
        self.complaints: list[str] = []
        self._lock = threading.Lock()
        self.clip = next(iter(sorted(EXAMPLES.rglob("*.mp4"))), None)
        self.figure = next(iter(sorted((EXAMPLES / "video").rglob("*.png"))), None)
        self.pictures = sorted(EXAMPLES.glob("*.png"))[:3]
        if self.clip is None or self.figure is None or not self.pictures:
            raise BenchError("There are no example pictures and clips in assets/examples.")
        self.kinds: dict[str, tuple[int, Callable[[RawClient, Request], str]]] = {
            "annotate": (12, self._annotate), "fresh": (0, self._fresh), "generate": (8, self._generate), "lists": (3, self._lists),
            "stop": (1, self._stop), "animate": (2, self._animate),
        }  # fmt: skip

    def ask_alone(self) -> None:
        """Get the answer of every variant with nobody else there.

        Raises:
            BenchError: one is refused.
        """
        for kind, (variants, ask) in self.kinds.items():
            for variant in range(variants):
                try:
                    self.expected[kind, variant] = ask(self.client, Request(kind, variant, -1))
                except (httpx.HTTPError, LostError) as error:
                    raise BenchError(f"The app refused a single client ({kind} {variant}): {error}") from error

    def run(self, order: Sequence[Request], clients: int) -> None:
        """Ask with many clients at once; returns when all have their answers."""
        waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        for request in [*order, *[None] * clients]:
            waiting.put(request)

        def work() -> None:
            client = RawClient(self.url, timeout=600)
            while (request := waiting.get()) is not None:
                self._compare(client, request)

        threads = [threading.Thread(target=work) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _compare(self, client: RawClient, request: Request) -> None:
        variants, ask = self.kinds[request.kind]
        variant = request.variant % variants if variants else request.number
        try:
            got = ask(client, Request(request.kind, variant, request.number))
            wanted = self.expected[request.kind, variant] if variants else self._library(variant)
            lost, complaint = (
                False,
                "" if got == wanted else f"{request.kind} {variant}: another answer than the single client's",
            )
        except (httpx.HTTPError, LostError, ValueError) as error:
            lost, complaint = True, f"{request.kind} {variant}: {type(error).__name__} {error}"
        if complaint:
            with self._lock:
                self.lost, self.wrong = self.lost + lost, self.wrong + (not lost)
                self.complaints.append(complaint[:200])

    def _annotate(self, client: RawClient, request: Request) -> str:
        kind = ("canny", "depth", "pose", "segmentation")[request.variant % 4]
        image = self._upload(client, self._example(request.variant), request.number)
        return _pixels(client, _values(client.call("annotate", [image, kind, 192, None]))[0]["url"])

    def _fresh(self, client: RawClient, request: Request) -> str:
        image = self._upload(client, _scene(1000 + request.variant), request.number)
        return _pixels(client, _values(client.call("annotate", [image, "canny", 192, None]))[0]["url"])

    def _library(self, variant: int) -> str:
        import annotators

        return _digest(annotators.annotate("canny", _scene(1000 + variant), resolution=192).image)

    def _generate(self, client: RawClient, request: Request) -> str:
        image = self._upload(client, self._example(request.variant), request.number)
        lora = (
            [{"name": self.loras[request.variant % len(self.loras)], "weight": 0.7}]
            if self.loras and request.variant % 2
            else []
        )
        return self._made(
            client, "generate", image=image, annotator="canny", prompt="a person", seed=request.variant, num_inference_steps=2, loras=lora
        )  # fmt: skip

    def _animate(self, client: RawClient, request: Request) -> str:
        return self._made(
            client, "animate", reference=client.upload(self.figure.name, self.figure.read_bytes()),
            video=client.upload(self.clip.name, self.clip.read_bytes()), max_frames=3, num_inference_steps=2, seed=request.variant,
        )  # fmt: skip

    def _made(self, client: RawClient, endpoint: str, **given: Any) -> str:
        values = [given.get(name, default) for name, default in self.parameters[endpoint]]
        made = _values(client.call(endpoint, values))
        if endpoint == "generate":
            return _pixels(client, made[0][0]["image"]["url"])
        return _first_frame(client.http.get(made[0]["url"]).content)

    def _lists(self, client: RawClient, request: Request) -> str:
        endpoint, data = (("models", []), ("annotators", []), ("loras", ["starter", "canny"]))[request.variant]
        rows = _values(client.call(endpoint, data))[0]
        return ", ".join(str(row["name"]) for row in rows)

    def _stop(self, client: RawClient, request: Request) -> str:
        """Begin a long run of the page and stop it; the page says that it was stopped, or how it ended."""
        session = uuid.uuid4().hex[:12]
        begin = next(event for event in self.events if event.trigger == "cnx-generate")
        stop = next(event for event in self.events if event.trigger == "cnx-stop")
        data = list(begin.values)
        data[begin.ids.index("cnx-picture")] = self._upload(client, self._example(0), request.number)
        data[begin.ids.index("cnx-steps")] = 50
        if (refused := client.begin(begin, data, session)) is not None:
            raise LostError(str(refused.sentence))
        time.sleep(0.2)
        answer = client.http.post(
            f"{client.url}/gradio_api/run/{stop.name}", json={"data": [], "fn_index": stop.number, "session_hash": session}
        )  # fmt: skip
        if answer.status_code != 200:
            raise LostError(f"the stop was refused with status {answer.status_code}")
        client.finish(session)
        return "ended"

    def _example(self, variant: int) -> Image.Image:
        """One of the example pictures, which show a person each."""
        with Image.open(self.pictures[variant % len(self.pictures)]) as image:
            return image.convert("RGB")

    def _upload(self, client: RawClient, image: Image.Image, number: int) -> dict[str, Any]:
        """Upload a picture as a file that was never there before; its pixels are those of the picture."""
        info = PngImagePlugin.PngInfo()
        info.add_text("number", f"{number} {uuid.uuid4()}")
        buffer = io.BytesIO()
        image.save(buffer, "PNG", pnginfo=info)
        return client.upload("picture.png", buffer.getvalue())


class LostError(RuntimeError):
    """An answer that is none."""


def _values(answer: Answer) -> list[Any]:
    if not answer.worked or answer.values is None:
        raise LostError(answer.sentence or f"status {answer.status}")
    return answer.values


def _scene(number: int) -> Image.Image:
    """A picture with edges, of its own for each number."""
    draw = random.Random(number)
    image = Image.new("RGB", (_SIDE, _SIDE), (draw.randrange(256), 200, 210))
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, size = draw.randrange(_SIDE), draw.randrange(_SIDE), draw.randrange(10, 70)
        pen.ellipse((x, y, x + size, y + size), fill=tuple(draw.randrange(256) for _ in range(3)))
    return image


def _pixels(client: RawClient, url: str) -> str:
    with Image.open(io.BytesIO(client.http.get(url).content)) as image:
        return _digest(image)


def _digest(image: Image.Image) -> str:
    rgb = np.asarray(image.convert("RGB"))
    return hashlib.sha256(f"{rgb.shape}".encode() + rgb.tobytes()).hexdigest()


def _first_frame(data: bytes) -> str:
    from controlnext.video import open_clip, read_frames

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        path.write_bytes(data)
        with read_frames(open_clip(path)) as frames:
            return _digest(Image.fromarray(next(frames)))
