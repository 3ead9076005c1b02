"""Pushes: what the gateway says unasked. Times are Unix milliseconds.

``message``, ``presence`` and ``session`` pushes are composed inside Redis Functions, once for all receivers; a test
holds what the Functions write against these structs.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Raw, Struct

from gateway.protocol.commands import Platform


class Limits(Struct, frozen=True):
    """The limits this connection is held to."""

    frame_bytes_max: int
    send_rate_per_s: float
    watch_max: int


class Welcome(Struct, tag="welcome", frozen=True):
    """The first push: the session is live.

    The replay starts after `cursor`; `head` is the inbox's end at connect. `recovered` is false when something between
    `since` and `head` is no longer held.
    """

    session: str
    user: str
    device: str | None
    node: str
    server_time: int
    token_expires_at: int | None
    heartbeat_s: float
    cursor: str
    head: str
    recovered: bool
    limits: Limits


class Resync(Struct, tag="resync", frozen=True):
    """The inbox is another one, or may have lost its newest entries: the store failed over, or was started anew.

    The session goes on. From here on its cursor is `cursor`, whatever it was, and all that no device of this user has
    acked follows after it: what was received before may come again, under the same `mid`. `head` is the inbox's end.
    `recovered` is false: nobody can say whether something that was sent is missing.
    """

    cursor: str
    head: str
    recovered: bool


class Message(Struct, tag="message", frozen=True, omit_defaults=True):
    """A direct or system message, or the echo of one's own from another device.

    `mid` is unique over the whole system; `cursor` is the place in this user's inbox, absent when ephemeral,
    in a broadcast to users online, and in an echo that a half full inbox did not take.
    `metadata` is what the app's server gave along with it.
    """

    mid: str
    from_: str = msgspec.field(name="from")
    to: str
    kind: str
    body: Raw
    sent_at: int
    cursor: str | None = None
    device: str | None = None
    system: bool = False
    metadata: dict[str, str] | None = None


class Recalled(Struct, tag="recalled", frozen=True, omit_defaults=True):
    """A message was recalled: an entry of its own in the inbox, so that a device that was away learns it too.

    `admin` says that the app's server asks for it to be shown so; `extra` is what the server gave along with it.
    """

    mid: str
    from_: str = msgspec.field(name="from")
    to: str
    at: int
    cursor: str
    admin: bool = False
    extra: str | None = None


class Updated(Struct, tag="updated", frozen=True):
    """A message's body was changed: an entry of its own in the inbox, as for `recalled`. The last one holds."""

    mid: str
    from_: str = msgspec.field(name="from")
    to: str
    body: Raw
    at: int
    cursor: str


class Presence(Struct, tag="presence", frozen=True):
    """A watched user came, went, or changed platforms."""

    user: str
    online: bool
    at: int
    last_seen: int | None
    platforms: list[Platform]
    version: int


class SessionChanged(Struct, tag="session", frozen=True):
    """Another session of this user `opened` or `closed`."""

    event: Literal["opened", "closed"]
    session: str
    device: str | None
    platform: Platform


class TokenExpiring(Struct, tag="token_expiring", frozen=True):
    """The token ends at `expires_at`: send `refresh`."""

    expires_at: int


class GoingAway(Struct, tag="going_away", frozen=True):
    """The node drains; the close follows."""

    reconnect_after_ms: int
    reason: str


PUSHES: tuple[type[Struct], ...] = (
    Welcome,
    Resync,
    Message,
    Recalled,
    Updated,
    Presence,
    SessionChanged,
    TokenExpiring,
    GoingAway,
)
