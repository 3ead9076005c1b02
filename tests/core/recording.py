"""A shell that only writes down what a session asks of it, and a session on it."""

from typing import Any

import orjson
from msgspec import Struct

from gateway.core.close import Closing, Refusal
from gateway.core.session import Handler, Session, SessionLimits
from gateway.core.states import Event, State
from gateway.protocol import commands

LIMITS = SessionLimits(send_rate_per_s=0.0, send_burst=1.0, bad_commands_max=3, outbound_bytes_max=10_000)


class RecordingWire:
    """What core.session.Wire asks for; `asked` is everything in order."""

    address = "192.0.2.1"
    peer = "192.0.2.1:5000"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closing: Closing | None = None
        self.refusal: Refusal | None = None

    def wake(self) -> None:
        self.asked.append("wake")

    def close(self, closing: Closing) -> None:
        self.asked.append("close")
        self.closing = closing

    def admitted(self) -> None:
        self.asked.append("admitted")

    def refused(self, refusal: Refusal) -> None:
        self.asked.append("refused")
        self.refusal = refusal

    def pause(self) -> None:
        self.asked.append("pause")

    def resume(self) -> None:
        self.asked.append("resume")


class Taker:
    """Handlers that write down what they were given."""

    def __init__(self) -> None:
        self.taken: list[Struct] = []

    def take(self, session: Session, command: Any, now: float) -> None:
        self.taken.append(command)

    @property
    def handlers(self) -> dict[type, Handler]:
        return dict.fromkeys(commands.COMMANDS, self.take)


PATHS: dict[State, tuple[Event, ...]] = {
    State.AWAITING_TOKEN: (),
    State.JOINING: (Event.TOKEN_ACCEPTED,),
    State.LIVE: (Event.TOKEN_ACCEPTED, Event.ADMITTED),
    State.FENCED: (Event.TOKEN_ACCEPTED, Event.ADMITTED, Event.LINK_BROKEN),
    State.ENDED: (Event.CUT,),
}
"""How a session comes into each state."""


def session_in(
    state: State, taker: Taker | None = None, limits: SessionLimits = LIMITS
) -> tuple[Session, RecordingWire, Taker]:
    wire, taker = RecordingWire(), taker or Taker()
    session = Session("s1", wire, limits, taker.handlers, 0.0)
    for event in PATHS[state]:
        if event is Event.LINK_BROKEN:
            session.fence()
        else:
            session.move(event)
    return session, wire, taker


def live(limits: SessionLimits = LIMITS) -> tuple[Session, RecordingWire, Taker]:
    return session_in(State.LIVE, limits=limits)


def said(session: Session) -> list[Any]:
    """What the session would write now, decoded."""
    return [orjson.loads(payload) for payload in session.data_to_send()]
