"""Users: what is known of them, whether they are online, soft deletion."""

from __future__ import annotations

import secrets
import string

from gateway.api.bearer import READ, WRITE
from gateway.api.errors import NO_SUCH_USER, Problem
from gateway.api.operation import Rate, operation
from gateway.api.v4.fields import (
    Ask,
    AvatarUrl,
    ManyUsers,
    Name,
    Result,
    User,
    UserId,
    dropped,
    written_time,
)
from gateway.services.services import Services
from gateway.store.accounts import Account as Record

_ALPHABET = string.ascii_uppercase + string.digits


class Account(Result):
    """A registered user.

    Attributes:
        name: the display name.
        avatar_url: empty when there is none.
        created_at: UTC, ``YYYY-MM-DD HH:MM:SS``.
    """

    name: str
    avatar_url: str
    created_at: str


class Update(Ask):
    """What to change.

    Attributes:
        user_id: whose record.
        name: the new name.
        avatar_url: the new avatar; empty = none.
    """

    user_id: UserId
    name: Name | None = None
    avatar_url: AvatarUrl | None = None


class ConnectionStatus(Result):
    """Whether a user is online.

    Attributes:
        status: "1" on any device, "0" on none.
    """

    status: str


class Deletion(Ask):
    """Up to 100 users.

    Attributes:
        user_ids: who.
    """

    user_ids: ManyUsers


class Accepted(Result):
    """An operation that was carried out.

    Attributes:
        operation_id: names it in the event that follows.
        sessions_closed: how many sockets it closed.
        nodes_answered: the nodes that said so.
        nodes_silent: the nodes that did not.
    """

    operation_id: str
    sessions_closed: int | None = None
    nodes_answered: list[str] | None = None
    nodes_silent: list[str] | None = None


@operation("/v4/user/get", scope=READ)
async def get(services: Services, asked: User) -> Account:
    """Read a user's name, avatar and time of registration."""
    record = await _existing(services, asked.user_id)
    return Account(name=record.name, avatar_url=record.avatar_url, created_at=written_time(record.registered_at))


@operation("/v4/user/update", scope=WRITE)
async def update(services: Services, asked: Update) -> None:
    """Change a user's name or avatar; what is left out stays."""
    await _existing(services, asked.user_id)
    await services.accounts.update(asked.user_id, name=asked.name, avatar_url=asked.avatar_url)


async def _existing(services: Services, user: str) -> Record:
    record = await services.accounts.get(user)
    if record is None or record.deactivated_at is not None or record.registered_at is None:
        raise Problem(NO_SUCH_USER, "userId: the user does not exist")
    return record


@operation("/v4/user/connection-status/get", "/v4/user/online-status/get", scope=READ)
async def connection_status(services: Services, asked: User) -> ConnectionStatus:
    """Tell whether a user is connected on any device."""
    return ConnectionStatus(status="1" if await services.presence.online(asked.user_id) else "0")


@operation("/v4/user/soft-delete", scope=WRITE, rate=Rate(100, counted="users"))
async def soft_delete(services: Services, asked: Deletion) -> Accepted:
    """Deactivate users, removing what is theirs and closing their connections."""
    drop = dropped(await services.accounts.deactivate(asked.user_ids))
    return Accepted(
        operation_id=operation_id(),
        sessions_closed=drop.sessions_closed,
        nodes_answered=drop.nodes_answered,
        nodes_silent=drop.nodes_silent,
    )


@operation("/v4/user/restore", scope=WRITE, rate=Rate(100, counted="users"))
async def restore(services: Services, asked: Deletion) -> Accepted:
    """Make deactivated users active again; what was removed stays removed."""
    await services.accounts.reactivate(asked.user_ids)
    return Accepted(operation_id=operation_id())


def operation_id() -> str:
    """A new id of the form ``C70B-B1D6-82E8-5SBO``."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(4))


OPERATIONS = (get, update, connection_status, soft_delete, restore)
