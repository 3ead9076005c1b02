"""`gateway token`: issues an access token, for scripts."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

from cyclopts import Parameter

from gateway import log
from gateway.cli.failure import USAGE, Failed
from gateway.cli.flags import Given, with_settings
from gateway.cli.opening import opened
from gateway.cli.subjects import check_ids, kept_credentials, store_url
from gateway.config import Config, Credentials
from gateway.services.services import Services


@with_settings("data_dir", "redis_url", "partitions", "log_level")
def token(
    given: Given,
    user: str,
    /,
    *,
    name: Annotated[str | None, Parameter(help="The user's name; left as it is without.", show_default=False)] = None,
    lifetime: Annotated[
        int | None, Parameter(help="Seconds; 0: it never expires; as configured without.", show_default=False)
    ] = None,
) -> int:
    """Register a user and issue an access token; it alone goes to stdout."""
    config = given.load(os.environ)
    log.configure(config.log_level, config.log_format)
    check_ids(config, user)
    if lifetime is not None and lifetime < 0:
        raise Failed(f"--lifetime must be at least 0, not {lifetime}", status=USAGE)
    credentials = kept_credentials(config)
    issued = asyncio.run(_issue(config, credentials, store_url(config), user, name, lifetime))
    sys.stdout.write(issued + "\n")
    return 0


async def _issue(
    config: Config, credentials: Credentials, url: str, user: str, name: str | None, lifetime: int | None
) -> str:
    store = await opened(config, url, credentials)
    try:
        return await Services.over(store, config, credentials).tokens.issue(user, name, lifetime_s=lifetime)
    finally:
        await store.close()
