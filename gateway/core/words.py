"""Profanity words: whether a body may pass, and what of it is replaced."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import ahocorasick  # type: ignore[import-not-found]
import msgspec
from msgspec import Struct

HITS_MAX = 4_000
"""Places in one body at which a word was found. More of them would hold up everybody else: the body is blocked."""

_BACKSLASH, _QUOTE = b"\x01\x01", b"\x01\x02"
"""Stand for the escapes of two characters that could be taken for others; JSON has no such bytes (RFC 8259, 7)."""

_decode = msgspec.json.Decoder(list[str]).decode
_encode = msgspec.json.Encoder().encode


class Word(Struct, frozen=True):
    """A word that messages may not contain, in any case.

    Attributes:
        text: as it was given.
        replacement: what is written in its place; empty = the message is blocked.
    """

    text: str
    replacement: str = ""


class Blocked(Exception):
    """A body contains a word without a replacement."""


class Lexicon:
    """Words made ready for looking many of them up at once.

    Of words that begin at the same place the longest counts, and what it covers is not looked at again: a longer word
    with a replacement saves what a shorter one inside it would block. What came of replacing must not contain a
    blocked word either.

    Args:
        words: all of them.

    Attributes:
        words: each without its case, with its replacement.
    """

    def __init__(self, words: Iterable[Word] = ()) -> None:
        self.words: dict[str, str] = {folded(word.text): word.replacement for word in words}
        self._automaton = _automaton(self.words)
        self._blocked = _automaton(text for text, instead in self.words.items() if not instead)

    def clean(self, body: bytes) -> bytes:
        """The body as it may pass: the same object where nothing was replaced, else JSON that differs in strings only.

        Only values are looked at, as they read when decoded; keys are left alone.

        Args:
            body: valid JSON in UTF-8.

        Raises:
            Blocked: It contains a word without a replacement.
        """
        # Without escapes every string stands in the body as it reads: one look tells that there is nothing to do.
        if not self.words or (b"\\" not in body and not _occurs(self._automaton, folded(body.decode()))):
            return body
        # All strings are looked at in one go, and only those with a word in them one by one: a body may have tens of
        # thousands. Every other piece is the inside of a string.
        pieces = body.replace(rb"\\", _BACKSLASH).replace(rb"\"", _QUOTE).split(b'"')
        texts = _decode(_restored(b'["%b"]' % b'","'.join(pieces[1::2])))
        found = self._find(texts, pieces)
        if not found:
            return body
        for index, places in found.items():
            pieces[2 * index + 1] = self._replaced(texts[index], places)
        return _restored(b'"'.join(pieces))

    def _find(self, texts: list[str], pieces: list[bytes]) -> dict[int, list[tuple[int, str]]]:
        """Of each string with a word in it, keys left out: (start, word) of the words, leftmost first.

        The longest of each start, none overlapping. The automaton's own ``iter_long`` misses words (2.3.1: "b" in
        "abacacab" beside "abba").
        """
        longest: dict[int, str] = {}
        for count, (last, word) in enumerate(self._automaton.iter(folded("\0".join(texts)))):
            if count >= HITS_MAX:
                raise Blocked
            start = last - len(word) + 1
            if len(word) > len(longest.get(start, "")):
                longest[start] = word
        begins = [0, *accumulate(len(text) + 1 for text in texts)] if longest else []
        found: dict[int, list[tuple[int, str]]] = {}
        end = 0
        for start in sorted(longest):
            word = longest[start]
            index = bisect_right(begins, start) - 1
            if start >= end and start + len(word) < begins[index + 1] and pieces[2 * index + 2].lstrip()[:1] != b":":
                found.setdefault(index, []).append((start - begins[index], word))
                end = start + len(word)
        return found

    def _replaced(self, text: str, places: list[tuple[int, str]]) -> bytes:
        """The inside of a string, as it stands in JSON, with other words in these places."""
        parts: list[str] = []
        end = 0
        for start, word in places:
            replacement = self.words[word]
            if not replacement:
                raise Blocked
            parts += (text[end:start], replacement)
            end = start + len(word)
        cleaned = "".join((*parts, text[end:]))
        if self._blocked is not None and _occurs(self._blocked, folded(cleaned)):
            raise Blocked
        return _encode(cleaned)[1:-1]


def _restored(text: bytes) -> bytes:
    return text.replace(_BACKSLASH, rb"\\").replace(_QUOTE, rb"\"")


def _occurs(automaton: Any, text: str) -> bool:
    return next(automaton.iter(text), None) is not None


def folded(text: str) -> str:
    """The text without its case, character by character, so that places stay where they are."""
    if text.isascii():
        return text.lower()
    plain = text.casefold()
    if len(plain) == len(text):
        return plain
    # Not by a function a character: that would take 40 ms for the longest body.
    for character, stand_in in _STAND_INS.items():
        text = text.replace(character, stand_in)
    text = text.casefold()
    for instead, stand_in in _INSTEAD.items():
        text = text.replace(stand_in, instead)
    return text


def _instead() -> dict[str, str]:
    """Characters that become several without their case → what they become here: the lower case, or themselves."""
    several = [each for each in map(chr, range(0x10000)) if len(each.casefold()) > 1]
    return {each: each.lower() if len(each.lower()) == 1 else each for each in several}


_LOWER = _instead()
# Halves of surrogate pairs are in no text, and have no case.
_INSTEAD = {instead: chr(0xD800 + index) for index, instead in enumerate(dict.fromkeys(_LOWER.values()))}
_STAND_INS = {character: _INSTEAD[instead] for character, instead in _LOWER.items()}


def _automaton(words: Iterable[str]) -> Any:
    automaton = ahocorasick.Automaton()
    for word in words:
        automaton.add_word(word, word)
    if not len(automaton):
        return None
    automaton.make_automaton()
    return automaton
