"""What admins give as content, made a body: one rule for all that the Server API sends."""

from __future__ import annotations

from gateway.core.content import body_of, is_object
from gateway.services.errors import PARAMETER_INVALID, PARAMETER_TOO_LONG, Refused
from gateway.services.settings import Settings
from gateway.services.words import Words


class Contents:
    """Makes bodies.

    Args:
        words: profanity words, which hold where ``words_bind_server_sends`` is on.
        settings: whether it is.
        body_bytes_max: how large a content may be.
    """

    def __init__(self, words: Words, settings: Settings, body_bytes_max: int) -> None:
        self._words = words
        self._settings = settings
        self._body_bytes_max = body_bytes_max

    async def body(self, content: str, kind: str | None = None) -> bytes:
        """The body for a content: the text of a JSON object as it is, any other text as one JSON string.

        Args:
            content: any text.
            kind: the messageType; a built-in one asks for a JSON object.

        Raises:
            Refused: 1002 the content is not what the kind asks for; 1005 over ``body_bytes_max`` of UTF-8, or over
                twice that once escaped and quoted; 21501 a profanity word blocks it.
            StoreUnavailable, OutcomeUnknown: the words could not be read.
        """
        if kind is not None and kind.startswith("RC:") and not is_object(content):
            raise Refused(PARAMETER_INVALID, "a built-in messageType needs the text of a JSON object", "content")
        given_bytes, body = len(content.encode()), body_of(content)
        self._hold_to(given_bytes, len(body))
        if self._settings.live.words_bind_server_sends:
            cleaned = await self._words.cleaned(body)
            self._hold_to(given_bytes + len(cleaned) - len(body), len(cleaned))
            return cleaned
        return body

    def _hold_to(self, given_bytes: int, body_bytes: int) -> None:
        if given_bytes > self._body_bytes_max or body_bytes > 2 * self._body_bytes_max + 2:
            raise Refused(PARAMETER_TOO_LONG, f"is longer than {self._body_bytes_max} bytes", "content")
