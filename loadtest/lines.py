"""The lines of the budget: what is promised, how it is measured, and by how much it may be missed (not at all)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from loadtest.bench import BODY_BYTES, SLICES, USERS, Bench, BenchFault, watched
from loadtest.result import Result, Sample
from loadtest.sampled import sampled

WORKERS = 3
"""As many as 50,000 connections need where a process may have 20,000 file descriptors."""

BLOCKED, INBOX_USERS, INBOX_WINDOW = 3_000, 20, 16
BARE_US, BARE_WINDOW_1_PER_S, BARE_WINDOW_8_PER_S = 14.5, 47_000, 70_000
"""What the bare relay did on the machine that the budget was written for: what makes its limits ratios."""

SLOW_PER_S = 2_000
"""Messages a second that leave room for 50,000 connections on two cores, with those who make them."""

CALM = 6
"""Of the most that can be delivered so small a part leaves about half of the core."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Goal:
    """One figure and its limit.

    Attributes:
        figure: its name.
        words: what it is, with its unit.
        limit: None = told, not judged.
        most: whether the limit is the most that is allowed, or the least.
        digits: behind the point.
    """

    figure: str
    words: str
    limit: float | None = None
    most: bool = True
    digits: int = 1

    def reached(self, value: float) -> bool | None:
        """Whether a value keeps the limit; None where there is none."""
        if self.limit is None:
            return None
        return value <= self.limit if self.most else value >= self.limit


@dataclass(frozen=True)
class Line:
    """One line of the budget.

    Attributes:
        name: in a word, for ``--only``.
        title: what is promised.
        how: how it is measured.
        goals: its figures, in the order in which they are shown.
        measure: takes one run's figures.
        profile: where the time goes, shown where a limit is not kept; empty = nobody has looked.
    """

    name: str
    title: str
    how: str
    goals: tuple[Goal, ...]
    measure: Callable[[Bench], Figures]
    profile: str = ""


# Messages.


def _relay(window: int) -> Callable[[Bench], Figures]:
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
    }


def _alternately(
    one: Callable[[], Result], other: Callable[[], Result], figures: Callable[[Result, Result], Figures]
) -> Figures:
    """Runs both in turn; each figure is the median of what the pairs say.

    A machine that others share may be half as fast a few seconds later: what is compared must be close in time.
    """
    pairs = [figures(one(), other()) for _ in range(SLICES)]
    return {figure: median(pair[figure] for pair in pairs) for figure in pairs[0]}


def _relay_goals(least_per_s: float, bare_per_s: float, most_us: float | None) -> tuple[Goal, ...]:
    ratio = None if most_us is None else round(most_us / BARE_US, 2)
    return (
        Goal("cpu_us", "µs of CPU a delivered message, gateway and Valkey", most_us),
        Goal("gateway_us", "of them the gateway's"),
        Goal("store_us", "of them Valkey's"),
        Goal("cpu_to_bare", "the same, to the bare relay of the same run", ratio, digits=2),
        Goal("per_s", "messages a second", least_per_s, most=False, digits=0),
        Goal("per_s_to_bare", "the same, to the bare relay", round(least_per_s / bare_per_s, 2), most=False, digits=2),
        Goal("p99_to_p50", "p99 of the delivery to its median", 3.0, digits=2),
        Goal("p50_ms", "ms, that median"),
        Goal("bare_us", "µs of CPU a message, the bare relay"),
    )


def _two_nodes(bench: Bench) -> Figures:
    def figures(one: Result, two: Result) -> Figures:
        return {"one_us": _cost(one), "two_us": _cost(two), "two_to_one": _cost(two) / _cost(one)}

    with bench.gateway() as node, bench.two_nodes() as nodes:
        return _alternately(lambda: bench.slice(node, 8), lambda: bench.slice(nodes, 8), figures)


# Connections.


def _idle(bench: Bench) -> Figures:
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


def _many(bench: Bench) -> Figures:
    users = bench.count(50_000)
    command = f"gateway serve --workers {WORKERS} --connections-max {users}"
    with bench.gateway(command, spread=True, connections=users) as target, watched(target) as answers:
        found = bench.run(target, "50,000", _spread(_connect(users) | {"seconds": 30.0}), spread=True)
        processes = len(target.pids()) or 1
    online = max((answer.get("usersOnline", 0) for answer in answers), default=0)
    sessions = max((answer.get("sessions", 0) for answer in answers), default=0)
    idle = found.rates["idle_gateway_cpu"] + found.rates["idle_store_cpu"]
    return {
        "connections": found.counts["connections"],
        "online_missing": abs(users - online) + abs(users - sessions),
        "idle_share": idle / (os.cpu_count() or 1),
        "idle_cores": idle,
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


def _kick(bench: Bench) -> Figures:
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


def _lag(bench: Bench) -> Figures:
    keys = {"act": "chat", "users": USERS, "body_bytes": BODY_BYTES, "seconds": 2 * bench.seconds}
    with sampled(bench.placement.service) as (target, samples):
        keys["rate"] = 0.8 * bench.most_per_s(target)
        samples.begin()
        # The logins are paced: they are in the sample, and no part of what is promised.
        found = bench.run(target, "lag", keys | {"connections_per_s": 100})
        lag = samples.end()
    return {
        "p99_ms": lag["lag_ms_p99"],
        "p50_ms": lag["lag_ms_p50"],
        "own_p99_ms": lag["own_lag_ms_p99"],
        "per_s": found.rates["delivered"],
        "delivery_p99_ms": found.latencies["delivery"].p99_ms,
    }


# What must not matter.


def _growing(bench: Bench) -> Figures:
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


def _inbox(bench: Bench) -> Figures:
    keys = {"act": "chat", "users": INBOX_USERS, "window": INBOX_WINDOW, "body_bytes": BODY_BYTES}
    with bench.gateway() as target:
        found = bench.run(target, "inbox", keys | {"seconds": 4 * bench.seconds})
    looks = [each for each in found.series if found.measured_from_s < each.t <= found.measured_to_s]
    part = max(1, len(looks) // 5)
    early, late = (_mean_cost(chosen) for chosen in (looks[:part], looks[-part:]))
    return {
        "entries": found.counts["delivered"] / INBOX_USERS,
        "early_us": early,
        "late_us": late,
        "late_to_early": late / early,
    }


def _mean_cost(looks: list[Sample]) -> float:
    delivered = sum(each.delivered_per_s for each in looks)
    if not delivered:
        raise BenchFault("nothing was delivered in a part of the run")
    return sum((each.gateway_cpu or 0.0) + (each.store_cpu or 0.0) for each in looks) / delivered * 1e6


def _blocklist(bench: Bench) -> Figures:
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


_PINNED = "service on one core, generator on another"
_CALM_WORDS = f"1/{CALM} of that rate, where the core has room"
_IN_TURN = f"{SLICES} times in turn"

_ALL = (
    Line(
        "relay-8",
        "A message, 8 in flight per user",
        f"`run chat --pin --users {USERS} --window 8 --body-bytes {BODY_BYTES}`, and the same with `--peer bare`, "
        f"{_IN_TURN}",
        _relay_goals(33_000, BARE_WINDOW_8_PER_S, 30.0),
        _relay(8),
    ),
    Line(
        "relay-1",
        "A message, 1 in flight per user",
        f"`run chat --pin --users {USERS} --window 1 --body-bytes {BODY_BYTES}`, and the same with `--peer bare`, "
        f"{_IN_TURN}",
        _relay_goals(25_000, BARE_WINDOW_1_PER_S, None),
        _relay(1),
        "fewer messages share a turn of the loop: alone in it one takes the gateway 157,000 instructions, among many "
        "56,000 (callgrind, without the kernel's). Of the gateway's share `perf record -e cpu-clock` gives 52 % to "
        "Python, 25 % to the kernel, 15 % to uvloop, the rest to JSON and the reading of Redis' answers",
    ),
    Line(
        "two-nodes",
        "Sender and recipient on different nodes",
        f"the work of relay-8, through one node and through two on one store, {_IN_TURN}; {_PINNED}",
        (
            Goal("two_to_one", "CPU a message, two nodes to one", 1.4, digits=2),
            Goal("one_us", "µs with one node"),
            Goal("two_us", "µs with two"),
        ),
        _two_nodes,
    ),
    Line(
        "idle",
        "5,000 idle connections, and their logins",
        "`run connect --pin --users 5000 --tokens api --warm-s 2 --seconds 3`, and relay-8 on the bare relay",
        (
            Goal("bytes", "bytes a connection, all processes of the service", 8192, digits=0),
            Goal("logins_per_s", "logins a second of CPU", 2_500, most=False, digits=0),
            Goal("login_us", "µs of CPU a login, gateway and Valkey", 400, digits=0),
            Goal("login_to_bare", "the same, to a message of the bare relay", round(400 / BARE_US, 1)),
            Goal("login_p99_ms", "ms, p99 of the logins, 50 at once"),
        ),
        _idle,
    ),
    Line(
        "kick",
        "A kick under half load",
        "`run kick --pin --users 200 --drops-per-s 20` at half of what `--window 1` gives just before: from the call "
        "to the end of the client's socket; each kind of call was made before",
        (
            Goal("p99_ms", "ms, p99", 5.0, digits=2),
            Goal("p50_ms", "ms, median", digits=2),
            Goal("drops", "drops", digits=0),
            Goal("per_s", "messages a second meanwhile", digits=0),
            Goal("busy", "share of the service's core meanwhile", digits=2),
            Goal("calm_p99_ms", f"ms, p99, at {_CALM_WORDS}", 5.0, digits=2),
            Goal("calm_p50_ms", "ms, median, then", digits=2),
            Goal("calm_drops", "drops, then", digits=0),
            Goal("calm_per_s", "messages a second, then", digits=0),
            Goal("calm_busy", "share of the service's core, then", digits=2),
        ),
        _kick,
        "half of what can be delivered in full batches all but fills the core, because a message alone in its turn of "
        "the loop takes the gateway 157,000 instructions, and one among many 56,000 (callgrind, without the kernel's): "
        "59 Python frames to 22, three writes to one and less. `perf record -e cpu-clock` of the gateway at 4,000 a "
        "second: 48 % Python, 38 % kernel, 6 % uvloop. Holding messages back for a millisecond, to have more in a "
        "turn, saved 5 to 10 % and doubled the latency. A drop takes 5 to 8 ms of CPU with the call that readmits the "
        "user and the logins, which is a tenth of the core at 20 a second, spread thin: a fifth HTTP, a seventh the "
        "drop itself, a tenth the logins' frames. Of a kick's own way a quarter is spent before the gateway reads the "
        "call, a third in HTTP, signature and redis-py until the store is asked, a third until the push is back "
        "(docs/adr/0024)",
    ),
    Line(
        "many",
        "50,000 connections over several workers",
        f'`run connect --start "gateway serve --workers {WORKERS} …" --users 50000 --processes 3 --source-addresses 3`',
        (
            Goal("connections", "connections at once", 50_000, most=False, digits=0),
            Goal("online_missing", "users and sessions that `/v4/app/stats` misses", 0, digits=0),
            Goal("idle_share", "share of the machine's CPU while idle", 0.01, digits=4),
            Goal("idle_cores", "the same, of one core", digits=4),
            Goal("bytes", "bytes a connection, all processes of the service", 8192, digits=0),
            Goal("processes", "processes, with the store", digits=0),
        ),
        _many,
        "each silent connection is pinged every 25 s (`heartbeat_s`) and answers: 2,000 of each a second, 35 to 50 µs "
        "of CPU for both. `perf record -e cpu-clock` of a node with idle connections: 47 % in the kernel (30 % the "
        "ping's write with its TCP over loopback, 6 % epoll, 5 % the pong's read), 42 % in Python (the code of a ping "
        "and its pong takes a twentieth of it when run hot; we believe the rest to be memory gone cold in 25 s), 7 % "
        "in uvloop, 3 % in libc. One percent would leave 10 µs for both, less than the kernel takes alone; a longer "
        "heartbeat costs less in proportion",
    ),
    Line(
        "lag",
        "The event loop at 80 % load",
        "`run chat --pin` at 0.8 of what `--window 1` gives just before, timers of the gateway's loop watched "
        "(loadtest/sampled.py)",
        (
            Goal("p99_ms", "ms, p99 of how late a timer is", 20.0, digits=2),
            Goal("p50_ms", "ms, median", digits=2),
            Goal("own_p99_ms", "ms, p99 of what is the gateway's own doing", digits=2),
            Goal("delivery_p99_ms", "ms, p99 of the deliveries", digits=2),
            Goal("per_s", "messages a second meanwhile", digits=0),
        ),
        _lag,
    ),
    Line(
        "connections",
        "A message among 50,000 connections",
        f"`run chat --rate {SLOW_PER_S}` with 1,000, with 50,000 and again with 1,000 users, {WORKERS} workers each",
        (
            Goal("many_to_few", "CPU a message, 50,000 connections to 1,000", 1.2, digits=2),
            Goal("few_us", "µs with 1,000"),
            Goal("many_us", "µs with 50,000"),
        ),
        _growing,
    ),
    Line(
        "inbox",
        "A message to a long inbox",
        f"`run chat --pin --users {INBOX_USERS} --window {INBOX_WINDOW}`, nobody acks: the last fifth of the run to "
        "the first",
        (
            Goal("late_to_early", "CPU a message, last fifth to first", 1.2, digits=2),
            Goal("early_us", "µs in the first fifth"),
            Goal("late_us", "µs in the last"),
            Goal("entries", "entries in each inbox at the end", digits=0),
        ),
        _inbox,
    ),
    Line(
        "blocklist",
        "A message to a user with a blocklist of 3,000",
        f"`run chat --pin --users {INBOX_USERS} --window 8` with empty lists, and with {BLOCKED:,} others on each, "
        f"{_IN_TURN}",
        (
            Goal("listed_to_none", "CPU a message, with lists to without", 1.2, digits=2),
            Goal("none_us", "µs without"),
            Goal("listed_us", "µs with"),
        ),
        _blocklist,
    ),
)

LINES: Mapping[str, Line] = {line.name: line for line in _ALL}
