"""What Gradio remembers of visitors, kept within bounds.

Gradio 6 writes the whole configuration of the page anew for every session, 0.7 MB here, and keeps it until there are 10,000
sessions; a call of the API without a session hash is a session of its own.
"""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

from gradio.context import LocalContext
from gradio.state_holder import SessionState, StateHolder

if TYPE_CHECKING:
    import gradio as gr
    from gradio.queueing import Event

MOST_SESSIONS = 128
"""Open pages whose values the server remembers; the one used longest ago is forgotten."""

CLOSED_SECONDS = 600
"""How long the values of a closed page are kept, for a page that lost its connection and comes back."""

MOST_NAMES = 2_000
"""Entries of Gradio's lists of names, after which those that stand for nothing any more are taken out."""


class LightSession(SessionState):
    """A session without the configuration of the page, which Gradio's deep links alone read; this page has none."""

    def __init__(self, page: gr.Blocks) -> None:
        """Begin with what every visitor sees."""
        super().__init__(SimpleNamespace(default_config=page.default_config, blocks={}))
        # Gradio would write the configuration of each updated component twice: 0.1 s of a picture.
        self.blocks_config.config_for_block = lambda *_: {}


class LightSessions(StateHolder):
    """Sessions that are quick to begin: before every call of the API, and before the first event of a visitor."""

    def __getitem__(self, session_id: str) -> SessionState:
        """Return a session, begun where it is new."""
        if session_id not in self.session_data:
            self.session_data[session_id] = LightSession(self.blocks)
        return super().__getitem__(session_id)


def forget_call(page: gr.Blocks, session: str | None) -> None:
    """Forget the session of a call of the API: its endpoints remember nothing from call to call."""
    holder = page.state_holder
    if session is not None:
        with holder.lock:
            holder.session_data.pop(session, None)
            holder.time_last_used.pop(session, None)


def forget_closed(page: gr.Blocks) -> None:
    """Forget pages that were closed a while ago, and names that stand for nothing."""
    holder, now = page.state_holder, datetime.datetime.now()
    for session, state in list(holder.session_data.items()):
        used = holder.time_last_used.get(session, now)
        if state.is_closed and (now - used).total_seconds() > CLOSED_SECONDS:
            forget_call(page, session)
    for session in set(holder.time_last_used) - set(holder.session_data):
        holder.time_last_used.pop(session, None)
    waiting = page._queue.pending_event_ids_session
    if len(waiting) > MOST_NAMES:
        for session in [session for session, events in list(waiting.items()) if not events]:
            waiting.pop(session, None)
    for names in page.temp_file_sets:  # for Gradio's own removal of files, which is not used here
        if len(names) > MOST_NAMES:
            names.clear()


def this_session() -> str:
    """Return the session hash of the request that this thread answers; empty where it has none."""
    request = LocalContext.request.get(None)
    return getattr(request, "session_hash", None) or ""


def is_gone(page: gr.Blocks, session: str | None) -> bool:
    """Tell whether the visitor whose call is at work no longer listens."""
    events: list[Event] = [event for job in page._queue.active_jobs if job for event in job]
    mine = [event for event in events if event.session_hash == session]
    return bool(mine) and not any(event.alive for event in mine)
