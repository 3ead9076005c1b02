"""What stands before routing: request id, path, signature. Plain ASGI around the Litestar application.

Unknown paths and wrong methods are answered behind it, so nobody without a signature learns what exists.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPResponseStartEvent, HTTPScope, Message, Receive, Scope, Send

from gateway.api import errors
from gateway.api.bearer import SCOPES, AdminTokens
from gateway.api.errors import Problem
from gateway.api.routes import JSON
from gateway.api.signature import Signatures
from gateway.api.v1.dialect import error_json, speaks_v1
from gateway.services.rates import Replays
from gateway.store.errors import OutcomeUnknown, StoreUnavailable

_BEARER = b"bearer "

_request_id = re.compile(rb"[\x21-\x7e]{1,36}").fullmatch


class Gate:
    """Lets signed requests through and finishes the head of every response.

    Args:
        app: the routed application.
        signatures: verifies the four headers.
        tokens: verifies a bearer token, which is looked at when there is no ``Signature``.
        served: the paths of the operations.
        unsigned: the paths that need no signature.
        now_ms: tells Unix ms.
        replays: the replay cache; None = a signature may be used again within the window.
        v1: verifies the headers of v1 paths, whose signatures may always be used again; None = v1 is not served.
    """

    def __init__(
        self,
        app: ASGIApp,
        signatures: Signatures,
        tokens: AdminTokens,
        *,
        served: Iterable[str],
        unsigned: Iterable[str],
        now_ms: Callable[[], int],
        replays: Replays | None = None,
        v1: Signatures | None = None,
    ) -> None:
        self._app = app
        self._signatures = signatures
        self._tokens = tokens
        self._served = frozenset(served)
        self._unsigned = frozenset(unsigned)
        self._now_ms = now_ms
        self._replays = replays
        self._v1 = v1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request (or passes what is no request on)."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        headers = dict(reversed(list(scope["headers"])))
        request_id = _echoed(headers.get(b"x-request-id"))

        async def finish(message: Message) -> None:
            if message["type"] == "http.response.start":
                _complete(message, request_id)
            await send(message)

        # A base URL that ends in a slash makes "//v4/…"; a redirect would lose the client's POST.
        scope["path"] = "/" + scope["path"].lstrip("/")
        scope["request_id"] = request_id.decode()  # type: ignore[typeddict-unknown-key]
        try:
            scope["scopes"] = await self._admit(scope, headers)  # type: ignore[typeddict-unknown-key]
        except Problem as problem:
            await self._refuse(problem, scope["path"], finish)
            return
        except (StoreUnavailable, OutcomeUnknown) as error:
            await self._refuse(errors.problem_of_store(error), scope["path"], finish)
            return
        await self._app(scope, receive, finish)

    async def _admit(self, scope: HTTPScope, headers: Mapping[bytes, bytes]) -> frozenset[str]:
        """What the caller may do.

        Raises:
            Problem: the request goes no further.
            StoreUnavailable, OutcomeUnknown: whether the signature was used before cannot be found out.
        """
        path = scope["path"]
        if path in self._unsigned:
            self._refuse_what_is_not_there(scope)
            return frozenset()
        now_ms = self._now_ms()
        authorization = headers.get(b"authorization", b"")
        signed = b"signature" in headers or b"rc-signature" in headers
        if not signed and authorization[: len(_BEARER)].lower() == _BEARER:
            scopes = self._tokens.verify(authorization[len(_BEARER) :].strip().decode("latin-1"), now_ms)
        else:
            await self._verify(path, headers, now_ms)
            scopes = SCOPES
        self._refuse_what_is_not_there(scope)
        return scopes

    def _refuse_what_is_not_there(self, scope: HTTPScope) -> None:
        path = scope["path"]
        # Litestar would take a path with slashes at its end or doubled inside for the one without, whatever dialect
        # it was verified as.
        if path not in self._served and path not in self._unsigned:
            raise Problem(errors.NO_SUCH_ENDPOINT, "no such endpoint")
        # It would also answer this for every path it serves; here it is a method like others that are not allowed.
        if scope["method"] != "OPTIONS":
            return
        allowed = "POST" if path in self._served else "GET, HEAD"
        raise Problem(errors.METHOD_NOT_ALLOWED, "method not allowed", {"Allow": allowed})

    async def _verify(self, path: str, headers: Mapping[bytes, bytes], now_ms: int) -> None:
        if self._v1 is not None and speaks_v1(path):
            self._v1.verify(headers, now_ms)
            return
        signature = self._signatures.verify(headers, now_ms)
        if self._replays is not None and not await self._replays.first(signature):
            raise Problem(errors.SIGNATURE_INVALID, "this signature was used before")

    async def _refuse(self, problem: Problem, path: str, send: Send) -> None:
        body = errors.encode(problem.code, problem.message)
        if self._v1 is not None and speaks_v1(path):
            body = error_json(problem, path)
        headers = [(b"content-type", JSON), (b"content-length", str(len(body)).encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
        await send({"type": "http.response.start", "status": problem.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _echoed(given: bytes | None) -> bytes:
    return given if given is not None and _request_id(given) else str(uuid.uuid4()).encode()


def _complete(message: HTTPResponseStartEvent, request_id: bytes) -> None:
    headers = [
        (name, JSON if name == b"content-type" and value == b"application/json" else value)
        for name, value in message.get("headers", ())
    ]
    message["headers"] = [*headers, (b"x-request-id", request_id)]
