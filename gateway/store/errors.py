"""What can go wrong between the gateway and Redis, by what it means for the caller."""

from __future__ import annotations


class StoreError(Exception):
    """Anything the store could not do."""


class StoreUnavailable(StoreError):
    """The command was certainly not carried out: it never left, or Redis refused to run it. Try again later (503)."""


class FunctionMissing(StoreUnavailable):
    """The server does not have the Functions (any more): load them and ask again."""


class Moved(StoreUnavailable):
    """Another server holds the slot now: find it and ask there."""


class Forbidden(StoreUnavailable):
    """The user that the Redis URL names has no right to it (an ACL)."""


class OutcomeUnknown(StoreError):
    """The command went out and no answer came in time: it may or may not have been carried out (504)."""


class StoreRefused(StoreError):
    """Redis answered with an error that is no outage: a fault of the gateway or of Redis' configuration."""


UNSETTLED = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "LOADING", "MASTERDOWN")
"""Error words by which a server says that it does not serve this slot as it did."""

DEPOSED = ("READONLY", "LOADING", "MASTERDOWN")
"""Those by which it says that it is no master, or another one than before: its data may be other data from now on."""

_NOT_RUN = ("OOM", "NOREPLICAS", "MISCONF", "BUSY", "NOAUTH", *UNSETTLED)

_MIDWAY = " on @user_function:"
"""How Redis marks an error that a command *inside* a Function met: what the Function did before it stays done."""

_MISSING = "Function not found"


def judge(text: str) -> StoreError:
    """What an error reply means for the caller.

    Args:
        text: the reply, its error word first.
    """
    if _MIDWAY in text:
        return OutcomeUnknown(f"Redis stopped a Function midway: {text}")
    if _MISSING in text:
        return FunctionMissing("Redis lost the gateway's Functions; they are being loaded")
    word = text.partition(" ")[0]
    if word == "MOVED":
        return Moved(f"Redis refused to run it: {text}")
    if word == "NOPERM":
        return Forbidden(f"Redis refused to run it: {text}")
    if word in _NOT_RUN:
        return StoreUnavailable(f"Redis refused to run it: {text}")
    return StoreRefused(text)
