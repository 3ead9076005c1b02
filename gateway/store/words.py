"""Profanity words: one hash with a version, by which nodes see whether they must read it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.core.words import Word, folded
from gateway.store.call import Call, function, text
from gateway.store.keys import WORDS, Keys

TOO_MANY = 1019

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Word).decode


def add(keys: Keys, words: Sequence[Word], words_max: int) -> Call:
    """Adds words, or changes what they are replaced with; replies ``[0 or 1019, how many there are]``."""
    flat = [part for word in words for part in (folded(word.text), _encode(word))]
    return function(keys.words_place, "words_add", (WORDS,), words_max, *flat)


def remove(keys: Keys, words: Sequence[str]) -> Call:
    """Removes words; replies how many there were."""
    return function(keys.words_place, "words_remove", (WORDS,), *map(folded, words))


def read(keys: Keys, known: str) -> Call:
    """All words, unless ``known`` is still their version."""
    return function(keys.words_place, "words_read", (WORDS,), known)


def parse_read(reply: Any) -> tuple[str, list[Word] | None]:
    """The version, and the words; None = they are what they were at the version known.

    Raises:
        msgspec.DecodeError: What is stored is damaged.
    """
    return text(reply[0]), [_decode(raw) for raw in reply[2:]] if reply[1] else None
