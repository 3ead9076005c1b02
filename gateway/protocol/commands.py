"""Commands: what a client says.

Each struct's ``type`` is its tag. Unknown fields are ignored; wrong types and bounds are refused with the path of the
field. ``decode`` is the only way in.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

CommandId = Annotated[str, Meta(min_length=1, max_length=64, description="chosen by the client; its reply carries it")]
UserId = Annotated[str, Meta(min_length=1, max_length=64)]
Users = Annotated[list[UserId], Meta(min_length=1, max_length=200)]
Page = Annotated[str, Meta(min_length=1, max_length=256, description="as the previous answer gave it; opaque")]
Limit = Annotated[int, Meta(ge=1, le=1000)]
Cursor = Annotated[
    str,
    Meta(min_length=1, max_length=128, description="a place in this user's inbox; opaque: store it and send it back"),
]
DeviceId = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
Platform = Literal["ios", "android", "web", "desktop", "mini", "other"]
Kind = Annotated[str, Meta(min_length=1, max_length=32)]


class Auth(Struct, tag="auth", frozen=True):
    """The access token, where neither a header nor a subprotocol brought it. Answered by `welcome` or a close."""

    token: Annotated[str, Meta(min_length=1)]
    device: DeviceId | None = None
    platform: Platform = "other"
    since: Cursor | None = None


class Send(Struct, tag="send", frozen=True):
    """A direct message. `sent` means stored; `error` means nothing was stored."""

    id: CommandId
    to: UserId
    body: Raw
    kind: Kind = "text"
    key: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    retry: bool = False
    ephemeral: bool = False


class Ack(Struct, tag="ack", frozen=True):
    """Everything up to and including `cursor` has been taken over. Cumulative; has no reply."""

    cursor: Cursor


class Refresh(Struct, tag="refresh", frozen=True):
    """Swaps the session's token for a newer one of the same user."""

    id: CommandId
    token: Annotated[str, Meta(min_length=1)]


class Watch(Struct, tag="watch", frozen=True):
    """Asks for `presence` pushes of these users, and for their present state."""

    id: CommandId
    users: Users


class Unwatch(Struct, tag="unwatch", frozen=True):
    """Ends `presence` pushes of these users."""

    id: CommandId
    users: Users


class BlocklistAdd(Struct, tag="blocklist.add", frozen=True):
    """These users' messages no longer reach this user. Binds the very next message."""

    id: CommandId
    users: Users


class BlocklistRemove(Struct, tag="blocklist.remove", frozen=True):
    """Takes users off the blocklist."""

    id: CommandId
    users: Users


class BlocklistCheck(Struct, tag="blocklist.check", frozen=True):
    """Asks which of these users are on the blocklist."""

    id: CommandId
    users: Users


class BlocklistList(Struct, tag="blocklist.list", frozen=True):
    """One page of the blocklist, newest first."""

    id: CommandId
    page: Page | None = None
    limit: Limit = 100


class AllowlistEnable(Struct, tag="allowlist.enable", frozen=True):
    """From now on only allowlisted senders reach this user."""

    id: CommandId


class AllowlistDisable(Struct, tag="allowlist.disable", frozen=True):
    """The allowlist stays but no longer binds."""

    id: CommandId


class AllowlistStatus(Struct, tag="allowlist.status", frozen=True):
    """Asks whether the allowlist binds."""

    id: CommandId


class AllowlistAdd(Struct, tag="allowlist.add", frozen=True):
    """Puts users on the allowlist."""

    id: CommandId
    users: Users


class AllowlistRemove(Struct, tag="allowlist.remove", frozen=True):
    """Takes users off the allowlist."""

    id: CommandId
    users: Users


class AllowlistList(Struct, tag="allowlist.list", frozen=True):
    """One page of the allowlist, newest first."""

    id: CommandId
    page: Page | None = None
    limit: Limit = 100


class FriendsList(Struct, tag="friends.list", frozen=True):
    """One page of this user's friends, newest first."""

    id: CommandId
    page: Page | None = None
    limit: Limit = 100


class FriendsCheck(Struct, tag="friends.check", frozen=True):
    """Asks which of these users are friends of this user."""

    id: CommandId
    users: Users


class UserGet(Struct, tag="user.get", frozen=True):
    """Names and avatars of users; unknown ones are left out of the answer."""

    id: CommandId
    users: Annotated[list[UserId], Meta(min_length=1, max_length=20)]


class SessionsList(Struct, tag="sessions.list", frozen=True):
    """This user's own live sessions."""

    id: CommandId


class SessionsDrop(Struct, tag="sessions.drop", frozen=True):
    """Ends one of this user's own sessions; its socket closes with 4505."""

    id: CommandId
    session: Annotated[str, Meta(min_length=1, max_length=64)]


class Ping(Struct, tag="ping", frozen=True):
    """An app-level heartbeat: browsers cannot see protocol pings."""

    id: CommandId | None = None


Command = (
    Auth
    | Send
    | Ack
    | Refresh
    | Watch
    | Unwatch
    | BlocklistAdd
    | BlocklistRemove
    | BlocklistCheck
    | BlocklistList
    | AllowlistEnable
    | AllowlistDisable
    | AllowlistStatus
    | AllowlistAdd
    | AllowlistRemove
    | AllowlistList
    | FriendsList
    | FriendsCheck
    | UserGet
    | SessionsList
    | SessionsDrop
    | Ping
)

COMMANDS: tuple[type[Struct], ...] = Command.__args__


class _Identified(Struct):
    id: str | None = None


decode = msgspec.json.Decoder(Command).decode
"""Decodes one text frame's bytes. Raises msgspec.ValidationError (with the path) or msgspec.DecodeError."""

_decode_identified = msgspec.json.Decoder(_Identified).decode


def identify(payload: bytes) -> str | None:
    """The ``id`` of a command that could not be decoded, when that much can be read of it."""
    try:
        found = _decode_identified(payload).id
    except (msgspec.MsgspecError, RecursionError):
        return None
    return found if found is not None and 1 <= len(found) <= 64 else None
