"""Answers of the server itself, where no event was reached: a wrong address, a body that is none, a full disk at an upload."""

from __future__ import annotations

import errno
import logging
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from gradio.route_utils import FnIndexInferError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from controlnext.ui.trust.sentences import FAILED

logger = logging.getLogger(__name__)

UNKNOWN = "There is no such endpoint or event here: reload the page, or see /gradio_api/info for what there is."
NO_BODY = (
    "The request's body is not what this address takes: send JSON with a list named data, as /gradio_api/info shows."
)
QUEUE_FULL = "So many others are waiting that no more are taken: try again in a minute."
DISK_FULL = "The file could not be kept, since the disk of this app is full: try again later, or ask who runs it to free some space."
NOT_KEPT = "The file could not be kept, since this app cannot write to its folder for uploads: ask who runs it to look into its console."


def handlers() -> dict[type[Exception], Any]:
    """Return what answers each kind of exception that a route of Gradio's lets out."""
    return {
        FnIndexInferError: lambda request, error: _answer(404, UNKNOWN),
        KeyError: lambda request, error: _answer(404, UNKNOWN),
        HTTPException: _refused,
        RequestValidationError: lambda request, error: _answer(422, NO_BODY),
        OSError: _not_kept,
        Exception: _failed,
    }


def _answer(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status_code=status)


def _refused(request: Request, error: Exception) -> Response:
    """Answer what Gradio or FastAPI refuses, under the name that clients look for."""
    status, detail = getattr(error, "status_code", 500), getattr(error, "detail", "")
    if status == 503 and "full" in str(detail).lower():
        detail = QUEUE_FULL
    elif status == 400 and "parsing the body" in str(detail):
        detail = NO_BODY
    return JSONResponse({"detail": detail}, status_code=status, headers=getattr(error, "headers", None))


def _not_kept(request: Request, error: Exception) -> Response:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    logger.error("A file that could not be kept: %s", error)
    if "/upload" in request.url.path:  # the page shows the body as it is
        return PlainTextResponse(DISK_FULL if full else NOT_KEPT, status_code=507 if full else 500)
    return _answer(500, FAILED)


def _failed(request: Request, error: Exception) -> Response:
    logger.error("A request that could not be answered: %s", type(error).__name__)
    return _answer(500, FAILED)
