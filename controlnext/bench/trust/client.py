"""A client without any client library: it posts whatever it is given to a running app, and reads what comes back."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

MARK = {"_type": "gradio.FileData"}


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        worked: the call gave values.
        values: those values.
        sentence: the error's text; None where there was none.
        status: HTTP status, 200 where the call itself was taken.
    """

    worked: bool
    values: list[Any] | None = None
    sentence: str | None = None
    status: int = 200


@dataclass(frozen=True)
class Event:
    """An event of the page.

    Attributes:
        number: its `fn_index`.
        name: its name in the page's configuration, which may change.
        trigger: `elem_id` of the component that sends it; empty where it has none.
        kinds: type of each input.
        labels: label, or `elem_id`, of each input.
        ids: `elem_id` of each input.
        values: what each input holds when the page is opened.
    """

    number: int
    name: str
    trigger: str
    kinds: tuple[str, ...]
    labels: tuple[str, ...]
    ids: tuple[str, ...]
    values: tuple[Any, ...]


class RawClient:
    """Posts requests to a running app."""

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        """Remember where the app is.

        Args:
            url: of the page.
            timeout: seconds to wait for an answer.
        """
        self.url = url.rstrip("/")
        # A kept connection that the server closes meanwhile would look like an answer that is lost.
        self.http = httpx.Client(timeout=timeout, limits=httpx.Limits(max_keepalive_connections=0))

    def upload(self, name: str, data: bytes) -> dict[str, Any]:
        """Upload a file and return how it is named in a request.

        Raises:
            httpx.HTTPStatusError: the app did not take it.
        """
        answer = self.http.post(f"{self.url}/gradio_api/upload", files={"files": (name, data)})
        answer.raise_for_status()
        return {"path": answer.json()[0], "meta": dict(MARK), "orig_name": name}

    def call(self, endpoint: str, data: Sequence[Any]) -> Answer:
        """Call an endpoint with its parameters in order."""
        return self.post(f"/gradio_api/call/{endpoint}", _json({"data": list(data)}), endpoint)

    def send(self, event: Event, data: Sequence[Any], session: str | None = None) -> Answer:
        """Send an event of the page with its inputs in order, as a page of its own or as that of a session."""
        session = session or uuid.uuid4().hex[:12]
        refused = self.begin(event, data, session)
        return refused or self.finish(session)

    def begin(self, event: Event, data: Sequence[Any], session: str) -> Answer | None:
        """Send an event and do not wait; return None where it was taken, else what refused it."""
        body = {"data": list(data), "fn_index": event.number, "session_hash": session}
        answer = self.http.post(f"{self.url}/gradio_api/queue/join", content=_json(body), headers=_HEADERS)
        return None if answer.status_code == 200 else _refused(answer)

    def finish(self, session: str) -> Answer:
        """Wait for the first event of a session to end."""
        with self.http.stream("GET", f"{self.url}/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line[6:]) if line.startswith("data: ") else {}
                if message.get("msg") == "process_completed":
                    output = message["output"]
                    if message["success"]:
                        return Answer(True, output.get("data"))
                    return Answer(False, sentence=output.get("error"))
        return Answer(False)

    def post(self, path: str, body: str | bytes, endpoint: str = "", headers: dict[str, str] | None = None) -> Answer:
        """Post a body to an address as it is; for an endpoint's address, wait for what it gives."""
        answer = self.http.post(f"{self.url}{path}", content=body, headers=headers or _HEADERS)
        if answer.status_code != 200 or not endpoint:
            return _refused(answer)
        number = answer.json()["event_id"]
        stream = self.http.get(f"{self.url}/gradio_api/call/{endpoint}/{number}").text
        kind, data = "", None
        for line in stream.splitlines():
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
        if kind == "complete":
            return Answer(True, data)
        return Answer(False, sentence=data.get("error") if isinstance(data, dict) else data)

    def parameters(self) -> dict[str, list[tuple[str, Any]]]:
        """Return the endpoints: name and default of each parameter in order; a file has the default None."""
        listed = self.http.get(f"{self.url}/gradio_api/info").json()["named_endpoints"]
        return {
            name.lstrip("/"): [(row["parameter_name"], row.get("parameter_default")) for row in endpoint["parameters"]]
            for name, endpoint in listed.items()
        }

    def events(self) -> list[Event]:
        """Return the events of the page that reach the server."""
        config = self.http.get(f"{self.url}/config").json()
        parts = {part["id"]: part for part in config["components"]}
        found = []
        for dependency in config["dependencies"]:
            if dependency.get("backend_fn") is False or dependency.get("api_visibility") == "public":
                continue
            inputs = [parts[number] for number in dependency["inputs"]]
            targets = [parts.get(number) for number, _ in dependency["targets"]]
            trigger = next((part["props"].get("elem_id") for part in targets if part), None) or ""
            found.append(
                Event(
                    number=dependency["id"],
                    name=dependency["api_name"] or "",
                    trigger=trigger,
                    kinds=tuple(part["type"] for part in inputs),
                    labels=tuple(
                        part["props"].get("label") or part["props"].get("elem_id") or part["type"] for part in inputs
                    ),
                    ids=tuple(part["props"].get("elem_id") or "" for part in inputs),
                    values=tuple(part["props"].get("value") for part in inputs),
                )
            )
        return found

    def alive(self) -> bool:
        """Whether the app still lists its models."""
        try:
            return self.call("models", []).worked
        except (httpx.HTTPError, ValueError):
            return False


_HEADERS = {"Content-Type": "application/json"}


def _json(body: Any) -> str:  # noqa: ANN401 - whatever a case holds, not a number among it
    return json.dumps(body)


def _refused(answer: httpx.Response) -> Answer:
    try:
        body = answer.json()
    except ValueError:
        body = answer.text
    if isinstance(body, dict):
        body = body.get("error") or body.get("detail")
    return Answer(False, sentence=body if isinstance(body, str) else None, status=answer.status_code)
