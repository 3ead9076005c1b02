"""What is loaded: a gateway (or a peer) that runs already, or one that is started for the run."""

from __future__ import annotations

import ipaddress
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from gateway.cli import record
from gateway.config import Config, Credentials
from loadtest import sampling, users

START_S = 60.0
STOP_S = 60.0
TAIL_LINES = 15
LIFTED = {
    "--client-host": "127.0.0.1",
    "--client-port": "0",
    "--admin-port": "0",
    "--send-rate-per-s": "0",
    "--connect-rate-per-address-s": "0",
    "--inbox-max": "10000000",
    "--log-level": "warning",
}
"""How a gateway is started, where the command does not say otherwise: on free ports, without the limits of one user."""


class TargetFault(Exception):
    """The target cannot be loaded, or cannot do what the run needs; the message says why and what to do."""


class Within(Protocol):
    """What samples in the service itself."""

    def begin(self) -> None:
        """The measured time begins."""

    def end(self) -> None:
        """It is over."""


@dataclass
class Target:
    """A service under load.

    Attributes:
        url: of the socket.
        api: of the Server API; "" = unknown.
        credentials: None = of a peer that wants none.
        data_dir: where its record, credentials and store are; None = unknown.
        root: its first process, whose children belong to it; None = unknown.
        dialect: who speaks to it, ``module:Class``.
        kind: "gateway", or the peer's name.
        command: how it was started; empty where it was not started here.
    """

    url: str
    api: str = ""
    credentials: Credentials | None = None
    data_dir: Path | None = None
    root: int | None = None
    dialect: str = "loadtest.dialect:GatewayDialect"
    kind: str = "gateway"
    command: list[str] = field(default_factory=list)
    core: int | None = None
    software: dict[str, str] = field(default_factory=dict)
    # A peer's processes, where they are no children of each other.
    known: dict[str, int] = field(default_factory=dict)
    # Further nodes of the same service, as (host, port): users take all of them in turn.
    also: list[tuple[str, int]] = field(default_factory=list)
    sampler: Within | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the socket."""
        return _address(self.url)

    def pids(self) -> dict[str, int]:
        """Its processes of now, by name: "store", "gateway" and, with workers, "gateway-1", …; empty = unknown.

        What a store forks to rewrite its files is no process of its own here: its memory is the store's seen twice, and
        its CPU is in the store's.
        """
        found = dict(self.known)
        if self.root is not None:
            for pid in (self.root, *_offspring(self.root)):
                name = sampling.STORE if _is_store(pid) else "gateway"
                found[name if name not in found else f"{name}-{len(found)}"] = pid
        return found

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds used so far, by process."""
        return {name: used for name, pid in self.pids().items() if (used := sampling.cpu_of(name, pid)) is not None}

    def resident_bytes(self) -> dict[str, int]:
        """Resident memory, by process."""
        return {name: size for name, pid in self.pids().items() if (size := sampling.resident_bytes(pid)) is not None}

    @property
    def signer(self) -> Credentials:
        """Its credentials.

        Raises:
            TargetFault: they are not known.
        """
        if self.credentials is None:
            raise TargetFault("the credentials of the target are not known: give --data-dir, or --app-key --app-secret")
        return self.credentials

    def token(self, user: str) -> str:
        """A token signed with the app's secret, as an app server would; raises as ``signer``."""
        return users.signed(self.signer, user)

    def restart(self, stop: signal.Signals = signal.SIGTERM) -> None:
        """Stops it and starts it again on the same ports; blocks.

        Raises:
            TargetFault: it was not started by the run, or does not come back.
        """
        if self.process is None:
            raise TargetFault("only a gateway that the load test has started can be restarted: use --start")
        self.process.send_signal(stop)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise TargetFault(f"the gateway did not stop within {STOP_S:g} s") from None
        self.begin()

    def begin(self) -> None:
        """Starts its command and waits until it listens; from then on its ports are fixed."""
        if self.data_dir is None:
            raise TargetFault("only a gateway that the load test has started can be started again")
        log = self.data_dir / "output.log"
        core = self.core
        with log.open("ab") as output:
            try:
                self.process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C is for the load test, which stops the gateway when it has seen the end.
                    start_new_session=True,
                    preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
                )
            except OSError as error:
                raise TargetFault(f"--start: {self.command[0]}: {error.strerror or error}") from None
        # From its first instruction on: what a start costs is the service's.
        self.root = self.process.pid
        deadline = time.monotonic() + START_S
        while (kept := record.read(self.data_dir)) is None or kept.pid != self.process.pid or kept.client is None:
            status = self.process.poll()
            if status is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
                self.end()
                why = f"did not listen within {START_S:g} s" if status is None else f"ended with status {status}"
                raise TargetFault(f"the gateway did not start, it {why}: {shlex.join(self.command)}\n{tail}")
            time.sleep(0.01)
        self.url, self.api = f"{kept.client}/v1/connect", kept.admin or ""
        _put(self.command, "--client-port", str(_address(self.url)[1]))
        if self.api:
            _put(self.command, "--admin-port", str(_address(self.api)[1]))

    def end(self) -> None:
        """Stops what ``begin`` has started."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def started(command: str = "", core: int | None = None, *, connections: int = 0) -> Iterator[Target]:
    """Starts a gateway with a data directory of its own, which is gone afterwards.

    Args:
        command: ``gateway serve …``, whose flags stand before ours; empty = ``gateway serve``.
        core: where it and its store run; None = anywhere.
        connections: how many it must take.

    Raises:
        TargetFault: it does not start.
    """
    words = _words(command) or ["gateway", "serve"]
    if words[0] == "gateway":
        words[:1] = [sys.executable, "-m", "gateway"]
    with tempfile.TemporaryDirectory(prefix="gateway-loadtest-", ignore_cleanup_errors=True) as own:
        for flag, value in {**LIFTED, "--data-dir": own}.items():
            if not _has(words, flag):
                words += [flag, value]
        if not any(word.endswith("rate-limits") for word in words):
            words.append("--no-rate-limits")
        if connections > 15_000 and not _has(words, "--connections-max"):
            words += ["--connections-max", str(connections + 1000)]
        data_dir = Path(_value(words, "--data-dir"))
        data_dir.mkdir(parents=True, exist_ok=True)
        target = Target("", data_dir=data_dir, command=words, core=core)
        try:
            target.begin()
            target.credentials = Credentials.load_or_create(data_dir, Config(data_dir=data_dir))
            yield target
        finally:
            target.end()


def workers_of(command: str) -> int:
    """How many processes of a gateway, started so, take connections; raises TargetFault where nobody can read it."""
    number = _value(_words(command), "--workers")
    return int(number) if number.isdigit() and int(number) else 1


def attached(
    url: str | None, api: str | None, data_dir: Path | None, credentials: Credentials | None, owned: Sequence[str] = ()
) -> Target:
    """A gateway that runs already.

    Args:
        url: of its socket; None = what the record in ``data_dir`` says.
        api: of its Server API, likewise.
        data_dir: where its record and credentials are.
        credentials: None = those in ``data_dir``.
        owned: hosts beyond this machine that may be loaded.

    Raises:
        TargetFault: none is there, it is not on this machine, or nothing says who may come.
    """
    kept = record.read(data_dir) if data_dir else None
    if url is None:
        if kept is None or kept.client is None:
            raise TargetFault(f"no gateway runs on {data_dir}: start one, or give --url" if data_dir else "no --url")
        url = f"{kept.client}/v1/connect"
    if credentials is None:
        if data_dir is None or not data_dir.is_dir():
            raise TargetFault("tokens cannot be signed: give --app-key and --app-secret, or the gateway's --data-dir")
        credentials = Credentials.load_or_create(data_dir, Config(data_dir=data_dir))
    if urlsplit(url).scheme != "ws":
        raise TargetFault(f"{url}: the load test speaks ws:// (TLS is the load balancer's, or another test's)")
    if urlsplit(url).path in ("", "/"):
        url = url.rstrip("/") + "/v1/connect"
    for each in filter(None, (url, api)):
        check_owned(each, owned)
    check_listening(url)
    root = kept.pid if kept is not None else None
    return Target(url, api or (kept.admin if kept else "") or "", credentials, data_dir, root)


def check_owned(url: str, owned: Sequence[str] = ()) -> None:
    """Refuses what is not on this machine and not owned.

    Raises:
        TargetFault: it is neither.
    """
    host, _ = _address(url)
    if host in owned:
        return
    for found in _resolved(host):
        if not ipaddress.ip_address(found).is_loopback and not _ours(found):
            raise TargetFault(
                f"{host} ({found}) is not this machine. A load test against somebody else's service is an attack: "
                f"only if it is yours, add --i-own-this-target {host}"
            )


def check_listening(url: str) -> None:
    """Asks whether anybody listens.

    Raises:
        TargetFault: nobody does.
    """
    try:
        socket.create_connection(_address(url), timeout=5).close()
    except OSError as error:
        raise TargetFault(f"{url}: nothing answers there ({error.strerror or error})") from None


def _resolved(host: str) -> list[str]:
    try:
        return sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except OSError as error:
        raise TargetFault(f"{host}: {error.strerror or error}") from None


def _ours(address: str) -> bool:
    """Whether a socket of this machine can have that address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.bind((address, 0))
    except OSError:
        return False
    return True


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if not parts.hostname or port == 0:
        raise TargetFault(f"{url!r} is no URL with a host and a port")
    return parts.hostname, port or (443 if parts.scheme in ("wss", "https") else 80)


def _offspring(pid: int) -> list[int]:
    """All processes below one, but for a store's."""
    if _is_store(pid):
        return []
    return [each for child in sampling.children(pid) for each in (child, *_offspring(child))]


def _is_store(pid: int) -> bool:
    try:
        program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].split(b" ")[0]
    except OSError:
        return False
    return program.endswith((b"valkey-server", b"redis-server")) or b"valkey" in program


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise TargetFault(f"--start: {command}: {error}") from None


def _has(words: Sequence[str], flag: str) -> bool:
    return any(word == flag or word.startswith(flag + "=") for word in words)


def _value(words: Sequence[str], flag: str) -> str:
    for place, word in enumerate(words):
        if word == flag and place + 1 < len(words):
            return words[place + 1]
        if word.startswith(flag + "="):
            return word.partition("=")[2]
    return ""


def _put(words: list[str], flag: str, value: str) -> None:
    for place, word in enumerate(words):
        if word == flag:
            words[place + 1] = value
        elif word.startswith(flag + "="):
            words[place] = f"{flag}={value}"
