"""A message's content, as the app's server writes it, and its body, as clients write it."""

from __future__ import annotations

import msgspec

_encode = msgspec.json.Encoder().encode
_text = msgspec.json.Decoder(str).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def is_object(content: str) -> bool:
    """Whether a content is the text of a JSON object."""
    try:
        _object(content)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def body_of(content: str) -> bytes:
    """The body: the text of a JSON object as it is, any other text as a JSON string."""
    return content.encode() if is_object(content) else _encode(content)


def content_json_of(body: bytes) -> bytes:
    """The content as a JSON string: a string body is one already, any other body's text becomes one.

    So does a string that is no text, half of a surrogate pair, say: who reads it strictly could read nothing of it.
    """
    if body[:1] == b'"' and (b"\\u" not in body or _is_text(body)):
        return body
    return _encode(body.decode())


def _is_text(body: bytes) -> bool:
    try:
        _text(body)
    except msgspec.DecodeError:
        return False
    return True
