"""Acts that end sockets: ban, kick, expire, revoke, deactivate; and what undoes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from gateway.cli.ctl.over import SETTINGS, Desk, Json, for_each, perform, unregistered
from gateway.cli.ctl.report import Report, dropped, lines, table, written
from gateway.cli.failure import USAGE, Failed
from gateway.cli.flags import Given, with_settings
from gateway.services.bans import MINUTES_MAX
from gateway.services.deletion import Restored
from gateway.services.drops import Acknowledgement
from gateway.store import nodes

Reason = Annotated[str, Parameter(help="For the user and for whoever lists it.", show_default=False)]


def _drop(
    given: Given,
    users: tuple[str, ...],
    as_json: bool,
    done: str,
    act: Callable[[Desk, str], Awaitable[Acknowledgement]],
) -> int:
    _some(users)

    async def acted(desk: Desk) -> Report:
        # Before the act: some acts leave a record of whom they are about.
        strangers = await unregistered(desk, users)
        return dropped(await for_each(users, lambda user: act(desk, user)), done, strangers)

    return perform(given, users, as_json, acted)


def _some(users: tuple[str, ...]) -> None:
    if not users:
        raise Failed("name at least one user", status=USAGE)


@with_settings(*SETTINGS)
def ban(
    given: Given,
    /,
    *users: str,
    minutes: Annotated[int | None, Parameter(help=f"1 to {MINUTES_MAX}.", show_default=False)] = None,
    for_ever: Annotated[bool, Parameter(name="--for-ever", negative="", help="Until lifted.")] = False,
    reason: Reason = "",
    json: Json = False,
) -> int:
    """Ban users and close their sockets."""
    _some(users)
    if (minutes is None) != for_ever:
        raise Failed("say either --minutes N or --for-ever", status=USAGE)
    if minutes is not None and not 1 <= minutes <= MINUTES_MAX:
        raise Failed(f"--minutes must be from 1 to {MINUTES_MAX}, not {minutes}", status=USAGE)
    done = "banned until it is lifted" if for_ever else f"banned for {minutes} minute{'' if minutes == 1 else 's'}"
    return _drop(
        given, users, json, done, lambda desk, user: desk.services.bans.ban([user], minutes=minutes, reason=reason)
    )


@with_settings(*SETTINGS)
def unban(given: Given, /, *users: str, json: Json = False) -> int:
    """Lift bans."""
    _some(users)

    async def act(desk: Desk) -> Report:
        lifted = await for_each(users, lambda user: desk.services.bans.unban([user]))
        return lines(
            {"results": [{"user": user, "lifted": bool(count)} for user, count in lifted.items()]},
            [f"{user}: {'ban lifted' if count else 'was not banned'}" for user, count in lifted.items()],
        )

    return perform(given, users, json, act)


@with_settings(*SETTINGS)
def bans(
    given: Given,
    /,
    *,
    offset: Annotated[int, Parameter(help="How many to leave out.")] = 0,
    limit: Annotated[int, Parameter(help="How many at most.")] = 1000,
    json: Json = False,
) -> int:
    """List the bans in force, the latest end first."""
    if offset < 0 or limit < 1:
        raise Failed("--offset must be at least 0 and --limit at least 1", status=USAGE)

    async def act(desk: Desk) -> Report:
        found = await desk.services.bans.list(offset=offset, limit=limit)
        rows = [{"user": each.user, "until": each.until_ms, "reason": each.reason} for each in found]
        shown = [row | {"until": row["until"] or "until lifted"} for row in rows]
        report = table("bans", shown, ("user", "until", "reason"), "nobody is banned")
        report.document["bans"] = rows
        return report

    return perform(given, (), json, act, changes=False)


@with_settings(*SETTINGS)
def kick(
    given: Given,
    /,
    *users: str,
    session: Annotated[
        tuple[str, str] | None, Parameter(negative="", help="USER and session id: that one only.", show_default=False)
    ] = None,
    device: Annotated[
        tuple[str, str] | None, Parameter(negative="", help="USER and device id: that one only.", show_default=False)
    ] = None,
    reason: Reason = "",
    json: Json = False,
) -> int:
    """Close sockets; the users may come back."""
    if sum((bool(users), session is not None, device is not None)) != 1:
        raise Failed("name users, or --session USER ID, or --device USER ID", status=USAGE)
    one = session or device
    return _drop(
        given,
        (one[0],) if one else users,
        json,
        "kicked",
        lambda desk, user: desk.services.control.kick(
            users=() if one else (user,), session=session, device=device, reason=reason
        ),
    )


@with_settings(*SETTINGS)
def expire(
    given: Given,
    /,
    *users: str,
    before: Annotated[
        str | None,
        Parameter(help="ISO time (UTC where it has no zone) or Unix ms; now if left out.", show_default=False),
    ] = None,
    json: Json = False,
) -> int:
    """Void all tokens that were issued before an instant, and close the sockets that came with them."""
    instant = None if before is None else _instant(before)

    async def act(desk: Desk, user: str) -> Acknowledgement:
        # Issue times are the store's own: so is "now".
        at = instant if instant is not None else nodes.parse_time(await desk.store.execute(nodes.time(desk.store.keys)))
        return await desk.services.tokens.expire([user], at)

    done = "all tokens voided" if instant is None else f"tokens issued before {written(instant)} voided"
    return _drop(given, users, json, done, act)


def _instant(text: str) -> int:
    if text.isdecimal():
        at = int(text)
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise Failed(
                f"--before {text}: neither an ISO time (2026-01-31T12:00:00Z) nor Unix ms", status=USAGE
            ) from None
        at = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    if not 10**11 <= at < 10**14:
        raise Failed(f"--before {text}: not a time in milliseconds (seconds need three more digits)", status=USAGE)
    return at


@with_settings(*SETTINGS)
def revoke(given: Given, user: str, jti: str, /, *, json: Json = False) -> int:
    """Void one token by its id (its jti) and close the socket that came with it."""
    return _drop(given, (user,), json, "token revoked", lambda desk, _: desk.services.tokens.revoke(user, jti))


@with_settings(*SETTINGS)
def deactivate(given: Given, /, *users: str, json: Json = False) -> int:
    """End accounts: sockets close, no token is issued, inbox and lists are gone."""
    return _drop(given, users, json, "deactivated", lambda desk, user: desk.services.deletion.deactivate([user]))


@with_settings(*SETTINGS)
def reactivate(given: Given, /, *users: str, json: Json = False) -> int:
    """Let deactivated users come back."""
    _some(users)

    async def act(desk: Desk) -> Report:
        done = await for_each(users, lambda user: desk.services.deletion.reactivate([user]))
        return lines(
            {"results": [{"user": user, "reactivated": bool(each.users)} for user, each in done.items()]},
            [f"{user}: {_restored(each)}" for user, each in done.items()],
        )

    return perform(given, users, json, act)


def _restored(done: Restored) -> str:
    if done.refused:
        return "not yet, the deletion is younger than restore_wait_s"
    return "active again" if done.users else "was not deactivated"


COMMANDS = {
    "ban": ban,
    "unban": unban,
    "bans": bans,
    "kick": kick,
    "expire": expire,
    "revoke": revoke,
    "deactivate": deactivate,
    "reactivate": reactivate,
}
