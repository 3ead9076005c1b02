"""Users: what is known of them, whether they are online, deletion."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.api.bearer import READ, WRITE
from gateway.api.errors import NO_SUCH_USER, Problem
from gateway.api.operation import Rate, operation
from gateway.api.v4.fields import (
    Ask,
    AvatarUrl,
    ManyUsers,
    Name,
    Order,
    PageToken,
    Result,
    User,
    UserId,
    written_time,
)
from gateway.services.errors import CALL_RESTRICTED
from gateway.services.services import Services
from gateway.store.accounts import Account as Record


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
        refused_user_ids: who was not restored yet, because the deletion is too young.
    """

    operation_id: str
    sessions_closed: int | None = None
    nodes_answered: list[str] | None = None
    nodes_silent: list[str] | None = None
    refused_user_ids: list[str] = []


class SoftDeletedList(Ask):
    """Which page.

    Attributes:
        page: from 1.
        page_size: how many a page has.
    """

    page: Annotated[int, Meta(ge=1, le=10_000_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=50)] = 50


class SoftDeleted(Result):
    """Softly deleted users, the one deleted first comes first.

    Attributes:
        user_ids: who.
    """

    user_ids: list[str]


class UserList(Ask):
    """Which page of the registered users.

    Attributes:
        page: from 1; absent = by ``page_token``.
        page_token: from the page before; absent = the first page.
        page_size: how many a page has.
        order: 0 = who registered first comes first, 1 = last (by ``page`` only).
    """

    page: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    page_token: PageToken | None = None
    page_size: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Order = 0


class ListedUser(Result):
    """One registered user.

    Attributes:
        user_id: who.
        name: the display name.
        avatar_url: empty when there is none.
        created_at: UTC, ``YYYY-MM-DD HH:MM:SS``.
    """

    user_id: str
    name: str
    avatar_url: str
    created_at: str


class ListedUsers(Result):
    """A page of users.

    Attributes:
        users: who.
        total_count: how many there are on all pages.
        page_token: where the next page starts; absent on the last, and where ``page`` was given.
    """

    users: list[ListedUser]
    total_count: int
    page_token: str | None = None


class Deleted(Result):
    """What a deletion has achieved.

    Attributes:
        user_ids: who is gone; who is not among them is softly deleted, and gone when asked for again.
        sessions_closed: how many sockets it closed.
    """

    user_ids: list[str]
    sessions_closed: int


@operation("/v4/user/get", scope=READ, errors=(NO_SUCH_USER,))
async def get(services: Services, asked: User) -> Account:
    """Read a user's name, avatar and time of registration."""
    record = await _existing(services, asked.user_id)
    return Account(name=record.name, avatar_url=record.avatar_url, created_at=written_time(record.registered_at))


@operation(
    "/v4/user/update",
    scope=WRITE,
    errors=(NO_SUCH_USER,),
    example={"userId": "alice", "name": "Alice", "avatarUrl": "https://app.example.com/alice.png"},
)
async def update(services: Services, asked: Update) -> None:
    """Change a user's name or avatar; what is left out stays."""
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


@operation(
    "/v4/user/soft-delete",
    scope=WRITE,
    rate=Rate(100, counted="users"),
    note="Done when it is answered, and friends' lists lose the users as well. Webhooks tell the result of each user "
    "by `user:deletion_state`, a name of the gateway's own.",
    example={"userIds": ["alice"]},
)
async def soft_delete(services: Services, asked: Deletion) -> Accepted:
    """Deactivate users, removing what is theirs and closing their connections."""
    done = await services.deletion.deactivate(asked.user_ids)
    return Accepted(
        operation_id=done.operation_id,
        sessions_closed=done.sessions_closed,
        nodes_answered=done.nodes_answered,
        nodes_silent=done.nodes_silent,
    )


@operation(
    "/v4/user/restore",
    scope=WRITE,
    rate=Rate(100, counted="users"),
    note="Possible at once, unless restore_wait_s says otherwise; who is refused is named in the answer, and by the "
    "webhook `user:deletion_state`.",
    example={"userIds": ["alice"]},
)
async def restore(services: Services, asked: Deletion) -> Accepted:
    """Make deactivated users active again; what was removed stays removed."""
    done = await services.deletion.reactivate(asked.user_ids)
    return Accepted(operation_id=done.operation_id, refused_user_ids=done.refused)


@operation("/v4/user/soft-deleted/list", scope=READ, example={"page": 1, "pageSize": 50})
async def soft_deleted_list(services: Services, asked: SoftDeletedList) -> SoftDeleted:
    """List the softly deleted users."""
    page = await services.deletion.list(offset=(asked.page - 1) * asked.page_size, limit=asked.page_size)
    return SoftDeleted(user_ids=[entry.user for entry in page.entries])


@operation("/v4/user/list", scope=READ, extension=True, example={"pageSize": 20})
async def user_list(services: Services, asked: UserList) -> ListedUsers:
    """List the registered users, in the order of their registration."""
    if asked.page is None and asked.order == 0:
        page = await services.accounts.list_after(asked.page_token, asked.page_size)
    else:
        offset = ((asked.page or 1) - 1) * asked.page_size
        page = await services.accounts.list(offset=offset, limit=asked.page_size, newest_first=asked.order == 1)
    return ListedUsers(
        users=[
            ListedUser(
                user_id=each.user,
                name=each.name,
                avatar_url=each.avatar_url,
                created_at=written_time(each.registered_at),
            )
            for each in page.accounts
        ],
        total_count=page.total,
        page_token=page.token,
    )


@operation("/v4/user/delete", scope=WRITE, extension=True, errors=(CALL_RESTRICTED,), example={"userIds": ["alice"]})
async def delete(services: Services, asked: Deletion) -> Deleted:
    """Delete users for good; in the development environment only."""
    done = await services.deletion.delete(asked.user_ids)
    return Deleted(user_ids=done.users, sessions_closed=done.sessions_closed)


OPERATIONS = (get, update, connection_status, soft_delete, restore, soft_deleted_list, user_list, delete)
