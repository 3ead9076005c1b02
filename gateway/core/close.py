"""Closing is a value: which close code, and the JSON reason that goes with it."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from gateway.protocol import codes
from gateway.protocol.codes import CloseCode, CloseReason

REASON_BYTES_MAX = 123
"""RFC 6455 section 5.5: a control frame carries at most 125 bytes, two of them the code."""


class Refusal(Exception):
    """A client's request is refused; knows its answer.

    Attributes:
        code: the client-visible code (protocol.codes.Code).
        reason: what was wrong, for a person.
        until: Unix ms at which the refusal ends by itself (a ban), when known.
        retry_after_ms: when it makes sense to come again.
        extra: what the app's own server says to the client.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        *,
        until: int | None = None,
        retry_after_ms: int | None = None,
        extra: str | None = None,
    ) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.until = until
        self.retry_after_ms = retry_after_ms
        self.extra = extra

    @property
    def http_status(self) -> int:
        """The status of the answer where the upgrade has not been answered yet."""
        return codes.http_status(self.code)

    def body(self) -> bytes:
        """The JSON body of that answer."""
        return _encode(CloseReason(self.code, self.reason, self.until, self.retry_after_ms))

    def closing(self) -> Closing:
        """The close that says the same where only a close can."""
        close_code = codes.CLOSE_BY_CODE.get(self.code, codes.INVALID_TOKEN)
        return Closing(close_code, self.code, self.reason, self.until, self.retry_after_ms)


_encode = msgspec.json.Encoder().encode


class Closing(Struct, frozen=True):
    """How a session ends.

    Attributes:
        close_code: the WebSocket close code and its name.
        code: the client-visible code inside the reason; the close code itself where there is no other.
        reason: for a person; cut at a character boundary so that the JSON fits a close frame.
        until: Unix ms at which a ban ends.
        retry_after_ms: not to reconnect before.
        revocation: whether what is queued for the client must not reach it any more.
    """

    close_code: CloseCode
    code: int
    reason: str
    until: int | None = None
    retry_after_ms: int | None = None
    revocation: bool = False

    @classmethod
    def of(cls, close_code: CloseCode, reason: str = "", *, retry_after_ms: int | None = None) -> Closing:
        """A close whose code says everything."""
        return cls(close_code, close_code.code, reason or close_code.name, retry_after_ms=retry_after_ms)

    def refusal(self) -> Refusal:
        """The refusal that says the same where the upgrade has not been answered yet."""
        return Refusal(self.code, self.reason, until=self.until, retry_after_ms=self.retry_after_ms)

    def payload(self) -> str:
        """The close frame's reason: JSON of at most 123 bytes."""
        reason = self.reason
        while True:
            encoded = _encode(CloseReason(self.code, reason, self.until, self.retry_after_ms))
            over = len(encoded) - REASON_BYTES_MAX
            if over <= 0:
                return encoded.decode()
            # One character is at least one byte, so this ends; escapes and multi-byte characters only end it sooner.
            reason = reason[: -max(1, over // 6)]
