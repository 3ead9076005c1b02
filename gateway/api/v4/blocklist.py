"""Blocklists: whose messages a user does not want."""

from __future__ import annotations

from msgspec import Struct, field

from gateway.api.bearer import READ, WRITE
from gateway.api.operation import operation
from gateway.api.v4.fields import Ask, ListPageSize, Order, PageToken, Result, UserId, Users
from gateway.services.errors import ALLOWLIST_ON
from gateway.services.services import Services


class Targets(Ask):
    """Whom to put on a user's list.

    Attributes:
        user_id: whose list.
        target_user_ids: whom.
    """

    user_id: UserId
    target_user_ids: Users


class Blocked(Ask):
    """Whom to take off (the field's name differs from that of add; so the vendor has it).

    Attributes:
        user_id: whose list.
        blocked_user_ids: whom.
    """

    user_id: UserId
    blocked_user_ids: Users


class ListPage(Ask):
    """Which page of a user's list.

    Attributes:
        user_id: whose list.
        page_token: from the page before.
        page_size: how many.
        order: 0 = newest first, 1 = oldest first.
    """

    user_id: UserId
    page_token: PageToken | None = None
    page_size: ListPageSize = 1000
    order: Order = 0


class BlockedUsers(Struct, kw_only=True, omit_defaults=True):
    """A page of a blocklist.

    Attributes:
        blocked_user_ids: who is on it.
        page_token: where the next page starts; absent on the last.
        next_page: the same under the name of the vendor's pages.
    """

    blocked_user_ids: list[str] = field(name="blockedUserIds")
    page_token: str | None = field(default=None, name="pageToken")
    next_page: str | None = field(default=None, name="next")


class Check(Result):
    """Who is blocked.

    Attributes:
        blocked: for each target, whether the user blocks it.
    """

    blocked: dict[str, bool]


@operation(
    "/v4/user/blocklist/add",
    scope=WRITE,
    note="A blocklist binds beside an allowlist that is on; 3,000 entries (list_max). 1011 only with strictListMode.",
    errors=(ALLOWLIST_ON,),
    example={"userId": "alice", "targetUserIds": ["bob"]},
)
async def add(services: Services, asked: Targets) -> None:
    """Put users on a user's blocklist."""
    await services.relationships.block(asked.user_id, asked.target_user_ids)


@operation(
    "/v4/user/blocklist/remove",
    scope=WRITE,
    errors=(ALLOWLIST_ON,),
    example={"userId": "alice", "blockedUserIds": ["bob"]},
)
async def remove(services: Services, asked: Blocked) -> None:
    """Take users off a user's blocklist."""
    await services.relationships.unblock(asked.user_id, asked.blocked_user_ids)


@operation("/v4/user/blocklist/get", scope=READ, example={"userId": "alice", "pageSize": 1000, "order": 0})
async def get(services: Services, asked: ListPage) -> BlockedUsers:
    """List a user's blocklist."""
    page = await services.relationships.blocklist(
        asked.user_id, page=asked.page_token, limit=asked.page_size, oldest_first=asked.order == 1
    )
    return BlockedUsers(blocked_user_ids=page.users, page_token=page.page, next_page=page.page)


@operation(
    "/v4/user/blocklist/check", scope=READ, extension=True, example={"userId": "alice", "targetUserIds": ["bob"]}
)
async def check(services: Services, asked: Targets) -> Check:
    """Tell which of the targets a user blocks."""
    return Check(blocked=await services.relationships.blocked(asked.user_id, asked.target_user_ids))


OPERATIONS = (add, remove, get, check)
