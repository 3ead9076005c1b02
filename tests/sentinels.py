"""A master with a replica, watched by three real sentinels."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from redis import Redis
from redis.exceptions import RedisError

from gateway.store.embedded import end_with_parent
from tests.servers import Server, free_ports, redis7_binary
from tests.waiting import eventually

SERVICE = "chat"
QUORUM = 2
DOWN_AFTER_MS = 1500
"""Longer than a busy machine stands still, lest the sentinels give up a master that is fine."""

PACE = {"info-period": 1000, "publish-period": 500, "tilt-period": 1000}
"""In ms. By default a sentinel learns of a replica every 10 s, and does nothing for 30 s after its clock has jumped."""

DEADLINE_S = 30.0


class Watched:
    """Two servers and who watches them; `url` is how a node reaches the master, whichever it is."""

    def __init__(self, servers: list[Server], sentinels: list[int], directory: Path) -> None:
        self.servers = servers
        self.sentinels = sentinels
        self._files = [directory / f"{port}.conf" for port in sentinels]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        hosts = ",".join(f"127.0.0.1:{port}" for port in sentinels)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}"

    @property
    def master(self) -> Server:
        """Whom the first sentinel takes for it."""
        with Redis(port=self.sentinels[0], decode_responses=True, socket_timeout=5) as sentinel:
            _, port = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(server for server in self.servers if server.url.endswith(f":{port}"))

    @property
    def replica(self) -> Server:
        return next(server for server in self.servers if server is not self.master)

    def start(self, index: int) -> None:
        """Starts a sentinel, with what it knew before if it was killed."""
        self._processes[index] = subprocess.Popen(
            [redis7_binary(), str(self._files[index]), "--sentinel"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={"LC_ALL": "C"},
            process_group=0,
            preexec_fn=end_with_parent(),
        )

    def kill(self, index: int) -> None:
        """Ends a sentinel without a goodbye."""
        process = self._processes.pop(index)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """Ends them all, and the servers."""
        for index in [*self._processes]:
            self.kill(index)
        for server in self.servers:
            server.resume()
            server.stop()

    def print_logs(self) -> None:
        """What they and the servers thought."""
        for log in (*(file.with_suffix(".log") for file in self._files), *(server.log_file for server in self.servers)):
            print(f"== {log}", log.read_text("utf-8", "replace") if log.exists() else "never written", sep="\n")

    async def settled(self) -> None:
        """Every sentinel knows the others and a replica that has everything, so that a failover can be agreed on."""
        await eventually(lambda: all(map(_knows_all, self.sentinels)), DEADLINE_S)
        with self.master.client() as client:
            await eventually(lambda: client.set("in-step", "") and client.execute_command("WAIT", 1, 500), DEADLINE_S)


def _paced(port: int) -> bool:
    with suppress(RedisError), Redis(port=port, socket_timeout=5) as sentinel:
        words = [word for name, milliseconds in PACE.items() for word in (name, milliseconds)]
        return bool(sentinel.execute_command("SENTINEL", "DEBUG", *words))
    return False


def _knows_all(port: int) -> bool:
    with suppress(RedisError), Redis(port=port, decode_responses=True, socket_timeout=5) as sentinel:
        state = sentinel.sentinel_master(SERVICE)
        return state["num-slaves"] == 1 and state["num-other-sentinels"] == 2 and "down" not in str(state["flags"])
    return False


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    """Starts them; all are gone at the end whatever happened. A test that failed shows their logs."""
    binary = redis7_binary()
    ports, sentinels = free_ports(2), free_ports(3)
    with TemporaryDirectory(prefix="gwt-") as directory:
        found = Watched([], sentinels, Path(directory))
        try:
            found.servers += [Server.on_port(binary, port, **{"repl-diskless-sync-delay": "0"}) for port in ports]
            with found.servers[1].client() as client:
                client.execute_command("REPLICAOF", "127.0.0.1", ports[0])
            for index, port in enumerate(sentinels):
                _configure(Path(directory) / f"{port}.conf", port, ports[0])
                found.start(index)
            for port in sentinels:
                await eventually(lambda: _paced(port), DEADLINE_S)  # noqa: B023
            await found.settled()
            yield found
        except BaseException:
            found.print_logs()
            raise
        finally:
            found.stop()


def _configure(file: Path, port: int, master: int) -> None:
    lines = (
        f"port {port}",
        "bind 127.0.0.1",
        f"dir {file.parent}",
        f"logfile {file.with_suffix('.log')}",
        f"sentinel monitor {SERVICE} 127.0.0.1 {master} {QUORUM}",
        f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
        f"sentinel failover-timeout {SERVICE} 4000",
    )
    file.write_text("\n".join(lines) + "\n")
