"""Which messages were sent and which arrived: what is lost, doubled, out of order, or where it should not be.

A *stream* is what one sender sends one recipient; its messages are numbered 1, 2, 3 …. Stored and ephemeral ones are
streams of their own, as they promise different things. Senders' and recipients' ledgers may be in different processes:
each judges what it can see alone, and ``judged`` the rest when all are merged.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from msgspec import Struct

from loadtest.result import Verdict

EXAMPLES_MAX = 5
AROUND_US = 10_000_000
"""Before the end of a recipient's socket, and behind the next welcome: what was sent then may have gone with it."""

MARKS_MAX = 64
MARK_EVERY_US = 1_000_000
FOREVER_US = 2**62
HOLES_MAX = 100_000
"""Numbers still missing, over all streams of a process, that are kept; of more it is known only how many they are."""


class Heard(Struct):
    """The recipient's side of a stream, for one of its devices.

    Attributes:
        last: the highest number seen.
        missing: lower ones that were not seen.
        forgotten: how many further ones were not seen, and are in no list.
    """

    last: int = 0
    missing: set[int] = set()
    forgotten: int = 0


Span = list[int]
"""The first and the last of numbers in a row."""


class Said(Struct):
    """The sender's side of a stream.

    Attributes:
        last: the highest number given.
        excused: numbers that need not arrive: refused, failed, or without an answer.
        denied: those of them that must not: the service said that it has certainly not stored them.
        marks: some of the numbers, each with the µs at which it was said; of ephemeral messages.
        every_us: how far apart marks are, at least.
    """

    last: int = 0
    excused: list[Span] = []
    denied: list[Span] = []
    marks: list[tuple[int, int]] = []
    every_us: int = MARK_EVERY_US

    def mark(self, n: int, at_us: int) -> None:
        """Remembers when this one was said, as far as there is room: the longer the run, the further apart."""
        marks = self.marks
        if not marks or at_us >= marks[-1][1] + self.every_us:
            marks.append((n, at_us))
            if len(marks) > MARKS_MAX:
                del marks[1::2]
                self.every_us *= 2


class Ledger:
    """One process's book; names are bytes, as they stand on the wire."""

    def __init__(self) -> None:
        self.heard: dict[tuple[bytes, bytes], Heard] = {}
        self.said: dict[tuple[bytes, bytes], Said] = {}
        # Streams that policy must refuse, with how many were accepted, and how many arrived.
        self.accepted: dict[tuple[bytes, bytes], int] = {}
        self.arrived: dict[tuple[bytes, bytes], int] = {}
        # For each device whose sockets have ended, the times (µs) from about an end to about the next welcome.
        self.unsure: dict[bytes, list[Span]] = {}
        self.verdict = Verdict()
        self._holes = 0

    def begun(self, stream: tuple[bytes, bytes]) -> Said:
        """The sender's side of a stream: (its name, the recipient); ``last`` is the sender's to count on."""
        said = self.said.get(stream)
        if said is None:
            said = self.said[stream] = Said()
        return said

    def of(self, stream: tuple[bytes, bytes]) -> Heard:
        """The recipient's side: (its name, the recipient's device); ``last`` may be counted on by 1."""
        heard = self.heard.get(stream)
        if heard is None:
            heard = self.heard[stream] = Heard()
        return heard

    def excuse(self, stream: tuple[bytes, bytes], n: int) -> None:
        """This one need not arrive."""
        _note(self.said[stream].excused, n)

    def deny(self, stream: tuple[bytes, bytes], n: int) -> None:
        """This one must not arrive."""
        said = self.said[stream]
        _note(said.excused, n)
        _note(said.denied, n)

    def refused_wrongly(self, stream: tuple[bytes, bytes], n: int, why: str) -> None:
        """Policy refused what it must pass."""
        self.verdict.wrongly_refused += 1
        self.deny(stream, n)
        self._example(f"{_words(stream)} {n} was refused: {why}")

    def accepted_wrongly(self, stream: tuple[bytes, bytes], n: int) -> None:
        """Policy passed what it must refuse (as far as the sender was told)."""
        self.accepted[stream] = self.accepted.get(stream, 0) + 1
        self._example(f"{_words(stream)} {n} was accepted, though the recipient blocks the sender")

    def delivered(self, stream: tuple[bytes, bytes], n: int) -> bool:
        """A message arrived; ``stream`` is (sender, recipient's device).

        Returns:
            Whether it came for the first time.
        """
        heard = self.of(stream)
        if n == heard.last + 1:
            heard.last = n
            return True
        return self.out_of_line(stream, heard, n)

    def out_of_line(self, stream: tuple[bytes, bytes], heard: Heard, n: int) -> bool:
        """A message that is not the one behind the last: counts what that means; the same as ``delivered``."""
        if n > heard.last:
            room = HOLES_MAX - self._holes
            holes = range(heard.last + 1, n)
            heard.forgotten += max(0, len(holes) - room)
            heard.missing.update(holes[:room])
            self._holes += min(len(holes), room)
            heard.last = n
            return True
        if n in heard.missing:
            heard.missing.discard(n)
            self._holes -= 1
            self.verdict.reordered += 1
            self._example(f"{_words(stream)} {n} came after {heard.last}")
            return True
        self.verdict.duplicated += 1
        self._example(f"{_words(stream)} {n} came again, after {heard.last}")
        return False

    def arrived_wrongly(self, stream: tuple[bytes, bytes], n: int) -> None:
        """A message arrived that policy must refuse."""
        self.arrived[stream] = self.arrived.get(stream, 0) + 1
        self._example(f"{_words(stream)} {n} arrived, though the recipient blocks the sender")

    def astray(self, recipient: bytes, sender: bytes, n: int) -> None:
        """A message arrived at somebody for whom it was not."""
        self.verdict.wrongly_delivered += 1
        self._example(f"{sender.decode(errors='replace')}'s message {n} for somebody else reached {recipient.decode()}")

    def misnamed(self, stream: tuple[bytes, bytes], n: int) -> None:
        """A message arrived under another sender's name."""
        self.verdict.wrongly_delivered += 1
        self._example(f"{_words(stream)} {n} arrived under another sender's name")

    def interrupted(self, recipient: bytes, at_us: int) -> None:
        """A device's socket ended, which an ephemeral message of about that time need not survive."""
        times = self.unsure.setdefault(recipient, [])
        if times and times[-1][1] >= at_us - AROUND_US:
            times[-1][1] = FOREVER_US
        else:
            times.append([at_us - AROUND_US, FOREVER_US])

    def returned(self, recipient: bytes, at_us: int) -> None:
        """A device was welcomed, the first time or once more."""
        if times := self.unsure.get(recipient):
            times[-1][1] = at_us + AROUND_US

    def _example(self, text: str) -> None:
        if len(self.verdict.examples) < EXAMPLES_MAX:
            self.verdict.examples.append(text)

    def page(self) -> Page:
        """What another process needs to judge."""
        return Page(
            [(*stream, said.last, said.excused, said.denied, said.marks) for stream, said in self.said.items()],
            [(*stream, heard.last, sorted(heard.missing), heard.forgotten) for stream, heard in self.heard.items()],
            [(*stream, count) for stream, count in self.accepted.items()],
            [(*stream, count) for stream, count in self.arrived.items()],
            self.unsure,
            self.verdict,
        )


EPHEMERAL = b"~"
"""In front of the sender's name: the stream of ephemeral messages."""


class Page(Struct, array_like=True):
    """A ledger as it goes over a pipe."""

    said: list[tuple[bytes, bytes, int, list[Span], list[Span], list[tuple[int, int]]]]
    heard: list[tuple[bytes, bytes, int, list[int], int]]
    accepted: list[tuple[bytes, bytes, int]]
    arrived: list[tuple[bytes, bytes, int]]
    unsure: dict[bytes, list[Span]]
    verdict: Verdict


def device(recipient: bytes, number: int) -> bytes:
    """How a ledger names a recipient's device."""
    return b"%b/%d" % (recipient, number)


def judged(pages: Iterable[Page], devices: int = 1) -> Verdict:
    """What all processes saw together.

    Args:
        pages: of every process, once nothing is under way any more.
        devices: how many each recipient has; every one of them gets everything.
    """
    pages = list(pages)
    verdict = Verdict()
    heard = {
        (sender, to): Heard(last, set(gaps), more) for page in pages for sender, to, last, gaps, more in page.heard
    }
    unsure = {name: times for page in pages for name, times in page.unsure.items()}
    found: list[str] = []
    for page in pages:
        for sender, to, last, excused, denied, marks in page.said:
            for name in (device(to, number) for number in range(devices)):
                there = heard.get((sender, name), Heard())
                found += _denied(sender, name, denied, there, verdict)
                risked = _risked(unsure.get(name, []), marks, last) if sender.startswith(EPHEMERAL) else []
                found += _lost(sender, name, last, excused + risked, there, verdict)
    accepted = {(sender, to): count for page in pages for sender, to, count in page.accepted}
    arrived = {(sender, to): count for page in pages for sender, to, count in page.arrived}
    # One message that was accepted and arrived is one fault, and both sides have seen it.
    verdict.wrongly_delivered += sum(
        max(accepted.get(stream, 0), arrived.get(stream, 0)) for stream in accepted.keys() | arrived.keys()
    )
    for page in pages:
        verdict.lost += page.verdict.lost
        verdict.duplicated += page.verdict.duplicated
        verdict.reordered += page.verdict.reordered
        verdict.wrongly_delivered += page.verdict.wrongly_delivered
        verdict.wrongly_refused += page.verdict.wrongly_refused
    examples = [*found, *(text for page in pages for text in page.verdict.examples)]
    verdict.examples = examples[:EXAMPLES_MAX]
    return verdict


def _risked(unsure: list[Span], marks: list[tuple[int, int]], last: int) -> list[Span]:
    """The numbers that were said in these times, or so near to them that nobody knows."""
    risked: list[Span] = []
    for begin_us, end_us in unsure:
        before = bisect_left(marks, begin_us, key=lambda mark: mark[1])
        behind = bisect_right(marks, end_us, key=lambda mark: mark[1])
        until = marks[behind][0] - 1 if behind < len(marks) else last
        risked.append([marks[before - 1][0] + 1 if before else 1, until])
    return risked


def _lost(sender: bytes, to: bytes, last: int, excused: list[Span], heard: Heard, verdict: Verdict) -> list[str]:
    if heard.last == last and not heard.missing and not heard.forgotten:
        return []
    spans = _merged(excused)
    missing = sorted(n for n in heard.missing if not _within(n, spans))
    behind = _left_over(heard.last + 1, last, spans)
    # Which ones nobody knows: first of all those that need not arrive and are not listed as missing.
    unlisted = sum(len(range(first, min(until + 1, heard.last))) for first, until in spans)
    forgotten = max(0, heard.forgotten - unlisted + len(heard.missing) - len(missing))
    verdict.lost += len(missing) + sum(map(len, behind)) + forgotten
    if missing or behind:
        return [f"{_words((sender, to))} {missing[0] if missing else behind[0].start} never arrived"]
    return [f"{_words((sender, to))} unknown: {forgotten} never arrived"] if forgotten else []


def _denied(sender: bytes, to: bytes, denied: list[Span], heard: Heard, verdict: Verdict) -> list[str]:
    if heard.forgotten:
        # What is in no list may have arrived or not.
        return []
    arrived = [n for first, last in denied for n in range(first, min(last, heard.last) + 1) if n not in heard.missing]
    verdict.wrongly_delivered += len(arrived)
    return (
        [f"{_words((sender, to))} {arrived[0]} arrived, though the sender was told that it was not taken"]
        if arrived
        else []
    )


def _note(spans: list[Span], n: int) -> None:
    """Puts a number to the others. Streams that policy refuses are refused as a whole: they must not grow with time."""
    if spans and spans[-1][1] == n - 1:
        spans[-1][1] = n
    else:
        spans.append([n, n])


def _merged(spans: Iterable[Span]) -> list[Span]:
    """The same numbers, ascending, in as few spans as can be."""
    merged: list[Span] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    return merged


def _within(n: int, merged: list[Span]) -> bool:
    place = bisect_right(merged, n, key=lambda span: span[0])
    return place > 0 and n <= merged[place - 1][1]


def _left_over(first: int, last: int, merged: list[Span]) -> list[range]:
    """What these spans leave of the numbers from ``first`` to ``last``."""
    left: list[range] = []
    for begin, end in merged:
        left.append(range(first, min(begin, last + 1)))
        first = max(first, end + 1)
    left.append(range(first, last + 1))
    return [each for each in left if each]


def _words(stream: tuple[bytes, bytes]) -> str:
    sender, to = (name.decode(errors="replace") for name in stream)
    return f"{sender} to {to}: number"
