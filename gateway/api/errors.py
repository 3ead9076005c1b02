"""What goes wrong, as HTTP: business code → status, and every exception → one JSON object.

The vendor's client reads ``{"code": int, "errorMessage": str}`` from any answer outside 200..299 and nothing else, so
that is the only shape there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.types import ExceptionHandlersMap

from gateway.services.errors import RATE_EXCEEDED, USER_DEACTIVATED, USER_LIMIT, Refused
from gateway.services.rates import RateExceeded
from gateway.store.errors import OutcomeUnknown, StoreUnavailable

NO_SUCH_USER = 400
NO_SUCH_ENDPOINT = 404
METHOD_NOT_ALLOWED = 405
TOO_LARGE = 413
INTERNAL = 1000
INVALID_PARAMETER = 1002
INVALID_MINUTES = 1003
SIGNATURE_INVALID = 1004
TOO_LONG = 1005
RESTRICTED = 1007
TIMED_OUT = 1050

HTTP_STATUS: Mapping[int, int] = {
    NO_SUCH_USER: 400,
    NO_SUCH_ENDPOINT: 404,
    METHOD_NOT_ALLOWED: 405,
    TOO_LARGE: 413,
    INTERNAL: 500,
    1001: 401,
    INVALID_PARAMETER: 400,
    INVALID_MINUTES: 400,
    SIGNATURE_INVALID: 401,
    TOO_LONG: 400,
    1006: 403,
    RESTRICTED: 403,
    RATE_EXCEEDED: 429,
    1009: 430,
    1010: 400,
    1011: 400,
    1015: 400,
    1019: 400,
    TIMED_OUT: 504,
    1501: 400,
    1502: 400,
    1508: 400,
    USER_LIMIT: 403,
    USER_DEACTIVATED: 403,
}
"""Business codes that are not here (profile and friend codes) go out as 400."""

STORE_RETRY_AFTER_S = 1
"""The link to the store reconnects within 2 s (reconnect_max_ms), so a caller need not wait long."""

_log = structlog.get_logger("gateway.api")


class ErrorBody(msgspec.Struct):
    """The body of every answer outside 200.

    Attributes:
        code: the business code.
        error_message: what was wrong, for a person.
        profile_key: which key of a profile was wrong, if it was one.
    """

    code: int
    error_message: str = msgspec.field(name="errorMessage")
    profile_key: str | msgspec.UnsetType = msgspec.field(name="profileKey", default=msgspec.UNSET)


class Problem(Exception):
    """A request that the API itself refuses; knows its answer.

    Attributes:
        code: the business code.
        message: what was wrong, for a person.
        headers: more headers of the answer.
        status: the HTTP status; None = the one that goes with the code.
    """

    def __init__(
        self, code: int, message: str, headers: Mapping[str, str] | None = None, status: int | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.headers = headers or {}
        self.status = status or HTTP_STATUS.get(code, 400)


def encode(code: int, message: str) -> bytes:
    """The JSON body of an error."""
    return _encode(ErrorBody(code, message))


_encode = msgspec.json.Encoder().encode


def problem_of_body(error: msgspec.DecodeError) -> Problem:
    """The answer to a request body that msgspec refused: names the field, picks the code.

    msgspec puts the place last (``… - at `$.userIds[1]```, ``… - at `key` in `$.metadata```) and says what kind of
    value was over its length.
    """
    if not isinstance(error, msgspec.ValidationError):
        return Problem(INVALID_PARAMETER, f"the body is not valid JSON: {error}")
    text, _, place = str(error).partition(" - at `")
    field = place.removeprefix("key` in `").removeprefix("$").strip("`.")
    if text.startswith("Object missing required field"):
        missing = text.rpartition("field ")[2].strip("`")
        field = f"{field}.{missing}" if field else missing
        text = "is required"
    code = INVALID_PARAMETER
    if field == "durationMinutes":
        code = INVALID_MINUTES
    elif text.startswith("Expected `str` of length <="):
        code = TOO_LONG
    return Problem(code, f"{field}: {text}" if field else f"the body: {text}")


def _answer(status: int, code: int, message: str, headers: Mapping[str, str] | None = None) -> Response[ErrorBody]:
    return Response(ErrorBody(code, message), status_code=status, headers=dict(headers or {}))


def _on_problem(_: Request[Any, Any, Any], error: Problem) -> Response[ErrorBody]:
    return _answer(error.status, error.code, error.message, error.headers)


def _on_refused(_: Request[Any, Any, Any], error: Refused) -> Response[ErrorBody]:
    message = error.reason
    if error.field:
        name = _WIRE_NAMES.get(error.field, error.field)
        message = f"{name}: {message.removeprefix(error.field + ': ')}"
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, RateExceeded) else {}
    body = ErrorBody(error.code, message, error.details.get("profileKey", msgspec.UNSET))
    return Response(body, status_code=HTTP_STATUS.get(error.code, 400), headers=headers)


_WIRE_NAMES = {
    "avatar_url": "avatarUrl",
    "message": "messageId",
    "minutes": "durationMinutes",
    "page": "pageToken",
    "target": "targetId",
    "user": "userId",
    "users": "userIds",
}
"""The services' names of parameters where the wire has others."""


def problem_of_store(error: StoreUnavailable | OutcomeUnknown) -> Problem:
    """The answer to a call that the store did not carry out, or perhaps did."""
    if isinstance(error, OutcomeUnknown):
        message = "the store did not answer in time; whether the change was made is unknown, the call may be repeated"
        return Problem(TIMED_OUT, message)
    return unavailable("the store is unavailable; nothing was written, try again")


def unavailable(message: str) -> Problem:
    """503: nothing was done, and it may be tried again soon."""
    return Problem(INTERNAL, message, {"Retry-After": str(STORE_RETRY_AFTER_S)}, 503)


def _on_store(request: Request[Any, Any, Any], error: StoreUnavailable | OutcomeUnknown) -> Response[ErrorBody]:
    return _on_problem(request, problem_of_store(error))


def _on_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorBody]:
    if isinstance(error, NotFoundException):
        return _answer(404, NO_SUCH_ENDPOINT, "no such endpoint")
    if isinstance(error, MethodNotAllowedException):
        allowed = [method for method in (error.headers or {}).get("allow", "").split(", ") if method != "OPTIONS"]
        return _answer(405, METHOD_NOT_ALLOWED, "method not allowed", {"Allow": ", ".join(allowed)})
    if error.status_code == 413:
        return _answer(413, TOO_LARGE, "the body is too large")
    if error.status_code >= 500:
        return _on_anything(request, error)
    return _answer(400, INVALID_PARAMETER, error.detail)


def _on_anything(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    # The caller gets the id and nothing else: what failed inside is the operator's business.
    request_id = request.scope.get("request_id", "")
    _log.error("api.internal_error", request_id=request_id, path=request.scope["path"], exc_info=error)
    return _answer(500, INTERNAL, f"internal error; request id {request_id}")


HANDLERS: ExceptionHandlersMap = {
    Problem: _on_problem,
    Refused: _on_refused,
    StoreUnavailable: _on_store,
    OutcomeUnknown: _on_store,
    HTTPException: _on_http,
    Exception: _on_anything,
}
"""What Litestar calls for each kind of exception."""
