"""Hosted profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta

from gateway.api.bearer import READ, WRITE
from gateway.api.errors import INVALID_PARAMETER, NO_SUCH_USER, Problem
from gateway.api.operation import operation
from gateway.api.v4.fields import Ask, Order, Result, UserId, UserList
from gateway.services import profiles
from gateway.services.services import Services
from gateway.store.profiles import ProfileRecord


class Change(Ask):
    """What to set; one of the two must be there.

    Attributes:
        user_id: whose profile.
        user_profile: basic keys: ``uniqueId``, ``name``, ``portraitUri``, ``email``, ``birthday``, ``gender``,
            ``location``, ``role``, ``level``.
        user_ext_profile: the app's own keys, at most 20 a user: ``ext_`` and letters and digits, 32 characters in all,
            with texts of up to 256.
    """

    user_id: UserId
    user_profile: dict[str, Any] | None = None
    user_ext_profile: dict[str, Any] | None = None


class ProfileList(Ask):
    """Which page of the users.

    Attributes:
        page: from 1.
        page_size: how many a page has.
        order: 0 = who registered first comes first, 1 = last.
    """

    page: Annotated[int, Meta(ge=1, le=10_000_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Order = 0


class Profile(Result):
    """One user's profile.

    Attributes:
        user_id: whose.
        version: rises with every change; absent where none was ever set.
        user_profile: the basic keys that were set.
        user_ext_profile: the app's own.
    """

    user_id: str
    version: int | None = None
    user_profile: dict[str, Any] | None = None
    user_ext_profile: dict[str, str] | None = None


class Profiles(Result):
    """Users' profiles.

    Attributes:
        users: their profiles.
    """

    users: list[Profile]


@operation(
    "/v4/user/profile/set",
    scope=WRITE,
    errors=(
        profiles.NO_SUCH_KEY,
        profiles.NO_SUCH_EXT_KEY,
        profiles.TOO_MANY_KEYS,
        profiles.VALUE_TOO_LONG,
        profiles.NO_SUCH_USER,
        profiles.NUMBER_WANTED,
        profiles.OUT_OF_RANGE,
    ),
    note="Extended keys need not be declared before; keys that are not named stay as they are.",
    example={"userId": "alice", "userProfile": {"name": "Alice", "level": 7}, "userExtProfile": {"ext_city": "Oslo"}},
)
async def profile_set(services: Services, asked: Change) -> None:
    """Set keys of a user's hosted profile."""
    if not asked.user_profile and not asked.user_ext_profile:
        raise Problem(INVALID_PARAMETER, "userProfile or userExtProfile: one of them is required")
    await services.profiles.set(asked.user_id, asked.user_profile or {}, asked.user_ext_profile or {})


@operation(
    "/v4/user/profile/batch/get",
    scope=READ,
    errors=(NO_SUCH_USER,),
    note="Users without a profile are left out; one that is softly deleted makes it 400 / 400.",
    example={"userIds": ["alice", "bob"]},
)
async def batch_get(services: Services, asked: UserList) -> Profiles:
    """Read users' hosted profiles."""
    return _profiles(await services.profiles.get(asked.user_ids))


@operation("/v4/user/profile/list", scope=READ, example={"page": 1, "pageSize": 20})
async def profile_list(services: Services, asked: ProfileList) -> Profiles:
    """List all registered users with their hosted profiles."""
    page = await services.profiles.list(
        offset=(asked.page - 1) * asked.page_size, limit=asked.page_size, newest_first=asked.order == 1
    )
    return _profiles(page.records)


@operation("/v4/user/profile/delete", scope=WRITE, example={"userIds": ["alice"]})
async def profile_delete(services: Services, asked: UserList) -> None:
    """Remove users' hosted profiles."""
    await services.profiles.delete(asked.user_ids)


def _profiles(records: Sequence[ProfileRecord]) -> Profiles:
    return Profiles(users=[_profile(record) for record in records])


def _profile(record: ProfileRecord) -> Profile:
    if record.profile is None:
        return Profile(user_id=record.user)
    return Profile(
        user_id=record.user,
        version=record.profile.version,
        user_profile=record.profile.user_profile,
        user_ext_profile=record.profile.user_ext_profile,
    )


OPERATIONS = (profile_set, batch_get, profile_list, profile_delete)
