"""One device's app in a chaos run: it sends numbered messages through the SDK and writes down what it is handed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gateway.client import (
    Client,
    GatewayError,
    Message,
    OutcomeUnknown,
    ProviderFailed,
    QueueFull,
    Stopped,
    Unreachable,
)
from gateway.client.link import Broken
from tests.faults.ledger import Ledger, Place, owner

OUTSTANDING_MAX = 30
"""Sends of one app that wait for their outcome; over it the app waits too."""

COME_AGAIN_S = 0.5
"""How soon somebody who was thrown out tries again, banned or not."""


class Cursors:
    """What an app keeps on its disk: it outlives the client."""

    def __init__(self) -> None:
        self.cursor: str | None = None

    def load(self) -> str | None:
        return self.cursor

    def save(self, cursor: str) -> None:
        self.cursor = cursor


class App:
    """One device. It stays connected as long as it is let, tries again when it was thrown out, and talks to its peers.

    Args:
        device: ``<user>/<device id>``.
        url: of the gateway.
        token: issues one for a user.
        peers: the users that it writes to and watches.
        chance: decides whom it writes to, and when.
        every_s: the mean time between two of its messages.

    Attributes:
        duplicates: what the SDK recognised and kept back.
        repeated: what came again to the app after a restart, which has ended the SDK's memory.
        defects: what no fault accounts for.
    """

    def __init__(
        self,
        device: str,
        platform: str,
        url: str,
        token: Callable[[str], Awaitable[str]],
        ledger: Ledger,
        peers: list[str],
        chance: random.Random,
        every_s: float,
    ) -> None:
        self.device = device
        self.user = owner(device)
        self.peers = peers
        self.client: Client | None = None
        self.defects: list[str] = []
        self.duplicates = 0
        self.repeated = 0
        self._platform = platform
        self._url = url
        self._token = token
        self._ledger = ledger
        self._chance = chance
        self._every_s = every_s
        self._cursors = Cursors()
        self._life = 0
        self._attempted = 0.0
        self._taken: dict[Place, tuple[int, str]] = {}
        self._reopening = asyncio.Event()
        self._leaving = False
        self._sends: set[asyncio.Task[None]] = set()

    # What happens to it.

    def reopen(self) -> None:
        """Somebody ends the app and starts it again."""
        self._reopening.set()

    def leave(self) -> None:
        """It goes for good."""
        self._leaving = True
        self._reopening.set()

    async def block(self, other: str) -> bool:
        """Its user blocks somebody; whether the gateway said that it is done."""
        if self.client is None or not self.live:
            return False
        try:
            await self.client.blocklist.add([other])
        except (GatewayError, QueueFull, Stopped):
            return False
        return True

    @property
    def live(self) -> bool:
        return self.client is not None and self.client.state == "live"

    @property
    def sees_all(self) -> bool:
        """Whether all its peers are online as far as it knows."""
        known = [self.client.presence(peer) if self.client is not None else None for peer in self.peers]
        return all(presence is not None and presence.online for presence in known)

    # Its life.

    async def run(self) -> None:
        """Until ``leave``."""
        while not self._leaving:
            self._life += 1
            self._reopening.clear()
            client = self._start()
            self._ledger.note(self.device, "starts")
            try:
                while not self._reopening.is_set():
                    await self._connected(client)
            finally:
                await client.close()
                self.duplicates += client.duplicates
                self._ledger.note(self.device, "ends")

    def _start(self) -> Client:
        client = self.client = Client(
            self._url,
            token=lambda: self._token(self.user),
            device=self.device.partition("/")[2],
            platform=self._platform,
            cursors=self._cursors,
        )
        client.on_message(self._handed)
        client.on_state(self._moved)
        client.on_resumed(lambda recovered: self._ledger.note(self.device, f"resumes, recovered {recovered}"))
        client.on_error(self._failed)
        return client

    async def _connected(self, client: Client) -> None:
        """Until the client has stopped, or the app is to end; somebody who was thrown out comes again soon."""
        try:
            await client.connect()
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._watch(client))
                await self._ended(client)
                watching.cancel()
        except (Stopped, Unreachable) as error:
            self._ledger.note(self.device, f"is told {error!r}")
        if not self._reopening.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(COME_AGAIN_S):
                    await self._reopening.wait()

    async def _ended(self, client: Client) -> None:
        ended = asyncio.ensure_future(client.stopped())
        asked = asyncio.ensure_future(self._reopening.wait())
        try:
            await asyncio.wait((ended, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            asked.cancel()

    async def _watch(self, client: Client) -> None:
        while client.state != "stopped":
            try:
                await client.watch(self.peers)
                return
            except (GatewayError, Stopped) as error:
                self._ledger.note(self.device, f"cannot watch: {error!r}")
                await asyncio.sleep(COME_AGAIN_S)

    def _moved(self, state: str, why: str) -> None:
        self._ledger.note(self.device, f"is {state} {why}")
        if state == "connecting":
            self._attempted = time.monotonic()
        elif state == "live":
            self._ledger.admitted(self.device, self._attempted)

    def _failed(self, error: Exception) -> None:
        self._ledger.note(self.device, f"is told of {error!r}")
        if not isinstance(error, ProviderFailed | GatewayError | Broken | TimeoutError):
            self.defects.append(f"{self.device}: {error!r}")

    def _handed(self, message: Message) -> None:
        place = Place(message.body["by"], message.to, message.body["number"])
        before = self._taken.setdefault(place, (self._life, message.mid))
        if before[0] != self._life and before[1] == message.mid:
            # What the app took over last, and could not say so before it ended, comes again to the next one.
            self.repeated += 1
        elif message.sender == self.user:
            self._ledger.echoed(self.device, place, message.mid)
        else:
            self._ledger.handed(self.device, place, message.mid)

    # What it says.

    async def talk(self, until: asyncio.Event) -> None:
        """Writes to its peers until then; every message has its outcome when this returns."""
        while not until.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._chance.uniform(0.2, 1.8) * self._every_s):
                    await until.wait()
            if len(self._sends) < OUTSTANDING_MAX and self.client is not None and not until.is_set():
                task = asyncio.create_task(self._send(self.client, self._chance.choice(self.peers)))
                self._sends.add(task)
                task.add_done_callback(self._sends.discard)
        if self._sends:
            await asyncio.wait(tuple(self._sends))

    async def greet(self) -> None:
        """Writes to all its peers; every message has its outcome when this returns."""
        if self.client is not None:
            client = self.client
            await asyncio.gather(*(self._send(client, peer) for peer in self.peers))

    async def _send(self, client: Client, to: str) -> None:
        sending = self._ledger.begin(self.device, to)
        body = {"by": self.device, "number": sending.place.number}
        try:
            sent = await client.send(to, body)
        except OutcomeUnknown as error:
            self._ledger.end(sending, "unknown", reason=repr(error))
        except (GatewayError, QueueFull, Stopped) as error:
            self._ledger.end(sending, "refused", reason=repr(error))
        except Exception as error:
            self._ledger.end(sending, "unknown", reason=repr(error))
            self.defects.append(f"{self.device}: send raised {error!r}")
        else:
            self._ledger.end(sending, "sent", mid=sent.mid)
