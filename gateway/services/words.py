"""Profanity words: kept once in the store, made ready on every node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
import structlog

from gateway.core.words import Blocked, Lexicon, Word, folded
from gateway.protocol.codes import Code
from gateway.services.context import NodeContext
from gateway.services.errors import PARAMETER_INVALID, TOO_MANY_WORDS, Refused
from gateway.store import keys as names
from gateway.store import words
from gateway.store.call import Call
from gateway.store.store import Store

log = structlog.get_logger(__name__)

UNKNOWN = "-"
"""A version that there never is, so that everything is read."""

_CHANGED = orjson.dumps({"cmd": "words"})


class Words:
    """The words of the app.

    Args:
        store: where they are kept.
        words_max: how many there may be.

    Attributes:
        lexicon: what is in force on this node; None while there are no words, so that a message then costs one look.
    """

    def __init__(self, store: Store, words_max: int) -> None:
        self._store = store
        self._words_max = words_max
        self._known = UNKNOWN
        self.lexicon: Lexicon | None = None

    async def add(self, added: Sequence[Word]) -> int:
        """Adds words and tells every node; a word that is there in any case is replaced.

        Returns:
            How many more there may be.

        Raises:
            Refused: 1002, a word is blank; 1019, there would be too many: then none is added.
        """
        for index, word in enumerate(added):
            if not word.text.strip():
                raise Refused(PARAMETER_INVALID, "is blank", f"words[{index}].word")
        # Of one word given twice the last counts, as if they had come in two calls.
        distinct = list({folded(word.text): word for word in added}.values())
        code, total = await self._store.execute(words.add(self._store.keys, distinct, self._words_max))
        if code == words.TOO_MANY:
            raise Refused(TOO_MANY_WORDS, f"there are {total} of {self._words_max} words", "words")
        await self._tell()
        return max(self._words_max - int(total), 0)

    async def remove(self, removed: Sequence[str]) -> int:
        """Removes words, whatever their case, and tells every node; returns how many there were."""
        count = int(await self._store.execute(words.remove(self._store.keys, removed)))
        await self._tell()
        return count

    async def list(self) -> list[Word]:
        """All words in the order of the alphabet."""
        _, found = words.parse_read(await self._store.execute(words.read(self._store.keys, UNKNOWN)))
        return sorted(found or [], key=lambda word: folded(word.text))

    async def refresh(self) -> None:
        """Makes sure that the words in force here are those in the store."""
        self.take(await self._store.execute(self.read()))

    def read(self) -> Call:
        """The call whose reply ``take`` understands."""
        return words.read(self._store.keys, self._known)

    def take(self, reply: Any) -> None:
        """Puts what was read from the store in force.

        Raises:
            msgspec.DecodeError: What is stored is damaged; what was in force stays.
        """
        version, found = words.parse_read(reply)
        if found is not None:
            self.lexicon = Lexicon(found) if found else None
            self._known = version

    async def cleaned(self, body: bytes) -> bytes:
        """What an admin sends, as it may pass by the words in the store now.

        Raises:
            Refused: 21501, it contains a word that blocks.
        """
        await self.refresh()
        if self.lexicon is None:
            return body
        try:
            return self.lexicon.clean(body)
        except Blocked as blocked:
            raise Refused(Code.PROFANITY_BLOCKED, "contains a blocked word", "content") from blocked

    async def _tell(self) -> None:
        await self._store.execute(Call(self._store.keys.settings_place, ("PUBLISH", names.CONTROL, _CHANGED)))


class WordsReceiver:
    """Keeps the words in force on one node those that are in the store."""

    def __init__(self, context: NodeContext, words: Words) -> None:
        self._context = context
        self._words = words

    def reread(self) -> None:
        """Reads them again where they have changed; called on every change, every renewal and after every break."""
        self._context.bus.call(self._words.read(), self._read)

    def _read(self, _: object, reply: Any) -> None:
        if isinstance(reply, Exception):
            # They are read again at the next renewal of the lease.
            return
        try:
            self._words.take(reply)
        except (msgspec.MsgspecError, ValueError) as error:
            log.error("the profanity words in the store are damaged; the last good ones stay", reason=str(error))
