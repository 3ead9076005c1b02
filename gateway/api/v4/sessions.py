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
    """What to close: all sessions of some users, or one session or device.

    Attributes:
        user_ids: whose sessions.
        user_id: whose session or device; needed only where several users have a device of that id.
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


@operation(
    "/v4/user/kick",
    scope=KICK,
    extension=True,
    note="A session or device without its user is looked for on every node; where several users have a device of that "
    "id, it is 1002.",
    example={"userIds": ["alice"], "reason": "maintenance"},
)
async def kick(services: Services, asked: Kick) -> Dropped:
    """Close sessions; they may connect again."""
    session, device, reason = asked.session_id, asked.device_id, asked.reason
    users = list(dict.fromkeys([*([asked.user_id] if asked.user_id else []), *(asked.user_ids or [])]))
    if session is None and device is None:
        if not users:
            raise Problem(INVALID_PARAMETER, "userIds: is required, or sessionId, or deviceId")
        return dropped(await services.control.kick(users=users, reason=reason))
    if len(users) > 1 or (session is not None and device is not None):
        raise Problem(INVALID_PARAMETER, "sessionId or deviceId: give one of them, of one user")
    if not users:
        return dropped(await services.control.kick_whoever(session=session, device=device, reason=reason))
    return dropped(
        await services.control.kick(
            session=(users[0], session) if session is not None else None,
            device=(users[0], device) if device is not None else None,
            reason=reason,
        )
    )


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
