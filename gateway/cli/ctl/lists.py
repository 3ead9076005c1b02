"""Friends, blocklists, allowlists."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Annotated

from cyclopts import Parameter

from gateway.cli.ctl.over import SETTINGS, Desk, Json, perform, unregistered
from gateway.cli.ctl.report import Report, lines, noted, table
from gateway.cli.failure import USAGE, Failed
from gateway.cli.flags import Given, with_settings
from gateway.services.errors import Refused
from gateway.services.relationships import Page
from gateway.services.services import Services

PAGE = 1000

Limit = Annotated[int, Parameter(help="How many at most.")]
Edit = Callable[[Services, str, tuple[str, ...]], Awaitable[object]]


def _edit(doc: str, told: str, act: Edit) -> Callable[..., int]:
    @with_settings(*SETTINGS)
    def edit(given: Given, user: str, /, *targets: str, json: Json = False) -> int:
        if not targets:
            raise Failed("name a user, and then whom it is about: … USER TARGET …", status=USAGE)

        async def acted(desk: Desk) -> Report:
            await act(desk.services, user, targets)
            strangers = await unregistered(desk, (user, *targets)) if act is _befriend else set()
            names = ", ".join(noted(target, target, strangers) for target in targets)
            return lines({"user": user, "targets": list(targets)}, [f"{noted(user, user, strangers)}: {told} {names}"])

        return perform(given, (user, *targets), json, acted)

    edit.__doc__ = doc
    return edit


def _listing(doc: str, name: str) -> Callable[..., int]:
    @with_settings(*SETTINGS)
    def listing(given: Given, user: str, /, *, limit: Limit = 10_000, json: Json = False) -> int:
        async def act(desk: Desk) -> Report:
            relationships = desk.services.relationships
            rows: list[dict[str, str]] = []
            page: str | None = None
            while len(rows) < limit:
                asked = min(PAGE, limit - len(rows))
                found: Page = await getattr(relationships, name)(user, page=page, limit=asked)
                rows += [{"user": each} for each in found.users]
                page = found.page
                if page is None:
                    break
            binds = (await relationships.allowlist_enabled([user]))[user]
            more = {"enabled": binds} if name == "allowlist" else {}
            empty = f"{user}'s {name} is empty"
            report = table("users", rows, ("user",), empty, **more)
            if more:
                report.shown += lines(None, [f"the allowlist of {user} is {'on' if binds else 'off'}"]).shown
            report.document["users"] = [row["user"] for row in rows]
            return report

        return perform(given, (user,), json, act, changes=False)

    listing.__doc__ = doc
    return listing


@with_settings(*SETTINGS)
def friends_list(given: Given, user: str, /, *, limit: Limit = 10_000, json: Json = False) -> int:
    """List a user's friends, newest first."""

    async def act(desk: Desk) -> Report:
        rows: list[dict[str, object]] = []
        page: str | None = None
        while len(rows) < limit:
            found = await desk.services.friends.page(user, page=page, limit=min(100, limit - len(rows)))
            rows += [dataclasses.asdict(each) for each in found.friends]
            page = found.page
            if page is None:
                break
        return table("friends", rows, ("user", "name", "alias", "added_at"), f"{user} has no friends")

    return perform(given, (user,), json, act, changes=False)


async def _befriend(services: Services, user: str, targets: tuple[str, ...]) -> None:
    for target in targets:
        try:
            await services.friends.befriend(user, target)
        except Refused as error:
            who = user if error.field == "user" else target
            raise Refused(error.code, f"{who}: {error.reason}", error.field) from error


async def _unfriend(services: Services, user: str, targets: tuple[str, ...]) -> None:
    await services.friends.unfriend(user, targets)


async def _block(services: Services, user: str, targets: tuple[str, ...]) -> None:
    await services.relationships.block(user, targets)


async def _unblock(services: Services, user: str, targets: tuple[str, ...]) -> None:
    await services.relationships.unblock(user, targets)


async def _allow(services: Services, user: str, targets: tuple[str, ...]) -> None:
    await services.relationships.allow(user, targets)


async def _disallow(services: Services, user: str, targets: tuple[str, ...]) -> None:
    await services.relationships.disallow(user, targets)


def _switch(doc: str, *, enabled: bool) -> Callable[..., int]:
    @with_settings(*SETTINGS)
    def switch(given: Given, /, *users: str, json: Json = False) -> int:
        if not users:
            raise Failed("name at least one user", status=USAGE)

        async def act(desk: Desk) -> Report:
            await desk.services.relationships.enable_allowlist(users, enabled)
            told = "only allowlisted senders reach them" if enabled else "the allowlist does not bind"
            return lines(
                {"results": [{"user": user, "enabled": enabled} for user in users]},
                [f"{user}: {told}" for user in users],
            )

        return perform(given, users, json, act)

    switch.__doc__ = doc
    return switch


COMMANDS: dict[str, tuple[str, dict[str, Callable[..., int]]]] = {
    "friends": (
        "Friends: list, add, remove.",
        {
            "list": friends_list,
            "add": _edit("Make two users friends, in both directions.", "now friends with", _befriend),
            "remove": _edit("End friendships.", "no longer friends with", _unfriend),
        },
    ),
    "blocklist": (
        "Blocklists: list, add, remove.",
        {
            "list": _listing("List whom a user has blocked, newest first.", "blocklist"),
            "add": _edit("Block users on behalf of one.", "blocks", _block),
            "remove": _edit("Unblock them.", "no longer blocks", _unblock),
        },
    ),
    "allowlist": (
        "Allowlists: list, add, remove, on, off.",
        {
            "list": _listing("List whom a user allows, newest first, and whether it binds.", "allowlist"),
            "add": _edit("Allow users on behalf of one.", "allows", _allow),
            "remove": _edit("Take them off.", "no longer allows", _disallow),
            "on": _switch("Let only allowlisted senders reach these users.", enabled=True),
            "off": _switch("Let everybody reach them.", enabled=False),
        },
    ),
}
