"""Messages that the app's server sends, recalls and changes. What clients send is ``services.relay``'s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import msgspec

from gateway.config import Config
from gateway.metrics import METRICS
from gateway.services.clock import Clock
from gateway.services.content import Contents
from gateway.services.errors import DATA_MISSING, PARAMETER_INVALID, PARAMETER_TOO_LONG, Refused
from gateway.services.mids import uuid7
from gateway.services.outbox import DIRECT_CHANNEL, SERVER, SYSTEM_CHANNEL, Message, Outbox
from gateway.services.relay import count_echo
from gateway.services.settings import Settings
from gateway.store import messages, recalls
from gateway.store.call import Call
from gateway.store.errors import OutcomeUnknown, StoreError, StoreUnavailable
from gateway.store.recalls import Stretch, Target
from gateway.store.store import Store

SLICE_RECIPIENTS = 25
SLICE_BYTES = 256 * 1024
"""What goes to the store at a time: composing it keeps the event loop from relaying, about 1 ms for either limit."""

STRAY_MS = 600_000
"""How far the time in a message's id, or the one a caller remembers, may lie from the inbox entry's."""

UPDATE_AGE_MS = 24 * 3_600_000
"""How old a message may be to be changed."""

_encode = msgspec.json.Encoder().encode


class Draft(NamedTuple):
    """A message before it is sent.

    Attributes:
        kind: the Server API's messageType.
        content: any text; the text of a JSON object becomes the body as it is, any other one JSON string.
        system: shown as a system message.
        persist: shown in histories.
        echo: the sender's own devices get a copy.
        listed: the recipient's blocklist, and allowlist where it is on, bind it.
        metadata: given along with it; None = the message has none.
    """

    sender: str
    kind: str
    content: str
    system: bool = False
    persist: bool = True
    echo: bool = False
    listed: bool = False
    metadata: dict[str, str] | None = None


class Stored(NamedTuple):
    """One recipient's message.

    Attributes:
        sent_at: Unix ms.
    """

    user: str
    mid: str
    sent_at: int


class Messages:
    """Sends, recalls and changes messages.

    Args:
        store: where the inboxes are.
        settings: how long they are kept.
        contents: what bodies are made by.
        outbox: tells the app's server of them, where it wants that.
        config: how large they and the bodies may be.
    """

    def __init__(self, store: Store, settings: Settings, contents: Contents, outbox: Outbox, config: Config) -> None:
        self._store = store
        self._outbox = outbox
        self._contents = contents
        self._settings = settings
        self._body_bytes_max = config.body_bytes_max
        self._inbox_max = config.inbox_max
        self._inbox_bytes_max = config.inbox_bytes_max
        self._clock = Clock()

    async def send(self, draft: Draft, recipients: Sequence[str]) -> list[Stored]:
        """Sends one message to each recipient, in slices, so that relaying goes on meanwhile.

        Returns:
            One item for each recipient whose inbox took it. Left out are unknown and deactivated users, those whose
            lists refuse the sender, where lists bind, and those whose inbox is full.

        Raises:
            Refused: 1002 the content is not what the kind asks for; 1005 too long; 21501 a profanity word blocks it.
            StoreUnavailable: nobody got it.
            OutcomeUnknown: some recipients may have got it, or not for good (durability = replicated).
        """
        body = await self._contents.body(draft.content, draft.kind)
        message_bytes = len(body) + (len(_encode(draft.metadata)) if draft.metadata else 0)
        if message_bytes > 2 * self._body_bytes_max and draft.metadata:
            raise Refused(PARAMETER_TOO_LONG, "is too long together with the content", "metadata")
        flags = ("" if draft.listed else "s") + ("" if draft.persist else "n")
        size = min(SLICE_RECIPIENTS, max(1, SLICE_BYTES // message_bytes))
        waiting, stored = iter(recipients), list[Stored]()
        while some := list(islice(waiting, size)):
            try:
                stored += await self._send_slice(draft, body, flags, some)
            except StoreUnavailable as error:
                if stored:
                    raise OutcomeUnknown(f"sent to {len(stored)} recipients: {error}") from error
                raise
        return stored

    async def _send_slice(self, draft: Draft, body: bytes, flags: str, recipients: list[str]) -> list[Stored]:
        now_ms, calls, composed = self._clock.wall_ms(), [], []
        for user in recipients:
            mid = uuid7(now_ms)
            tail = messages.tail(
                mid, draft.sender, user, draft.kind, body, system=draft.system, metadata=draft.metadata
            )
            partition, command = messages.relay(
                self._store.keys,
                draft.sender,
                user,
                flags,
                mid,
                tail,
                self._inbox_max,
                self._settings.live.retention_ms,
                now_ms,
                self._inbox_bytes_max,
            )
            calls.append(Call(partition, command))
            composed.append((user, mid, tail))
        stored, echoes = [], []
        for (user, mid, tail), reply in zip(composed, await self._store.store_all(calls), strict=True):
            if reply[0]:
                METRICS.messages_refused += 1
                continue
            METRICS.messages_relayed += 1
            stored.append(Stored(user, mid, messages.parse_id(reply[1])[0]))
            if draft.echo and user != draft.sender:
                echoes.append(tail)
        await self._echo(draft.sender, echoes)
        if self._outbox.server_messages:
            await self._outbox.add([_told(draft, body, each).event() for each in stored])
        return stored

    async def _echo(self, sender: str, tails: list[bytes]) -> None:
        keys, retention_ms = self._store.keys, self._settings.live.retention_ms
        limit, bytes_max = self._inbox_max, self._inbox_bytes_max
        calls = [messages.echo(keys, sender, "", tail, limit, retention_ms, bytes_max) for tail in tails]
        try:
            replies = await self._store.store_all(calls)
        except StoreError:
            # The messages are stored; what is missing is the sender's own copies.
            METRICS.echoes_lost += len(calls)
            return
        for reply in replies:
            count_echo(reply)

    async def recall(
        self, target: Target, *, sent_at: int | None = None, admin: bool = False, extra: str | None = None
    ) -> None:
        """Takes a message out of the recipient's inbox, and the sender's copy, and tells both users' devices.

        Recalling what was recalled before does nothing.

        Args:
            target: the message.
            sent_at: when it was sent, Unix ms: shortens the search.
            admin: devices shall show that the app's server did it.
            extra: goes to the devices along with it.

        Raises:
            Refused: 1015 there is no such message of this sender to this recipient.
        """
        more = b',"admin":true' if admin else b""
        if extra is not None:
            more += b',"extra":' + _encode(extra)

        # An id that a client's key was made into may be there twice, one that was made for one message is not.
        once = _made_at(target.mid) is not None

        def call(user: str, within: Stretch, onward: bytes, state: int, notice_max: int) -> Call:
            return recalls.recall(self._store.keys, user, target, more, within, onward, state, notice_max, once)

        # Also where it was recalled before: the call that did it may have come no further than the recipient.
        state = await self._change(target, sent_at, call, (recalls.DONE, recalls.RECALLED_BEFORE))
        if state == recalls.NOT_THERE:
            raise Refused(DATA_MISSING, "no such message of this sender to this recipient", "message")
        if self._outbox.deletions:
            told = self._outbox.recalled(target.sender, target.to, target.mid, system=target.system, extra=extra)
            await self._outbox.add([told])

    async def update(self, target: Target, content: str) -> None:
        """Changes the body of a message of the last 24 hours and tells both users' devices.

        Raises:
            Refused: 1015 there is no such message of this sender to this recipient, or it was recalled; 1002 it is
                older; 1005 the content is too long.
        """
        more = b',"body":' + await self._contents.body(content)

        def call(user: str, within: Stretch, onward: bytes, _: int, notice_max: int) -> Call:
            # The recipient's entry tells the age; the sender's copy follows it.
            age_ms = UPDATE_AGE_MS if user == target.to else 0
            return recalls.update(self._store.keys, user, target, more, within, onward, age_ms, notice_max)

        state = await self._change(target, None, call, (recalls.DONE,))
        if state == recalls.TOO_OLD:
            raise Refused(PARAMETER_INVALID, "only messages of the last 24 hours can be changed", "message")
        if state != recalls.DONE:
            raise Refused(DATA_MISSING, "no such message of this sender to this recipient", "message")

    async def _change(
        self,
        target: Target,
        sent_at: int | None,
        call: Callable[[str, Stretch, bytes, int, int], Call],
        goes_on: tuple[int, ...],
    ) -> int:
        """Carries a change out in the recipient's inbox, then in the sender's; returns what the first has come to.

        Args:
            goes_on: what the first must have come to for the second.
        """
        for within in _stretches(target.mid, sent_at):
            state = await self._carry_out(target.to, within, call, 0)
            if state in goes_on and not target.system and target.sender != target.to:
                try:
                    await self._carry_out(target.sender, within, call, self._inbox_max)
                except StoreUnavailable as error:
                    raise OutcomeUnknown(f"the sender's devices were not told: {error}") from error
            if state != recalls.NOT_THERE:
                return state
        return recalls.NOT_THERE

    async def _carry_out(
        self, user: str, within: Stretch, call: Callable[[str, Stretch, bytes, int, int], Call], notice_max: int
    ) -> int:
        state, onward = recalls.NOT_THERE, b""
        while True:
            state, onward = recalls.parse_change(
                await self._store.execute(call(user, within, onward, state, notice_max))
            )
            if not onward:
                return state


def _told(draft: Draft, body: bytes, stored: Stored) -> Message:
    """A message as the app's server is told of it. Whether words were replaced in it is not known here."""
    channel_type = SYSTEM_CHANNEL if draft.system else DIRECT_CHANNEL
    return Message(draft.sender, stored.user, draft.kind, body, stored.mid, stored.sent_at, SERVER, None, channel_type)


def _stretches(mid: str, sent_at: int | None) -> tuple[Stretch, ...]:
    """Where to look for a message, in turn."""
    made_at = _made_at(mid)
    if made_at is not None:
        return (_around(made_at),)
    # A caller's own clock is not to be relied on: where it misleads, the whole inbox is looked at.
    return (recalls.WHOLE,) if sent_at is None else (_around(sent_at), recalls.WHOLE)


def _around(at_ms: int) -> Stretch:
    return Stretch(str(max(0, at_ms - STRAY_MS)), str(at_ms + STRAY_MS))


def _made_at(mid: str) -> int | None:
    """The time in a UUID version 7, Unix ms; None for ids of other kinds."""
    try:
        found = UUID(mid)
    except ValueError:
        return None
    return found.int >> 80 if found.version == 7 and str(found) == mid else None
