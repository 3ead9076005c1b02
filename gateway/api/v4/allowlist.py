"""Allowlists: whose messages a user takes, when the user's allowlist is on. Extensions throughout."""

from __future__ import annotations

from gateway.api.bearer import READ, WRITE
from gateway.api.operation import operation
from gateway.api.v4.blocklist import ListPage, Targets
from gateway.api.v4.fields import Result, UserList, Users
from gateway.services.errors import ALLOWLIST_OFF
from gateway.services.services import Services


class AllowedUsers(Result):
    """A page of an allowlist.

    Attributes:
        target_user_ids: who is on it.
        page_token: where the next page starts; absent on the last.
    """

    target_user_ids: list[str]
    page_token: str | None = None


class Switch(UserList):
    """Whose allowlist to switch.

    Attributes:
        user_ids: whose.
        enabled: on or off.
    """

    user_ids: Users
    enabled: bool


class Setting(Result):
    """One user's switch.

    Attributes:
        user_id: whose.
        enabled: whether only allowed senders reach the user.
    """

    user_id: str
    enabled: bool


class Settings(Result):
    """The switches of the users asked for.

    Attributes:
        settings: in the order of the request.
    """

    settings: list[Setting]


@operation(
    "/v4/user/allowlist/add",
    scope=WRITE,
    extension=True,
    note="The list may be managed while it is off, unless the live setting strictListMode is on (1010).",
    errors=(ALLOWLIST_OFF,),
    example={"userId": "alice", "targetUserIds": ["bob"]},
)
async def add(services: Services, asked: Targets) -> None:
    """Put users on a user's allowlist."""
    await services.relationships.allow(asked.user_id, asked.target_user_ids)


@operation(
    "/v4/user/allowlist/remove",
    scope=WRITE,
    extension=True,
    errors=(ALLOWLIST_OFF,),
    example={"userId": "alice", "targetUserIds": ["bob"]},
)
async def remove(services: Services, asked: Targets) -> None:
    """Take users off a user's allowlist."""
    await services.relationships.disallow(asked.user_id, asked.target_user_ids)


@operation("/v4/user/allowlist/get", scope=READ, extension=True, errors=(ALLOWLIST_OFF,), example={"userId": "alice"})
async def get(services: Services, asked: ListPage) -> AllowedUsers:
    """List a user's allowlist."""
    page = await services.relationships.allowlist(
        asked.user_id, page=asked.page_token, limit=asked.page_size, oldest_first=asked.order == 1
    )
    return AllowedUsers(target_user_ids=page.users, page_token=page.page)


@operation(
    "/v4/user/allowlist-setting/set",
    scope=WRITE,
    extension=True,
    note="Switching a user's allowlist on leaves the blocklist in force: who is blocked stays blocked.",
    example={"userIds": ["alice"], "enabled": True},
)
async def setting_set(services: Services, asked: Switch) -> None:
    """Switch users' allowlists on or off."""
    await services.relationships.enable_allowlist(asked.user_ids, asked.enabled)


@operation("/v4/user/allowlist-setting/get", scope=READ, extension=True, example={"userIds": ["alice"]})
async def setting_get(services: Services, asked: UserList) -> Settings:
    """Tell whether users' allowlists are on."""
    enabled = await services.relationships.allowlist_enabled(asked.user_ids)
    return Settings(settings=[Setting(user_id=user, enabled=enabled[user]) for user in asked.user_ids])


OPERATIONS = (add, remove, get, setting_set, setting_get)
