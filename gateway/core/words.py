"""Profanity words: whether a body may pass, and what of it is replaced."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import ahocorasick  # type: ignore[import-not-found]
import msgspec
from msgspec import Struct

HITS_MAX = 20_000
"""Places in one body at which a word was found. More of them would hold up everybody else: the body is blocked."""

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?')
"""The strings of a JSON text, those that are keys with the colon behind them (RFC 8259, section 4)."""

_decode = msgspec.json.Decoder(str).decode
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
        if b"\\" not in body and not self._occurs(folded(body.decode())):
            return body
        cleaned = _STRINGS.sub(self._clean_string, body)
        return body if cleaned == body else cleaned

    def _occurs(self, text: str) -> bool:
        return next(self._automaton.iter(text), None) is not None if self.words else False

    def _clean_string(self, found: re.Match[bytes]) -> bytes:
        raw = found[0]
        if found[1] is not None:
            return raw
        text = _decode(raw)
        parts: list[str] = []
        end = 0
        for start, word in self._longest(folded(text)):
            replacement = self.words[word]
            if not replacement:
                raise Blocked
            parts += (text[end:start], replacement)
            end = start + len(word)
        if not parts:
            return raw
        cleaned = "".join((*parts, text[end:]))
        if self._blocked and next(self._blocked.iter(folded(cleaned)), None) is not None:
            raise Blocked
        return _encode(cleaned)

    def _longest(self, text: str) -> Iterator[tuple[int, str]]:
        """(start, word) of the words found, leftmost first, the longest of each start, none overlapping.

        The automaton's own ``iter_long`` misses words (2.3.1: "b" in "abacacab" beside "abba").
        """
        if not self.words:
            return
        longest: dict[int, str] = {}
        for count, (last, word) in enumerate(self._automaton.iter(text)):
            if count >= HITS_MAX:
                raise Blocked
            start = last - len(word) + 1
            if len(word) > len(longest.get(start, "")):
                longest[start] = word
        end = 0
        for start in sorted(longest):
            if start >= end:
                yield start, longest[start]
                end = start + len(longest[start])


def folded(text: str) -> str:
    """The text without its case, character by character, so that places stay where they are."""
    return text.lower() if text.isascii() else text.translate(_FOLD)


class _Fold(dict[int, int]):
    """Characters that have a case; the others are not kept, so it holds at most those of Unicode that do."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        for plain in (character.casefold(), character.lower()):
            if len(plain) == 1:
                if plain != character:
                    self[code] = ord(plain)
                return ord(plain)
        return code


_FOLD = _Fold()


def _automaton(words: Iterable[str]) -> Any:
    automaton = ahocorasick.Automaton()
    for word in words:
        automaton.add_word(word, word)
    if not len(automaton):
        return None
    automaton.make_automaton()
    return automaton
