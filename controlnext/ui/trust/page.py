"""The page that trusts no request: `gr.Blocks` with a gate before its own reading of values, and a sentence for every error."""

from __future__ import annotations

import logging
import threading
import time
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.caching import CacheMissError
from gradio.state_holder import SessionState, StateHolder

from controlnext.errors import ControlNeXtError
from controlnext.ui.trust.answers import handlers
from controlnext.ui.trust.gate import let_in
from controlnext.ui.trust.sentences import FAILED, brief, without_paths
from controlnext.ui.trust.sessions import MOST_SESSIONS, LightSessions, forget_call, forget_closed, is_gone
from controlnext.ui.trust.values import check_kind, check_plain

if TYPE_CHECKING:
    from controlnext.ui.worker import Runs

logger = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
"""Time between two looks for visitors who are gone."""

MOST_UPLOADED = 2 * 2**30
"""Bytes of one uploaded file."""


class RequestError(ControlNeXtError):
    """A request that does not fit its event or endpoint."""


class StudioPage(gr.Blocks):
    """`gr.Blocks` for strangers: every value of every request is checked before anything is opened or called.

    All requests come by here, of the page and of the API, queued or not, whichever route they took.
    """

    @property
    def state_holder(self) -> LightSessions:
        """The sessions; Gradio's server sets them."""
        return self._sessions

    @state_holder.setter
    def state_holder(self, sessions: StateHolder) -> None:
        sessions.__class__ = LightSessions  # the server keeps the same object
        self._sessions = sessions

    def get_block_name(self) -> str:
        """Be to the page's scripts what `gr.Blocks` is."""
        return "blocks"

    def launch(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - Gradio's
        """Serve the page, as `gr.Blocks.launch` does, with bounds on what is kept and a sentence for what the server refuses."""
        options.setdefault("app_kwargs", {"exception_handlers": handlers()})
        options.setdefault("max_file_size", MOST_UPLOADED)
        options.setdefault("state_session_capacity", MOST_SESSIONS)
        launched = super().launch(*args, **options)
        threading.Thread(target=self._watch, name="departures", daemon=True).start()
        return launched

    def stop_when_gone(self, *runs: Runs) -> None:
        """Stop work as soon as nobody listens to it any more, so that the next one gets its place.

        Args:
            runs: the running work of some events; its pages are session hashes.
        """
        self._watched = [*getattr(self, "_watched", []), *runs]

    def _watch(self) -> None:
        while self.is_running:
            for runs in getattr(self, "_watched", []):
                runs.stop_those(lambda session: is_gone(self, session))
            time.sleep(WATCH_SECONDS)

    async def preprocess_data(
        self,
        block_fn: BlockFunction,
        inputs: list[Any],
        state: SessionState | None,
        explicit_call: bool = False,
    ) -> list[Any]:
        """Check the values, then let Gradio turn them into what the event takes.

        Raises:
            gr.Error: a value is not one that can be used; one sentence.
        """
        try:
            inputs = await self._checked(block_fn, inputs, state)
        except ControlNeXtError as error:
            raise _said(str(error), block_fn) from error
        try:
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except gr.Error:
            raise
        except Exception as error:
            logger.info("A value that Gradio did not take: %s", error)
            raise _said(
                "A value that was sent does not fit its field: check it, or reload the page.", block_fn
            ) from error

    async def process_api(
        self,
        block_fn: BlockFunction | int,
        inputs: list[Any],
        *args: Any,
        **options: Any,
    ) -> dict[str, Any]:
        """Run an event; whatever goes wrong comes out as one short sentence that names no path of this machine.

        Raises:
            gr.Error: with that sentence.
        """
        function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        try:
            return await super().process_api(function, inputs, *args, **options)
        except CacheMissError:
            raise
        except gr.Error as error:
            error.message = brief(without_paths(str(error.message), sent=repr(inputs)[:10_000]))
            raise
        except Exception as error:
            logger.exception("An error that no sentence was written for")
            raise _said(FAILED, function, title="A fault of the app") from error
        finally:
            if function.api_visibility == "public":
                forget_call(self, options.get("session_hash"))
            forget_closed(self)

    async def _checked(self, block_fn: BlockFunction, inputs: list[Any], state: Any) -> list[Any]:  # noqa: ANN401
        wanted = block_fn.inputs
        if len(inputs) != len(wanted) and not block_fn.is_cancel_function:
            names = ", ".join(_name(component) for component in wanted[:8])
            what = f" ({names}{' ...' if len(wanted) > 8 else ''})" if names else ""
            raise RequestError(
                f"{len(wanted)} values are needed{what}, and {len(inputs)} were sent: send one for each."
            )
        checked = []
        for component, value in zip(wanted, inputs, strict=False):
            if component.stateful:  # the session has it; what was sent is not looked at
                checked.append(None)
                continue
            name = _name(component)
            value = await let_in(value)
            check_plain(value, name)
            check_kind(
                value, state[component._id] if state is not None and component._id in state else component, name
            )
            checked.append(value)
        return checked


def _said(text: str, function: BlockFunction, title: str = "That did not work") -> gr.Error:
    """Return the error that says a sentence; the page reads it as HTML, the API as it is."""
    text = brief(text)
    shown = text if function.api_visibility == "public" else escape(text, quote=False)
    return gr.Error(shown, title=title, print_exception=False)


def _name(component: gr.components.Component) -> str:
    return getattr(component, "label", None) or type(component).__name__
