"""The deployment that a chaos run breaks: two nodes behind one address, a Valkey on disk, and proxies on every link.

apps ─▶ front ─▶ client link of a ─▶ node a ─▶ store link of a ─▶ Valkey
             └─▶ client link of b ─▶ node b ─▶ store link of b ─┘
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from gateway.services.services import Services
from gateway.store.embedded import end_with_parent
from gateway.store.store import Store
from tests.nodes import CREDENTIALS, config
from tests.proxy import Proxy
from tests.servers import Server, free_ports, valkey_binary

NODES = ("a", "b")

START_S = 60.0
"""How long a node may take to come up; it is started anew as long as the store is away."""

AGAIN_S = 0.5
"""How soon a node that ended at its start is started again."""

LOOK_S = 0.05
"""How often a starting node is looked at."""

BRISK: dict[str, Any] = {
    "lease_s": 3.0,
    "lease_renew_s": 0.6,
    "probe_s": 1.0,
    "probe_timeout_s": 1.0,
    "store_timeout_ms": 1000,
    "drop_wait_s": 5.0,
    "heartbeat_s": 2.0,
    "heartbeat_timeout_s": 2.0,
    "reconnect_spread_ms": 500,
    "drain_s": 0.5,
}
"""Short deadlines, so that a run of a minute sees many outages from beginning to end."""


class Life:
    """One node, as `gateway serve` runs it: a process that is started again under the same name and ports each time.

    With several workers it is as many nodes behind one port, and its supervisor is that process.
    """

    def __init__(self, name: str, store_url: str, directory: Path, workers: int = 1) -> None:
        self.name = name
        self.workers = workers
        self._frozen: int | None = None
        self.port, self.admin_port = free_ports(2)
        self._log = directory / "log"
        self._process: asyncio.subprocess.Process | None = None
        directory.mkdir()
        settings: dict[str, Any] = {
            "redis_url": store_url,
            "node_id": name,
            "workers": workers,
            "client_host": "127.0.0.1",
            "client_port": self.port,
            "admin_port": self.admin_port,
            "data_dir": directory,
            "app_key": CREDENTIALS.app_key,
            "app_secret": CREDENTIALS.app_secret,
            "connect_rate_per_address_s": 0,
            "log_level": "warning",
            **BRISK,
        }
        self._environment = os.environ | {f"GATEWAY_{key.upper()}": str(value) for key, value in settings.items()}

    @property
    def up(self) -> bool:
        return self._process is not None

    async def start(self) -> None:
        """Runs it, as a supervisor does: where the store is away it ends and is started again.

        Raises:
            TimeoutError: It does not come up in START_S.
        """
        if self._process is not None:
            return
        try:
            async with asyncio.timeout(START_S):
                while (process := await self._try()) is None:
                    await asyncio.sleep(AGAIN_S)
                self._process = process
        except TimeoutError as error:
            raise TimeoutError(f"node {self.name} does not come up:\n{self.log()[-2000:]}") from error

    async def _try(self) -> asyncio.subprocess.Process | None:
        process = await self._spawn()
        try:
            return process if await self._opens(process) else None
        except BaseException:
            await _end(process)
            raise

    async def _spawn(self) -> asyncio.subprocess.Process:
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gateway",
                "serve",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                preexec_fn=end_with_parent(),
            )

    async def _opens(self, process: asyncio.subprocess.Process) -> bool:
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(LOOK_S)
                continue
            writer.close()
            return True
        return False

    def freeze(self, chance: random.Random) -> None:
        """It, or one of its workers, stands still; its sockets stay open."""
        self._frozen = self._one(chance)
        self._signal(self._frozen, signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(self._frozen, signal.SIGCONT)

    def kill_worker(self, chance: random.Random) -> None:
        """One of its workers ends without a goodbye; its supervisor starts it again."""
        self._signal(self._one(chance), signal.SIGKILL)

    def _one(self, chance: random.Random) -> int | None:
        """The process, or one of its workers; None where none runs."""
        if self._process is None:
            return None
        pid = self._process.pid
        if self.workers == 1:
            return pid
        running = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(chance.choice(running)) if running else None

    @staticmethod
    def _signal(pid: int | None, number: signal.Signals) -> None:
        if pid is not None:
            # It may have ended by itself meanwhile.
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def kill(self) -> None:
        """It ends without a goodbye."""
        process, self._process = self._process, None
        if process is not None:
            await _end(process)

    async def stop(self) -> None:
        """It is told to end, and sends its clients away first."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                async with asyncio.timeout(START_S):
                    await process.wait()
            finally:
                await _end(process)

    async def gauges(self) -> dict[str, float]:
        """What its /metrics says: every line without a label, or the sum over its workers."""
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=10)
        sums: dict[str, float] = defaultdict(float)
        for name, value in re.findall(r'^gateway_(\w+)(?:\{worker="\d+"\})? (\S+)$', answer.text, re.MULTILINE):
            sums[name] += float(value)
        return sums

    def log(self) -> str:
        """What all its processes have written."""
        return self._log.read_text("utf-8", "replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


class Front:
    """One address before several nodes: each new connection goes to one of them by chance, as a balancer does it."""

    def __init__(self, links: dict[str, Proxy], lives: dict[str, Life], chance: random.Random) -> None:
        self._links = links
        self._lives = lives
        self._chance = chance
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(self._pick, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def _pick(self) -> asyncio.Protocol:
        # A balancer notices a port that is shut, not a process that stands still.
        open_ones = [name for name, life in self._lives.items() if life.up] or list(self._lives)
        return self._links[self._chance.choice(open_ones)].pair()


class World:
    """Everything that can break, and an admin's hands on it.

    Attributes:
        server: the Valkey, which writes every change to disk before it answers.
        lives: node → its process.
        store_links, client_links: node → its link to the store, and its clients' links to it.
        services: what the Server API does, on links of their own that nothing cuts.
    """

    def __init__(
        self,
        server: Server,
        lives: dict[str, Life],
        store_links: dict[str, Proxy],
        client_links: dict[str, Proxy],
        front: Front,
        store: Store,
    ) -> None:
        self.server = server
        self.lives = lives
        self.store_links = store_links
        self.client_links = client_links
        self.url = front.url
        self.store = store
        self.services = Services.over(store, config(**BRISK), CREDENTIALS)

    async def heal(self) -> None:
        """Everything is up and passes again."""
        for link in (*self.store_links.values(), *self.client_links.values()):
            link.accept()
            link.slow(0.0)
            link.resume()
        for life in self.lives.values():
            await life.start()

    def log(self) -> str:
        """What all lives of all nodes have written."""
        return "".join(life.log() for life in self.lives.values())

    def session_keys(self) -> list[str]:
        """What Redis holds of sessions."""
        with self.server.client() as client:
            patterns = ("gw:{*}:s:*", "gw:{*}:at:*", "gw:{*}:online")
            return [str(key) for pattern in patterns for key in client.scan_iter(pattern, count=1000)]


@asynccontextmanager
async def running_world(seed: int, workers: int = 1) -> AsyncIterator[World]:
    """A whole deployment, up, with so many workers a node; all of it is gone at the end whatever happened."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gwc-")))
        server = await asyncio.to_thread(_valkey)
        stack.callback(server.stop)
        store_links = {name: await stack.enter_async_context(Proxy(server.url)) for name in NODES}
        lives = {name: Life(name, store_links[name].url, directory / name, workers) for name in NODES}
        client_links = {
            name: await stack.enter_async_context(Proxy(f"ws://127.0.0.1:{lives[name].port}")) for name in NODES
        }
        front = await stack.enter_async_context(Front(client_links, lives, random.Random(f"{seed}:front")))
        store = await Store.open(server.url, partitions=config().partitions, timeout_s=2.0)
        stack.push_async_callback(store.close)
        for life in lives.values():
            stack.push_async_callback(life.kill)
        await asyncio.gather(*(life.start() for life in lives.values()))
        yield World(server, lives, store_links, client_links, front, store)


def _valkey() -> Server:
    return Server.on_socket(valkey_binary(), appendonly="yes", appendfsync="always")
