"""Where the gateway of a data directory listens, so that `connect` and `health` need no flags."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from gateway.config import Config
from gateway.config.redact import without_password
from gateway.config.rules import is_loopback

log = structlog.get_logger(__name__)

NAME = "gateway.json"


class Running(Struct):
    """A gateway that runs on this machine; no port of a role that it has not.

    Attributes:
        client: the client port's URL, `ws://127.0.0.1:8080`.
        admin: the admin port's URL.
        certificate: the file that proves it is this one, where it serves with TLS.
        redis_url: the Redis it uses, user and password starred out; None where the store is embedded.
    """

    pid: int
    node: str
    client: str | None
    admin: str | None
    certificate: str | None = None
    redis_url: str | None = None


@contextlib.contextmanager
def written(data_dir: Path, running: Running) -> Iterator[None]:
    """The record, kept for as long as the gateway serves."""
    path = data_dir / NAME
    try:
        draft = path.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(running) + b"\n")
        draft.replace(path)
    except OSError as error:
        # A convenience: with credentials and store elsewhere, the directory need not even exist.
        log.info("no record of this gateway is kept", data_dir=str(data_dir), reason=error.strerror)
    try:
        yield
    finally:
        if (kept := read(data_dir)) is not None and kept.pid == os.getpid():
            path.unlink(missing_ok=True)


def read(data_dir: Path) -> Running | None:
    """The record of the gateway that runs on this data directory, None where none does."""
    try:
        kept = msgspec.json.decode((data_dir / NAME).read_bytes(), type=Running)
        os.kill(kept.pid, 0)
    except PermissionError:
        return kept
    except (OSError, msgspec.MsgspecError, OverflowError):
        return None
    return kept


def of(config: Config, node_id: str, client_port: int, admin_port: int) -> Running:
    """What this process says of the gateway that it runs; ports of a role that it has not are not looked at."""
    client = client_url(config, client_port) if config.role != "admin" else None
    admin = admin_url(config, admin_port) if config.role != "edge" else None
    certificate = str(config.tls_cert.absolute()) if config.tls_cert is not None else None
    redis_url = None if config.redis_url is None else str(without_password(config.redis_url))
    return Running(os.getpid(), node_id, client, admin, certificate, redis_url)


def client_url(config: Config, port: int) -> str:
    """How to reach the client port from this machine."""
    return f"{'wss' if config.tls_cert else 'ws'}://{reachable(config.client_host)}:{port}"


def admin_url(config: Config, port: int) -> str:
    """How to reach the admin port from this machine."""
    encrypted = config.tls_cert and not is_loopback(config.admin_host)
    return f"{'https' if encrypted else 'http'}://{reachable(config.admin_host)}:{port}"


def reachable(host: str) -> str:
    """The address under which this machine reaches a listening address."""
    if host in ("0.0.0.0", ""):
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
