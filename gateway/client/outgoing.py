"""Sending: each message once, in order for each recipient, over as many links as it takes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

import orjson

from gateway.client import errors
from gateway.client.errors import OutcomeUnknown, QueueFull, RateLimited, Refused, Stopped, Unavailable
from gateway.client.link import Broken, Fields
from gateway.client.messages import Sent, uuid7
from gateway.client.upkeep import Upkeep
from gateway.protocol.codes import Code

OUT_MAX = 64
"""Sends out at once, over all recipients: fewer than the refusals in a row for which a gateway closes."""

PAUSE_S = 0.2
PAUSE_MAX_S = 5.0
"""Between tries while the store is away; doubling."""


class Outgoing:
    """Sends with a key, tries again until the outcome is known, one at a time to a recipient.

    Args:
        queue_max: sends that wait or are out.
        in_flight: how many to one recipient may be out at once; over 1, a message that is tried again may come after
            later ones.
        answer_s: no answer so long means that the outcome is unknown.
        send_s: as long as one send may take in all; under the ten minutes in which a gateway recognises a repeat.
    """

    def __init__(self, upkeep: Upkeep, *, queue_max: int, in_flight: int, answer_s: float, send_s: float) -> None:
        self._upkeep = upkeep
        self._queue_max = queue_max
        self._in_flight = in_flight
        self._answer_s = answer_s
        self._send_s = send_s
        self._lanes: dict[str, _Lane] = {}
        self._window = _Window()
        self.count = 0
        """Sends that wait or are out."""

    async def send(self, to: str, body: Any, kind: str, key: str | None, *, retry: bool) -> Sent:
        """Raises as `Client.send` says."""
        self._admit()
        message = _Outstanding(_fields(to, body, kind) | {"key": key or uuid7()})
        if retry:
            message.doubted()
        lane = self._lanes.setdefault(to, _Lane(self._in_flight))
        lane.users += 1
        self.count += 1
        try:
            async with asyncio.timeout(self._send_s):
                async with lane.turn:
                    return await self._through(message)
        except TimeoutError:
            raise message.given_up() from None
        except Stopped as stopped:
            if message.unknown:
                raise OutcomeUnknown(Code.OUTCOME_UNKNOWN, f"the client stopped: {stopped.reason}") from stopped
            raise
        finally:
            self.count -= 1
            lane.users -= 1
            if not lane.users:
                del self._lanes[to]

    async def once(self, to: str, body: Any, kind: str) -> Sent:
        """An ephemeral message: now or never."""
        self._admit()
        link = self._upkeep.link
        if link is None:
            raise Unavailable(Code.STORE_UNAVAILABLE, "not connected")
        self.count += 1
        try:
            answer = await link.ask("send", _fields(to, body, kind) | {"ephemeral": True}, self._answer_s)
        except (Broken, TimeoutError) as error:
            raise OutcomeUnknown(Code.OUTCOME_UNKNOWN, str(error) or "no answer in time") from None
        finally:
            self.count -= 1
        if answer["type"] == "error":
            raise errors.refusal(answer)
        return _sent(answer)

    def _admit(self) -> None:
        if self._upkeep.stopped is not None:
            raise self._upkeep.stopped.with_traceback(None)
        if self.count >= self._queue_max:
            raise QueueFull(f"{self._queue_max} messages wait to be sent")

    async def _through(self, message: _Outstanding) -> Sent:
        pause_s = PAUSE_S
        while True:
            await self._upkeep.live()
            await self._window.enter()
            try:
                link = self._upkeep.link
                if link is None:
                    # Lost while this one waited to go out.
                    continue
                answer = await message.tried(link.ask("send", message.fields, self._answer_s))
                if answer is not None and answer["type"] != "error":
                    self._window.widen()
                    return _sent(answer)
            finally:
                self._window.leave()
            if answer is None:
                continue
            error = errors.refusal(answer)
            message.last = error
            if isinstance(error, RateLimited):
                self._window.narrow((error.retry_after_ms or 1000) / 1000)
            elif isinstance(error, Unavailable | OutcomeUnknown):
                if isinstance(error, OutcomeUnknown):
                    message.doubted()
                await asyncio.sleep(max(pause_s, (error.retry_after_ms or 0) / 1000))
                pause_s = min(PAUSE_MAX_S, pause_s * 2)
            else:
                raise error


class _Outstanding:
    """One message between its call and its outcome.

    Attributes:
        unknown: whether a try of it may have been stored.
        last: what the last refusal was.
    """

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.unknown = False
        self.last: errors.GatewayError | None = None

    async def tried(self, asking: Any) -> Fields | None:
        """One try; None = without an answer."""
        known = False
        try:
            answer: Fields = await asking
            known = True
            return answer
        except (Broken, TimeoutError):
            return None
        except Refused:
            # Never went out.
            known = True
            raise
        finally:
            if not known:
                self.doubted()

    def doubted(self) -> None:
        """From here on every try says that it is a repeat."""
        self.unknown = True
        self.fields["retry"] = True

    def given_up(self) -> errors.GatewayError:
        """What it is called when its time is over."""
        if self.unknown:
            return OutcomeUnknown(Code.OUTCOME_UNKNOWN, "no answer in time: it may have been stored or not")
        return self.last or Unavailable(Code.STORE_UNAVAILABLE, "not connected in time")


class _Lane:
    """The way to one recipient."""

    def __init__(self, in_flight: int) -> None:
        self.turn = asyncio.Semaphore(in_flight)
        self.users = 0


class _Window:
    """How many sends may be out: one after "too fast", one more with every success. First come, first out."""

    def __init__(self) -> None:
        self._size = OUT_MAX
        self._out = 0
        self._not_before = 0.0
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._admit()
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                # Admitted in the very moment of giving up.
                self.leave()
            raise

    def leave(self) -> None:
        self._out -= 1
        self._admit()

    def narrow(self, seconds: float) -> None:
        self._size = 1
        self._not_before = max(self._not_before, time.monotonic() + seconds)
        asyncio.get_running_loop().call_later(seconds + 0.001, self._admit)

    def widen(self) -> None:
        self._size = min(OUT_MAX, self._size + 1)

    def _admit(self) -> None:
        if time.monotonic() < self._not_before:
            return
        while self._waiters and self._out < self._size:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._out += 1


def _fields(to: str, body: Any, kind: str) -> Fields:
    # Encoded at once: what the app does to the body afterwards is not sent.
    return {"to": to, "kind": kind, "body": orjson.Fragment(orjson.dumps(body))}


def _sent(answer: Fields) -> Sent:
    return Sent(answer["mid"], answer["sent_at"], answer["online"], answer.get("code"), answer.get("extra"))
