"""What happens to messages after they were stored: recalled, changed, looked up (lua/recalls.lua).

Each call looks at a bounded stretch of an inbox and says where to go on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.store import messages
from gateway.store.call import Call, function
from gateway.store.keys import Keys
from gateway.store.messages import Entry

NOT_THERE, DONE, RECALLED_BEFORE, TOO_OLD = range(4)
"""What ``recall`` and ``update`` have come to."""


class Target(NamedTuple):
    """The message meant.

    Attributes:
        system: whether it is a system message.
    """

    mid: str
    sender: str
    to: str
    system: bool = False


class Stretch(NamedTuple):
    """A part of an inbox.

    Attributes:
        earliest: Unix ms, "-" = from the start.
        latest: Unix ms, "" = to the end.
    """

    earliest: str = "-"
    latest: str = ""


WHOLE = Stretch()


def recall(
    keys: Keys,
    user_id: str,
    target: Target,
    more: bytes,
    within: Stretch,
    onward: bytes,
    state: int,
    notice_max: int,
    once: bool,
) -> Call:
    """Takes a message out of a user's inbox and leaves a note.

    Args:
        user_id: whose inbox: the recipient's, or the sender's own.
        more: what the push says beside the message's head, with its leading comma.
        onward: where the call before stopped; b"" at first.
        state: what the call before has come to.
        notice_max: entries of an inbox below which the note is left even where no copy was; 0 = never.
        once: whether the message cannot be there twice, so that the search ends where it is found.
    """
    return _change(keys, "recall", user_id, target, more, within, onward, state, notice_max, int(once))


def update(
    keys: Keys, user_id: str, target: Target, more: bytes, within: Stretch, onward: bytes, age_ms: int, notice_max: int
) -> Call:
    """Leaves a note that a message has changed; arguments as ``recall``.

    Args:
        age_ms: from which age on a message cannot be changed any more; 0 = any can.
    """
    return _change(keys, "update", user_id, target, more, within, onward, age_ms, notice_max)


def _change(
    keys: Keys,
    name: str,
    user_id: str,
    target: Target,
    more: bytes,
    within: Stretch,
    onward: bytes,
    *last: int,
) -> Call:
    user = keys.user(user_id)
    head = messages.head(target.mid, target.sender, target.to)
    return function(
        user.partition,
        name,
        (user.user, user.inbox, user.ack),
        user_id,
        head,
        messages.following(target.system),
        head + more + b"}",
        user.node_channel,
        onward,
        within.latest,
        within.earliest,
        *last,
    )


def parse_change(reply: Any) -> tuple[int, bytes]:
    """(what it has come to, where to go on or b"")."""
    return int(reply[0]), reply[1]


def history(
    keys: Keys, sender: str, to: str, onward: bytes, latest_ms: int, earliest_ms: int, changes_ms: int, wanted: int
) -> Call:
    """The direct messages of one user to another, newest first, and what changed them.

    Args:
        onward: where the call before stopped; b"" at first.
        latest_ms, earliest_ms: when they were sent; both included.
        changes_ms: up to when they may have been changed.
        wanted: how many messages.
    """
    user = keys.user(to)
    return function(
        user.partition,
        "history",
        (user.user, user.inbox),
        messages.between(sender, to),
        onward,
        latest_ms,
        changes_ms,
        earliest_ms,
        wanted,
    )


def parse_history(reply: Any) -> tuple[bytes, list[Entry]]:
    """(where to go on or b"", the entries found)."""
    onward, flat = reply[0], reply[1:]
    entries = [Entry(messages.parse_id(flat[at]), flat[at + 1], flat[at + 2]) for at in range(0, len(flat), 3)]
    return onward, entries
