"""What the server remembers of visitors: nothing of a call of the API, and a bounded number of pages."""

from __future__ import annotations

import datetime

from controlnext.ui.trust.sessions import CLOSED_SECONDS, MOST_SESSIONS, forget_closed


def test_calls_of_the_api_leave_no_session(page, poster, sent):
    before = len(page.state_holder.session_data)
    for _ in range(5):
        assert poster.ask("annotate", sent, "canny", 64, None)[0]
        assert not poster.ask("annotate", {"path": "/etc/hostname"}, "canny", 64, None)[0]
    assert len(page.state_holder.session_data) == before


def test_pages_are_remembered_up_to_a_number(page, poster):
    assert page.state_holder.capacity == MOST_SESSIONS
    number = next(number for number, function in page.fns.items() if function.api_name == "choose_annotator")
    before = len(page.state_holder.session_data)
    assert poster.event(number, "canny", False)[0]
    assert len(page.state_holder.session_data) == before + 1


def test_a_closed_page_is_forgotten_after_a_while(page):
    holder = page.state_holder
    for name in ("open", "closed", "just closed"):
        holder[name].is_closed = name != "open"
    holder.time_last_used["closed"] -= datetime.timedelta(seconds=CLOSED_SECONDS + 1)
    forget_closed(page)
    assert {"open", "just closed"} <= set(holder.session_data)
    assert "closed" not in holder.session_data
    assert set(holder.time_last_used) == set(holder.session_data)
