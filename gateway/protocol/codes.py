"""Error codes and close codes: the numbers a client app sees.

Where the hosted service has a client-visible number for a case, it is kept, so that apps need no new table.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from msgspec import Struct


class Code(enum.IntEnum):
    """The ``code`` of an ``error`` reply, of a refused handshake's body and of a close reason."""

    MALFORMED = 400
    FORBIDDEN = 403
    NO_SUCH_USER = 404
    BLOCKED = 405
    NOT_ALLOWED = 407
    TOO_MANY_CONNECTS = 429
    STORE_UNAVAILABLE = 503
    OUTCOME_UNKNOWN = 504
    MUTED = 20106
    CONTENT_REFUSED = 20113
    SENDING_TOO_FAST = 20604
    INBOX_FULL = 20607
    NOT_FRIENDS = 25469
    PROFANITY_BLOCKED = 21501
    PROFANITY_REPLACED = 21502
    LIST_FULL = 25467
    BODY_TOO_LARGE = 30016
    TOKEN_INVALID = 31004
    BANNED = 31009
    REPLACED = 31010
    BANNED_WHILE_CONNECTED = 31011
    TOKEN_EXPIRED = 31020
    REFUSED_DEVICE = 31023
    TOO_MANY_SESSIONS = 31024
    DEACTIVATED = 31029
    USER_LIMIT = 2007


MEANINGS: dict[Code, str] = {
    Code.MALFORMED: "not JSON, an unknown command, a wrong type or out of bounds; the reason names the field",
    Code.FORBIDDEN: "the Origin is not on the allowlist",
    Code.NO_SUCH_USER: "no such user, or no such session of one's own",
    Code.BLOCKED: "the sender is on the recipient's blocklist",
    Code.NOT_ALLOWED: "the recipient takes allowlisted senders only",
    Code.TOO_MANY_CONNECTS: "this address connects too fast, or has too many connections",
    Code.STORE_UNAVAILABLE: (
        "the store is away, the node is full or drains, or the app's server does not answer a message's check; nothing "
        "was written: try again"
    ),
    Code.OUTCOME_UNKNOWN: "no answer came in time: repeat with the same `key` and `retry`",
    Code.USER_LIMIT: "the development environment has as many users as it may have",
    Code.CONTENT_REFUSED: "the app's own server, asked before the message passed, refused it",
    Code.MUTED: "the sender is muted in direct messages",
    Code.SENDING_TOO_FAST: "sending too fast; `retry_after_ms` says when to go on",
    Code.INBOX_FULL: "the unacked part of the recipient's inbox is at its limit",
    Code.PROFANITY_BLOCKED: "the body of a `send` contains a word that is not allowed; nothing was stored",
    Code.PROFANITY_REPLACED: "only in `sent`: words in the body were replaced, and the message was stored so",
    Code.LIST_FULL: "a list, or what a session watches, is at its limit",
    Code.NOT_FRIENDS: "friends-only is on and the two are not friends",
    Code.BODY_TOO_LARGE: "the body of a `send` is over its limit",
    Code.TOKEN_INVALID: "the token is malformed, wrongly signed, not valid yet, or for another app",
    Code.BANNED: "the user is banned; `until` says until when, absent = until lifted",
    Code.REPLACED: "a newer login of the same device or device class took over",
    Code.BANNED_WHILE_CONNECTED: "the user was banned while connected",
    Code.TOKEN_EXPIRED: "the token has expired or was voided",
    Code.REFUSED_DEVICE: "another device of this class is online and the policy refuses the newcomer",
    Code.TOO_MANY_SESSIONS: "the user has as many sessions as one may have",
    Code.DEACTIVATED: "the user is deactivated",
}
"""What each code means, for the documents."""


class CloseReason(Struct, omit_defaults=True):
    """The reason of a close frame, as JSON, and the body of a refused handshake.

    `code` is one of the error codes, or the close code itself where there is no other. `until` is a ban's end,
    `retry_after_ms` the time before which not to come again.
    """

    code: int
    reason: str
    until: int | None = None
    retry_after_ms: int | None = None


class CloseCode(NamedTuple):
    """A WebSocket close code of this protocol.

    Attributes:
        code: 4000..4499 tell the client to reconnect with back-off, 4500..4999 to stop.
        name: its name in documents, logs and metrics.
        meaning: one sentence for the documents.
    """

    code: int
    name: str
    meaning: str


NORMAL = CloseCode(1000, "normal", "the client closed the connection")
GOING_AWAY = CloseCode(1001, "going_away", "the node drains: reconnect")
PROTOCOL_ERROR = CloseCode(1002, "protocol_error", "the client broke RFC 6455")
UNSUPPORTED = CloseCode(1003, "binary_frame", "a binary frame: this protocol is JSON text")
INVALID_DATA = CloseCode(1007, "invalid_utf8", "a text frame that is not UTF-8")
TOO_BIG = CloseCode(1009, "frame_too_large", "a message over frame_bytes_max, or of over fragments_max fragments")
INTERNAL_ERROR = CloseCode(1011, "internal_error", "a fault of the gateway: reconnect")
SERVICE_RESTART = CloseCode(1012, "service_restart", "the node restarts: reconnect")
AUTH_TIMEOUT = CloseCode(4000, "auth_timeout", "no token in time")
SLOW_CONSUMER = CloseCode(4001, "slow_consumer", "outbound bytes waiting over the limit, or older than the deadline")
TOO_MANY_BAD_COMMANDS = CloseCode(4002, "too_many_bad_commands", "bad_commands_max bad commands in a row")
RATE_LIMITED = CloseCode(4003, "rate_limited", "kept sending far over the rate")
HEARTBEAT_TIMEOUT = CloseCode(4004, "heartbeat_timeout", "no pong")
SESSION_LOST = CloseCode(4005, "session_lost", "the session, or its replay, could not be kept: reconnect and resume")
TRY_LATER = CloseCode(4006, "try_later", "store away, node full or draining, or this address connects too fast")
INVALID_TOKEN = CloseCode(4500, "token_invalid", "31004: malformed, wrong signature or wrong app")
EXPIRED_TOKEN = CloseCode(4501, "token_expired", "31020: expired, or voided by an expire-token call")
BANNED = CloseCode(4502, "banned", "31009 at connect, 31011 while connected; the reason carries the end time")
DEACTIVATED = CloseCode(4503, "deactivated", "31029")
REPLACED = CloseCode(4504, "replaced", "31010: a newer login of the same device class")
KICKED = CloseCode(4505, "kicked", "by an admin, or by the user's own other device")
REFUSED_DEVICE = CloseCode(4506, "refused_device", "31023: the device policy refuses the newcomer")
TOO_MANY_SESSIONS = CloseCode(4507, "too_many_sessions", "the user has sessions_per_user_max sessions")
ORIGIN_REFUSED = CloseCode(4508, "origin_refused", "the Origin is not on the allowlist")

CLOSE_CODES: tuple[CloseCode, ...] = tuple(value for value in globals().values() if isinstance(value, CloseCode))

CLOSE_BY_CODE: dict[int, CloseCode] = {
    Code.MALFORMED: INVALID_TOKEN,
    Code.TOKEN_INVALID: INVALID_TOKEN,
    Code.TOKEN_EXPIRED: EXPIRED_TOKEN,
    Code.BANNED: BANNED,
    Code.BANNED_WHILE_CONNECTED: BANNED,
    Code.DEACTIVATED: DEACTIVATED,
    Code.REPLACED: REPLACED,
    Code.REFUSED_DEVICE: REFUSED_DEVICE,
    Code.TOO_MANY_SESSIONS: TOO_MANY_SESSIONS,
    Code.USER_LIMIT: TOO_MANY_SESSIONS,
    Code.TOO_MANY_CONNECTS: TRY_LATER,
    Code.STORE_UNAVAILABLE: TRY_LATER,
    Code.OUTCOME_UNKNOWN: TRY_LATER,
    Code.FORBIDDEN: ORIGIN_REFUSED,
}
"""How a refusal is said when only a close code can say it (the upgrade was already answered)."""

HTTP_STATUS: dict[int, int] = {
    Code.MALFORMED: 400,
    Code.TOKEN_INVALID: 401,
    Code.TOKEN_EXPIRED: 401,
    Code.BANNED: 403,
    Code.BANNED_WHILE_CONNECTED: 403,
    Code.DEACTIVATED: 403,
    Code.FORBIDDEN: 403,
    Code.REFUSED_DEVICE: 403,
    Code.TOO_MANY_SESSIONS: 403,
    Code.USER_LIMIT: 403,
    Code.REPLACED: 403,
    Code.TOO_MANY_CONNECTS: 429,
    Code.STORE_UNAVAILABLE: 503,
    Code.OUTCOME_UNKNOWN: 503,
}
"""How a refusal is said before the upgrade, when the token came in the header."""

STOP_FROM = 4500
"""From this close code on a client must not simply reconnect."""


def http_status(code: int) -> int:
    """The HTTP status that says a code before the upgrade.

    A close code that stands for itself says by its range what the client does: come again, or stop.
    """
    status = HTTP_STATUS.get(code)
    if status is not None:
        return status
    if 1000 <= code < 5000:
        return 503 if code < STOP_FROM else 403
    return 400
