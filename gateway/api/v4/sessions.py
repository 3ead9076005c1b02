"""Live sessions: list and kick. Extensions."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.api.bearer import KICK, READ
from gateway.api.errors import INVALID_PARAMETER, Problem
from gateway.api.operation import operation
from gateway.api.v4.fields import Ask, Dropped, Result, User, UserId, Users, dropped
from gateway.services.services import Services


class Kick(Ask):
    """What to close: all sessions of some users, or one session or device of one user.

    Attributes:
        user_ids: whose sessions.
        user_id: whose session or device; with ``session_id`` or ``device_id``.
        session_id: one session.
        device_id: one device.
        reason: what the client is told.
    """

    user_ids: Users | None = None
    user_id: UserId | None = None
    session_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    device_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    reason: Annotated[str, Meta(max_length=64)] = ""


class Session(Result):
    """A live session.

    Attributes:
        session_id: its id.
        platform: the device's class.
        node_id: the node that holds the socket.
        connected_at: Unix ms.
        address: the client's.
        device_id: what the client calls its device; absent when it did not say.
    """

    session_id: str
    platform: str
    node_id: str
    connected_at: int
    address: str
    device_id: str | None = None


class Sessions(Result):
    """A user's live sessions.

    Attributes:
        sessions: one a socket.
    """

    sessions: list[Session]


@operation("/v4/user/kick", scope=KICK, extension=True)
async def kick(services: Services, asked: Kick) -> Dropped:
    """Close sessions; they may connect again."""
    session, device = asked.session_id, asked.device_id
    if session is None and device is None:
        users = asked.user_ids or ([asked.user_id] if asked.user_id else [])
        if not users:
            raise Problem(INVALID_PARAMETER, "userIds: is required")
        return dropped(await services.control.kick(users=users, reason=asked.reason))
    user = _one_user(asked)
    return dropped(
        await services.control.kick(
            session=(user, session) if session else None, device=(user, device) if device else None, reason=asked.reason
        )
    )


def _one_user(asked: Kick) -> str:
    users = [*([asked.user_id] if asked.user_id else []), *(asked.user_ids or [])]
    if len(users) != 1 or (asked.session_id and asked.device_id):
        raise Problem(INVALID_PARAMETER, "sessionId or deviceId: give one of them, and its userId")
    return users[0]


@operation("/v4/user/session/list", scope=READ, extension=True)
async def session_list(services: Services, asked: User) -> Sessions:
    """List a user's live sessions."""
    records = await services.presence.sessions(asked.user_id)
    return Sessions(
        sessions=[
            Session(
                session_id=each.session,
                device_id=each.device,
                platform=each.platform,
                node_id=each.node,
                connected_at=each.connected_at,
                address=each.address,
            )
            for each in records
        ]
    )


OPERATIONS = (kick, session_list)
