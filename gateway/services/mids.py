"""Ids of messages."""

from __future__ import annotations

import hashlib
import random

_STEP_BITS = 32
_TAIL_MAX = 1 << 48


class MessageIds:
    """Makes ids for messages whose sender gave no key: UUIDs version 7 (RFC 9562 section 5.7), rising on one node.

    The first of a millisecond is the time and 74 random bits; each further one adds a random step of up to 32 bits to
    it (section 6.2, method 2), so that most of it need not be made again.
    """

    __slots__ = ("_head", "_ms", "_tail")

    def __init__(self) -> None:
        self._ms = -1
        self._head = ""
        self._tail = 0

    def make(self, now_ms: int) -> str:
        """The next id at that Unix time."""
        tail = self._tail + 1 + random.getrandbits(_STEP_BITS)
        if now_ms != self._ms or tail >= _TAIL_MAX:
            chance, tail = random.getrandbits(26), random.getrandbits(48)
            time = f"{now_ms & 0xFFFFFFFFFFFF:012x}"
            self._ms = now_ms
            self._head = f"{time[:8]}-{time[8:]}-7{chance >> 14:03x}-{0x8000 | chance & 0x3FFF:04x}-"
        self._tail = tail
        return self._head + tail.to_bytes(6, "big").hex()


uuid7 = MessageIds().make
"""This process's."""


def mid_of(sender: str, to: str, key: str) -> str:
    """The id of a message whose sender gave a key: the same for every try of it."""
    return hashlib.blake2b(f"{sender}\n{to}\n{key}".encode(), digest_size=16).hexdigest()
