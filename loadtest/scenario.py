"""Scenarios: what a run does. One field of ``Scenario`` is the one definition of a key and of its flag."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

SHIPPED = Path(__file__).parent / "scenarios"
PROCESSES_MAX = 64

Act = Literal["connect", "chat", "presence", "kick", "reconnect", "soak", "mixed"]
Drop = Literal["ban", "expire", "kick"]
Break = Literal["drain", "restart", "kill"]
Share = Annotated[float, Meta(ge=0, le=1)]

USED_BY: Mapping[str, tuple[Act, ...]] = {
    "watch": ("presence", "soak", "mixed"),
    "churn_per_s": ("presence", "soak", "mixed"),
    "drops_per_s": ("kick", "mixed"),
    "drops": ("kick", "mixed"),
    "breaks": ("reconnect",),
    "phases": ("mixed",),
}
"""Keys that only some acts use."""


class ScenarioFault(Exception):
    """What is wrong with a scenario, all of it: ``faults``, in words."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Phase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"break_": "break"}):
    """A part of the day in ``mixed``: shares are of the scenario's own users, rate, churn and drops."""

    name: str
    hours: Annotated[float, Meta(gt=0, le=24)] = 1.0
    online: Share = 1.0
    rate: Share = 1.0
    churn: Share = 0.0
    drops: Share = 0.0
    break_: Break | None = None


def _about(text: str, low: float | None = None, high: float | None = None) -> Meta:
    return Meta(description=text, ge=low, le=high)


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """All keys, with their units, bounds and what they are without a word."""

    name: Annotated[str, _about("what the run is called; the file's name without a word")] = ""
    act: Annotated[Act, _about("what happens in it")] = "chat"
    users: Annotated[int, _about("simulated users", 1, 1_000_000)] = 100
    devices: Annotated[int, _about("sockets of each user, each of another platform", 1, 6)] = 1
    processes: Annotated[int, _about("generator processes, which share the users", 1, PROCESSES_MAX)] = 1
    source_addresses: Annotated[
        int, _about("addresses 127.0.0.1, 127.0.0.2, … that sockets come from, in turn", 1, 250)
    ] = 1
    connections_per_s: Annotated[
        float, _about("logins a second over all; 0: as fast as they are answered", 0, 1_000_000)
    ] = 0.0
    logins_in_flight: Annotated[int, _about("logins of one process that wait for an answer at once", 1, 10_000)] = 50
    seconds: Annotated[float, _about("the measured time", 0.1, 7 * 86_400)] = 10.0
    warm_s: Annotated[float, _about("time under load before it", 0, 86_400)] = 1.0
    settle_s: Annotated[float, _about("longest wait for what is under way at the end", 0.1, 3600)] = 10.0
    rate: Annotated[
        float, _about("messages a second over all, whatever the service does; 0: closed loop", 0, 10_000_000)
    ] = 0.0
    window: Annotated[int, _about("closed loop: messages of one user that wait for their answer", 0, 10_000)] = 0
    unanswered_max: Annotated[
        int,
        _about("open loop: messages of one user that wait for their answer; more are left out and counted", 1, 10**6),
    ] = 1000
    spread: Annotated[
        Literal["pairs", "zipf"], _about("who writes to whom: fixed pairs, or the popular ones more than others")
    ] = "pairs"
    zipf_s: Annotated[float, _about("zipf: how much more", 0.01, 5)] = 1.0
    contacts: Annotated[int, _about("zipf: how many others one user writes to", 1, 1000)] = 20
    body_bytes: Annotated[int, _about("size of a message's body", 80, 131_072)] = 120
    refused_share: Annotated[Share, _about("share of the messages that a blocklist must refuse")] = 0.0
    ephemeral_share: Annotated[Share, _about("share of the messages that are not stored")] = 0.0
    ack_every: Annotated[int, _about("a device acks after so many stored messages; 0: never", 0, 1_000_000)] = 0
    watch: Annotated[int, _about("users whose presence each watcher watches", 0, 1000)] = 0
    churn_per_s: Annotated[float, _about("users who go and come again, a second", 0, 100_000)] = 0.0
    drops_per_s: Annotated[float, _about("users who are dropped by an admin's call, a second", 0, 10_000)] = 0.0
    drops: Annotated[tuple[Drop, ...], _about("by which calls, in turn")] = ("kick", "ban", "expire")
    breaks: Annotated[tuple[Break, ...], _about("what happens to the gateway, one after another")] = ()
    tokens: Annotated[
        Literal["signed", "api"], _about("signed here with the app's secret, or issued by the Server API")
    ] = "signed"
    phases: Annotated[tuple[Phase, ...], _about("mixed: the parts of the day")] = ()


def keys() -> dict[str, str]:
    """Every key with what it means."""
    return {name: _meta(hint).description or "" for name, hint in get_type_hints(Scenario, include_extras=True).items()}


def shipped() -> dict[str, Path]:
    """The scenarios that come with the tool, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def first_words(path: Path) -> str:
    """What a scenario's file says of itself in its first comment, up to the first full stop."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines).partition(". ")[0].rstrip(".")


def load(path_or_name: str, flags: Mapping[str, str] | None = None) -> Scenario:
    """A scenario of a file, or a shipped one by its name, with what flags say instead.

    Args:
        flags: keys (``body_bytes`` or ``body-bytes``) with their values as text; lists are separated by commas.

    Raises:
        ScenarioFault: everything that is wrong with it.
    """
    return of(*_read(path_or_name), flags or {})


def of(name: str, written: Mapping[str, Any], flags: Mapping[str, str] | None = None) -> Scenario:
    """A scenario of what a file holds."""
    faults: list[str] = []
    values: dict[str, Any] = {"name": name}
    hints = get_type_hints(Scenario, include_extras=True)
    for key, value in written.items():
        _take(hints, key, value, f"{key}", faults, values, strict=True)
    for flag, text in (flags or {}).items():
        key = flag.replace("-", "_")
        value = tuple(filter(None, text.split(","))) if key in ("drops", "breaks") else text
        _take(hints, key, value, f"--{flag.replace('_', '-')}", faults, values, strict=False)
    given = {flag.replace("-", "_") for flag in flags or {}}
    # A flag for one kind of loop ends the other kind that the file asks for.
    if "rate" in given and "window" not in given and values.get("rate"):
        values["window"] = 0
    if "window" in given and "rate" not in given and values.get("window"):
        values["rate"] = 0.0
    scenario = Scenario(**values)
    bad = {fault.partition(":")[0].lstrip("-").replace("-", "_") for fault in faults}
    if "act" not in bad:
        faults += _unused(scenario.act, [key for key in values if values[key]])
    faults += _contradictions(scenario, bad)
    if faults:
        raise ScenarioFault(faults)
    if scenario.act in ("chat", "kick", "reconnect", "soak", "mixed") and not scenario.rate and not scenario.window:
        scenario = msgspec.structs.replace(scenario, window=1)
    return scenario


def _read(path_or_name: str) -> tuple[str, dict[str, Any]]:
    path = shipped().get(path_or_name, Path(path_or_name))
    try:
        return path.stem, tomllib.loads(path.read_text())
    except FileNotFoundError:
        near = difflib.get_close_matches(path_or_name, shipped(), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ScenarioFault(
            [f"{path_or_name}: no such file, and no scenario of {', '.join(shipped())}{hint}"]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioFault([f"{path_or_name}: {error}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ScenarioFault([f"{path_or_name}: not TOML: {error}"]) from None


def _take(
    hints: Mapping[str, Any],
    key: str,
    value: Any,
    shown: str,
    faults: list[str],
    values: dict[str, Any],
    *,
    strict: bool,
) -> None:
    if key not in hints:
        faults.append(f"{shown}: {_unknown(key, hints)}")
        return
    if key == "phases" and isinstance(value, list):
        unfit = [fault for number, table in enumerate(value, 1) for fault in _phase_faults(table, number)]
        faults += unfit
        if unfit:
            return
    try:
        values[key] = msgspec.convert(value, hints[key], strict=strict)
    except msgspec.ValidationError as error:
        faults.append(f"{shown}: {_words(error, hints[key], value)}")


def _phase_faults(table: Any, number: int) -> list[str]:
    """All that is wrong with one phase."""
    shown = f"phases: number {number}"
    if not isinstance(table, dict):
        return [f"{shown}: a table is wanted ([[phases]]), not {table!r}"]
    hints = {field.encode_name: field.type for field in msgspec.structs.fields(Phase)}
    found = [] if "name" in table else [f"{shown}: name: it needs one"]
    for key, value in table.items():
        if key not in hints:
            found.append(f"{shown}: {key}: {_unknown(key, hints)}")
            continue
        try:
            msgspec.convert(value, hints[key])
        except msgspec.ValidationError as error:
            found.append(f"{shown}: {key}: {_words(error, hints[key], value)}")
    return found


def _unknown(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), 1)
    return f"no such key{f'; did you mean {near[0]}?' if near else ''}"


def _words(error: msgspec.ValidationError, hint: Any, value: Any) -> str:
    """What is wrong with a value; of one that is none of several words, which there are."""
    if str(error).startswith("Expected `array`"):
        return f"a list is wanted, not {value!r}"
    if words := list(_choices(hint)):
        return f"one of {', '.join(words)} is wanted, not {value!r}"
    return f"{str(error).partition(' - at ')[0].replace('`', '')}, not {value!r}"


def _choices(hint: Any) -> Iterator[str]:
    """The words that a type allows, at whatever depth it names them."""
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    elif get_origin(hint) is not None or isinstance(hint, UnionType):
        for part in get_args(hint):
            yield from _choices(part)


def _unused(act: Act, given: Iterable[str]) -> list[str]:
    """Keys that would do nothing."""
    unused = [key for key in given if act not in USED_BY.get(key, (act,))]
    return [f"{key}: {act} does not use it; it is for {', '.join(USED_BY[key])}" for key in unused]


def _contradictions(scenario: Scenario, bad: set[str]) -> list[str]:
    """What cannot be done together; nothing that names a key which is wrong by itself."""
    chatting = scenario.act in ("chat", "kick", "reconnect", "soak", "mixed")
    rules = [
        ("users", chatting and scenario.users < 2, "somebody to write to is needed: at least 2"),
        ("users", chatting and scenario.spread == "pairs" and scenario.users % 2 == 1, "pairs need an even number"),
        ("users", chatting and scenario.refused_share > 0 and scenario.users < 4, "refused_share needs at least 4"),
        ("window", scenario.window > 0 and scenario.rate > 0, "rate is an open loop, window a closed one: one of them"),
        ("processes", scenario.processes > scenario.users, "more than there are users"),
        ("drops", scenario.drops_per_s > 0 and not scenario.drops, "drops_per_s is above 0, but no kind is named"),
        ("breaks", scenario.act == "reconnect" and not scenario.breaks, "reconnect breaks something; name what"),
        ("phases", scenario.act == "mixed" and not scenario.phases, "mixed has at least one phase"),
        ("watch", scenario.act == "presence" and not scenario.watch, "presence has watchers: at least 1"),
        ("watch", scenario.watch >= scenario.users, "nobody watches more users than there are others"),
    ]
    return [f"{key}: {words}" for key, wrong, words in rules if wrong and key not in bad]


def _meta(hint: Any) -> Meta:
    meta: Meta = hint.__metadata__[-1]
    return meta
