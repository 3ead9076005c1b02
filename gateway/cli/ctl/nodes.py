"""Nodes and live settings."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import time
from typing import Annotated, Any

import orjson
from cyclopts import Parameter
from rich.text import Text

from gateway.cli.ctl.over import SETTINGS, Desk, Json, perform
from gateway.cli.ctl.report import Report, lines, table
from gateway.cli.failure import FAILED, Failed
from gateway.cli.flags import Given, with_settings
from gateway.services.control import Control
from gateway.services.errors import Refused
from gateway.services.settings import FIELDS

EMPTY_LOOK_S = 0.2
"""How often a draining worker is looked at, before the next one is drained."""

EMPTY_SLACK_S = 5.0
"""How much longer than drain_s it is waited for."""

_WORDS = {"on": True, "yes": True, "off": False, "no": False}


@with_settings(*SETTINGS)
def nodes(given: Given, /, *, json: Json = False) -> int:
    """List the nodes and what each says of itself."""

    async def act(desk: Desk) -> Report:
        rows = [dataclasses.asdict(each) for each in await desk.services.control.nodes()]
        for row in rows:
            row["uptime"] = _duration(row["uptime_s"])
        columns = ("node", "incarnation", "connections", "sessions", "draining", "uptime", "version")
        report = table("nodes", rows, columns, "no node runs")
        for row in rows:
            del row["uptime"]
        for row in rows:
            if not row["answered"]:
                report.succeeded = False
                report.shown.append(Text(f"silent: {row['incarnation']} holds a lease but does not answer", "bold red"))
        return report

    return perform(given, (), json, act, changes=False)


@with_settings(*SETTINGS)
def drain(given: Given, node: str, /, *, json: Json = False) -> int:
    """Send a node's clients away and let it take no new ones.

    Where NODE is what several workers are named after (web for web-0, web-1 and so on), one after another.
    """
    return _ask(given, node, json, "drain")


@with_settings(*SETTINGS)
def resume(given: Given, node: str, /, *, json: Json = False) -> int:
    """Let a drained node, or all workers that are named after it, take clients again."""
    return _ask(given, node, json, "resume")


def _ask(given: Given, node: str, as_json: bool, verb: str) -> int:
    async def act(desk: Desk) -> Report:
        control = desk.services.control
        try:
            answered: list[str] = []
            for each in await _members(control, node):
                if answered and verb == "drain":
                    await _emptied(control, answered[-1], desk.config.drain_s + EMPTY_SLACK_S)
                answered += await (control.drain(each) if verb == "drain" else control.resume(each))
        except Refused as error:
            raise Failed(f"{error.reason}; gateway ctl nodes lists them", status=FAILED) from error
        told = "drains" if verb == "drain" else "takes clients again"
        said = [f"{each}: {told}" for each in answered] or [f"{node} did not answer"]
        return lines({"nodes": answered}, said, succeeded=bool(answered))

    return perform(given, (), as_json, act)


async def _members(control: Control, node: str) -> list[str]:
    """The workers that are named after a node; itself where there are none, or it is one node."""
    live = {each.node: each.incarnation for each in await control.nodes()}
    if node in live or node in live.values():
        return [node]
    return sorted(each for each in live if re.fullmatch(re.escape(node) + r"-\d+", each)) or [node]


async def _emptied(control: Control, incarnation: str, wait_s: float) -> None:
    """Waits until a draining node has sent its clients away, for so long at most."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        found = next((each for each in await control.nodes() if each.incarnation == incarnation), None)
        if found is None or (found.answered and not found.sessions):
            return
        await asyncio.sleep(EMPTY_LOOK_S)


@with_settings(*SETTINGS)
def setting(
    given: Given,
    name: Annotated[str | None, Parameter(show_default=False)] = None,
    value: Annotated[str | None, Parameter(show_default=False)] = None,
    /,
    *,
    json: Json = False,
) -> int:
    """Show all live settings or one of them, or change one for every node.

    friendsOnly, true or false (false): only friends may send each other direct messages.

    devicePolicy, platform, single, unlimited or refuse (platform): one session of each kind of device, where the newest
    wins; one in all; any number; one of each kind, where the newcomer is refused.

    expireKeepsConnections, true or false (false): expiring tokens leaves live sockets up.

    sendRatePerSecond, 0 to 1000000 (as setting send_rate_per_s, 200): sends a second of one connection; 0: no limit.

    offlineRetentionDays, 1 to 3650 (as setting retention_days, 7): how long messages are kept.

    friendPermissionDefault, 1, 2 or 3 (1): anyone adds users who never set a permission; they approve; nobody.

    strictListMode, true or false (false): an allowlist is managed only while it is on, a blocklist while it is off.

    strictExtKeys, true or false (true): keys of custom attributes begin with ext_.

    wordsBindServerSends, true or false (false): profanity words hold for what the Server API sends as well.

    trimAcked, true or false (false): what all known devices of a user have acked leaves the inbox at once.

    webhookEvents, names with commas, or none (as setting webhook_events): what the app's own server is told, and asked.

    webhookServerMessages, true or false (as setting webhook_server_messages): it is told of what the Server API sends.
    """

    async def act(desk: Desk) -> Report:
        settings = desk.services.settings
        field = None if name is None else _field(name)
        if field is not None and value is not None:
            present, given = (await settings.get()).get(field), _read(value)
            if isinstance(present, bool) and not isinstance(given, bool):
                raise Failed(f"{field}: write true or false, not {value}")
            if isinstance(present, list | tuple) and isinstance(given, str):
                given = [] if given == "none" else given.split(",")
            found = await settings.set({field: given})
        else:
            found = await settings.get()
        if field is not None:
            if field not in found:
                raise Failed(f"there is no setting {name}; there are {', '.join(FIELDS)}")
            found = {field: found[field]}
        rows = [{"setting": each, "value": _shown(found[each])} for each in found]
        report = table("settings", rows, ("setting", "value"), "")
        report.document = found
        return report

    return perform(given, (), json, act, changes=value is not None)


def _field(name: str) -> str:
    """`friends-only` and `friends_only` are `friendsOnly`."""
    return re.sub(r"[-_]([a-z])", lambda found: found[1].upper(), name)


def _read(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(value) or "none"
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _duration(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86_400)
    shown = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {shown}" if days else shown


COMMANDS = {"nodes": nodes, "drain": drain, "resume": resume, "setting": setting}
