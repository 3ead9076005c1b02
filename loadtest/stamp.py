"""What a message's body says: which message of which stream it is, and when it was to be sent.

``{"n":         7,"s":"lt1-0:lt1-1","at":      81234567,"p":"xxx…"}``: all of one width, so that a frame is made by
filling in three numbers. ``s`` is the stream, sender and recipient, with ``~`` in front where it is ephemeral; ``at``
is in µs of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

from loadtest.ledger import EPHEMERAL

FIRST_ID, LAST_ID = 10_000_001, 99_999_999
"""A message's number on its socket, which a frame has eight digits for; after the last one comes the first again."""

_N, _AT, _ID = b"2222222222", b"33333333333333", b"11111111"


def stream(sender: bytes, recipient: bytes, *, ephemeral: bool = False) -> bytes:
    """A stream's name in a body."""
    return b"%b%b:%b" % (EPHEMERAL if ephemeral else b"", sender, recipient)


def sender(name: bytes) -> bytes:
    """Who writes a stream of that name."""
    return name.removeprefix(EPHEMERAL).partition(b":")[0]


def body(name: bytes, n: bytes, at: bytes, size: int) -> bytes:
    """A body of ``size`` bytes, or of as many as it needs."""
    bare = b'{"n":%b,"s":"%b","at":%b,"p":""}' % (n.rjust(10), name, at.rjust(14))
    return bare[:-2] + b"x" * max(0, size - len(bare)) + b'"}'


def sample(name: bytes, size: int) -> tuple[bytes, bytes]:
    """A message's (body, number) with marks for what ``template`` leaves open."""
    return body(name, _N, _AT, size), _ID


def template(whole: bytes) -> bytes:
    """A frame, made of ``sample``, as a template: ``template % (number, n, at)`` is the frame's bytes.

    Raises:
        ValueError: the frame does not hold each of the three once, in that order.
    """
    places = [whole.find(mark) for mark in (_ID, _N, _AT)]
    if -1 in places or sorted(places) != places:
        raise ValueError(f"a message must hold its number, then its body: {whole!r}")
    escaped = whole.replace(b"%", b"%%")
    return escaped.replace(_ID, b"%8d", 1).replace(_N, b"%10d", 1).replace(_AT, b"%14d", 1)


def read(payload: bytes) -> tuple[bytes, int, int] | None:
    """(stream, n, µs) of the body inside a payload; None where there is none."""
    start = payload.find(b'{"n":')
    if start < 0:
        return None
    try:
        n, name, at, _ = payload[start + 5 : start + 200].split(b",", 3)
        return name[5:-1], int(n), int(at[5:])
    except ValueError:
        return None
