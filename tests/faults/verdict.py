"""What a ledger proves: which promises were broken, and the story of a message that broke one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tests.faults.ledger import Handing, Ledger, Place, Sending, Window, owner

BEFORE_S = 3.0
"""How much of what happened before a message is told in its story."""

NOTES_MAX = 60
"""Lines of a story that are not about the message itself."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken promise; ``place`` is the message, None = it is about none."""

    kind: str
    place: Place | None
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All broken promises, by kind.

    Attributes:
        lost: `sent`, or handed to another device of the recipient, and not handed to this one.
        doubled: handed to the same app twice.
        out_of_order: handed after a later one of the same sender, both `sent`.
        forbidden: handed over, or `sent`, against a ban or a block.
        unstored: handed over although the sender was told that nothing was stored, or never sent at all.
        misnamed: handed over under another id than `sent` gave.
        admitted: let in while banned.
        unanswered: sends without an outcome.
    """

    lost: list[Fault]
    doubled: list[Fault]
    out_of_order: list[Fault]
    forbidden: list[Fault]
    unstored: list[Fault]
    misnamed: list[Fault]
    admitted: list[Fault]
    unanswered: list[Fault]

    @property
    def faults(self) -> list[Fault]:
        """All of them."""
        return [
            *self.lost,
            *self.doubled,
            *self.out_of_order,
            *self.forbidden,
            *self.unstored,
            *self.misnamed,
            *self.admitted,
            *self.unanswered,
        ]


def judge(ledger: Ledger) -> Verdict:
    """Holds the whole ledger against the promises."""
    by_place: dict[Place, list[Handing]] = defaultdict(list)
    for handing in ledger.handings:
        by_place[handing.place].append(handing)
    return Verdict(
        lost=[*_lost(ledger, by_place)],
        doubled=[*_doubled(ledger.handings), *_doubled(ledger.echoes)],
        out_of_order=[*_out_of_order(ledger)],
        forbidden=[*_forbidden(ledger, by_place)],
        unstored=[*_unstored(ledger)],
        misnamed=[*_misnamed(ledger)],
        admitted=[*_admitted(ledger)],
        unanswered=[
            Fault("unanswered", each.place, "the send has no outcome")
            for each in ledger.sendings.values()
            if each.outcome == "waiting"
        ],
    )


def missing(ledger: Ledger) -> int:
    """How many handings over are still to come."""
    by_place: dict[Place, list[Handing]] = defaultdict(list)
    for handing in ledger.handings:
        by_place[handing.place].append(handing)
    return sum(1 for _ in _lost(ledger, by_place))


def _lost(ledger: Ledger, by_place: dict[Place, list[Handing]]) -> Iterable[Fault]:
    for place, sending in ledger.sendings.items():
        reached = {handing.device for handing in by_place.get(place, ())}
        # What one device was handed is in the inbox, whatever the sender was told.
        if sending.outcome != "sent" and not (reached and sending.outcome == "unknown"):
            continue
        for device in ledger.devices[place.to]:
            if device not in reached:
                yield Fault("lost", place, f"{sending.outcome}, and never handed to {device}")


def _doubled(handings: list[Handing]) -> Iterable[Fault]:
    seen: dict[tuple[Place, str], Handing] = {}
    for handing in handings:
        first = seen.setdefault((handing.place, handing.device), handing)
        if first is not handing:
            mids = "the same id" if first.mid == handing.mid else f"ids {first.mid} and {handing.mid}"
            yield Fault("doubled", handing.place, f"handed twice to {handing.device}, with {mids}")


def _out_of_order(ledger: Ledger) -> Iterable[Fault]:
    # The sender cannot know when an unknown one was stored, so it has no place in the order.
    latest: dict[tuple[str, str, str], int] = {}
    seen: set[tuple[Place, str]] = set()
    for handing in ledger.handings:
        sending = ledger.sendings.get(handing.place)
        if sending is None or sending.outcome != "sent" or (handing.place, handing.device) in seen:
            continue
        seen.add((handing.place, handing.device))
        stream = (handing.place.sender, handing.place.to, handing.device)
        before = latest.get(stream, -1)
        if handing.place.number < before:
            yield Fault("out of order", handing.place, f"handed to {handing.device} after number {before}")
        latest[stream] = max(before, handing.place.number)


def _forbidden(ledger: Ledger, by_place: dict[Place, list[Handing]]) -> Iterable[Fault]:
    windows: dict[str, list[Window]] = defaultdict(list)
    for window in ledger.windows:
        windows[window.user].append(window)
    for place, sending in ledger.sendings.items():
        handings = by_place.get(place, [])
        sender = owner(place.sender)
        for window in windows[place.to]:
            if window.other is None and window.holds(sending.began):
                for handing in handings:
                    if window.holds(handing.at):
                        yield Fault("forbidden", place, f"sent to and handed to {handing.device} within its ban")
            elif window.other == sender:
                yield from _refusable(sending, handings, window, f"{place.to} blocks {sender}")
        for window in windows[sender]:
            if window.other is None:
                yield from _refusable(sending, handings, window, f"{sender} is banned")


def _refusable(sending: Sending, handings: list[Handing], window: Window, why: str) -> Iterable[Fault]:
    """A message that began within the window: handed or answered before its end it was let through against it."""
    if not window.holds(sending.began):
        return
    if sending.ended < window.until and sending.outcome == "sent":
        yield Fault("forbidden", sending.place, f"sent although {why}")
        return
    for handing in handings:
        if handing.at < window.until or (sending.ended < window.until and sending.outcome == "refused"):
            yield Fault("forbidden", sending.place, f"handed to {handing.device} although {why}")


def _unstored(ledger: Ledger) -> Iterable[Fault]:
    for handing in ledger.handings:
        sending = ledger.sendings.get(handing.place)
        if sending is None:
            yield Fault("unstored", handing.place, f"handed to {handing.device} and never sent")
        elif sending.outcome == "refused":
            yield Fault("unstored", handing.place, f"refused ({sending.reason}) and handed to {handing.device}")
        elif handing.device not in ledger.devices[handing.place.to]:
            yield Fault("unstored", handing.place, f"handed to {handing.device}, for whom it was not")


def _misnamed(ledger: Ledger) -> Iterable[Fault]:
    for handing in (*ledger.handings, *ledger.echoes):
        sending = ledger.sendings.get(handing.place)
        if sending is not None and sending.mid and sending.mid != handing.mid:
            yield Fault(
                "misnamed", handing.place, f"sent as {sending.mid}, handed to {handing.device} as {handing.mid}"
            )


def _admitted(ledger: Ledger) -> Iterable[Fault]:
    bans = [window for window in ledger.windows if window.other is None]
    for admission in ledger.admissions:
        for window in bans:
            if window.user == owner(admission.device) and window.holds(admission.began) and window.holds(admission.at):
                yield Fault("admitted", None, f"{admission.device} was let in while banned, at {admission.at:.3f}")


def story(ledger: Ledger, fault: Fault) -> str:
    """Everything that is known of a faulty message: a line each, seconds from when its send began."""
    place = fault.place
    if place is None:
        return f"{fault.kind}: {fault.text}"
    sending = ledger.sendings.get(place)
    began = sending.began if sending is not None else 0.0
    lines: list[tuple[float, str]] = []
    if sending is not None:
        lines.append((began, "the send begins"))
        if sending.ended < math.inf:
            lines.append((sending.ended, f"the sender is told: {sending.outcome} {sending.mid} {sending.reason}"))
    for handing in ledger.handings:
        if handing.place == place:
            lines.append((handing.at, f"handed to {handing.device} as {handing.mid}"))
        elif handing.place[:2] == place[:2] and abs(handing.place.number - place.number) == 1:
            lines.append((handing.at, f"its neighbour {handing.place.number} is handed to {handing.device}"))
    for window in ledger.windows:
        if window.user in (place.to, owner(place.sender)):
            what = f"{window.user} is banned" if window.other is None else f"{window.user} blocks {window.other}"
            lines += [(window.since, what), (window.until, f"no longer: {what}")]
    end = max((at for at, _ in lines if at < math.inf), default=began) + BEFORE_S
    concerned = {"", place.sender, *ledger.devices.get(place.to, ())}
    notes = [
        (note.at, f"{note.device}: {note.text}" if note.device else note.text)
        for note in ledger.notes
        if note.device in concerned and began - BEFORE_S <= note.at <= end
    ]
    lines += notes[:NOTES_MAX]
    told = [f"{at - began:+9.3f}  {text}" for at, text in sorted(lines) if at < math.inf]
    head = f"{fault.kind}: number {place.number} from {place.sender} to {place.to}: {fault.text}"
    return "\n".join([head, *told])
