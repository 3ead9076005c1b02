"""What `gateway connect` shows: one short line for each push, answer and end."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import orjson
from rich.text import Text

from gateway.cli.conversation import Ended
from gateway.cli.plain import plain
from gateway.protocol.codes import Code

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


def ended(end: Ended) -> Text:
    """Why there is no point in connecting again."""
    code, reason = end.reason.get("code"), end.reason.get("reason", "")
    if code in (Code.BANNED, Code.BANNED_WHILE_CONNECTED):
        verb = "you are banned" if code == Code.BANNED else "you were banned"
        until = f" until {moment(end.reason['until'])}" if end.reason.get("until") else " until it is lifted"
        why = f": {clean(reason)}" if reason and "banned" not in reason else ""
        return Text(f"! {verb}{until}{why}", "bold red")
    if end.code == 4505:
        return Text(f"! you were kicked{f': {clean(reason)}' if reason not in ('', 'kicked') else ''}", "bold red")
    if end.code < 1000 and not reason:
        return Text(f"! that is not a gateway's client port (HTTP status {end.code})", "bold red")
    number = code if isinstance(code, int) else end.code
    return Text(f"! {_ENDS.get(number) or clean(reason) or 'closed'} ({number})", "bold red")


def push(message: dict[str, Any], me: str) -> Text | None:
    """A push as a line; None for what is not worth one."""
    kind = message["type"]
    if kind == "message":
        return _message(message, me)
    if kind == "recalled":
        return Text(f"* {_parties(message, me)} was recalled", "dim")
    if kind == "updated":
        return Text(f"* {_parties(message, me)} now says: {clean(_shown(message['body']))}", "dim")
    if kind == "presence":
        return presence(message)
    if kind == "welcome":
        line = Text(f"* connected as {message['user']} to {message['node']}, session {message['session']}", "green")
        if not message["recovered"]:
            line.append("\n! some messages between are no longer held", "yellow")
        return line
    if kind == "session":
        verb = "came" if message["event"] == "opened" else "went"
        return Text(f"* another device of yours {verb}: {message['platform']}{_named(message['device'])}", "dim")
    if kind == "token_expiring":
        return Text(f"! your token ends at {moment(message['expires_at'])}: /refresh gets a new one", "yellow")
    if kind == "going_away":
        return Text(f"! {message['reason']}: connecting again soon", "yellow")
    if kind == "error":
        return refused(message)
    return Text(clean(orjson.dumps(message).decode()), "dim")


def presence(state: dict[str, Any]) -> Text:
    """Whether somebody is online."""
    if state["online"]:
        return Text.assemble(
            "* ", (clean(state["user"]), "bold"), (" is online", "green"), f" ({', '.join(state['platforms'])})"
        )
    seen = f", last seen {moment(state['last_seen'])}" if state.get("last_seen") else ""
    return Text.assemble("* ", (clean(state["user"]), "bold"), (" is offline", "red"), seen)


def refused(answer: dict[str, Any]) -> Text:
    """An `error` reply."""
    wait = f", again in {answer['retry_after_ms']} ms" if answer.get("retry_after_ms") else ""
    return Text(f"! {clean(answer['reason'])} ({answer['code']}{wait})", "red")


def moment(at_ms: int) -> str:
    """A time as this machine's clock shows it; the day where it is not today."""
    at = datetime.fromtimestamp(at_ms / 1000).astimezone()
    return at.strftime("%H:%M:%S" if at.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M")


def clean(text: str) -> str:
    """Text of others without what would move the cursor or change colours."""
    shown = plain(text[:BODY_MAX])
    return shown + " …" if len(text) > BODY_MAX else shown


def _message(message: dict[str, Any], me: str) -> Text:
    old = time.time() * 1000 - message["sent_at"] > OLD_MS
    line = Text(f"[{moment(message['sent_at'])}] " if old else "", "dim")
    if message["from"] == me and message["to"] != me:
        return line.append(f"(you, elsewhere) to {clean(message['to'])}: {clean(_body(message))}", "dim")
    style = "bold yellow" if message.get("system") else "bold cyan"
    return line.append(clean(message["from"]), style).append(": " + clean(_body(message)), "default")


def _parties(message: dict[str, Any], me: str) -> str:
    if message["from"] == me and message["to"] != me:
        return f"your message to {clean(message['to'])}"
    return f"a message of {clean(message['from'])}"


def _body(message: dict[str, Any]) -> str:
    shown = _shown(message["body"])
    return shown if message["kind"] == "text" else f"[{message['kind']}] {shown}"


def _shown(body: Any) -> str:
    if isinstance(body, dict):
        for name in ("text", "content"):
            if isinstance(body.get(name), str):
                body = body[name]
                break
    return body if isinstance(body, str) else orjson.dumps(body).decode()


def _named(device: str | None) -> str:
    return f" {clean(device)}" if device else ""
