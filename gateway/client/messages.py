"""What an app sends and receives, as values."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

from msgspec import Struct


class Sent(Struct, frozen=True):
    """The message is stored (or, ephemeral, handed on).

    Attributes:
        mid: its id, the same for every try of it.
        sent_at: Unix ms.
        online: whether the recipient was connected.
        code: 21502 where words in the body were replaced.
        extra: what the app's own server says to the sender.
    """

    mid: str
    sent_at: int
    online: bool
    code: int | None = None
    extra: str | None = None


class Message(Struct, frozen=True):
    """A direct or system message, or the echo of one's own from another device.

    Attributes:
        mid: unique over the whole system.
        sender: a user id; this user's own where another of the user's devices sent it.
        body: whatever JSON was sent.
        sent_at: Unix ms.
        cursor: its place in this user's inbox; None where it has none (ephemeral, a broadcast to users online).
        device: the sending device, in an echo.
        system: true for system messages and broadcasts.
        metadata: what the app's server gave along with it.
    """

    mid: str
    sender: str
    to: str
    kind: str
    body: Any
    sent_at: int
    cursor: str | None = None
    device: str | None = None
    system: bool = False
    metadata: dict[str, str] | None = None


class Recalled(Struct, frozen=True):
    """A message was taken back; its ``mid`` may be one that this device never saw."""

    mid: str
    sender: str
    to: str
    at: int
    admin: bool = False
    extra: str | None = None


class Updated(Struct, frozen=True):
    """A message has another body now; the last one holds."""

    mid: str
    sender: str
    to: str
    body: Any
    at: int


Received = Message | Recalled | Updated

_KINDS: dict[str, type[Received]] = {"message": Message, "recalled": Recalled, "updated": Updated}


def of_push(push: Mapping[str, Any]) -> Received:
    """The value of a `message`, `recalled` or `updated` push.

    Raises:
        KeyError, TypeError: it is none.
    """
    kind = _KINDS[push["type"]]
    fields = {name: push[name] for name in kind.__struct_fields__ if name in push}
    return kind(sender=push["from"], **fields)


def uuid7() -> str:
    """A UUID version 7 (RFC 9562 section 5.7): the time, then 74 random bits."""
    stamp = time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF
    value = stamp << 80 | 0x7 << 76 | random.getrandbits(12) << 64 | 0b10 << 62 | random.getrandbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
