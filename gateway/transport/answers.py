"""What the client port answers to whoever asks for something other than a socket: HTTP/1.1, then the end."""

from __future__ import annotations

import http
from email.utils import formatdate
from typing import NamedTuple

from websockets.datastructures import Headers
from websockets.http11 import Response

from gateway.core.close import Refusal
from gateway.protocol.codes import Code

JSON = "application/json; charset=utf-8"


class Answer(NamedTuple):
    """One HTTP answer, after which the connection ends.

    Attributes:
        status: the HTTP status.
        body: what follows the header; none for 304.
        content_type: of the body.
        headers: further header fields.
    """

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, refusal: Refusal) -> Answer:
        """The answer that says a refusal."""
        headers = []
        if refusal.http_status == 503 or refusal.retry_after_ms is not None:
            headers.append(("Retry-After", str(-(-(refusal.retry_after_ms or 1000) // 1000))))
        if refusal.http_status == 401:
            headers.append(("WWW-Authenticate", "Bearer"))
        return cls(refusal.http_status, refusal.body(), JSON, tuple(headers))

    @classmethod
    def fault(cls, status: int, reason: str, **headers: str) -> Answer:
        """An answer that says what is wrong; header fields are given with `_` for `-`."""
        body = Refusal(status, reason).body()
        return cls(status, body, JSON, tuple((name.replace("_", "-"), value) for name, value in headers.items()))

    @classmethod
    def declined(cls, response: Response) -> Answer:
        """The answer that says why the library declines an opening handshake."""
        problem = response.body.decode().partition("\n")[0] if response.body else "refused"
        more = tuple(pair for pair in response.headers.raw_items() if pair[0] in ("Allow", "Upgrade"))
        return cls(response.status_code, Refusal(Code.MALFORMED, problem).body(), headers=more)

    def serialize(self, *, head: bool = False) -> bytes:
        """Its bytes; ``head`` leaves the body out, as HEAD asks, and says how long it would be."""
        headers = Headers([("Date", formatdate(usegmt=True)), ("Connection", "close")])
        if self.status != 304:
            # RFC 9110 section 15.4.5: a 304 has no body, and says nothing of one that differs from the 200's.
            headers["Content-Length"] = str(len(self.body))
            headers["Content-Type"] = self.content_type
        for name, value in self.headers:
            headers[name] = value
        status = http.HTTPStatus(self.status)
        return Response(status.value, status.phrase, headers, b"" if head else self.body).serialize()
