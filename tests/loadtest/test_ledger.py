"""The ledger finds each kind of fault, and finds none where there is none."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import ledger
from loadtest.ledger import HOLES_MAX, MARKS_MAX, Ledger, Page, judged

TO = b"b"
STREAM = (b"a:b", TO)
DEVICE = ledger.device(TO, 0)
HEARD = (b"a:b", DEVICE)
CLEAN = {"lost": 0, "duplicated": 0, "reordered": 0, "wrongly_delivered": 0, "wrongly_refused": 0}


def wired(page: Page) -> Page:
    """As it comes out of the pipe between two processes."""
    return msgspec.json.decode(msgspec.json.encode(page), type=Page)


def verdict_of(count: int, arrivals: list[int], excused: tuple[int, ...] = ()) -> dict[str, int]:
    """A sender in one process, a recipient in another."""
    sender, recipient = Ledger(), Ledger()
    sender.begun(STREAM).last = count
    for n in excused:
        sender.excuse(STREAM, n)
    for n in arrivals:
        recipient.delivered(HEARD, n)
    return judged([wired(sender.page()), wired(recipient.page())]).counts()


@pytest.mark.parametrize(
    ("arrivals", "faults"),
    [
        ([1, 2, 3, 4], {}),
        ([1, 2, 4], {"lost": 1}),
        ([1, 2, 3], {"lost": 1}),
        ([], {"lost": 4}),
        ([1, 2, 2, 3, 4], {"duplicated": 1}),
        ([1, 2, 3, 4, 1], {"duplicated": 1}),
        ([1, 3, 2, 4], {"reordered": 1}),
        ([4, 3, 2, 1], {"reordered": 3}),
        ([1, 4, 2, 2], {"lost": 1, "reordered": 1, "duplicated": 1}),
    ],
)
def test_what_does_not_arrive_once_and_in_order_is_found(arrivals: list[int], faults: dict[str, int]) -> None:
    assert verdict_of(4, arrivals) == CLEAN | faults


def test_what_was_refused_or_never_answered_need_not_arrive() -> None:
    assert verdict_of(4, [1, 3], excused=(2, 4)) == CLEAN
    # It may all the same: the answer can be lost when the message is not.
    assert verdict_of(4, [1, 2, 3, 4], excused=(2, 4)) == CLEAN


def test_what_the_sender_was_told_is_not_stored_must_not_arrive() -> None:
    sender, recipient = Ledger(), Ledger()
    sender.begun(STREAM).last = 4
    sender.deny(STREAM, 2)
    sender.deny(STREAM, 3)
    for n in (1, 3, 4):
        recipient.delivered(HEARD, n)
    verdict = judged([wired(sender.page()), wired(recipient.page())])
    assert verdict.counts() == CLEAN | {"wrongly_delivered": 1}
    assert verdict.examples == ["a:b to b/0: number 3 arrived, though the sender was told that it was not taken"]


@pytest.mark.parametrize("lost", [0, 3])
def test_more_refusals_than_are_kept_one_by_one_are_no_losses(lost: int) -> None:
    count = HOLES_MAX + 50
    refused = tuple(range(1, count - lost))
    assert verdict_of(count, [count], excused=refused) == CLEAN | {"lost": lost}


def test_what_is_refused_for_hours_takes_no_room() -> None:
    book = Ledger()
    book.begun(STREAM).last = 1_000_000
    for n in range(1, 1_000_001):
        book.excuse(STREAM, n)
    assert book.said[STREAM].excused == [[1, 1_000_000]]
    assert judged([wired(book.page())]).lost == 0


@given(st.lists(st.integers(1, 12), unique=True), st.sets(st.integers(1, 12)))
def test_whatever_is_excused_and_whenever_the_rest_is_due(excused: list[int], arrived: set[int]) -> None:
    due = set(range(1, 13)) - set(excused) - arrived
    assert verdict_of(12, sorted(arrived), tuple(excused)) == CLEAN | {"lost": len(due)}


@given(st.permutations([1, 2, 3, 4, 5, 6]), st.sets(st.integers(1, 6)), st.lists(st.integers(1, 6), max_size=4))
def test_counts_are_what_a_plain_model_says(order: list[int], gone: set[int], again: list[int]) -> None:
    arrivals = [n for n in order if n not in gone]
    arrivals += [n for n in again if n in arrivals]
    first = list(dict.fromkeys(arrivals))
    expected = {
        "lost": 6 - len(first),
        "duplicated": len(arrivals) - len(first),
        "reordered": sum(any(earlier > n for earlier in first[:place]) for place, n in enumerate(first)),
    }
    assert verdict_of(6, arrivals) == CLEAN | expected


def test_each_device_gets_everything() -> None:
    book = Ledger()
    book.begun(STREAM).last = 2
    for device in (0, 1):
        book.delivered((b"a:b", ledger.device(TO, device)), 1)
    book.delivered((b"a:b", ledger.device(TO, 1)), 2)
    assert judged([book.page()], devices=2).counts() == CLEAN | {"lost": 1}


EPHEMERAL = (b"~a:b", TO)
S = 1_000_000


def ephemeral(lost: Iterable[int], ends: Iterable[tuple[int, int]] = (), count: int = 100) -> int:
    """How many are lost of messages that are said one a second, if the recipient's sockets end at these seconds."""
    sender, recipient = Ledger(), Ledger()
    said = sender.begun(EPHEMERAL)
    for n in range(1, count + 1):
        said.last = n
        said.mark(n, n * S)
        if n not in lost:
            recipient.delivered((b"~a:b", DEVICE), n)
    for ended_s, back_s in ends:
        recipient.interrupted(DEVICE, ended_s * S)
        recipient.returned(DEVICE, back_s * S)
    return judged([wired(sender.page()), wired(recipient.page())]).lost


def test_an_ephemeral_message_need_not_survive_its_recipients_socket() -> None:
    assert ephemeral({50}) == 1
    assert ephemeral({50}, [(52, 53)]) == 0
    assert ephemeral({50}, [(47, 48)]) == 0
    assert ephemeral(range(45, 101), [(45, 100)]) == 0


def test_one_reconnect_excuses_nothing_that_was_sent_long_before_or_after() -> None:
    assert ephemeral({50}, [(20, 25), (80, 81)]) == 1
    assert ephemeral({10}, [(50, 51)]) == 1
    # From a second on nothing arrives any more.
    assert ephemeral(range(50, 101), [(50, 51)], count=60) == 0
    # Times are known to two seconds by then.
    assert ephemeral(range(50, 101), [(50, 51)]) in (38, 39)


def test_who_does_not_come_back_is_asked_for_nothing_more() -> None:
    book = Ledger()
    book.begun(EPHEMERAL).last = 1
    book.interrupted(DEVICE, S)
    assert judged([wired(book.page())]).lost == 0


def test_a_long_run_takes_no_more_room_for_times() -> None:
    book = Ledger()
    said = book.begun(EPHEMERAL)
    for n in range(1, 4 * 3600):
        said.mark(n, n * S)
        if n % 2:
            book.interrupted(DEVICE, n * S)
            book.returned(DEVICE, n * S + S)
    assert len(said.marks) <= MARKS_MAX
    assert said.marks == [(n, n * S) for n, _ in said.marks]
    assert len(book.unsure[DEVICE]) == 1


def test_a_message_that_policy_must_refuse_counts_once_though_both_sides_see_it() -> None:
    sender, recipient = Ledger(), Ledger()
    sender.begun(STREAM).last = 2
    sender.accepted_wrongly(STREAM, 1)
    sender.excuse(STREAM, 1)
    sender.excuse(STREAM, 2)
    recipient.arrived_wrongly(STREAM, 1)
    verdict = judged([sender.page(), recipient.page()])
    assert verdict.counts() == CLEAN | {"wrongly_delivered": 1}
    # Told to be refused, and delivered all the same: only the recipient sees it.
    recipient.arrived_wrongly(STREAM, 2)
    assert judged([sender.page(), recipient.page()]).wrongly_delivered == 2


def test_refusals_and_strays_are_counted_and_named() -> None:
    book = Ledger()
    book.begun(STREAM).last = 1
    book.refused_wrongly(STREAM, 1, "405 blocked")
    book.astray(b"c", b"a", 1)
    verdict = judged([book.page()])
    assert verdict.counts() == CLEAN | {"wrongly_refused": 1, "wrongly_delivered": 1}
    assert "405 blocked" in verdict.examples[0]
    assert "reached c" in verdict.examples[1]


def test_holes_are_bounded_and_nothing_of_them_is_forgotten() -> None:
    book = Ledger()
    book.begun(STREAM).last = HOLES_MAX + 11
    book.delivered(HEARD, HOLES_MAX + 11)
    page = book.page()
    assert len(page.heard[0][3]) == HOLES_MAX
    assert judged([page]).lost == HOLES_MAX + 10
