"""Loads the Functions, and judges whether a server is one that the gateway can live on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from gateway.store.call import text
from gateway.store.errors import Forbidden, StoreRefused
from gateway.store.keys import META
from gateway.store.master import Master
from gateway.store.topology import Topology

LIBRARY = "gw1"
FILES = (
    "library",
    "ids",
    "presence",
    "messages",
    "relays",
    "recalls",
    "epochs",
    "sessions",
    "friends",
    "drops",
    "accounts",
    "profiles",
    "directories",
    "relationships",
    "nodes",
    "settings",
    "words",
    "broadcasts",
    "events",
    "calls",
    "rates",
)
"""The files of store/lua, in the order in which they are joined to one library."""

SOURCE = "\n".join((Path(__file__).parent / "lua" / f"{name}.lua").read_text(encoding="utf-8") for name in FILES)
VERSION = int(re.findall(r"^local VERSION = (\d+)$", SOURCE, re.MULTILINE)[0])

REDIS_MIN = (7, 0)
VALKEY_MIN = (7, 2)
PUBSUB_BUFFER_MIN = 32 * 1024 * 1024
"""A subscribed link counts as a pub/sub client: below this, a burst of pushes gets it disconnected.

Replies come over the same link and count as well, so many sessions that catch up at once need the room too.
"""


class Fault(NamedTuple):
    """One thing that is wrong with the store; ``fatal`` ones stop a start."""

    problem: str
    fatal: bool


async def load(master: Master) -> bool:
    """Loads the library where it is missing, older, or of this version with other text.

    Returns:
        Whether it was loaded now.
    """
    listed = await master.execute("FUNCTION", "LIST", "LIBRARYNAME", LIBRARY, "WITHCODE")
    for library in listed:
        code = text(pairs(library).get("library_code"))
        found = re.findall(r"^local VERSION = (\d+)$", code, re.MULTILINE)
        if code == SOURCE or (found and int(found[0]) > VERSION):
            return False
    await master.execute("FUNCTION", "LOAD", "REPLACE", SOURCE)
    return True


async def inspect(topology: Topology) -> list[Fault]:
    """Everything about the servers that the gateway minds; empty when all is well.

    Raises:
        StoreUnavailable, OutcomeUnknown: A server does not answer.
    """
    faults: list[Fault] = []
    for master in topology.masters:
        where = f"Redis at {master.endpoint}"
        information = _information(await master.execute("INFO", "server"))
        faults += _judge_version(where, information)
        if _judge_version(where, information):
            continue
        cluster = information.get("redis_mode", information.get("server_mode")) == "cluster"
        faults += await _judge_settings(master, where)
        if cluster and not topology.address.cluster:
            # One node of several cannot be asked for keys that are anywhere.
            return [*faults, Fault(f"{where} is a cluster: use a redis+cluster:// URL", True)]
    return faults + await _judge_partitions(topology)


async def settle(topology: Topology, app_key: str | None = None) -> None:
    """Fixes the number of partitions and, where it is given, the app key at a deployment's first start."""
    keys = topology.keys
    master = topology.master(keys.meta_place)
    await master.execute("HSETNX", META, "partitions", keys.partitions)
    if app_key is not None:
        await master.execute("HSETNX", META, "app_key", app_key)


async def judge_app(topology: Topology, app_key: str) -> list[Fault]:
    """A fault where the deployment is another app's: tokens of one node would be refused by the others."""
    stored = await topology.master(topology.keys.meta_place).execute("HGET", META, "app_key")
    if stored is None or text(stored) == app_key:
        return []
    return [
        Fault(
            f"this deployment is that of app key {text(stored)}, the credentials here are those of {app_key}: every "
            "node needs the same app_key and app_secret; copy credentials.json or set both",
            True,
        )
    ]


async def _judge_settings(master: Master, where: str) -> list[Fault]:
    faults: list[Fault] = []
    try:
        settings = pairs(await master.execute("CONFIG", "GET", "maxmemory-policy", "client-output-buffer-limit"))
    except (StoreRefused, Forbidden):
        return [Fault(f"{where} does not let CONFIG GET be called: its eviction policy could not be checked", False)]
    policy = text(settings.get("maxmemory-policy")) or "noeviction"
    if policy != "noeviction":
        faults.append(
            Fault(f"{where} has maxmemory-policy {policy}: it would delete users; set it to noeviction", True)
        )
    limits = re.findall(r"pubsub (\d+) (\d+) \d+", text(settings.get("client-output-buffer-limit")))
    for hard, soft in limits:
        smallest = min((int(limit) for limit in (hard, soft) if int(limit) > 0), default=PUBSUB_BUFFER_MIN)
        if smallest < PUBSUB_BUFFER_MIN:
            faults.append(
                Fault(
                    f"{where} has client-output-buffer-limit pubsub {hard} {soft}: under {PUBSUB_BUFFER_MIN} bytes a "
                    "burst of pushes cuts the gateway off",
                    False,
                )
            )
    return faults


async def _judge_partitions(topology: Topology) -> list[Fault]:
    keys = topology.keys
    stored = await topology.master(keys.meta_place).execute("HGET", META, "partitions")
    if stored is not None and int(stored) != keys.partitions:
        return [
            Fault(
                f"this deployment was started with {int(stored)} partitions, the configuration says "
                f"{keys.partitions}: set partitions = {int(stored)}",
                True,
            )
        ]
    return []


def _judge_version(where: str, information: dict[str, str]) -> list[Fault]:
    valkey = information.get("valkey_version")
    name, version, least = (
        ("Valkey", valkey, VALKEY_MIN) if valkey else ("Redis", information.get("redis_version", "0"), REDIS_MIN)
    )
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < least:
        wanted = ".".join(str(part) for part in least)
        return [Fault(f"{where} is {name} {version}: {name} {wanted} or later is needed", True)]
    return []


def _information(raw: Any) -> dict[str, str]:
    if isinstance(raw, dict):
        return {str(key): str(value) for key, value in raw.items()}
    lines = text(raw).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def pairs(raw: Any) -> dict[str, Any]:
    """A map, whether RESP2 gave it as a flat list or redis-py has parsed it already."""
    if isinstance(raw, dict):
        items = list(raw.items())
    else:
        flat = list(raw)
        items = list(zip(flat[::2], flat[1::2], strict=True))
    return {key.decode() if isinstance(key, bytes) else str(key): _bytes(value) for key, value in items}


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value
