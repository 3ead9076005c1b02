"""What can go wrong for an app, as types.

``GatewayError`` answers one call; ``Stopped`` ends the client; the others are the client's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.protocol import codes
from gateway.protocol.codes import Code


class GatewayError(Exception):
    """A call failed.

    Attributes:
        code: as in docs/protocol (protocol.codes.Code).
        reason: for a person.
        retry_after_ms: when it makes sense to try again, where the gateway said so.
        extra: what the app's own server said, where it refused.
    """

    def __init__(self, code: int, reason: str, *, retry_after_ms: int | None = None, extra: str | None = None) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code
        self.reason = reason
        self.retry_after_ms = retry_after_ms
        self.extra = extra


class Refused(GatewayError):
    """The gateway said no; nothing was written."""


class Blocked(Refused):
    """The sender is on the recipient's blocklist."""


class NotAllowed(Refused):
    """The recipient takes allowlisted senders only."""


class NotFriends(Refused):
    """Friends-only is on and the two are not friends."""


class RateLimited(Refused):
    """Too fast. A send waits by itself and raises this only when its time is over."""


class Muted(Refused):
    """The sender is muted in direct messages."""


class NoSuchUser(Refused):
    """No such user, or no such session of one's own."""


class Deactivated(Refused):
    """The recipient is deactivated."""


class TooLarge(Refused):
    """The body, or the whole command, is over its limit."""


class InboxFull(Refused):
    """The unacked part of the recipient's inbox is at its limit."""


class ListFull(Refused):
    """A list, or what is watched, is at its limit."""


class WordBlocked(Refused):
    """The body contains a word that is not allowed."""


class CheckRefused(Refused):
    """The app's own server refused the message; ``extra`` is what it said."""


class Malformed(Refused):
    """A wrong type or out of bounds; the reason names the field."""


class Unavailable(GatewayError):
    """Nobody could take the call, as long as it waited; nothing was written."""


class OutcomeUnknown(GatewayError):
    """The call went out and no answer came: it may have been carried out or not."""


class QueueFull(Exception):
    """As many calls wait as may; this one was not taken."""


class Unreachable(Exception):
    """No gateway let this client in during the time that `connect` has."""


class ProviderFailed(Exception):
    """The app's own token or cursor hook raised; ``__cause__`` is what."""


class HandlerFailed(Exception):
    """What a handler of messages waited for was cancelled; the message counts as handled."""


class Unreadable(Exception):
    """A frame of the gateway that could not be read; it was passed over."""


class Stopped(Exception):
    """The client has ended: trying again cannot help without a person or a new token.

    Attributes:
        close_code: the WebSocket close code, also where the refusal was an HTTP status.
        code: as in docs/protocol.
        reason: for a person.
        until: Unix ms at which a ban ends; None = until lifted, or no ban.
    """

    def __init__(self, close_code: int, reason: str, *, code: int | None = None, until: int | None = None) -> None:
        super().__init__(f"{reason} ({close_code})")
        self.close_code = close_code
        self.code = close_code if code is None else code
        self.reason = reason
        self.until = until


class Closed(Stopped):
    """The app closed the client, or has not connected it."""

    def __init__(self, reason: str = "the client is closed") -> None:
        super().__init__(codes.NORMAL.code, reason)


class TokenInvalid(Stopped):
    """The token is malformed, wrongly signed, or for another app."""


class TokenExpired(Stopped):
    """The token has expired or was voided, and so has the one that was got afresh."""


class Banned(Stopped):
    """The user is banned."""


class AccountDeactivated(Stopped):
    """This user is deactivated."""


class Replaced(Stopped):
    """A newer login of the same device or device class took over."""


class Kicked(Stopped):
    """An admin, or another device of this user, ended the session."""


class RefusedDevice(Stopped):
    """Another device of this class is online and the policy refuses the newcomer."""


class TooManySessions(Stopped):
    """The user has as many sessions as one may have, or the environment as many users."""


class OriginRefused(Stopped):
    """The Origin is not on the allowlist."""


_REFUSALS: dict[int, type[GatewayError]] = {
    Code.MALFORMED: Malformed,
    Code.NO_SUCH_USER: NoSuchUser,
    Code.BLOCKED: Blocked,
    Code.NOT_ALLOWED: NotAllowed,
    Code.STORE_UNAVAILABLE: Unavailable,
    Code.OUTCOME_UNKNOWN: OutcomeUnknown,
    Code.MUTED: Muted,
    Code.CONTENT_REFUSED: CheckRefused,
    Code.SENDING_TOO_FAST: RateLimited,
    Code.INBOX_FULL: InboxFull,
    Code.NOT_FRIENDS: NotFriends,
    Code.PROFANITY_BLOCKED: WordBlocked,
    Code.LIST_FULL: ListFull,
    Code.BODY_TOO_LARGE: TooLarge,
    Code.DEACTIVATED: Deactivated,
}

_STOPS: dict[int, type[Stopped]] = {
    codes.INVALID_TOKEN.code: TokenInvalid,
    codes.EXPIRED_TOKEN.code: TokenExpired,
    codes.BANNED.code: Banned,
    codes.DEACTIVATED.code: AccountDeactivated,
    codes.REPLACED.code: Replaced,
    codes.KICKED.code: Kicked,
    codes.REFUSED_DEVICE.code: RefusedDevice,
    codes.TOO_MANY_SESSIONS.code: TooManySessions,
    codes.ORIGIN_REFUSED.code: OriginRefused,
}

_NAMES = {each.code: each.name.replace("_", " ") for each in codes.CLOSE_CODES}


def refusal(answer: Mapping[str, Any]) -> GatewayError:
    """The error that an ``error`` reply stands for."""
    code = answer.get("code", 0)
    kind = _REFUSALS.get(code, Refused)
    return kind(
        code,
        answer.get("reason") or "refused",
        retry_after_ms=answer.get("retry_after_ms"),
        extra=answer.get("extra"),
    )


def stop(close_code: int, said: Mapping[str, Any]) -> Stopped:
    """The error that a close for good stands for.

    Args:
        said: the close's reason, or the body of the refused handshake.
    """
    # A malformed handshake shares the close code of a malformed token.
    kind = Stopped if said.get("code") == Code.MALFORMED else _STOPS.get(close_code, Stopped)
    reason = said.get("reason") or _NAMES.get(close_code, "closed")
    return kind(close_code, reason, code=said.get("code"), until=said.get("until"))
