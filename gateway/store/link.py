"""The hot link: the pipeline to one Redis server on which pushes come as well, for what happens on clients' sockets.

Pub/sub pushes come on the connection that carries the commands, so a drop and the replies around it arrive in the order
in which Redis ran them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from gateway.store.endpoint import Endpoint
from gateway.store.pipeline import Callback, LinkTimes, Part, resolve
from gateway.store.relaying import RelayPipeline

SUBSCRIBE_BATCH = 1000
"""Channels subscribed to at a time after a (re)connect; each batch has a deadline of its own."""


class Link(RelayPipeline):
    """A pipeline that subscribes after every (re)connect, and probes whether pushes arrive.

    Args:
        endpoint: the server.
        times: deadlines.
        channels: what to subscribe to: sharded channels, then plain ones.
        probe_channel: a channel of this node on this server, for the probe.
        on_push: called with the channel kind's payload of every message.
        on_control: called with every message of a plain channel, where people write; None = ``on_push`` as well.
        on_subscribed: awaited before it is up; what this raises ends the connection, and another one is made.
        options: those of every pipeline; ``on_up`` is called when it is subscribed, too.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        times: LinkTimes,
        *,
        channels: Callable[[], tuple[Iterable[str], Iterable[str]]],
        probe_channel: str,
        on_push: Callable[[bytes], None],
        on_control: Callable[[bytes], None] | None = None,
        on_subscribed: Callable[[Link], Awaitable[None]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(endpoint, times, **options)
        self.channels = channels
        self.probe_channel = probe_channel
        self.on_push = on_push
        self.on_control = on_control
        self.on_subscribed = on_subscribed
        self.echoed = False
        self._probe_token = b""
        self._probe_sent_at = 0.0
        self._probe_next_at = 0.0

    def subscribe(self, channel: str, callback: Callback, context: Any = None) -> None:
        """Subscribes to one sharded channel; the callback gets None, or the error."""
        self.post(("SSUBSCRIBE", channel), _Subscription(callback, b"ssubscribe", channel), context)

    def unsubscribe(self, channel: str) -> None:
        """Ends a subscription."""
        self.post(("SUNSUBSCRIBE", channel), _Subscription(_ignore, b"sunsubscribe", channel), None)

    def _received_push(self, push: list[Any]) -> None:
        kind = push[0]
        if kind == b"smessage":
            self.on_push(push[2])
        elif kind == b"message":
            (self.on_control or self.on_push)(push[2])
        elif kind in (b"ssubscribe", b"subscribe", b"sunsubscribe", b"unsubscribe"):
            # A subscription's answer is a push; it completes the slot that the command holds in the reply queue.
            if self._late:
                if _answers(self._late[0], kind, push[1]):
                    self._late.popleft()
                    return
            elif self._pending and _answers(self._pending[0][0], kind, push[1]):
                callback, context, _ = self._pending.popleft()
                assert callback is not None
                callback(context, None)
                return
            # Nobody asked: the slot has moved away, and whatever is published there is not heard here.
            self._tell(self.on_unsettled, "on_unsettled")
            self._break("the server ended a subscription")

    # The probe.

    def _due(self, now: float) -> None:
        super()._due(now)
        if self._probe_token and now - self._probe_sent_at > self.times.probe_timeout_s:
            self._break("the probe did not come back")
        elif not self._probe_token and now >= self._probe_next_at:
            self._probe_token = random.randbytes(8).hex().encode()
            self._probe_sent_at = now
            # Beyond every limit: there is one at a time, and one that is not sent would be waited for in vain.
            self._enqueue(("SPUBLISH", self.probe_channel, b"q" + self._probe_token), None, None)

    def probe_echo(self, token: bytes) -> bool:
        """A probe came back. Returns whether it was this link's."""
        if token != self._probe_token:
            return False
        self._probe_token = b""
        self._probe_next_at = self._loop.time() + self.times.probe_s
        self.echoed = True
        return True

    # Subscribing.

    def connection_lost(self, exc: Exception | None) -> None:
        self.echoed = False
        super().connection_lost(exc)

    async def _prepare(self) -> None:
        subscribed: set[tuple[bytes, str]] = set()
        # What is watched may change while the batches are under way.
        while missing := [wanted for wanted in self._wanted() if wanted not in subscribed]:
            for start in range(0, len(missing), SUBSCRIBE_BATCH):
                async with self._in_time():
                    await self._subscribe_all(missing[start : start + SUBSCRIBE_BATCH])
            subscribed.update(missing)
        if self.on_subscribed is not None:
            await self.on_subscribed(self)
        self._probe_token = b""
        self._probe_next_at = 0.0

    def _wanted(self) -> list[tuple[bytes, str]]:
        """The kind of the answering push and the channel of every subscription."""
        sharded, plain = self.channels()
        return [(b"ssubscribe", channel) for channel in sharded] + [(b"subscribe", channel) for channel in plain]

    async def _subscribe_all(self, wanted: list[tuple[bytes, str]]) -> None:
        self._require_transport()
        await _all(self._asked((kind, channel), _Subscription(resolve, kind, channel)) for kind, channel in wanted)

    async def ask(self, commands: Sequence[tuple[Part, ...]]) -> list[Any]:
        """Runs commands while the link is not up yet, for ``on_subscribed``; they leave in one write.

        Raises:
            StoreError, TimeoutError: What the first that failed came to.
        """
        async with self._in_time():
            self._require_transport()
            return await _all(self._asked(command) for command in commands)


async def _all(answers: Iterable[asyncio.Future[Any]]) -> list[Any]:
    # One after another would be fewer lines, but an answer that fails must not leave the rest unobserved.
    results = await asyncio.gather(*answers, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


class _Subscription:
    """Marks a slot of the reply queue that is completed by a push of this kind for this channel (or by an error)."""

    __slots__ = ("callback", "channel", "kind")

    def __init__(self, callback: Callback, kind: bytes, channel: str) -> None:
        self.callback = callback
        self.kind = kind
        self.channel = channel.encode()

    def __call__(self, context: Any, reply: Any) -> None:
        self.callback(context, reply)


def _answers(slot: Callback | None, kind: bytes, channel: bytes) -> bool:
    return isinstance(slot, _Subscription) and slot.kind == kind and slot.channel == channel


def _ignore(context: Any, reply: Any) -> None:
    pass
