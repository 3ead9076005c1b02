"""The command line of the load test."""

from __future__ import annotations

import contextlib
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import uvloop
from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from gateway.config import Credentials
from loadtest import files, limits, loaded, needs
from loadtest import scenario as scenarios
from loadtest.files import FileFault
from loadtest.result import Result, ResultFault, read
from loadtest.scenario import Scenario, ScenarioFault
from loadtest.target import Target, TargetFault, attached, started, workers_of
from loadtest.team import GeneratorFault

BETWEEN = "::"
FINE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def build() -> App:
    """All commands."""
    app = App(
        name="loadtest",
        help="Load tests of the gateway: many simulated users, judged message by message.",
        help_epilogue=_scenarios(),
        help_format="plaintext",
        version_flags=[],
        result_action="return_value",
        error_console=Console(stderr=True, soft_wrap=True, highlight=False),
        suppress_keyboard_interrupt=False,
    )
    app.command(run, help_epilogue=_keys())
    app.command(report)
    app.command(compare)
    app.command("loadtest.budget:budget", name="budget", help="Measure every line of the budget.")
    app.command("loadtest.peers.cli:peers", name="peers", help="Measure other servers at the same work.")
    return app


def main(arguments: Sequence[str]) -> int:
    """Runs one command line.

    Returns:
        0 fine; 1 the run failed, messages were treated wrongly, or its result could not be written; 2 wrong usage;
        130 interrupted.
    """
    try:
        # To the parser of the command line "--" is no word of its own.
        words = [BETWEEN if word == "--" and arguments[0] == "compare" else word for word in arguments]
        status = build()(words, exit_on_error=False)
    except CycloptsError:
        return USAGE
    except ScenarioFault as fault:
        return _complain(USAGE, *fault.faults)
    except (TargetFault, ResultFault) as fault:
        return _complain(USAGE, *str(fault).splitlines())
    except (GeneratorFault, FileFault) as fault:
        return _complain(FAILED, str(fault))
    except KeyboardInterrupt:
        return INTERRUPTED
    return status if isinstance(status, int) else FINE


def run(
    scenario: str,
    /,
    *,
    url: str | None = None,
    api: str | None = None,
    app_key: str | None = None,
    app_secret: str | None = None,
    data_dir: Path | None = None,
    start: str | None = None,
    peer: str | None = None,
    i_own_this_target: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    pin: Annotated[bool, Parameter(negative=())] = False,
    json: Path | None = None,
    html: Path | None = None,
    plain: Annotated[bool, Parameter(negative=())] = False,
    **keys: str,
) -> int:
    """Run a scenario: one that comes with the tool, or a .toml file.

    Args:
        scenario: its name or file.
        url: The socket of a gateway that runs (ws://host:port/v1/connect).
        api: Its Server API (http://host:port), for drops and issued tokens.
        app_key: Its public key.
        app_secret: Its secret, which signs tokens.
        data_dir: Its data directory, which knows all of these.
        start: Start one for the run: "gateway serve …", or "" for the default.
        peer: Load this peer instead (see peers).
        i_own_this_target: A host beyond this machine that may be loaded.
        pin: Service on one core, generators on the others.
        json: Where the result goes.
        html: Where the report goes.
        plain: A line every few seconds instead of the live screen.
        keys: Any key of the scenario, such as --users 200 --rate 1000.
    """
    plan = scenarios.load(scenario, keys)
    # What can be known beforehand must not cost a run.
    faults = files.faults(json, html)
    if bool(app_key) != bool(app_secret):
        faults.append("--app-key and --app-secret: one is of no use without the other")
    if (api or app_key) and not (url or data_dir):
        faults.append("--api, --app-key and --app-secret are of a gateway that runs: give its --url, or --data-dir")
    remote = bool(i_own_this_target)
    workers = 0 if url or data_dir or peer else workers_of(start or "")
    faults += limits.check(plan, limits.raised(), remote=remote, workers=workers)
    if faults:
        raise ScenarioFault(faults)
    given = Credentials(app_key, app_secret) if app_key and app_secret else None
    with (
        _ending() as on_signal,
        _target(plan, url, api, data_dir, given, start, peer, i_own_this_target, pin) as target,
    ):
        needs.check(plan, target)
        result = _conducted(plan, target, lambda: on_signal(lambda *_: _kill(target)), pin=pin, plain=plain)
        result.loaded = loaded.words(url, data_dir, start, peer)
        # Before the target is stopped, which takes a while: whatever happens meanwhile, the result is there.
        unwritten = _left(result, json, html)
    if unwritten:
        return _complain(FAILED, *unwritten)
    if result.interrupted:
        return INTERRUPTED
    return FINE if result.fine else FAILED


def _left(result: Result, json: Path | None, html: Path | None) -> list[str]:
    """Writes what is to be left of a run, and says what could not be: one file that fails is no reason against both."""
    from loadtest.report import write

    unwritten: list[str] = []
    for path, put in ((json, result.write), (html, lambda path: write(result, path))):
        try:
            if path is not None:
                put(path)
        except FileFault as fault:
            unwritten.append(str(fault))
    return unwritten


_Handler = Callable[..., object] | signal.Handlers


@contextlib.contextmanager
def _ending() -> Iterator[Callable[[_Handler], None]]:
    """Whatever signal ends a run, what was started for it is stopped.

    Before the load each of them counts as Ctrl-C; under load they are the conductor's. After it the files are written
    all the same, and whoever is impatient ends what was started and may stand still.

    Yields:
        What sets the handler of them all.
    """
    from loadtest.generator import ENDING

    # Under nohup a run outlives its terminal.
    before = {each: kept for each in ENDING if (kept := signal.getsignal(each)) is not signal.SIG_IGN}

    def handle(handler: _Handler) -> None:
        for each in before:
            signal.signal(each, handler)

    handle(signal.default_int_handler)
    try:
        yield handle
    finally:
        for each, kept in before.items():
            signal.signal(each, kept)


@contextlib.contextmanager
def _target(
    plan: Scenario,
    url: str | None,
    api: str | None,
    data_dir: Path | None,
    given: Credentials | None,
    start: str | None,
    peer: str | None,
    owned: tuple[str, ...],
    pin: bool,
) -> Iterator[Target]:
    from loadtest.conductor import placed

    core = placed(pin).service
    if sum(value is not None for value in (url or data_dir, start, peer)) > 1:
        raise TargetFault("one of --url or --data-dir, --start, --peer: only one service is loaded at a time")
    if peer is not None:
        with _peer(peer, core) as target:
            yield target
    elif url is not None or data_dir is not None:
        yield attached(url, api, data_dir, given, owned)
    else:
        with _impatiently(started(start or "", core, connections=plan.users * plan.devices)) as target:
            yield target


@contextlib.contextmanager
def _impatiently(starting: AbstractContextManager[Target]) -> Iterator[Target]:
    """The same, but Ctrl-C ends at once a gateway that is to stop: it may stand still."""
    with starting as target:
        try:
            yield target
        except KeyboardInterrupt:
            _kill(target)
            raise


def _kill(target: Target) -> None:
    if target.process is not None:
        target.process.kill()


@contextlib.contextmanager
def _peer(name: str, core: int | None) -> Iterator[Target]:
    from loadtest.peers.peer import PeerFault
    from loadtest.peers.registry import peer

    try:
        chosen = peer(name)
        if missing := chosen.missing():
            raise TargetFault(f"{name} cannot be started: {missing}")
        with chosen.start(core) as running:
            yield Target(
                running.url,
                credentials=Credentials("peer", "0" * 32),
                dialect=chosen.dialect,
                kind=name,
                software=dict(chosen.versions()),
                known=dict(running.pids),
            )
    except PeerFault as fault:
        raise TargetFault(str(fault)) from None


def _conducted(plan: Scenario, target: Target, over: Callable[[], None], *, pin: bool, plain: bool) -> Result:
    from loadtest.conductor import conduct, placed
    from loadtest.screen import shown, summary

    async def conducted() -> Result:
        try:
            return await conduct(plan, target, screen, placed(pin))
        finally:
            # In the loop: behind its end a signal would find nobody.
            over()

    with shown(plan.name, plain=plain, seconds=None) as screen:
        result = uvloop.run(conducted())
    Console(stderr=True).print(summary(result))
    return result


def report(result: Path, /, *, out: Annotated[Path | None, Parameter(alias="-o")] = None) -> None:
    """Write the HTML report of a result; without -o, beside it."""
    from loadtest.report import write

    path = out or result.with_suffix(".html")
    if path.resolve() == result.resolve():
        raise TargetFault(f"{path}: the result itself, whose place the report would take; name another file with -o")
    write(read(result), path)
    print(path)


def compare(*results: str) -> int:
    """Say what changed from A.json to B.json, by ratio; several runs of each: A1 A2 -- B1 B2."""
    if BETWEEN in results:
        place = results.index(BETWEEN)
        before, after = results[:place], results[place + 1 :]
    else:
        before, after = results[:1], results[1:]
    if not before or not after or BETWEEN in after or (BETWEEN not in results and len(results) != 2):
        raise TargetFault("compare A.json B.json, or several runs of each: compare A1 A2 -- B1 B2")
    from loadtest import comparison

    found = comparison.compare([read(Path(path)) for path in before], [read(Path(path)) for path in after])
    comparison.table(found, Console())
    return FINE


def _complain(status: int, *lines: str) -> int:
    for line in lines:
        sys.stderr.write(f"loadtest: {line}\n")
    return status


def _scenarios() -> str:
    lines = [_entry(name, 12, scenarios.first_words(path)) for name, path in scenarios.shipped().items()]
    return "Scenarios:\n" + "\n".join(lines)


def _keys() -> str:
    about = scenarios.keys().items()
    lines = [_entry(f"--{name.replace('_', '-')}", 22, words) for name, words in about if name != "phases"]
    return "Keys of a scenario:\n" + "\n".join(lines)


def _entry(name: str, width: int, words: str) -> str:
    """A name and what it means, in the columns of a narrow terminal."""
    return textwrap.fill(words, 79, initial_indent=f"  {name:{width}}", subsequent_indent=" " * (2 + width))
