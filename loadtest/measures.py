"""How the lines of the budget are measured: runs against services started for it, and the figures taken of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from statistics import median
from typing import Any

from loadtest.bench import BODY_BYTES, SLICES, USERS, Bench, BenchFault, watched
from loadtest.result import Result, Sample
from loadtest.sampled import sampled

WORKERS = 3
"""As many as 50,000 connections need where a process may have 20,000 file descriptors."""

BLOCKED, INBOX_USERS, INBOX_WINDOW = 3_000, 20, 16

SLOW_PER_S = 2_000
"""Messages a second that leave room for 50,000 connections on two cores, with those who make them."""

CALM = 6
"""Of the most that can be delivered so small a part leaves about half of the core."""

Figures = dict[str, float]


# Messages.


def relay(window: int) -> Callable[[Bench], Figures]:
    """A message, so many of each user under way, beside the bare relay."""

    def measure(bench: Bench) -> Figures:
        with bench.gateway() as target, bench.bare() as limit:
            return _alternately(
                lambda: bench.slice(target, window), lambda: bench.slice(limit, window), _relay_beside_bare
            )

    return measure


def _relay_beside_bare(found: Result, bare: Result) -> Figures:
    delivery = found.latencies["delivery"]
    return _costs(found) | {
        "per_s": found.rates["delivered"],
        "p99_to_p50": delivery.p99_ms / delivery.p50_ms,
        "p50_ms": delivery.p50_ms,
        "bare_us": _cost(bare),
        "bare_per_s": bare.rates["delivered"],
        "cpu_to_bare": _cost(found) / _cost(bare),
        "per_s_to_bare": found.rates["delivered"] / bare.rates["delivered"],
        # Then the bare relay could do more, and the ratio is too good.
        "bare_held_back": float(bare.limit.what == "generator"),
    }


def _alternately(
    one: Callable[[], Result], other: Callable[[], Result], figures: Callable[[Result, Result], Figures]
) -> Figures:
    """Runs both in turn, every second time backwards; each figure is the median of what the pairs say.

    A machine that others share may be half as fast a few seconds later: what is compared must be close in time.
    """
    pairs = []
    for number in range(SLICES):
        if number % 2:
            second = other()
            pairs.append(figures(one(), second))
        else:
            pairs.append(figures(one(), other()))
    return {figure: median(pair[figure] for pair in pairs) for figure in pairs[0]}


def two_nodes(bench: Bench) -> Figures:
    """A message to another node, beside one to the same."""

    def figures(one: Result, two: Result) -> Figures:
        return {"one_us": _cost(one), "two_us": _cost(two), "two_to_one": _cost(two) / _cost(one)}

    with bench.gateway() as node, bench.two_nodes() as nodes:
        return _alternately(lambda: bench.slice(node, 8), lambda: bench.slice(nodes, 8), figures)


# Connections.


def idle(bench: Bench) -> Figures:
    """What a connection takes while nothing is said on it, and its login before."""
    users = bench.count(5_000)
    with bench.gateway() as target:
        # Issued, so that the users are registered: a first login of all registers them as well.
        found = bench.run(target, "connect", _connect(users) | {"tokens": "api"})
    with bench.bare() as limit:
        bare = bench.chat(limit, 8)
    per_login = found.service.cpu_us_per_login
    if not per_login:
        raise BenchFault("the CPU of a login is not known")
    return {
        "bytes": found.service.bytes_per_connection or 0.0,
        "login_us": per_login,
        "logins_per_s": 1e6 / per_login,
        "login_to_bare": per_login / _cost(bare),
        "login_p99_ms": found.latencies["login"].p99_ms,
    }


def many(bench: Bench) -> Figures:
    """50,000 connections over several workers, and what the service says of them."""
    users = bench.count(50_000)
    command = f"gateway serve --workers {WORKERS} --connections-max {users}"
    with bench.gateway(command, spread=True, connections=users) as target, watched(target) as answers:
        found = bench.run(target, "50,000", _spread(_connect(users) | {"seconds": 30.0}), spread=True)
        processes = len(target.pids()) or 1
    online = max((answer.get("usersOnline", 0) for answer in answers), default=0)
    sessions = max((answer.get("sessions", 0) for answer in answers), default=0)
    used = found.rates["idle_gateway_cpu"] + found.rates["idle_store_cpu"]
    return {
        "connections": found.counts["connections"],
        "online_missing": abs(users - online) + abs(users - sessions),
        "idle_share": used / (os.cpu_count() or 1),
        "idle_cores": used,
        "bytes": found.service.bytes_per_connection or 0.0,
        "processes": processes,
    }


def _connect(users: int) -> dict[str, Any]:
    return {"act": "connect", "users": users, "warm_s": 2.0, "seconds": 3.0}


def _spread(keys: dict[str, Any]) -> dict[str, Any]:
    """The keys of a run with so many connections that one process, or one address, is not enough for them."""
    needed = -(-int(keys["users"]) // 18_000)
    return keys | {"processes": needed, "source_addresses": max(2, needed)}


# Under load.


def kick(bench: Bench) -> Figures:
    """From the call to the end of the client's socket, with messages meanwhile."""
    keys = {"act": "kick", "users": 200, "drops_per_s": 20, "drops": ("kick", "ban", "expire")}
    keys |= {"body_bytes": BODY_BYTES, "seconds": 2 * bench.seconds}
    figures: Figures = {}
    with bench.gateway() as target:
        bench.rehearse_drops(target)
        most = bench.most_per_s(target)
        for prefix, part in (("", 2), ("calm_", CALM)):
            found = bench.run(target, "kick", keys | {"rate": most / part})
            drop, per_s = found.latencies["drop"], found.rates["delivered"]
            told = {"p99_ms": drop.p99_ms, "p50_ms": drop.p50_ms, "drops": drop.count, "per_s": per_s}
            told["busy"] = per_s * _cost(found) / 1e6
            figures |= {prefix + figure: value for figure, value in told.items()}
    return figures


def lag(bench: Bench) -> Figures:
    """How late the event loop's timers are under load."""
    keys = {"act": "chat", "users": USERS, "body_bytes": BODY_BYTES, "seconds": 2 * bench.seconds}
    with sampled(bench.placement.service) as (target, samples):
        keys["rate"] = 0.8 * bench.most_per_s(target)
        found = bench.run(target, "lag", keys)
        late = samples.figures()
    return {
        "p99_ms": late["lag_ms_p99"],
        "p50_ms": late["lag_ms_p50"],
        "own_p99_ms": late["own_lag_ms_p99"],
        "per_s": found.rates["delivered"],
        "delivery_p99_ms": found.latencies["delivery"].p99_ms,
    }


# What must not matter.


def growing(bench: Bench) -> Figures:
    """A message among many connections, beside one among few."""

    few, many = bench.count(1_000), bench.count(50_000)

    def cost(users: int) -> float:
        command = f"gateway serve --workers {WORKERS} --connections-max {many}"
        keys = {"act": "chat", "users": users, "rate": SLOW_PER_S, "body_bytes": BODY_BYTES}
        # A user's first message makes what later ones find: nearly all have had theirs, however many they are.
        keys |= {"warm_s": max(bench.seconds, 2 * users / SLOW_PER_S), "seconds": 2 * bench.seconds}
        with bench.gateway(command, spread=True, connections=users) as target:
            return _cost(bench.run(target, f"{users:,}", _spread(keys), spread=True))

    # Few before and after: minutes lie between, and a shared machine is another by then.
    before, crowded, after = cost(few), cost(many), cost(few)
    alone = (before + after) / 2
    return {"few_us": alone, "many_us": crowded, "many_to_few": crowded / alone}


def inbox(bench: Bench) -> Figures:
    """A message to a long inbox, beside one to a short one."""
    keys = {"act": "chat", "users": INBOX_USERS, "window": INBOX_WINDOW, "body_bytes": BODY_BYTES}
    with bench.gateway() as target:
        found = bench.run(target, "inbox", keys | {"seconds": 4 * bench.seconds})
        # Of users who begin with empty ones: close in time to the longest, as the first fifth is not.
        again = bench.slice(target, INBOX_WINDOW, users=INBOX_USERS)
    looks = [each for each in found.series if found.measured_from_s < each.t <= found.measured_to_s]
    part = max(1, len(looks) // 5)
    early, late = (_mean_cost(chosen) for chosen in (looks[:part], looks[-part:]))
    short = (early + _cost(again)) / 2
    return {
        "entries": found.counts["delivered"] / INBOX_USERS,
        "short_us": short,
        "long_us": late,
        "long_to_short": late / short,
    }


def _mean_cost(looks: list[Sample]) -> float:
    delivered = sum(each.delivered_per_s for each in looks)
    if not delivered:
        raise BenchFault("nothing was delivered in a part of the run")
    return sum((each.gateway_cpu or 0.0) + (each.store_cpu or 0.0) for each in looks) / delivered * 1e6


def blocklist(bench: Bench) -> Figures:
    """A message to somebody with a long blocklist, beside one to somebody without."""

    def figures(none: Result, listed: Result) -> Figures:
        return {"none_us": _cost(none), "listed_us": _cost(listed), "listed_to_none": _cost(listed) / _cost(none)}

    entries = bench.count(BLOCKED)
    with bench.gateway() as target:
        # Before the first run: what the calls leave behind (an append-only file to be rewritten) burdens both sides.
        runs = [bench.fill_blocklists(target, INBOX_USERS, entries) for _ in range(SLICES)]
        return _alternately(
            lambda: bench.slice(target, 8, users=INBOX_USERS),
            lambda: bench.slice(target, 8, users=INBOX_USERS, run=runs.pop()),
            figures,
        )


def _cost(found: Result) -> float:
    if not found.service.cpu_us_per_message:
        raise BenchFault("the CPU of a message is not known")
    return found.service.cpu_us_per_message


def _costs(found: Result) -> Figures:
    service = found.service
    return {
        "cpu_us": _cost(found),
        "gateway_us": service.gateway_us_per_message or 0.0,
        "store_us": service.store_us_per_message or 0.0,
    }
