"""`python -m controlnext bench trust --url URL`: malformed requests to a running app, each to be refused in one short sentence.

Every parameter of every endpoint, every field of every event of the page, the drop areas, and the addresses themselves get what
does not belong there. An answer counts where it is a sentence of at most 300 characters that names no path of the machine, within
two seconds; the app has to be alive afterwards and draw the same picture as before.
"""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx
from PIL import Image

from controlnext.bench.command import BenchError, bench_parser, publish
from controlnext.bench.tables import markdown
from controlnext.bench.trust.cases import Case, Upload, cases, sound, wrong_for
from controlnext.bench.trust.client import Answer, Event, RawClient

LONGEST = 300
"""Characters of an answer."""
SECONDS = 2.0
"""Time for an answer."""

REFUSED = "refused in a sentence"
VERDICTS = (
    REFUSED, "accepted though wrong", "no sentence", "failed inside", "too long", "with a path", "too slow", "no answer",
)  # fmt: skip

_FAILED = ("its console says why", "Traceback", "Internal Server Error", "has not enabled verbose error")
PATH = re.compile(r"(?<![\w.:/\\])(?!/gradio_api/)(?:/[\w.@~-]+){2,}|\b[A-Za-z]:\\")
"""A path of a machine in a text."""
_NOTE = re.compile(r"cnx-note warn'>(.*?)</p>", re.DOTALL)


@dataclass(frozen=True)
class Outcome:
    """What became of one request.

    Attributes:
        name: of the case.
        verdict: one of `VERDICTS`.
        seconds: time to the answer.
        said: the answer's text, cut.
    """

    name: str
    verdict: str
    seconds: float
    said: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Send, judge and print; return 0 if every request is refused as it should be."""
    parser = bench_parser("trust", __doc__)
    parser.add_argument("--url", required=True, help="of the running app, such as http://127.0.0.1:7860")
    parser.add_argument("--only", default="", help="only cases whose name holds this text")
    parser.add_argument("--list", action="store_true", help="also print every case that is not refused in a sentence")
    options = parser.parse_args(arguments)
    report = measure(RawClient(options.url), options.only)
    outcomes = report.outcomes
    counted = Counter(outcome.verdict for outcome in outcomes)
    seconds = sorted(outcome.seconds for outcome in outcomes)
    rows: list[tuple[str, object, str]] = [("requests", len(outcomes), ">= 300")]
    rows += [(verdict, counted[verdict], "all" if verdict == REFUSED else "0") for verdict in VERDICTS]
    rows += [
        ("slowest answer, seconds", f"{seconds[-1]:.2f}", f"< {SECONDS:g}"),
        ("median answer, seconds", f"{seconds[len(seconds) // 2]:.3f}", ""),
        ("longest sentence, characters", max(len(outcome.said) for outcome in outcomes), f"<= {LONGEST}"),
        ("alive afterwards", "yes" if report.alive else "no", "yes"),
        ("same picture afterwards", "yes" if report.same else "no", "yes"),
    ]
    text = markdown(["what", "figure", "bar"], rows)
    if options.list:
        wrong = [(one.name, one.verdict, f"{one.seconds:.2f}", one.said[:120].replace("|", "/")) for one in outcomes if one.verdict != REFUSED]  # fmt: skip
        text += "\n" + markdown(["case", "verdict", "seconds", "answer"], wrong)
    passed = counted[REFUSED] == len(outcomes) and report.alive and report.same
    return publish(options, [asdict(outcome) for outcome in outcomes], text, passed=passed)


@dataclass(frozen=True)
class Report:
    """Every outcome, and the app afterwards."""

    outcomes: list[Outcome]
    alive: bool
    same: bool


def measure(client: RawClient, only: str = "") -> Report:
    """Send every case whose name holds a text, and look at the app before and after.

    Raises:
        BenchError: there is no app of this project at the address.
    """
    sender = Sender(client)
    before = sender.drawn()
    outcomes = [sender.outcome(case) for case in cases() if only in case.name]
    outcomes += [sender.event_outcome(*one) for one in event_cases(sender.events) if only in one[0]]
    if not outcomes:
        raise BenchError(f"No case's name holds {only!r}; leave --only out.")
    return Report(outcomes, client.alive(), sender.drawn() == before)


def event_cases(events: Sequence[Event]) -> Iterator[tuple[str, Event, int, Any]]:
    """Return, for every event, a wrong value for the first field of each kind: name, event, place of the field, value."""
    for event in events:
        seen = set()
        for place, kind in enumerate(event.kinds):
            if kind in seen:
                continue
            seen.add(kind)
            for what, value in wrong_for(kind):
                yield f"event {event.number} {event.name} {event.labels[place]}: {what}", event, place, value
        if event.kinds:
            yield f"event {event.number} {event.name}: too few values", event, -1, None


class Sender:
    """Sends cases to an app; uploads what they name."""

    def __init__(self, client: RawClient) -> None:
        """Ask the app what it has.

        Raises:
            BenchError: there is no app of this project at the address.
        """
        self.client = client
        self._uploaded: dict[Upload, Any] = {}
        try:
            self.parameters, self.events = client.parameters(), client.events()
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise BenchError(
                f"No app of this project answers at {client.url}: start one and give its address."
            ) from error

    def outcome(self, case: Case) -> Outcome:
        """Send one case of the list."""
        if case.target.startswith("POST "):
            path = case.target.removeprefix("POST ")
            endpoint = path.rpartition("/")[2] if "/call/" in path and "/v2/" not in path else ""
            return self._timed(case.name, lambda: self.client.post(path, case.body, endpoint))
        if case.target.startswith("#"):
            event = next(one for one in self.events if one.trigger == case.target[1:])
            data = list(event.values)
            for name, value in case.change.items():
                data[event.ids.index(name[1:])] = self._sent(value)
            return self._timed(case.name, lambda: self.client.send(event, data))
        values = {name: sound(case.target, name, default) for name, default in self.parameters[case.target]} | dict(
            case.change
        )
        data = [self._sent(value) for value in values.values()]
        return self._timed(case.name, lambda: self.client.call(case.target, data))

    def event_outcome(self, name: str, event: Event, place: int, value: Any) -> Outcome:  # noqa: ANN401 - any wrong value
        """Send an event of the page with one field that is wrong; a place of -1 leaves the last field out."""
        data = list(event.values)
        if place < 0:
            data.pop()
        else:
            data[place] = value
        return self._timed(name, lambda: self.client.send(event, data))

    def drawn(self) -> str:
        """Draw one picture and return a digest of its file.

        Raises:
            BenchError: the app draws none.
        """
        values = {name: sound("generate", name, default) for name, default in self.parameters["generate"]}
        values |= {"seed": 1, "num_inference_steps": 2, "prompt": "a person"}
        answer = self.client.call("generate", [self._sent(value) for value in values.values()])
        if not answer.worked:
            raise BenchError(f"The app at {self.client.url} draws no picture: {answer.sentence}")
        data = self.client.http.get(answer.values[0][0]["image"]["url"]).content
        return hashlib.sha256(_pixels(data)).hexdigest()

    def _sent(self, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, Upload):
            if value not in self._uploaded:
                self._uploaded[value] = self.client.upload(value.name, value.data)
            return self._uploaded[value]
        if isinstance(value, list):
            return [self._sent(one) for one in value]
        if isinstance(value, dict):
            return {key: self._sent(one) for key, one in value.items()}
        return value

    def _timed(self, name: str, send: Callable[[], Answer]) -> Outcome:
        begun = time.perf_counter()
        try:
            answer: Answer | None = send()
        except httpx.HTTPError:
            answer = None
        seconds = time.perf_counter() - begun
        said = "" if answer is None else answer.sentence or _noted(answer.values)
        return Outcome(name, _verdict(answer, said, seconds), seconds, said)


def _noted(values: Any) -> str:  # noqa: ANN401 - whatever an event gave
    """The warnings that an event shows in the page in place of an error, as text."""
    return " ".join(" ".join(_NOTE.findall(value)) for value in _texts(values)).strip()


def _texts(values: Any) -> Iterator[str]:  # noqa: ANN401
    if isinstance(values, str):
        yield values
    elif isinstance(values, list):
        for value in values:
            yield from _texts(value)
    elif isinstance(values, dict):
        for value in values.values():
            yield from _texts(value)


def _verdict(answer: Answer | None, said: str, seconds: float) -> str:
    if answer is None:
        return "no answer"
    if answer.worked and not said:
        return "accepted though wrong"
    if not said or not said.strip().endswith((".", "…", "!")):
        return "no sentence"
    if any(part in said for part in _FAILED):
        return "failed inside"
    if len(said) > LONGEST:
        return "too long"
    if PATH.search(said):
        return "with a path"
    return "too slow" if seconds >= SECONDS else REFUSED


def _pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB").tobytes()
