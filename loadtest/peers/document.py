"""What the rounds found, in words and tables: the part "peers" of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from loadtest.peers.registry import DUTIES, PEERS
from loadtest.peers.rounds import GATEWAY, WORK, Found, Measured
from loadtest.result import Machine

NONE = "-"
STARVED = (
    "\\* The generator's core was full in at least one of these runs: the server can do more a second. What a message "
    "costs it is not touched by that, but for what larger batches would save."
)


def text(found: Found) -> str:
    """The whole part, as Markdown."""
    gateway = found.server(GATEWAY)
    others = [server for server in found.servers if server.name != GATEWAY]
    parts = [
        "## Peers, side by side",
        _work(found),
        _verdicts(gateway, others),
        *(part for work in WORK[:2] for part in (f"### Messages, {work}", _speed(found, gateway, work))),
        "### Memory and latency",
        _memory(found),
        "### What each does, and does not, in these runs",
        _duties(found),
        "### Settings and versions",
        *(f"- **{server.title}**: {server.settings}. {_versions(server)}" for server in found.servers),
        "### Again",
        _again(found),
    ]
    if found.absent:
        parts.insert(2, "Not measured: " + "; ".join(f"{name} ({why})" for name, why in found.absent.items()) + ".")
    return _joined(parts)


def _joined(parts: Sequence[str]) -> str:
    # The lines of a list stand together.
    whole = ""
    for before, part in zip(["", *parts], parts, strict=False):
        whole += part if not whole else ("\n" if part.startswith("- ") and before.startswith("- ") else "\n\n") + part
    return whole


def _work(found: Found) -> str:
    return (
        f"{found.users} users in pairs write to each other, bodies of {found.body_bytes} bytes, with 8 messages of "
        "each user under way (*window 8*) or one (*window 1*). Each server has one core for itself and its Redis "
        "(Valkey, the binary that the gateway embeds); the generator is the same for all and has another core. "
        f"{_rounds(found)} of {found.seconds:g} s each after {found.warm_s:g} s of warming up, the servers "
        "one after another, every second round backwards, each server started afresh. Figures are medians over the "
        "rounds, with the lowest and the highest behind them.\n\n"
        f"Machine: {_machine(found.machine)}. Absolute figures hold for it alone; the ratios are what to look at. "
        "All messages of all runs were checked: "
        + ("none was lost, doubled, out of order or at the wrong user." if not found.faults else _faults(found))
    )


def _rounds(found: Found) -> str:
    return "One round" if found.rounds == 1 else f"{found.rounds} rounds"


def _faults(found: Found) -> str:
    return "what follows went wrong, and no figure of such a run is in the tables.\n\n" + "\n".join(
        f"- {fault}" for fault in found.faults
    )


def _machine(machine: Machine) -> str:
    cpu = f"{machine.cpu}, " if machine.cpu else ""
    return f"{cpu}{machine.architecture}, {machine.cores} cores, {machine.system}, Python {machine.python}"


def _verdicts(gateway: Measured, others: Sequence[Measured]) -> str:
    """Who is ahead of whom, as it is."""
    lines = []
    for server in others:
        words = [_verdict(gateway, server, work) for work in WORK[:2]]
        lines.append(f"- {server.title}: {'; '.join(words)}.")
    return "The gateway, in messages for one second of CPU (service and Redis together), beside\n\n" + "\n".join(lines)


def _verdict(gateway: Measured, server: Measured, work: str) -> str:
    ratios = _ratios(gateway, server, work)
    if not ratios:
        return f"{work}: not measured"
    low, middle, high = min(ratios), median(ratios), max(ratios)
    if low > 1:
        return f"{work}: **ahead**, {middle:.2f} times as many ({low:.2f} to {high:.2f})"
    if high < 1:
        return f"{work}: **behind**, {middle:.2f} times as many ({low:.2f} to {high:.2f})"
    return f"{work}: **neither**, {middle:.2f} times as many ({low:.2f} to {high:.2f})"


def _ratios(gateway: Measured, server: Measured, work: str) -> list[float]:
    """Of the same rounds: the gateway's messages for a second of CPU, over the server's."""
    pairs = zip(gateway.runs.get(work, []), server.runs.get(work, []), strict=False)
    return [theirs.cpu_us / ours.cpu_us for ours, theirs in pairs if ours.cpu_us and theirs.cpu_us]


def _speed(found: Found, gateway: Measured, work: str) -> str:
    rows = []
    for server in found.servers:
        runs = server.runs.get(work, [])
        ratios = [1 / ratio for ratio in _ratios(gateway, server, work)]
        row = [
            server.title,
            _spread([1e6 / run.cpu_us for run in runs if run.cpu_us], _whole),
            "1" if server is gateway else _spread(ratios, _two),
            _spread([run.messages_per_s for run in runs], _whole)
            + (" \\*" if any(run.starved for run in runs) else ""),
            _middle([run.cpu_us for run in runs], _one),
            _middle([run.store_us for run in runs], _one),
        ]
        rows.append(row)
    head = ["server", "for a second of CPU", "ratio to the gateway", "a second", "µs of CPU each", "of these Redis"]
    starved = any(run.starved for server in found.servers for run in server.runs.get(work, []))
    return _table(head, rows) + ("\n\n" + STARVED if starved else "")


def _memory(found: Found) -> str:
    connect = WORK[2]
    rows = []
    for server in found.servers:
        waits = [server.runs.get(work, []) for work in WORK[:2]]
        rows.append(
            [
                server.title,
                _spread([run.bytes_per_connection / 1024 for run in server.runs.get(connect, [])], _one),
                *(
                    f"{_middle([r.p50_ms for r in runs], _one)} / {_middle([r.p99_ms for r in runs], _one)}"
                    for runs in waits
                ),
            ]
        )
    head = ["server", f"KiB for one of {found.connections:,} idle connections"]
    head += [f"{work}: delivery, ms, p50 / p99" for work in WORK[:2]]
    return _table(head, rows) + (
        "\n\nMemory is the growth of the resident memory of all of a server's processes while users log in who then "
        "say nothing; what a runtime keeps without need is counted, as an operator pays for it. Latencies are those of "
        "a closed loop at full load: they say how long a queue was, and are no promise."
    )


def _duties(found: Found) -> str:
    rows = [[duty, *("yes" if duty in server.does else "no" for server in found.servers)] for duty in DUTIES]
    return _table(["", *(server.title for server in found.servers)], rows) + (
        "\n\nThe gateway asks the policy and stores the message before it answers; the others would need a team's "
        "own code for it, whose cost is not in these figures."
    )


def _versions(server: Measured) -> str:
    return "Versions: " + ", ".join(f"{name} {number.lstrip('v')}" for name, number in server.versions.items()) + "."


def _again(found: Found) -> str:
    asked = {server.name for server in found.servers} | found.absent.keys()
    names = [] if asked >= PEERS.keys() else [name for name in PEERS if name in asked]
    flags = f"--rounds {found.rounds} --seconds {found.seconds:g} --connections {found.connections}"
    return (
        "`make peers` installs what is needed (into the virtual environment alone; Node with npm, apt and dpkg must be "
        f'there) and runs this again; `make peers ARGS="{" ".join([*names, flags])}"` is what '
        f"was run here, on {found.started_at[:10]}. `python -m loadtest run chat --peer NAME` runs one of them alone."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(values: Sequence[float], shown: Callable[[float], str]) -> str:
    known = [value for value in values if value]
    if not known:
        return NONE
    if len(known) == 1:
        return shown(known[0])
    return f"{shown(median(known))} ({shown(min(known))} to {shown(max(known))})"


def _middle(values: Sequence[float], shown: Callable[[float], str]) -> str:
    known = [value for value in values if value]
    return shown(median(known)) if known else NONE


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _one(value: float) -> str:
    return f"{value:,.1f}"


def _two(value: float) -> str:
    return f"{value:.2f}"
