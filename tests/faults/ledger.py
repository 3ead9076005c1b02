"""What a chaos run writes down: every send with its outcome, every handing over, and when who was kept from what.

All times are the run's own monotonic clock, in seconds. What is asked is written down before asking, what is answered
after the answer, so that the windows of a ban or a block are rather too short than too long.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Outcome = Literal["waiting", "sent", "refused", "unknown"]
"""``sent`` = stored; ``refused`` = certainly not; ``unknown`` = the sender has given up asking."""


class Place(NamedTuple):
    """One message: the device that sent it, the user it is for, its number between the two."""

    sender: str
    to: str
    number: int


@dataclass(slots=True)
class Sending:
    """One send as its sender knows it."""

    place: Place
    began: float
    ended: float = math.inf
    outcome: Outcome = "waiting"
    reason: str = ""
    mid: str = ""


@dataclass(frozen=True, slots=True)
class Handing:
    """One message handed to the app on one device."""

    place: Place
    device: str
    mid: str
    at: float


@dataclass(slots=True)
class Window:
    """From when a ban or block was acknowledged until its end was asked for.

    Attributes:
        user: who is banned, or who blocks.
        other: who is blocked; None = it is a ban.
    """

    user: str
    other: str | None
    since: float
    until: float = math.inf

    def holds(self, at: float) -> bool:
        return self.since <= at < self.until


@dataclass(frozen=True, slots=True)
class Admission:
    """A device got its welcome; the attempt began at ``began``."""

    device: str
    began: float
    at: float


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened, to be told with a faulty message: to one device, or to all (``device`` is "")."""

    at: float
    device: str
    text: str


@dataclass(slots=True)
class Ledger:
    """The whole run.

    Attributes:
        devices: user → the devices that get each of the user's messages.
        echoes: what a user's other devices were handed of the user's own messages.
        faults: how many of each kind were injected.
    """

    devices: dict[str, list[str]]
    sendings: dict[Place, Sending] = field(default_factory=dict)
    handings: list[Handing] = field(default_factory=list)
    echoes: list[Handing] = field(default_factory=list)
    admissions: list[Admission] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    _numbers: Counter[tuple[str, str]] = field(default_factory=Counter)

    def begin(self, sender: str, to: str) -> Sending:
        """The next message from a device to a user; it is about to be sent."""
        number = self._numbers[sender, to]
        self._numbers[sender, to] += 1
        place = Place(sender, to, number)
        self.sendings[place] = sending = Sending(place, time.monotonic())
        return sending

    def end(self, sending: Sending, outcome: Outcome, *, mid: str = "", reason: str = "") -> None:
        """Its outcome, as the sender was told."""
        sending.outcome, sending.mid, sending.reason = outcome, mid, reason
        sending.ended = time.monotonic()

    def handed(self, device: str, place: Place, mid: str) -> None:
        """The app on a device of the recipient's was handed it."""
        self.handings.append(Handing(place, device, mid, time.monotonic()))

    def echoed(self, device: str, place: Place, mid: str) -> None:
        """The app on another device of the sender's was."""
        self.echoes.append(Handing(place, device, mid, time.monotonic()))

    def admitted(self, device: str, began: float) -> None:
        """A device has got its welcome."""
        self.admissions.append(Admission(device, began, time.monotonic()))

    def shut(self, user: str, other: str | None = None) -> Window:
        """A ban (or, with ``other``, a block) has just been acknowledged."""
        window = Window(user, other, time.monotonic())
        self.windows.append(window)
        return window

    def lift(self, window: Window) -> None:
        """Its end is about to be asked for."""
        window.until = time.monotonic()

    def fault(self, kind: str, text: str = "") -> None:
        """A fault is about to be injected."""
        self.faults[kind] += 1
        self.note("", f"{kind} {text}".rstrip())

    def note(self, device: str, text: str) -> None:
        """Something to be told with a faulty message of this device ("" = of any)."""
        self.notes.append(Note(time.monotonic(), device, text))


def owner(device: str) -> str:
    """The user of a device: devices are called ``<user>/<device>``."""
    return device.partition("/")[0]
