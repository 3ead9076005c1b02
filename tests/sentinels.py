"""A master with a replica, watched by three real sentinels."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from redis import Redis
from redis.exceptions import RedisError

from gateway.store.embedded import end_with_parent
from tests.servers import Server, free_ports, redis7_binary
from tests.waiting import eventually

SERVICE = "chat"
QUORUM = 2
DOWN_AFTER_MS = 600
DEADLINE_S = 30.0


class Watched:
    """Two servers and who watches them; `url` is how a node reaches the master, whichever it is."""

    def __init__(self, servers: list[Server], sentinels: list[int]) -> None:
        self.servers = servers
        self.sentinels = sentinels
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

    async def settled(self) -> None:
        """Every sentinel knows the others and a replica that has everything, so that a failover can be agreed on."""
        await eventually(lambda: all(map(_knows_all, self.sentinels)), DEADLINE_S)
        with self.master.client() as client:
            await eventually(lambda: client.set("in-step", "") and client.execute_command("WAIT", 1, 500), DEADLINE_S)


def _knows_all(port: int) -> bool:
    try:
        with Redis(port=port, decode_responses=True, socket_timeout=5) as sentinel:
            state = sentinel.sentinel_master(SERVICE)
    except RedisError:
        return False
    return state["num-slaves"] == 1 and state["num-other-sentinels"] == 2 and "down" not in str(state["flags"])


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    """Starts them; all are gone at the end whatever happened."""
    binary = redis7_binary()
    ports, sentinels = free_ports(2), free_ports(3)
    servers: list[Server] = []
    processes: list[subprocess.Popen[bytes]] = []
    with TemporaryDirectory(prefix="gwt-") as directory:
        try:
            servers += [Server.on_port(binary, port, **{"repl-diskless-sync-delay": "0"}) for port in ports]
            with servers[1].client() as client:
                client.execute_command("REPLICAOF", "127.0.0.1", ports[0])
            processes += [_sentinel(binary, Path(directory) / f"{port}.conf", port, ports[0]) for port in sentinels]
            found = Watched(servers, sentinels)
            await found.settled()
            yield found
        except BaseException:
            # A test that failed shows what its sentinels thought.
            _print_logs(
                [*(Path(directory) / f"{port}.log" for port in sentinels), *(each.log_file for each in servers)]
            )
            raise
        finally:
            for process in processes:
                process.kill()
                process.wait()
            for server in servers:
                server.resume()
                server.stop()


def _print_logs(logs: list[Path]) -> None:
    for log in logs:
        print(f"== {log}", log.read_text("utf-8", "replace") if log.exists() else "never written", sep="\n")


def _sentinel(binary: str, file: Path, port: int, master: int) -> subprocess.Popen[bytes]:
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
    return subprocess.Popen(
        [binary, str(file), "--sentinel"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={"LC_ALL": "C"},
        process_group=0,
        preexec_fn=end_with_parent(),
    )
