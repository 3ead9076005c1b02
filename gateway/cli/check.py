"""`gateway check`: everything that `serve` would mind, all at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from rich.console import Console
from rich.text import Text

from gateway.cli import opening, reach, record
from gateway.cli.failure import FAILED, Failed
from gateway.cli.files import judge_open_files
from gateway.cli.flags import DEFAULT_FILE, Given, with_settings
from gateway.cli.serve import check_tls, check_workers
from gateway.cli.workers.spec import group_of
from gateway.config import Config, ConfigError, Credentials, load
from gateway.config.rules import is_loopback
from gateway.services.tokens import verifier_of
from gateway.store import durability, embedded, functions
from gateway.store.durability import Footing
from gateway.store.errors import StoreError
from gateway.store.replicated import Replication
from gateway.store.store import Store
from gateway.store.topology import parse

Kind = Literal["ok", "info", "warning", "fault"]
_STYLES = {"ok": "green", "info": "cyan", "warning": "yellow", "fault": "bold red"}


class Finding(NamedTuple):
    """One thing that was looked at."""

    kind: Kind
    text: str


@with_settings()
def check(given: Given) -> int:
    """Tell everything that serve would mind, all at once; works while the gateway runs."""
    file = given.file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    findings: list[Finding] = []
    config, faulty = _settle(given, file, findings)
    for keys, look in _LOOKS:
        # What rests on a faulty setting would only be looked at with its default.
        if faulty.isdisjoint(keys):
            findings += look(config)
    console = Console(soft_wrap=True, highlight=False)
    for finding in findings:
        console.print(Text.assemble((f"{finding.kind:8}", _STYLES[finding.kind]), finding.text))
    faults = sum(finding.kind == "fault" for finding in findings)
    if faults:
        sys.stderr.write(f"gateway: {faults} fault{'s' if faults > 1 else ''}: serve would not start\n")
        return FAILED
    return 0


def _settle(given: Given, file: Path | None, findings: list[Finding]) -> tuple[Config, set[str]]:
    """The settings, and the names of the faulty ones, which have their defaults instead."""
    try:
        config = load(given.flags, os.environ, file, opening.RULES)
    except ConfigError as error:
        findings += [Finding("fault", str(fault)) for fault in error.faults]
        return _without(given, file, {fault.key.replace("-", "_") for fault in error.faults})
    findings.append(Finding("ok", f"settings{f' ({file})' if file else ''}"))
    return config, set()


def _without(given: Given, file: Path | None, faulty: set[str]) -> tuple[Config, set[str]]:
    """Settings without the faulty ones, so that the rest can be looked at in the same run."""
    values: dict[str, object] = {}
    with contextlib.suppress(OSError, ValueError):
        values |= tomllib.loads(file.read_text("utf-8")) if file else {}
    prefix = "GATEWAY_"
    given_by = {name.removeprefix(prefix).lower(): text for name, text in os.environ.items() if name.startswith(prefix)}
    values |= {name: text for name, text in given_by.items() if text}
    values |= {name: flag for name, flag in given.flags.items() if flag is not None}
    known = Config.__dataclass_fields__
    while True:
        try:
            kept = {name: value for name, value in values.items() if name in known and name not in faulty}
            return load(kept, {}, None, opening.RULES), faulty
        except ConfigError as error:
            # A default may contradict what was kept.
            faulty = faulty | {fault.key for fault in error.faults}


def _failures(act: Callable[[], object]) -> Iterator[Finding]:
    try:
        act()
    except Failed as failure:
        yield from (Finding("fault", line) for line in failure.lines)
    except ConfigError as error:
        yield from (Finding("fault", str(fault)) for fault in error.faults)


def _workers(config: Config) -> Iterator[Finding]:
    found = list(_failures(lambda: check_workers(config)))
    yield from found
    if config.workers == 1 or found:
        return
    group, total = group_of(config), config.connections_max * config.workers
    yield Finding("ok", f"{config.workers} workers, nodes {group}-0 to {group}-{config.workers - 1}")
    yield Finding("info", f"connections_max is each worker's: {total} together; limits of one address are divided")


def _data_dir(config: Config) -> Iterator[Finding]:
    directory = config.data_dir.absolute()
    nearest = next(each for each in (directory, *directory.parents) if each.exists())
    try:
        # Tried and not asked: permissions do not tell of read-only and full disks.
        with tempfile.NamedTemporaryFile(dir=nearest, prefix=".check-"):
            pass
    except OSError as error:
        yield Finding("fault", f"data_dir {config.data_dir}: nothing can be written to {nearest}: {error.strerror}")
        return
    yield Finding("ok", f"data directory {config.data_dir}{'' if directory.exists() else ' (will be made)'}")
    if (directory / "credentials.json").exists():
        yield from _failures(lambda: Credentials.load_or_create(config.data_dir, config))


def _tls(config: Config) -> Iterator[Finding]:
    found = list(_failures(lambda: check_tls(config)))
    yield from found
    if config.tls_cert is not None and not found:
        yield Finding("ok", f"certificate {config.tls_cert}")


def _jwt_key(config: Config) -> Iterator[Finding]:
    if config.jwt_public_key_file is None:
        return
    found = list(_failures(lambda: verifier_of(config, Credentials("key", "not used"))))
    if not found:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            load_pem_public_key(config.jwt_public_key_file.read_bytes())
        except ValueError:
            found = [Finding("fault", f"jwt_public_key_file {config.jwt_public_key_file}: holds no PEM public key")]
    yield from found or [Finding("ok", f"public key {config.jwt_public_key_file}")]


def _webhooks(config: Config) -> Iterator[Finding]:
    names = ("webhook_url", "webhook_v1_status_url", "webhook_v1_friendship_url")
    for name in names:
        url = getattr(config, name)
        if url is None:
            continue
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            yield Finding("warning", f"{name}: http:// beyond this machine: events can be read and changed on the way")
        else:
            yield Finding("ok", f"{name}: {parts.scheme}://{parts.hostname}")


def _open_files(config: Config) -> Iterator[Finding]:
    warning = judge_open_files(config.connections_max, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    if warning:
        yield Finding("warning", warning)


def _client_port(config: Config) -> Iterator[Finding]:
    if config.role != "admin":
        url = record.client_url(config, config.client_port)
        running = record.read(config.data_dir)
        ours = running is not None and _holds(running.client, config.client_port)
        yield _port(config, "client", config.client_host, config.client_port, url, ours=ours)


def _admin_port(config: Config) -> Iterator[Finding]:
    if config.role != "edge":
        url = record.admin_url(config, config.admin_port)
        running = record.read(config.data_dir)
        ours = running is not None and _holds(running.admin, config.admin_port)
        yield _port(config, "admin", config.admin_host, config.admin_port, url, ours=ours)


def _holds(url: str | None, port: int) -> bool:
    return url is not None and urlsplit(url).port == port


def _port(config: Config, name: str, host: str, port: int, url: str, *, ours: bool) -> Finding:
    where = f"{name} port {port} on {host}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
            tried.listen(1)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return Finding("fault", f"{where} cannot be had: {error.strerror}; see --{name}-host and --{name}-port")
        answer = reach.probe(url, config)
        if answer is None:
            return Finding("fault", f"{where} is in use by another program; choose another with --{name}-port")
        if not ours:
            other = f"a gateway that does not run on {config.data_dir}"
            return Finding("fault", f"{where} is in use by {other}; choose another with --{name}-port")
        said = "ready" if answer.ready else answer.reason
        return Finding("info", f"{where}: the gateway of {config.data_dir} runs there, {said}")
    return Finding("ok", f"{where} is free" if port else f"{name} port: any free one on {host}")


def _store(config: Config) -> Iterator[Finding]:
    url = config.redis_url or embedded.find(config.data_dir)
    if url is None:
        yield Finding("ok", f"store: an embedded one will be started in {config.data_dir}")
        return
    shown = parse(url).shown if config.redis_url else f"the embedded one in {config.data_dir}"
    try:
        faults, footings = asyncio.run(_inspect(url, config))
    except (StoreError, ValueError, OSError) as error:
        yield from (Finding("fault", line) for line in opening.told(error, config, url))
        return
    yield from (Finding("fault" if fault.fatal else "warning", fault.problem) for fault in faults)
    if not any(fault.fatal for fault in faults):
        yield Finding("ok", f"store: {shown}")
    replication = Replication.of(config)
    for footing in footings:
        yield Finding("info", str(footing))
        yield from (Finding("warning", fault.problem) for fault in durability.judge(footing, replication))
        yield from (Finding("info", remark) for remark in durability.remarks(footing, replication))


def _app_key(config: Config) -> str | None:
    """The app key that a node would have; None where it would make one, or where the look at the directory failed."""
    if config.app_key is None and not (config.data_dir / "credentials.json").exists():
        return None
    with contextlib.suppress(ConfigError):
        return config.app_key or Credentials.load_or_create(config.data_dir, config).app_key
    return None


async def _inspect(url: str, config: Config) -> tuple[list[functions.Fault], list[Footing]]:
    """What is wrong with the servers, and how they keep what they are told."""
    store = await Store.connect(url, partitions=config.partitions, timeout_s=config.store_timeout_ms / 1000)
    try:
        faults = await functions.inspect(store.topology)
        # Faults of the server may be such that it cannot be asked for keys.
        if any(fault.fatal for fault in faults):
            return faults, []
        footings = await durability.look(store.topology)
        app_key = _app_key(config) if config.redis_url is not None else None
        if app_key is not None:
            faults += await functions.judge_app(store.topology, app_key)
        return faults, footings
    finally:
        await store.close()


_LOOKS: tuple[tuple[set[str], Callable[[Config], Iterator[Finding]]], ...] = (
    ({"workers"}, _workers),
    ({"data_dir"}, _data_dir),
    ({"tls_cert", "tls_key"}, _tls),
    ({"jwt_public_key_file", "jwt_algorithms"}, _jwt_key),
    ({"webhook_url", "webhook_v1_status_url", "webhook_v1_friendship_url"}, _webhooks),
    ({"connections_max"}, _open_files),
    ({"client_host", "client_port", "role", "data_dir"}, _client_port),
    ({"admin_host", "admin_port", "role", "data_dir"}, _admin_port),
    ({"redis_url", "partitions"}, _store),
)
