"""The lines of the budget: what is promised, how it is measured, and by how much it may be missed (not at all)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loadtest import measures
from loadtest.bench import BODY_BYTES, SLICES, USERS, Bench
from loadtest.measures import BLOCKED, CALM, INBOX_USERS, INBOX_WINDOW, SLOW_PER_S, WORKERS, Figures

BARE_US, BARE_WINDOW_1_PER_S, BARE_WINDOW_8_PER_S = 14.5, 47_000, 70_000
"""What the bare relay did on the machine that the budget was written for: what makes its limits ratios."""


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
        Goal("bare_held_back", "1 = the generators held the bare relay back, which could do more", digits=0),
    )


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
        measures.relay(8),
        "half in the gateway, 56,000 instructions a message without the kernel's (callgrind: 36 % Python's evaluation "
        "loop, 6 % making and freeing its objects), and half in Valkey, 67,500 (docs/adr/0018)",
    ),
    Line(
        "relay-1",
        "A message, 1 in flight per user",
        f"`run chat --pin --users {USERS} --window 1 --body-bytes {BODY_BYTES}`, and the same with `--peer bare`, "
        f"{_IN_TURN}",
        _relay_goals(25_000, BARE_WINDOW_1_PER_S, None),
        measures.relay(1),
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
        measures.two_nodes,
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
        measures.idle,
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
        measures.kick,
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
        measures.many,
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
        measures.lag,
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
        measures.growing,
    ),
    Line(
        "inbox",
        "A message to a long inbox",
        f"`run chat --pin --users {INBOX_USERS} --window {INBOX_WINDOW}`, nobody acks: the last fifth of the run, to "
        "the first and to a run with others behind it",
        (
            Goal("long_to_short", "CPU a message, to long inboxes and to short ones", 1.2, digits=2),
            Goal("short_us", "µs to short ones, before and after"),
            Goal("long_us", "µs to long ones"),
            Goal("entries", "entries in each inbox at the end", digits=0),
        ),
        measures.inbox,
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
        measures.blocklist,
    ),
)

LINES: Mapping[str, Line] = {line.name: line for line in _ALL}
