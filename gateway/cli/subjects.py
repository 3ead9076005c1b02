"""Whom and what a command acts on: user ids, kept credentials, the store of a gateway that runs."""

from __future__ import annotations

import re

from gateway.cli import record
from gateway.cli.failure import USAGE, Failed
from gateway.config import Config, ConfigError, Credentials
from gateway.store import embedded


def check_ids(config: Config, *users: str) -> None:
    """Raises Failed (status 2) naming every user id that is not one."""
    pattern = re.compile(config.id_pattern)
    wrong = [user for user in users if not pattern.fullmatch(user)]
    if wrong:
        shown = ", ".join(ascii(user) for user in wrong)
        raise Failed(f"not a user id: {shown} (id_pattern is {config.id_pattern})", status=USAGE)


def kept_credentials(config: Config) -> Credentials:
    """Key and secret of a gateway that has been started before; never makes new ones.

    Raises:
        Failed: there are none, or they are damaged.
    """
    path = config.data_dir / "credentials.json"
    if (config.app_key is None or config.app_secret is None) and not path.exists():
        raise Failed(
            f"no app key and secret: {path} does not exist. Start the gateway once (gateway serve), name its "
            "--data-dir, or set GATEWAY_APP_KEY and GATEWAY_APP_SECRET"
        )
    try:
        return Credentials.load_or_create(config.data_dir, config)
    except ConfigError as error:
        raise Failed(*map(str, error.faults)) from error


def store_url(config: Config) -> str:
    """The URL of the store: as configured, else of the gateway that runs on the data directory.

    Raises:
        Failed: none runs there, or it uses a Redis whose password is not known here.
    """
    url = config.redis_url or embedded.find(config.data_dir)
    if url is None:
        running = record.read(config.data_dir)
        url = running.redis_url if running is not None else None
        if url is not None and "***@" in url:
            raise Failed(f"the gateway on {config.data_dir} uses Redis at {url}: give --redis-url with its password")
    if url is None:
        raise Failed(
            f"no gateway runs on data directory {config.data_dir}: start it (gateway serve), name its --data-dir, or "
            "give the --redis-url it uses"
        )
    return url
