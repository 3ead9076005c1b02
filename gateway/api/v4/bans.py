"""Bans."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.api.bearer import READ, WRITE
from gateway.api.operation import operation
from gateway.api.v4.fields import Ask, Dropped, Result, UserList, Users, dropped, written_time
from gateway.services.services import Services

UNPAGED_MAX = 1000
"""How many a list without ``page`` has; a page is cut to as many."""


class Ban(Ask):
    """Whom to ban.

    Attributes:
        user_ids: who.
        duration_minutes: for how long; replaces the end of a ban that is there.
    """

    user_ids: Users
    duration_minutes: Annotated[int, Meta(ge=1, le=43_200)]


class BanList(Ask):
    """Which page.

    Attributes:
        page: from 1; absent = the first 1,000, whatever the page size.
        page_size: how many a page has; at most 1,000 of them are given.
    """

    page: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    page_size: Annotated[int, Meta(ge=1)] = 50


class BannedUser(Result):
    """One ban.

    Attributes:
        user_id: who.
        ban_expires_at: UTC, ``YYYY-MM-DD HH:MM:SS``; ``9999-12-31 23:59:59`` = until lifted.
    """

    user_id: str
    ban_expires_at: str


class BannedUsers(Result):
    """Bans, the one that ends last first.

    Attributes:
        banned_users: the bans.
    """

    banned_users: list[BannedUser]


@operation("/v4/user/ban", scope=WRITE, note="Tells which sockets it closed, once they can neither read nor write.")
async def ban(services: Services, asked: Ban) -> Dropped:
    """Ban users for a number of minutes and close their connections."""
    return dropped(await services.bans.ban(asked.user_ids, minutes=asked.duration_minutes))


@operation("/v4/user/unban", scope=WRITE)
async def unban(services: Services, asked: UserList) -> None:
    """Lift bans."""
    await services.bans.unban(asked.user_ids)


@operation("/v4/user/ban/list", scope=READ)
async def ban_list(services: Services, asked: BanList) -> BannedUsers:
    """List the banned users."""
    limit = min(asked.page_size, UNPAGED_MAX) if asked.page else UNPAGED_MAX
    offset = (asked.page - 1) * limit if asked.page else 0
    bans = await services.bans.list(offset=offset, limit=limit)
    return BannedUsers(
        banned_users=[BannedUser(user_id=each.user, ban_expires_at=written_time(each.until_ms)) for each in bans]
    )


OPERATIONS = (ban, unban, ban_list)
