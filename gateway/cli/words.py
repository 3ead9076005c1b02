"""What `gateway connect` shows: one short line for each thing that came, refusal and end."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import orjson
from rich.text import Text

from gateway.cli.plain import plain
from gateway.client import GatewayError, Kicked, Message, Presence, Recalled, Stopped, Updated
from gateway.protocol.codes import Code
from gateway.protocol.pushes import SessionChanged

OLD_MS = 60_000
"""A message older than this shows when it was sent."""

BODY_MAX = 2000

_ENDS: dict[int, str] = {
    Code.TOKEN_INVALID: "your token is not valid here",
    Code.TOKEN_EXPIRED: "your token has ended: connect again with a new one",
    Code.REPLACED: "another device or terminal of this user took over (one session per kind of device)",
    Code.REFUSED_DEVICE: "another device of this kind is online, and the newcomer is refused",
    Code.TOO_MANY_SESSIONS: "this user has too many sessions",
    Code.DEACTIVATED: "your account is deactivated",
}


def ended(end: Stopped) -> Text:
    """Why there is no point in connecting again."""
    if end.code in (Code.BANNED, Code.BANNED_WHILE_CONNECTED):
        verb = "you are banned" if end.code == Code.BANNED else "you were banned"
        until = f" until {moment(end.until)}" if end.until else " until it is lifted"
        why = f": {clean(end.reason)}" if "banned" not in end.reason else ""
        return Text(f"! {verb}{until}{why}", "bold red")
    if isinstance(end, Kicked):
        return Text(f"! you were kicked{f': {clean(end.reason)}' if end.reason != 'kicked' else ''}", "bold red")
    if end.close_code < 1000:
        return Text(f"! {clean(end.reason)}", "bold red")
    return Text(f"! {_ENDS.get(end.code) or clean(end.reason)} ({end.code})", "bold red")


def welcome(user: str, node: str, session: str) -> Text:
    """The first connection, or another one."""
    return Text(f"* connected as {user} to {node}, session {session}", "green")


def message(received: Message, me: str) -> Text:
    """A message that came, with its time where that is long past."""
    old = time.time() * 1000 - received.sent_at > OLD_MS
    line = Text(f"[{moment(received.sent_at)}] " if old else "", "dim")
    shown = _shown(received.body)
    body = clean(shown if received.kind == "text" else f"[{received.kind}] {shown}")
    if received.sender == me and received.to != me:
        return line.append(f"(you, elsewhere) to {clean(received.to)}: {body}", "dim")
    style = "bold yellow" if received.system else "bold cyan"
    return line.append(clean(received.sender), style).append(f": {body}", "default")


def recalled(received: Recalled, me: str) -> Text:
    """A message was taken back."""
    return Text(f"* {_parties(received, me)} was recalled", "dim")


def updated(received: Updated, me: str) -> Text:
    """A message has another body."""
    return Text(f"* {_parties(received, me)} now says: {clean(_shown(received.body))}", "dim")


def device(change: SessionChanged) -> Text:
    """Another device of the user came or went."""
    verb = "came" if change.event == "opened" else "went"
    named = f" {clean(change.device)}" if change.device else ""
    return Text(f"* another device of yours {verb}: {change.platform}{named}", "dim")


def presence(state: Presence) -> Text:
    """Whether somebody is online."""
    if state.online:
        return Text.assemble(
            "* ", (clean(state.user), "bold"), (" is online", "green"), f" ({', '.join(state.platforms)})"
        )
    seen = f", last seen {moment(state.last_seen)}" if state.last_seen else ""
    return Text.assemble("* ", (clean(state.user), "bold"), (" is offline", "red"), seen)


def refused(error: GatewayError) -> Text:
    """What the gateway did not do."""
    wait = f", again in {error.retry_after_ms} ms" if error.retry_after_ms else ""
    return Text(f"! {clean(error.reason)} ({error.code}{wait})", "red")


def moment(at_ms: int) -> str:
    """A time as this machine's clock shows it; the day where it is not today."""
    at = datetime.fromtimestamp(at_ms / 1000).astimezone()
    return at.strftime("%H:%M:%S" if at.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M")


def clean(text: str) -> str:
    """Text of others without what would move the cursor or change colours."""
    shown = plain(text[:BODY_MAX])
    return shown + " …" if len(text) > BODY_MAX else shown


def _parties(received: Recalled | Updated, me: str) -> str:
    if received.sender == me and received.to != me:
        return f"your message to {clean(received.to)}"
    return f"a message of {clean(received.sender)}"


def _shown(body: Any) -> str:
    if isinstance(body, dict):
        for name in ("text", "content"):
            if isinstance(body.get(name), str):
                body = body[name]
                break
    return body if isinstance(body, str) else orjson.dumps(body).decode()
