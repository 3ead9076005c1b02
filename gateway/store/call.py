"""One command to Redis, with the partition it belongs to."""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.store.pipeline import Part


class Call(NamedTuple):
    """What to run and where.

    Attributes:
        place: the partition, or the place of a deployment-wide key (store.keys).
        command: the command's words.
    """

    place: int
    command: tuple[Part, ...]


def function(place: int, name: str, keys: tuple[str, ...], *args: Part) -> Call:
    """A call of one of the Functions in store/lua."""
    return Call(place, ("FCALL", f"gw1_{name}", len(keys), *keys, *args))


def text(value: Any) -> str:
    """A bulk string's text; "" for a missing one."""
    return value.decode() if isinstance(value, bytes) else ""


def integer(value: Any) -> int | None:
    """A number that may come as a bulk string, or be missing."""
    return None if value is None else int(value)
