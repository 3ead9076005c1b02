"""A session's states, what moves it from one to the next, and which command is allowed in which: tables only."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

from gateway.protocol import commands


class State(enum.IntEnum):
    """Where a session is in its life."""

    AWAITING_TOKEN = 0
    JOINING = 1
    LIVE = 2
    FENCED = 3
    ENDED = 4


class Event(enum.IntEnum):
    """What moves it on."""

    TOKEN_ACCEPTED = 0
    ADMITTED = 1
    LINK_BROKEN = 2
    RECLAIMED = 3
    CUT = 4


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.AWAITING_TOKEN, Event.TOKEN_ACCEPTED): State.JOINING,
    (State.JOINING, Event.ADMITTED): State.LIVE,
    # The link to the session's partition broke: a drop may have been published that nobody heard. Until `reclaim`
    # has answered, nothing passes.
    (State.LIVE, Event.LINK_BROKEN): State.FENCED,
    (State.FENCED, Event.LINK_BROKEN): State.FENCED,
    (State.FENCED, Event.RECLAIMED): State.LIVE,
    (State.AWAITING_TOKEN, Event.CUT): State.ENDED,
    (State.JOINING, Event.CUT): State.ENDED,
    (State.LIVE, Event.CUT): State.ENDED,
    (State.FENCED, Event.CUT): State.ENDED,
}


class Rule(NamedTuple):
    """When a command is allowed, and what it takes from the session's rate.

    Attributes:
        cost: for the command.
        each: for every user it names (or, a list of friends, may answer with): each is a call to the store.
    """

    states: frozenset[State]
    cost: float
    each: float = 0.0

    def price(self, command: Any) -> float:
        """What this command costs, with each user that it names or may answer with."""
        named = command.limit if type(command) is commands.FriendsList else len(command.users)
        return self.cost + self.each * named


_LIVE = frozenset({State.LIVE})
_ANY = frozenset({State.AWAITING_TOKEN, State.JOINING, State.LIVE})

RULES: dict[type, Rule] = {
    commands.Auth: Rule(frozenset({State.AWAITING_TOKEN}), 0.0),
    commands.Send: Rule(_LIVE, 1.0),
    commands.Ack: Rule(_LIVE, 0.1),
    commands.Refresh: Rule(_LIVE, 5.0),
    commands.Watch: Rule(_LIVE, 1.0, 0.25),
    commands.Unwatch: Rule(_LIVE, 1.0, 0.25),
    commands.BlocklistAdd: Rule(_LIVE, 2.0),
    commands.BlocklistRemove: Rule(_LIVE, 2.0),
    commands.BlocklistCheck: Rule(_LIVE, 2.0),
    commands.BlocklistList: Rule(_LIVE, 2.0),
    commands.AllowlistEnable: Rule(_LIVE, 2.0),
    commands.AllowlistDisable: Rule(_LIVE, 2.0),
    commands.AllowlistStatus: Rule(_LIVE, 1.0),
    commands.AllowlistAdd: Rule(_LIVE, 2.0),
    commands.AllowlistRemove: Rule(_LIVE, 2.0),
    commands.AllowlistList: Rule(_LIVE, 2.0),
    commands.FriendsList: Rule(_LIVE, 2.0, 0.1),
    commands.FriendsCheck: Rule(_LIVE, 2.0),
    commands.UserGet: Rule(_LIVE, 1.0, 0.25),
    commands.SessionsList: Rule(_LIVE, 2.0),
    commands.SessionsDrop: Rule(_LIVE, 2.0),
    commands.Ping: Rule(_ANY, 0.1),
}

RETRY_COST = 10.0
"""A send marked ``retry`` searches the inbox, so it counts as ten sends."""
