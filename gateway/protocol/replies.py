"""Replies: what the gateway answers to one command. Times are Unix milliseconds."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from gateway.protocol.commands import Platform


class Sent(Struct, tag="sent", frozen=True, omit_defaults=True):
    """The message is stored in the recipient's inbox (or, ephemeral, handed on).

    `code` is there, and 21502, when words in the body were replaced and the message was stored so. `extra` is what the
    app's own server, asked before the message passed, says to its sender.
    """

    id: str
    mid: str
    sent_at: int
    online: bool
    code: int | None = None
    extra: str | None = None


class Error(Struct, tag="error", frozen=True, omit_defaults=True):
    """The command was refused; nothing was written, except where `code` is 504 (outcome unknown).

    `extra` is what the app's own server says to the sender of a message that it refused.
    """

    code: int
    reason: str
    id: str | None = None
    retry_after_ms: int | None = None
    extra: str | None = None


class Pong(Struct, tag="pong", frozen=True, omit_defaults=True):
    """Answers `ping`."""

    server_time: int
    id: str | None = None


class Ok(Struct, tag="ok", frozen=True):
    """The command was carried out and has nothing to tell."""

    id: str


class UserPresence(Struct, frozen=True):
    """The present state of a watched user; `version` rises with every change."""

    user: str
    online: bool
    last_seen: int | None
    platforms: list[Platform]
    version: int


class OkPresence(Struct, tag="ok", frozen=True):
    """Answers `watch` and `unwatch`."""

    id: str
    users: list[UserPresence]


class OkChecked(Struct, tag="ok", frozen=True):
    """Answers `blocklist.check` and `friends.check`."""

    id: str
    users: dict[str, bool]


class OkUserIds(Struct, tag="ok", frozen=True, omit_defaults=True):
    """Answers `blocklist.list` and `allowlist.list`; `page` is there when more follow."""

    id: str
    users: list[str]
    page: str | None = None


class OkAllowlistStatus(Struct, tag="ok", frozen=True):
    """Answers `allowlist.status`."""

    id: str
    enabled: bool


class Friend(Struct, frozen=True):
    """One friend of this user; `alias` is this user's own name for them."""

    user: str
    name: str
    alias: str
    added_at: int


class OkFriends(Struct, tag="ok", frozen=True, omit_defaults=True):
    """Answers `friends.list`; `page` is there when more follow."""

    id: str
    users: list[Friend]
    page: str | None = None


class UserInfo(Struct, frozen=True, omit_defaults=True):
    """A user as others see them; `profile` is the hosted one: `version`, `userProfile` and `userExtProfile`."""

    user: str
    name: str
    avatar_url: str
    profile: Raw | msgspec.UnsetType = msgspec.UNSET


class OkUsers(Struct, tag="ok", frozen=True):
    """Answers `user.get`; unknown users are left out."""

    id: str
    users: list[UserInfo]


class SessionInfo(Struct, frozen=True):
    """One live session of this user; `this` marks the one that asks."""

    session: str
    device: str | None
    platform: Platform
    node: str
    connected_at: int
    this: bool


class OkSessions(Struct, tag="ok", frozen=True):
    """Answers `sessions.list`."""

    id: str
    sessions: list[SessionInfo]


class OkRefreshed(Struct, tag="ok", frozen=True):
    """Answers `refresh`."""

    id: str
    token_expires_at: int | None


REPLIES: tuple[type[Struct], ...] = (
    Sent,
    Error,
    Pong,
    Ok,
    OkPresence,
    OkChecked,
    OkUserIds,
    OkAllowlistStatus,
    OkFriends,
    OkUsers,
    OkSessions,
    OkRefreshed,
)

encode = msgspec.json.Encoder().encode


def sent(command_id: str, mid: str, sent_at: bytes, online: bool) -> bytes:
    """A ``Sent`` without extras as ``encode`` would make it; of all replies this is the one that counts.

    Args:
        mid: a message's id, of letters, digits and dashes alone.
        sent_at: the digits of Unix ms.
    """
    form = _SENT_ONLINE if online else _SENT_OFFLINE
    return form % (encode(command_id), mid.encode(), sent_at)


_SENT = b'{"type":"sent","id":%%b,"mid":"%%b","sent_at":%%b,"online":%b}'
_SENT_ONLINE, _SENT_OFFLINE = _SENT % b"true", _SENT % b"false"
