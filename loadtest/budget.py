"""The budget: every line measured several times, judged, and written down with the command that does it again."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated

import msgspec
from cyclopts import Parameter

from loadtest import files
from loadtest.bench import Bench, BenchFault
from loadtest.calling import CallFault
from loadtest.conductor import machine
from loadtest.document import put
from loadtest.lines import LINES, Goal, Line
from loadtest.measures import Figures
from loadtest.result import Machine
from loadtest.scenario import ScenarioFault
from loadtest.target import TargetFault
from loadtest.team import GeneratorFault

FINE, FAILED, INTERRUPTED = 0, 1, 130
PART = "budget"
FORESEEN = (BenchFault, TargetFault, GeneratorFault, CallFault, ScenarioFault)
"""Faults that say in their own words what is wrong; of others the traceback is shown."""


class Measured(msgspec.Struct, kw_only=True):
    """One line: its figures run by run, and what went wrong, in words."""

    name: str
    runs: list[Figures] = []
    faults: list[str] = []


class Found(msgspec.Struct, kw_only=True):
    """All that was measured.

    Attributes:
        scale: of the numbers of connections; 1.0 = as the budget says.
    """

    machine: Machine
    started_at: str
    runs: int
    seconds: float
    scale: float = 1.0
    lines: list[Measured] = []
    interrupted: bool = False


def budget(
    *,
    only: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)] = (),
    runs: int = 3,
    seconds: float = 5.0,
    scale: float = 1.0,
    pin: bool = True,
    json: Path | None = None,
    write: Path | None = None,
    from_json: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
) -> int:
    """Measure every line of the budget.

    Args:
        only: Names of lines; all, without.
        runs: How often each is measured; figures are medians.
        seconds: Measured time of a run with messages.
        scale: Of the numbers of connections; below 1 for a look on a small machine, which judges nothing.
        pin: Service on one core, generators on the others; --no-pin where there is only one core, which judges nothing.
        json: Where all figures go.
        write: The document whose part "budget" is replaced.
        from_json: Measure nothing; take the figures in these files, where a line is in several the runs of all.
    """
    _check(only, runs, seconds, scale, [each for each in (json, write) if each is not None])
    found = (
        _read(from_json) if from_json else measured([LINES[name] for name in only or LINES], runs, seconds, scale, pin)
    )
    if json is not None:
        files.put(json, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    sys.stdout.write(f"{text(found)}\n")
    if found.interrupted:
        if write is not None:
            _say("interrupted: the document is left as it was")
        return INTERRUPTED
    if write is not None and found.lines:
        put(write, PART, text(found))
    return FAILED if any(each.faults for each in found.lines) else FINE


def _check(only: Sequence[str], runs: int, seconds: float, scale: float, written: Sequence[Path]) -> None:
    unknown = [name for name in only if name not in LINES]
    if unknown:
        raise ScenarioFault([f"{name}: no line of {', '.join(LINES)}" for name in unknown])
    if runs < 1 or seconds < 0.5 or not 0 < scale <= 1:
        raise ScenarioFault(["--runs is at least 1, --seconds at least 0.5, --scale above 0 and at most 1"])
    if faults := files.faults(*written):
        raise TargetFault("\n".join(faults))


def measured(lines: Sequence[Line], runs: int, seconds: float, scale: float = 1.0, pin: bool = True) -> Found:
    """Measures lines, all of them once, then all again: what disturbs for a while disturbs one run of each."""
    bench = Bench(seconds, scale, pinned=pin)
    found = Found(
        machine=machine(bench.placement),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        runs=runs,
        seconds=seconds,
        scale=scale,
        lines=[Measured(name=line.name) for line in lines],
    )
    try:
        for number in range(runs):
            for line, kept in zip(lines, found.lines, strict=True):
                _say(f"{line.name}, run {number + 1} of {runs}")
                _run(line, bench, kept)
    except KeyboardInterrupt:
        found.interrupted = True
        found.lines = [each for each in found.lines if each.runs or each.faults]
    return found


def _run(line: Line, bench: Bench, kept: Measured) -> None:
    """One run of one line; whatever goes wrong in it is that line's fault, and the others go on.

    Raises:
        KeyboardInterrupt: Ctrl-C, which a run under load takes for itself.
    """
    try:
        figures = line.measure(bench)
        words = ", ".join(f"{goal.figure} {_shown(goal, figures[goal.figure])}" for goal in line.goals)
    except Exception as fault:
        if bench.interrupted:
            raise KeyboardInterrupt from None
        if not isinstance(fault, FORESEEN):
            traceback.print_exc()
        kept.faults.append(_words(fault))
        _say(f"  {kept.faults[-1]}")
    else:
        kept.runs.append(figures)
        _say(f"  {words}")


def _words(fault: Exception) -> str:
    if isinstance(fault, ScenarioFault):
        return "; ".join(fault.faults)
    return str(fault) if isinstance(fault, FORESEEN) else f"{type(fault).__name__}: {fault}"


def _read(paths: Sequence[Path]) -> Found:
    merged: Found | None = None
    for path in paths:
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Found)
        except (OSError, msgspec.DecodeError) as error:
            raise TargetFault(f"{path}: {error}") from None
        if merged is not None:
            fresh = {line.name: line for line in found.lines}
            for line in merged.lines:
                if (same := fresh.get(line.name)) is None:
                    found.lines.append(line)
                else:
                    same.runs, same.faults = line.runs + same.runs, line.faults + same.faults
        merged = found
    assert merged is not None
    # Which files make the document whole is for who names them to know.
    merged.interrupted = False
    order = list(LINES)
    merged.lines = sorted(
        (line for line in merged.lines if line.name in LINES), key=lambda line: order.index(line.name)
    )
    return merged


# In words.


def text(found: Found) -> str:
    """The part of the document, as Markdown."""
    parts = ["## The budget", _preface(found)]
    for kept in found.lines:
        line = LINES[kept.name]
        parts.append(f"### {line.title}\n\n{line.how}. Again: `python -m loadtest budget --only {line.name}`.")
        if kept.runs:
            parts.append(_table(line, kept.runs))
            if line.profile and not _kept(line, kept.runs):
                parts.append(f"Where it goes: {line.profile}.")
        parts += [f"A run failed and has no figures here: {fault}" for fault in dict.fromkeys(kept.faults)]
    return "\n\n".join(parts)


def _preface(found: Found) -> str:
    host = found.machine
    cpu = f"{host.cpu}, " if host.cpu else ""
    words = (
        f"Machine: {cpu}{host.architecture}, {host.cores} cores, {host.system}, Python {host.python}; "
        f"{host.placement}. {_runs(found)} of each line, {found.seconds:g} s of messages in each; median, and in "
        "brackets the lowest and the highest. Every message of every run was accounted for: a run in which one was "
        "lost, doubled, out of order, at the wrong user or wrongly refused has no figures, and says so.\n\n"
        "Limits in µs and in messages a second were set on a machine where the bare relay takes 14.5 µs a message; "
        "elsewhere the rows *to the bare relay*, measured beside it in the same run, say whether they are kept."
    )
    if found.scale != 1.0:
        words += f"\n\n**Not at full size: numbers of connections are {found.scale:g} of what the lines say.**"
    return words


def _runs(found: Found) -> str:
    numbers = sorted({len(line.runs) + len(line.faults) for line in found.lines}) or [found.runs]
    if len(numbers) > 1:
        return f"{numbers[0]} to {numbers[-1]} runs"
    return f"{numbers[0]} run{'s' * (numbers[0] > 1)}"


def _kept(line: Line, runs: Sequence[Figures]) -> bool:
    """Whether every limit of a line is."""
    return all(goal.reached(median([run[goal.figure] for run in runs])) is not False for goal in line.goals)


def _table(line: Line, runs: Sequence[Figures]) -> str:
    rows = ["| figure | measured | limit | reached |", "| --- | ---: | ---: | --- |"]
    for goal in line.goals:
        # Files of before may lack what was added since.
        if not (values := [run[goal.figure] for run in runs if goal.figure in run]):
            continue
        middle = median(values)
        shown = _shown(goal, middle)
        if len(values) > 1:
            shown += f" ({_shown(goal, min(values))} to {_shown(goal, max(values))})"
        limit = "" if goal.limit is None else f"{'≤' if goal.most else '≥'} {_limit(goal)}"
        verdict = {None: "", True: "yes", False: "**no**"}[goal.reached(middle)]
        rows.append(f"| {goal.words} | {shown} | {limit} | {verdict} |")
    return "\n".join(rows)


def _shown(goal: Goal, value: float) -> str:
    return f"{value:,.{goal.digits}f}"


def _limit(goal: Goal) -> str:
    return f"{goal.limit:,g}" if goal.limit is not None else ""


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
