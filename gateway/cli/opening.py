"""Reaching the store for a command: whether its URL can be used, and what it means when it cannot be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.cli.failure import Failed, explained, of_store
from gateway.config import Config, Credentials
from gateway.store.errors import StoreError

if TYPE_CHECKING:
    # Brings redis-py along, which `gateway --help` need not wait for.
    from gateway.store.store import Store


def judge_url(config: Config) -> str | None:
    """The problem with `redis_url` that only the store's own reading of it finds; a rule of ``config.load``."""
    if config.redis_url is None:
        return None
    from gateway.store.topology import parse

    try:
        parse(config.redis_url)
    except ValueError as error:
        return str(error)
    return None


RULES = ((("redis_url",), judge_url),)
"""Rules for ``config.load`` over what configuration alone cannot know."""


async def opened(config: Config, url: str, credentials: Credentials | None = None) -> Store:
    """Opens the store; for who signs with ``credentials``, only where it is that app's.

    Raises:
        Failed: it cannot be reached or used.
    """
    from gateway.store.store import Store, StoreUnfit

    # An embedded store has its one gateway beside it, which may be given new credentials.
    app_key = credentials.app_key if credentials is not None and config.redis_url is not None else None
    timeout_s = config.store_timeout_ms / 1000
    try:
        return await Store.open(url, partitions=config.partitions, timeout_s=timeout_s, app_key=app_key)
    except StoreUnfit as error:
        raise explained(error) or error from error
    except (StoreError, ValueError, OSError) as error:
        raise Failed(*told(error, config, url)) from error


def told(error: StoreError | ValueError | OSError, config: Config, url: str) -> list[str]:
    """Why the store could not be opened; nothing was changed by trying."""
    from gateway.store.topology import parse

    address = parse(url)
    shown = address.shown
    if _is_refusal(error):
        verb = "asks for a password" if address.endpoint.password is None else "refuses the user or password"
        return [f"Redis at {shown} {verb} (redis_url)"]
    lines = of_store(error, changes=False) if isinstance(error, StoreError) else [str(error)]
    where = f"redis_url {shown}" if config.redis_url is not None else "the embedded store"
    return [f"{where}: {line}" for line in lines]


def _is_refusal(error: BaseException | None) -> bool:
    from redis.exceptions import AuthenticationError

    while error is not None:
        if isinstance(error, AuthenticationError):
            return True
        error = error.__cause__
    return False
