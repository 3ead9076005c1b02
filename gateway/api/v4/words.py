"""Profanity words: what messages may not contain."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.api.bearer import READ, WRITE
from gateway.api.operation import operation
from gateway.api.v4.fields import Ask, Result
from gateway.core.words import Word
from gateway.services.errors import TOO_MANY_WORDS
from gateway.services.services import Services

Text = Annotated[str, Meta(min_length=1, max_length=32, description="A word; its case does not matter.")]
WORDS_CALL_MAX = 50
"""The vendor's pages say nothing of it; the older service takes so many a call."""


class NewWord(Ask):
    """A word to look for.

    Attributes:
        word: the word.
        replacement: what is written in its place; without it (or empty) the whole message is blocked.
    """

    word: Text
    replacement: Annotated[str, Meta(max_length=32)] = ""


class NewWords(Ask):
    """Words to look for.

    Attributes:
        words: the words; one that is there already, in any case, is replaced.
    """

    words: Annotated[list[NewWord], Meta(min_length=1, max_length=WORDS_CALL_MAX)]


class OneWord(Ask):
    """A word to look for no more.

    Attributes:
        word: in any case.
    """

    word: Text


class OldWords(Ask):
    """Words to look for no more.

    Attributes:
        words: in any case.
    """

    words: Annotated[list[Text], Meta(min_length=1, max_length=WORDS_CALL_MAX)]


class Filter(Ask):
    """Which words.

    Attributes:
        filter_type: "0" those that are replaced, "1" those that block, "2" all.
    """

    filter_type: Literal["0", "1", "2"] = "1"


class Added(Result):
    """How many more words there may be.

    Attributes:
        remaining_quota: how many.
    """

    remaining_quota: int


class ListedWord(Result, omit_defaults=False):
    """A word.

    Attributes:
        word: as it was given.
        replacement: what is written in its place; empty for one that blocks.
        filter_type: "0" replaced, "1" blocked.
    """

    word: str
    replacement: str
    filter_type: Literal["0", "1"]


class Listed(Result):
    """Words.

    Attributes:
        words: in the order of the alphabet.
    """

    words: list[ListedWord]


@operation(
    "/v4/profanity-word/batch/add",
    scope=WRITE,
    errors=(TOO_MANY_WORDS,),
    note="Every node is told and binds at once, at the latest when it next renews its lease; an empty replacement "
    "counts as none; 50 words a call of at most 32 characters, words_max (1,000) in all.",
    example={"words": [{"word": "damn", "replacement": "****"}, {"word": "scam"}]},
)
async def add(services: Services, asked: NewWords) -> Added:
    """Add words that are replaced in messages, or that block them."""
    added = [Word(each.word, each.replacement) for each in asked.words]
    return Added(remaining_quota=await services.words.add(added))


@operation("/v4/profanity-word/list", scope=READ, example={"filterType": "2"})
async def listing(services: Services, asked: Filter) -> Listed:
    """List the words."""
    words = [
        ListedWord(word=word.text, replacement=word.replacement, filter_type="0" if word.replacement else "1")
        for word in await services.words.list()
    ]
    return Listed(words=[word for word in words if asked.filter_type in ("2", word.filter_type)])


@operation(
    "/v4/profanity-word/remove",
    scope=WRITE,
    note="Removing a word that is not there succeeds.",
    example={"word": "damn"},
)
async def remove(services: Services, asked: OneWord) -> None:
    """Remove a word."""
    await services.words.remove([asked.word])


@operation("/v4/profanity-word/batch/remove", scope=WRITE, example={"words": ["damn", "scam"]})
async def remove_batch(services: Services, asked: OldWords) -> None:
    """Remove words."""
    await services.words.remove(asked.words)


OPERATIONS = (add, listing, remove, remove_batch)
