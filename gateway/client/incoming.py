"""Receiving: what came is put in order, each message once, handed to the app, and acknowledged."""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple, Protocol

from gateway.client.errors import Closed, HandlerFailed, QueueFull
from gateway.client.link import Fields, Link
from gateway.client.messages import Message, Recalled, Received, Updated, of_push
from gateway.client.upkeep import Upkeep, asked, is_cancelled

REMEMBERED = 10_000
"""Message ids kept to recognise what comes twice."""

ACK_EVERY = 64
ACK_S = 0.2
"""One ack for so many messages, or for what was taken over in so long."""

SAVE_S = 10.0
"""As long as the app's cursor hook may take."""

AckWhen = Literal["handled", "received"]
Handler = Callable[[Any], Awaitable[None] | None]
Fault = Callable[[Exception], None]


class Cursors(Protocol):
    """Where an app keeps the cursor of what it has taken over, over its own restarts; plain or coroutine methods."""

    def load(self) -> str | Awaitable[str | None] | None:
        """The cursor saved last, None = none yet."""

    def save(self, cursor: str) -> Awaitable[None] | None:
        """Keeps it."""


class _Item(NamedTuple):
    received: Received | None
    """None: something that the app has had already; only its place counts."""
    cursor: str | None


class Incoming:
    """What waits for the app.

    Args:
        limit: of what waits. Over it nothing more is taken; when half of it is handled the link is opened anew, and
            the gateway brings the rest.
        ack_when: whether a message counts as taken over when it was received or when the app is done with it.

    Attributes:
        cursor: up to where everything was received.
        duplicates: messages that came again and were not handed over.
        passed_over: pushes not taken because too many waited; those with a place in the inbox come again.
        resting: whether handlers are to be left alone.
    """

    def __init__(self, upkeep: Upkeep, acks: Acks, *, limit: int, ack_when: AckWhen, fault: Fault) -> None:
        self.cursor: str | None = None
        self.duplicates = 0
        self.passed_over = 0
        self.handlers: dict[type, Handler | None] = {Message: None, Recalled: None, Updated: None}
        self._upkeep = upkeep
        self._acks = acks
        self._limit = limit
        self._at_receipt = ack_when == "received"
        self._fault = fault
        self._waiting: deque[_Item] = deque()
        self._full = False
        self._arrived = asyncio.Event()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self.resting = False
        self._last: _Item | None = None

    def welcomed(self, cursor: str) -> None:
        """What comes now follows this place."""
        self.cursor = cursor
        self._full = False

    def take(self, push: Fields) -> None:
        """A `message`, `recalled` or `updated` push."""
        if self._full or len(self._waiting) >= self._limit:
            if not self._full:
                self._full = True
                self._fault(QueueFull(f"{self._limit} messages wait to be handled; the gateway keeps the others"))
            self.passed_over += 1
            return
        cursor = push.get("cursor")
        if self._again(push):
            self.duplicates += 1
            item = _Item(None, cursor)
        else:
            item = _Item(of_push(push), cursor)
        if cursor is not None:
            self.cursor = cursor
            if self._at_receipt:
                self._acks.took(cursor)
        if item.received is None:
            if cursor is None:
                return
            if self._waiting and self._waiting[-1].received is None:
                self._waiting.pop()
        self._waiting.append(item)
        self._arrived.set()

    def stopped(self) -> None:
        """Nothing more will come for now; who iterates looks why."""
        self._arrived.set()

    async def pump(self) -> None:
        """Hands everything to the handlers, one at a time and in order, until it is to rest."""
        while not self.resting and (item := await self._next(lambda: self.resting)) is not None:
            await self._through(item)

    def rest(self) -> None:
        """The handler that runs is the last one."""
        self.resting = True
        self._arrived.set()

    async def next_message(self) -> Message | None:
        """The next message for `async for`; the one before is thereby taken over.

        None: the app closed the client and nothing waits.

        Raises:
            Stopped: it ended otherwise, and nothing waits.
        """
        if self._last is not None:
            last, self._last = self._last, None
            self._done(last)
        while (item := await self._next(lambda: self._upkeep.stopped is not None)) is not None:
            if isinstance(item.received, Message):
                self._last = item
                return item.received
            await self._through(item)
        why = self._upkeep.stopped
        if why is None or isinstance(why, Closed):
            return None
        raise why.with_traceback(None)

    async def _next(self, over: Callable[[], bool]) -> _Item | None:
        """What waits longest; None when nothing does and nothing more is wanted."""
        while not self._waiting:
            if over():
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()

    async def _through(self, item: _Item) -> None:
        try:
            await self._hand(item)
        except BaseException:
            # Given up in the middle: it has not been taken over, and is the first to be handed over again.
            self._waiting.appendleft(item)
            raise
        self._done(item)

    async def _hand(self, item: _Item) -> None:
        if item.received is None:
            return
        handler = self.handlers[type(item.received)]
        if handler is None:
            return
        try:
            outcome = handler(item.received)
            if inspect.isawaitable(outcome):
                await outcome
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            # Not the hand-over: something that the handler waited for.
            self._fault(HandlerFailed(f"a handler was given up by what it waited for: {error!r}"))
        except Exception as error:
            # Taken over all the same: what fails once for what a message is, fails every time it comes.
            self._fault(error)

    def _done(self, item: _Item) -> None:
        if item.cursor is not None and not self._at_receipt:
            self._acks.took(item.cursor)
        # Full until the next link begins where this one was left: what this one still brings has a gap before it.
        if self._full and len(self._waiting) == self._limit // 2:
            self._upkeep.again()

    def _again(self, push: Fields) -> bool:
        mid = push["mid"] if push["type"] == "message" else f"{push['type']} {push['mid']} {push['at']}"
        if mid in self._seen:
            self._seen.move_to_end(mid)
            return True
        self._seen[mid] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False


class Acks:
    """Tells the gateway, and the app's cursor hook, up to where the app has taken over."""

    def __init__(self, upkeep: Upkeep, cursors: Cursors | None, fault: Fault) -> None:
        self._upkeep = upkeep
        self._cursors = cursors
        self._fault = fault
        self._newest: str | None = None
        self._told: str | None = None
        self._count = 0
        self._due = asyncio.Event()
        self._many = asyncio.Event()

    def took(self, cursor: str) -> None:
        """Everything up to and including this place."""
        self._newest = cursor
        self._count += 1
        self._due.set()
        if self._count >= ACK_EVERY:
            self._many.set()

    def again(self) -> None:
        """What was told last may not have been heard."""
        self._newest = self._newest or self._told
        if self._newest is not None:
            self._due.set()

    async def run(self) -> None:
        while True:
            await self._due.wait()
            try:
                async with asyncio.timeout(ACK_S):
                    await self._many.wait()
            except TimeoutError:
                pass
            await self.flush()

    async def flush(self) -> None:
        """Tells now."""
        cursor, self._count = self._newest, 0
        self._due.clear()
        self._many.clear()
        if cursor is None:
            return
        # Kept first: a crash between the two brings nothing twice.
        if self._cursors is not None and cursor != self._told:
            try:
                await asked(self._cursors.save, SAVE_S, cursor)
            except Exception as error:
                self._fault(error)
        self._told = cursor
        link: Link | None = self._upkeep.link
        if link is not None and link.welcome["device"] is not None:
            await link.tell("ack", cursor=cursor)
        if self._newest == cursor:
            self._newest = None
