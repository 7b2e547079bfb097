"""What the server remembers of visitors: nothing of a call of the API, and a bounded number of pages."""

from __future__ import annotations

import contextlib
import datetime
import time

from controlnext.ui.trust.sessions import CLOSED_SECONDS, MOST_SESSIONS, forget_closed


def test_calls_of_the_api_leave_no_session(page, poster, sent):
    before = len(page.state_holder.session_data)
    for _ in range(5):
        assert poster.ask("annotate", sent, "canny", 64, None)[0]
        assert not poster.ask("annotate", {"path": "/etc/hostname"}, "canny", 64, None)[0]
    assert len(page.state_holder.session_data) == before


def test_a_session_begins_without_the_configuration_of_the_page(page):
    session = page.app.state_holder["new"]
    assert session.config_values == {}
    assert session.blocks_config.blocks.keys() == page.blocks.keys()


def test_pages_are_remembered_up_to_a_number(page, poster):
    assert page.state_holder.capacity == MOST_SESSIONS
    number = next(number for number, function in page.fns.items() if function.api_name == "choose_annotator")
    before = set(page.state_holder.session_data)
    assert poster.event(number, "canny", False)[0]
    (own,) = page.state_holder.session_data.keys() - before
    session = page.state_holder[own]
    assert session.config_values  # what the event updated
    assert not any(session.config_values.values())  # without a configuration, which nobody reads
    for other in range(MOST_SESSIONS):
        _ = page.state_holder[f"page {other}"]
    assert len(page.state_holder.session_data) == MOST_SESSIONS


def test_a_closed_page_is_forgotten_after_a_while(page):
    holder = page.state_holder
    for name in ("open", "closed", "just closed"):
        holder[name].is_closed = name != "open"
    holder.time_last_used["closed"] -= datetime.timedelta(seconds=CLOSED_SECONDS + 1)
    forget_closed(page)
    assert {"open", "just closed"} <= set(holder.session_data)
    assert "closed" not in holder.session_data
    assert set(holder.time_last_used) == set(holder.session_data)


def test_a_client_that_goes_away_frees_its_place(page, poster, sent, outputs):
    import httpx

    steps = [
        sent,
        "a cat",
        "",
        "starter",
        "canny",
        None,
        150,
        None,
        1,
        16,
        0,
        0,
        0.0,
        1.0,
        None,
        None,
        "",
        None,
        None,
        None,
        None,
    ]
    before = len(list(outputs.rglob("*.png")))
    begun = poster.http.post(f"{poster.url}/gradio_api/call/generate", json={"data": steps}).json()["event_id"]
    with (
        httpx.Client(timeout=1.5) as impatient,
        contextlib.suppress(httpx.ReadTimeout),
        impatient.stream("GET", f"{poster.url}/gradio_api/call/generate/{begun}") as stream,
    ):
        for _ in stream.iter_lines():
            pass
    until = time.monotonic() + 60
    while at_work(page) and time.monotonic() < until:
        time.sleep(0.1)
    assert not at_work(page)
    assert len(list(outputs.rglob("*.png"))) - before < 16
    assert poster.ask("annotate", sent, "canny", 64, None)[0]


def at_work(page) -> list[str]:
    return [event._id for job in page._queue.active_jobs if job for event in job]
