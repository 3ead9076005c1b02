"""Opens the services over the store for one command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, NamedTuple, TypeVar

from cyclopts import Parameter

from gateway import log
from gateway.cli.ctl.report import Report, show
from gateway.cli.failure import Failed, of_store
from gateway.cli.flags import Given
from gateway.cli.opening import opened
from gateway.cli.subjects import check_ids, store_url
from gateway.config import Config, Credentials
from gateway.services.services import Services
from gateway.store.errors import OutcomeUnknown
from gateway.store.store import Store

SETTINGS = ("data_dir", "redis_url", "partitions", "log_level")
PARALLEL_MAX = 8

Json = Annotated[bool, Parameter(name="--json", negative="", help="One JSON document instead of text.")]
Outcome = TypeVar("Outcome")


class Desk(NamedTuple):
    """What an act works with."""

    services: Services
    store: Store
    config: Config


Act = Callable[[Desk], Awaitable[Report]]


def perform(given: Given, users: Sequence[str], as_json: bool, act: Act, *, changes: bool = True) -> int:
    """Checks the ids, opens the store, acts, prints.

    Args:
        given: the command line's settings.
        users: ids to check.
        as_json: how to print.
        act: what to do.
        changes: whether it changes anything.

    Returns:
        The exit status.

    Raises:
        Failed, Refused, StoreError.
    """
    config = given.load(os.environ)
    log.configure(config.log_level, config.log_format)
    check_ids(config, *users)
    url = store_url(config)
    try:
        return show(asyncio.run(_over(config, url, act)), as_json=as_json)
    except OutcomeUnknown as error:
        raise Failed(*of_store(error, changes=changes)) from error


async def _over(config: Config, url: str, act: Act) -> Report:
    store = await opened(config, url)
    try:
        # No act here signs anything, and an admin's machine need not have the secret.
        return await act(Desk(Services.over(store, config, Credentials("", "")), store, config))
    finally:
        await store.close()


async def for_each(users: Sequence[str], act: Callable[[str], Awaitable[Outcome]]) -> dict[str, Outcome]:
    """Acts on each user by itself, a few at a time, so that each has an outcome of its own."""
    places = asyncio.Semaphore(PARALLEL_MAX)

    async def one(user: str) -> Outcome:
        async with places:
            return await act(user)

    wanted = list(dict.fromkeys(users))
    return dict(zip(wanted, await asyncio.gather(*map(one, wanted)), strict=True))


async def unregistered(desk: Desk, users: Sequence[str]) -> set[str]:
    """Which of these were never registered: perhaps mistyped, though one may act on them."""
    found = await for_each(users, desk.services.accounts.get)
    return {user for user, account in found.items() if account is None}
