"""Looking at users, and muting them."""

from __future__ import annotations

import msgspec

from gateway.cli.ctl.over import SETTINGS, Desk, Json, for_each, perform
from gateway.cli.ctl.report import Report, lines, record, table
from gateway.cli.failure import USAGE, Failed
from gateway.cli.flags import Given, with_settings


@with_settings(*SETTINGS)
def online(given: Given, /, *users: str, json: Json = False) -> int:
    """Tell who of these is online."""
    _some(users)

    async def act(desk: Desk) -> Report:
        states = await for_each(users, desk.services.presence.online)
        rows = [{"user": user, "online": state} for user, state in states.items()]
        return table("users", rows, ("user", "online"), "")

    return perform(given, users, json, act, changes=False)


@with_settings(*SETTINGS)
def sessions(given: Given, user: str, /, *, json: Json = False) -> int:
    """List a user's live sessions, oldest first."""

    async def act(desk: Desk) -> Report:
        rows = [msgspec.to_builtins(each) for each in await desk.services.presence.sessions(user)]
        columns = ("session", "platform", "device", "node", "address", "connected_at", "jti")
        return table("sessions", rows, columns, f"{user} is offline")

    return perform(given, (user,), json, act, changes=False)


@with_settings(*SETTINGS)
def show(given: Given, /, *users: str, json: Json = False) -> int:
    """Show users' records."""
    _some(users)

    async def act(desk: Desk) -> Report:
        found = await for_each(users, desk.services.accounts.get)
        unknown = [user for user, account in found.items() if account is None]
        records = [msgspec.to_builtins(account) for account in found.values() if account is not None]
        report = lines(
            {"users": records, "unknown": unknown}, [f"{user}: no such user" for user in unknown], succeeded=not unknown
        )
        for each in records:
            del each["registered"]
            if each["banned_until"] == 0:
                each["banned_until"] = "until lifted"
        report.shown[:0] = [record(each) for each in records]
        return report

    return perform(given, users, json, act, changes=False)


@with_settings(*SETTINGS)
def mute(given: Given, /, *users: str, json: Json = False) -> int:
    """Take from users the right to send direct messages."""
    return _mute(given, users, json, muted=True)


@with_settings(*SETTINGS)
def unmute(given: Given, /, *users: str, json: Json = False) -> int:
    """Give it back."""
    return _mute(given, users, json, muted=False)


def _mute(given: Given, users: tuple[str, ...], as_json: bool, *, muted: bool) -> int:
    _some(users)

    async def act(desk: Desk) -> Report:
        await desk.services.accounts.mute(users, muted)
        told = "may not send direct messages" if muted else "may send direct messages again"
        return lines(
            {"results": [{"user": user, "muted": muted} for user in users]}, [f"{user}: {told}" for user in users]
        )

    return perform(given, users, as_json, act)


def _some(users: tuple[str, ...]) -> None:
    if not users:
        raise Failed("name at least one user", status=USAGE)


COMMANDS = {"online": online, "sessions": sessions, "users": show, "mute": mute, "unmute": unmute}
