"""The judge of a chaos run can find fault: each broken promise is put before it, and the cases that are none."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.faults.ledger import Ledger, Sending
from tests.faults.verdict import judge, missing, story

ALICE = "alice/phone"
BOB = "bob/phone"
TABLET = "bob/tablet"


@pytest.fixture
def ledger() -> Ledger:
    return Ledger({"alice": [ALICE], "bob": [BOB, TABLET]})


def sent(ledger: Ledger) -> Sending:
    """One more message of alice's to bob that is stored."""
    sending = ledger.begin(ALICE, "bob")
    ledger.end(sending, "sent", mid=f"mid-{sending.place.number}")
    return sending


def handed(ledger: Ledger, sending: Sending, *devices: str) -> None:
    for device in devices or (BOB, TABLET):
        ledger.handed(device, sending.place, f"mid-{sending.place.number}")


def kinds(ledger: Ledger) -> list[str]:
    return [fault.kind for fault in judge(ledger).faults]


def test_a_run_in_which_nothing_went_wrong(ledger: Ledger) -> None:
    for _ in range(3):
        handed(ledger, sent(ledger))
    assert kinds(ledger) == []
    assert missing(ledger) == 0


def test_a_lost_message(ledger: Ledger) -> None:
    handed(ledger, sent(ledger))
    handed(ledger, sent(ledger), BOB)
    assert kinds(ledger) == ["lost"]
    sent(ledger)
    assert missing(ledger) == 3


def test_a_doubled_message(ledger: Ledger) -> None:
    handed(ledger, sent(ledger), BOB, TABLET, TABLET)
    assert kinds(ledger) == ["doubled"]


def test_a_doubled_echo(ledger: Ledger) -> None:
    sending = sent(ledger)
    handed(ledger, sending)
    for _ in range(2):
        ledger.echoed("alice/web", sending.place, "mid-0")
    assert kinds(ledger) == ["doubled"]


def test_reordered_messages(ledger: Ledger) -> None:
    first, second = sent(ledger), sent(ledger)
    handed(ledger, first, BOB)
    handed(ledger, second, BOB, TABLET)
    handed(ledger, first, TABLET)
    (fault,) = judge(ledger).faults
    assert (fault.kind, fault.place) == ("out of order", first.place)


def test_a_message_to_somebody_else(ledger: Ledger) -> None:
    sending = sent(ledger)
    handed(ledger, sending, BOB, TABLET, ALICE)
    assert kinds(ledger) == ["unstored"]


def test_a_message_that_was_refused(ledger: Ledger) -> None:
    sending = ledger.begin(ALICE, "bob")
    ledger.end(sending, "refused", reason="503")
    assert kinds(ledger) == []
    handed(ledger, sending, BOB)
    assert kinds(ledger) == ["unstored"]


def test_a_message_of_unknown_outcome_reaches_all_devices_or_none(ledger: Ledger) -> None:
    sending = ledger.begin(ALICE, "bob")
    ledger.end(sending, "unknown")
    assert kinds(ledger) == []
    handed(ledger, sending, BOB)
    assert kinds(ledger) == ["lost"]
    handed(ledger, sending, TABLET)
    assert kinds(ledger) == []


def test_a_message_under_another_id(ledger: Ledger) -> None:
    sending = sent(ledger)
    ledger.handed(BOB, sending.place, "mid-0")
    ledger.handed(TABLET, sending.place, "another")
    assert kinds(ledger) == ["misnamed"]


def test_a_send_that_was_never_answered(ledger: Ledger) -> None:
    ledger.begin(ALICE, "bob")
    assert kinds(ledger) == ["unanswered"]


@pytest.mark.parametrize(
    "shut",
    [lambda ledger: ledger.shut("bob", "alice"), lambda ledger: ledger.shut("alice")],
    ids=["blocked", "sender banned"],
)
def test_a_message_sent_against_policy(ledger: Ledger, shut: Callable[[Ledger], object]) -> None:
    shut(ledger)
    handed(ledger, sent(ledger))
    assert kinds(ledger) == ["forbidden"]


def test_a_message_whose_send_began_before_the_block_or_ended_after_it(ledger: Ledger) -> None:
    before = ledger.begin(ALICE, "bob")
    window = ledger.shut("bob", "alice")
    ledger.end(before, "sent", mid="mid-0")
    handed(ledger, before)
    after = ledger.begin(ALICE, "bob")
    ledger.lift(window)
    ledger.end(after, "sent", mid="mid-1")
    handed(ledger, after)
    assert kinds(ledger) == []


def test_a_message_of_unknown_outcome_handed_over_within_the_block(ledger: Ledger) -> None:
    ledger.shut("bob", "alice")
    sending = ledger.begin(ALICE, "bob")
    ledger.end(sending, "unknown")
    assert kinds(ledger) == []
    handed(ledger, sending)
    assert set(kinds(ledger)) == {"forbidden"}


def test_a_banned_recipient(ledger: Ledger) -> None:
    waiting = sent(ledger)
    window = ledger.shut("bob")
    # What was stored before may have been in the kernel's buffers; what is stored now waits for the ban's end.
    handed(ledger, waiting)
    held, leaked = sent(ledger), sent(ledger)
    handed(ledger, leaked, BOB)
    ledger.lift(window)
    handed(ledger, held)
    handed(ledger, leaked, TABLET)
    verdict = judge(ledger)
    assert [(fault.kind, fault.place) for fault in verdict.forbidden] == [("forbidden", leaked.place)]


def test_a_banned_user_who_is_let_in(ledger: Ledger) -> None:
    early = time.monotonic()
    window = ledger.shut("bob")
    # Its welcome was on its way already.
    ledger.admitted(BOB, early)
    assert kinds(ledger) == []
    ledger.admitted(BOB, time.monotonic())
    assert kinds(ledger) == ["admitted"]
    ledger.lift(window)
    ledger.admitted(BOB, time.monotonic())
    assert kinds(ledger) == ["admitted"]


def test_the_story_of_a_faulty_message(ledger: Ledger) -> None:
    ledger.fault("node killed", "a")
    ledger.note(BOB, "reconnects")
    ledger.note("carol/phone", "has nothing to do with it")
    sending = sent(ledger)
    handed(ledger, sending, TABLET)
    (fault,) = judge(ledger).faults
    told = story(ledger, fault)
    for expected in ("never handed to bob/phone", "node killed a", "bob/phone: reconnects", "handed to bob/tablet"):
        assert expected in told
    assert "carol" not in told
