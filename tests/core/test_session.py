"""The session's states, what it takes in each, and what it may still say."""

import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.close import Closing, Refusal
from gateway.core.session import FLOOD_REFUSALS_MAX, PENDING_MAX, Gate, Session, SessionLimits
from gateway.core.states import RULES, TRANSITIONS, Event, State
from gateway.protocol import codes, commands, examples, schema
from tests.core.recording import LIMITS, Taker, live, said, session_in

KICK = Closing.of(codes.KICKED)
REVOKED = Closing(codes.KICKED, 4505, "kicked", revocation=True)
EXAMPLES = {type(each): orjson.dumps(schema.example(each)) for each in examples.COMMANDS}
HOSTILE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff",
    b"\xef\xbb\xbf{}",
    b'{"type":"nope"}',
    b'{"type":[]}',
    b"[" * 100_000,
    b'{"type":"nope","x":' + b"[" * 100_000,
    b'{"type":"send","id":"1","to":"b","body":' + b"[" * 100_000,
]
PING = b'{"type":"ping","id":"p"}'


def ping(command_id: object) -> bytes:
    return orjson.dumps({"type": "ping", "id": str(command_id)})


def ids(taker: Taker) -> list[Any]:
    return [command.id for command in taker.taken if isinstance(command, commands.Ping)]


class TestStates:
    @pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)), ids=lambda each: each.name)
    def test_every_event_in_every_state(self, state: State, event: Event) -> None:
        legal = {
            (State.AWAITING_TOKEN, Event.TOKEN_ACCEPTED): State.JOINING,
            (State.JOINING, Event.ADMITTED): State.LIVE,
            (State.LIVE, Event.LINK_BROKEN): State.FENCED,
            (State.FENCED, Event.LINK_BROKEN): State.FENCED,
            (State.FENCED, Event.RECLAIMED): State.LIVE,
        } | {(each, Event.CUT): State.ENDED for each in State if each is not State.ENDED}
        session, _, _ = session_in(state)
        if (state, event) in legal:
            session.move(event)
            assert session.state is legal[state, event]
        else:
            with pytest.raises(KeyError):
                session.move(event)
            assert session.state is state
        assert legal == TRANSITIONS

    @pytest.mark.parametrize("kind", commands.COMMANDS, ids=lambda kind: kind.__name__)
    @pytest.mark.parametrize("state", [State.AWAITING_TOKEN, State.JOINING, State.LIVE], ids=lambda state: state.name)
    def test_every_command_in_every_state_that_reads(self, state: State, kind: type) -> None:
        session, _, taker = session_in(state)
        session.receive_text(EXAMPLES[kind], 0.0)
        allowed = kind is commands.Ping or (
            state is State.AWAITING_TOKEN if kind is commands.Auth else state is State.LIVE
        )
        if allowed:
            assert [type(command) for command in taker.taken] == [kind]
            assert said(session) == []
        else:
            assert taker.taken == []
            (error,) = said(session)
            assert error["code"] == 400
            assert error.get("id") == orjson.loads(EXAMPLES[kind]).get("id")
            assert ("already" in error["reason"]) is (kind is commands.Auth)

    def test_every_command_has_a_rule(self) -> None:
        assert set(RULES) == set(commands.COMMANDS)

    @pytest.mark.parametrize("kind", commands.COMMANDS, ids=lambda kind: kind.__name__)
    def test_an_ended_session_takes_nothing_and_says_nothing(self, kind: type) -> None:
        session, wire, taker = session_in(State.ENDED)
        session.receive_text(EXAMPLES[kind], 0.0)
        session.send(b"{}")
        session.send_replay(b"{}")
        session.cut(KICK)
        assert session.close_expected()
        assert (taker.taken, said(session), wire.asked) == ([], [], [])


class TestBadCommands:
    def test_each_is_answered_with_its_id_and_its_fault(self) -> None:
        session, _, _ = live()
        session.receive_text(b'{"type":"send","id":"7","to":5,"body":1}', 0.0)
        (error,) = said(session)
        assert error["type"] == "error"
        assert error["id"] == "7"
        assert error["code"] == 400
        assert "$.to" in error["reason"]

    @pytest.mark.parametrize("payload", HOSTILE, ids=lambda payload: repr(payload[:24]))
    def test_whatever_it_is_the_connection_stays(self, payload: bytes) -> None:
        session, wire, taker = live()
        session.receive_text(payload, 0.0)
        assert [error["code"] for error in said(session)] == [400]
        assert wire.closing is None
        assert taker.taken == []

    def test_too_many_in_a_row_close(self) -> None:
        session, wire, _ = live()
        for _ in range(LIMITS.bad_commands_max):
            assert wire.closing is None
            session.receive_text(b"{", 0.0)
        assert wire.closing is not None
        assert wire.closing.close_code is codes.TOO_MANY_BAD_COMMANDS
        # The last error is still said before the close.
        assert len(said(session)) == LIMITS.bad_commands_max

    def test_a_good_one_between_starts_the_count_again(self) -> None:
        session, wire, _ = live()
        for _ in range(5):
            session.receive_text(b"{", 0.0)
            session.receive_text(b"{", 0.0)
            session.receive_text(PING, 0.0)
        assert wire.closing is None

    def test_a_command_out_of_its_state_counts(self) -> None:
        session, wire, _ = session_in(State.AWAITING_TOKEN)
        for _ in range(LIMITS.bad_commands_max):
            session.receive_text(EXAMPLES[commands.Send], 0.0)
        assert wire.closing is not None


class TestRate:
    LIMITS = SessionLimits(send_rate_per_s=10.0, send_burst=20.0, bad_commands_max=3, outbound_bytes_max=10**6)

    def test_over_the_rate_is_refused_and_says_when_to_go_on(self) -> None:
        session, wire, taker = live(self.LIMITS)
        for _ in range(20):
            session.receive_text(EXAMPLES[commands.Send], 0.0)
        assert len(taker.taken) == 20
        session.receive_text(EXAMPLES[commands.Send], 0.0)
        (error,) = said(session)
        assert (error["code"], error["id"]) == (20604, "c1")
        assert error["retry_after_ms"] == 100
        session.receive_text(EXAMPLES[commands.Send], 0.1)
        assert len(taker.taken) == 21
        assert wire.closing is None

    def test_dearer_commands_cost_more(self) -> None:
        session, _, taker = live(self.LIMITS)
        for _ in range(20):
            session.receive_text(EXAMPLES[commands.Watch], 0.0)
        rule = RULES[commands.Watch]
        # The example names two users, and each is a call to the store.
        assert len(taker.taken) == 20 // (rule.cost + 2 * rule.each)

    def test_a_flood_is_closed(self) -> None:
        session, wire, _ = live(self.LIMITS)
        for _ in range(20 + FLOOD_REFUSALS_MAX - 1):
            session.receive_text(EXAMPLES[commands.Send], 0.0)
        assert wire.closing is None
        session.receive_text(EXAMPLES[commands.Send], 0.0)
        assert wire.closing is not None
        assert wire.closing.close_code is codes.RATE_LIMITED
        assert wire.closing.retry_after_ms is not None

    def test_one_that_passes_ends_the_row(self) -> None:
        session, wire, _ = live(self.LIMITS)
        for second in range(10):
            for _ in range(FLOOD_REFUSALS_MAX // 2):
                session.receive_text(EXAMPLES[commands.Send], float(second))
        assert wire.closing is None

    def test_while_the_store_is_away_a_flood_is_closed_too(self) -> None:
        session, wire, _ = live(self.LIMITS)
        session.gate = Gate()
        session.gate.shut = session.gate.away = True
        session.fence()
        for _ in range(20 + FLOOD_REFUSALS_MAX):
            session.receive_text(EXAMPLES[commands.Send], 0.0)
        assert wire.closing is not None
        assert wire.closing.close_code is codes.RATE_LIMITED


class TestGate:
    """After a gap: reads and writes nothing until the barrier is answered."""

    def test_while_shut_nothing_is_taken_and_nothing_is_said(self) -> None:
        session, wire, taker = live()
        session.gate = Gate()
        session.send(b'"before"')
        session.gate.shut = True
        session.receive_text(PING, 0.0)
        session.send(b'"meanwhile"')
        assert (taker.taken, said(session)) == ([], [])
        assert wire.asked.count("pause") == 1

    def test_when_it_opens_everything_goes_on_in_order(self) -> None:
        session, wire, taker = live()
        session.gate = Gate()
        session.gate.shut = True
        session.send(b"1")
        for number in range(5):
            session.receive_text(ping(number), 0.0)
        session.send(b"2")
        session.gate.shut = False
        session.release(1.0)
        assert ids(taker) == ["0", "1", "2", "3", "4"]
        assert said(session) == [1, 2]
        assert wire.asked[-2:] == ["resume", "wake"]

    def test_shut_again_during_the_release_keeps_the_rest_in_order(self) -> None:
        gate, taker = Gate(), Taker()
        session, wire, _ = session_in(State.LIVE, taker)
        session.gate = gate

        def take_two(session: Session, command: Any, now: float) -> None:
            taker.taken.append(command)
            if len(taker.taken) == 2:
                gate.shut = True

        session.handlers = dict.fromkeys(commands.COMMANDS, take_two)
        gate.shut = True
        for number in range(5):
            session.receive_text(ping(number), 0.0)
        gate.shut = False
        session.release(1.0)
        assert ids(taker) == ["0", "1"]
        assert "resume" not in wire.asked
        # What arrives meanwhile queues behind.
        session.receive_text(ping(5), 1.0)
        gate.shut = False
        session.release(2.0)
        assert ids(taker) == ["0", "1", "2", "3", "4", "5"]
        assert wire.asked.count("resume") == 1

    def test_a_session_cut_meanwhile_releases_nothing(self) -> None:
        session, wire, taker = live()
        session.gate = Gate()
        session.gate.shut = True
        session.receive_text(PING, 0.0)
        session.cut(REVOKED)
        session.gate.shut = False
        session.release(1.0)
        assert taker.taken == []
        assert wire.asked == ["pause", "close"]

    def test_a_cut_behind_a_shut_gate_says_nothing_that_was_queued(self) -> None:
        # A drop may be waiting there that nobody has heard.
        session, _, _ = live()
        session.gate = Gate()
        session.send(b"1")
        session.gate.shut = True
        session.cut(Closing.of(codes.HEARTBEAT_TIMEOUT))
        assert said(session) == []

    def test_what_was_held_is_refused_when_the_store_goes_away(self) -> None:
        session, wire, taker = live()
        session.gate = Gate()
        session.gate.shut = True
        session.receive_text(EXAMPLES[commands.Send], 0.0)
        session.gate.away = True
        session.fence()
        session.release(0.0)
        assert [(error["code"], error["id"]) for error in said(session)] == [(503, "c1")]
        assert taker.taken == []
        assert wire.asked.count("resume") == 1


class TestFence:
    def test_what_is_queued_waits_until_the_session_is_reclaimed(self) -> None:
        session, wire, _ = live()
        session.send(b"1")
        session.fence()
        session.send(b"2")
        assert said(session) == []
        session.unfence(1.0)
        assert said(session) == [1, 2]
        assert session.state is State.LIVE
        assert wire.asked[-1] == "wake"

    def test_while_the_store_is_away_only_errors_pass(self) -> None:
        session, _, taker = live()
        session.gate = Gate()
        session.send(b"1")
        session.gate.shut = session.gate.away = True
        session.fence()
        # As a presence push that comes over another master's link does.
        session.send(b"2")
        session.receive_text(EXAMPLES[commands.Send], 0.0)
        session.refuse("c9", Refusal(504, "no answer in time"))
        assert [(each["type"], each["code"], each["id"]) for each in said(session)] == [
            ("error", 503, "c1"),
            ("error", 504, "c9"),
        ]
        assert taker.taken == []
        session.gate.shut = session.gate.away = False
        session.unfence(1.0)
        assert said(session) == [1, 2]

    def test_fenced_again_before_it_was_reclaimed_keeps_the_order(self) -> None:
        session, _, _ = live()
        session.send(b"1")
        session.fence()
        session.send(b"2")
        session.fence()
        session.send(b"3")
        session.unfence(0.0)
        assert said(session) == [1, 2, 3]

    def test_what_is_withheld_counts_against_the_limit(self) -> None:
        session, wire, _ = live()
        session.gate = Gate()
        session.gate.shut = session.gate.away = True
        session.fence()
        for _ in range(LIMITS.outbound_bytes_max // 1000):
            session.send(b" " * 1000)
            session.data_to_send()
        assert wire.closing is None
        session.send(b" ")
        assert wire.closing is not None
        assert wire.closing.close_code is codes.SLOW_CONSUMER

    @pytest.mark.parametrize("closing", [KICK, REVOKED], ids=["going away", "revocation"])
    def test_a_cut_while_fenced_says_nothing_that_was_withheld(self, closing: Closing) -> None:
        session, wire, _ = live()
        session.send(b"1")
        session.fence()
        session.cut(closing)
        assert said(session) == []
        assert wire.closing is closing

    def test_commands_are_held_once_the_link_is_up_and_taken_when_reclaimed(self) -> None:
        session, _, taker = live()
        session.gate = Gate()
        session.fence()
        session.receive_text(ping(1), 0.0)
        assert said(session) == []
        session.receive_text(ping(2), 0.0)
        session.unfence(1.0)
        assert ids(taker) == ["1", "2"]


class TestReplay:
    """A replay is not overtaken by live pushes."""

    def test_live_pushes_pass_each_once_and_in_order(self) -> None:
        session, _, _ = live()
        assert session.deliver((5, 0), b"5")
        assert not session.deliver((5, 0), b"5")
        assert not session.deliver((4, 9), b"4")
        assert session.deliver((5, 1), b"51")
        assert said(session) == [5, 51]
        assert session.forwarded == (5, 1)

    def test_while_catching_up_a_live_push_is_only_seen(self) -> None:
        session, _, _ = live()
        session.catching_up = True
        assert not session.deliver((7, 0), b"7")
        assert not session.deliver((6, 0), b"6")
        assert session.seen == (7, 0)
        assert said(session) == []

    def test_a_batch_that_ends_before_what_was_seen_is_not_the_last(self) -> None:
        session, _, _ = live()
        session.catching_up = True
        session.deliver((7, 0), b"7")
        assert not session.caught_up((6, 0))
        assert session.catching_up
        assert session.caught_up((7, 0))
        assert not session.catching_up
        assert not session.deliver((7, 0), b"7")
        assert session.deliver((8, 0), b"8")

    def test_a_replay_never_sets_a_session_back(self) -> None:
        session, _, _ = live()
        session.deliver((9, 0), b"9")
        session.catching_up = True
        session.caught_up((3, 0))
        assert session.forwarded == (9, 0)

    def test_a_joining_session_sees_pushes_before_it_is_live(self) -> None:
        session, _, _ = session_in(State.JOINING)
        assert not session.deliver((2, 0), b"2")
        assert session.seen == (2, 0)

    @given(st.lists(st.integers(1, 30), max_size=60), st.integers(1, 7), st.integers(0, 40))
    def test_whatever_the_interleaving_each_entry_comes_once_and_in_order(
        self, pushes: list[int], batch: int, switch: int
    ) -> None:
        # The inbox grows to the highest push; replay reads go on between the pushes.
        session, _, _ = live()
        session.catching_up = True
        inbox, highest = [], 0
        got: list[int] = []

        def read() -> None:
            entries = [place for place in inbox if (place, 0) > session.forwarded][:batch]
            for place in entries:
                session.send_replay(b"%d" % place)
                session.forwarded = (place, 0)
            session.caught_up(session.forwarded)

        for step, place in enumerate(pushes):
            if place > highest:
                inbox += range(highest + 1, place + 1)
                highest = place
            # Pub/sub may lose nothing on one link, but a push may come twice or after the replay brought it.
            session.deliver((place, 0), b"%d" % place)
            if session.catching_up and step >= switch % 10:
                read()
            got += said(session)
        while session.catching_up:
            read()
            got += said(session)
        assert got == sorted(set(got))
        assert session.forwarded == (max(got, default=0), 0)

    def test_the_next_batch_waits_until_the_client_has_taken_this_one(self) -> None:
        session, wire, _ = live()
        calls: list[Session] = []
        session.when_drained(calls.append)
        assert wire.asked == ["wake"]
        session.drained()
        session.drained()
        assert calls == [session]

    def test_an_ended_session_reads_no_further_batch(self) -> None:
        session, _, _ = live()
        calls: list[Session] = []
        session.when_drained(calls.append)
        session.cut(KICK)
        session.drained()
        assert calls == []


class TestCut:
    def test_after_a_revocation_nothing_queued_is_said(self) -> None:
        session, wire, _ = live()
        session.send(b"1")
        session.send_replay(b"2")
        session.cut(REVOKED)
        assert said(session) == []
        assert wire.closing is REVOKED

    def test_another_close_lets_what_was_said_before_out(self) -> None:
        session, _, _ = live()
        session.send(b"1")
        session.cut(KICK)
        assert said(session) == [1]

    def test_it_cuts_once(self) -> None:
        session, wire, _ = live()
        session.cut(KICK)
        session.cut(REVOKED)
        assert wire.asked.count("close") == 1
        assert wire.closing is KICK

    def test_a_slow_consumer_is_cut(self) -> None:
        session, wire, _ = live()
        for _ in range(LIMITS.outbound_bytes_max // 100):
            session.send(b" " * 100)
        assert wire.closing is None
        session.send(b" ")
        assert wire.closing is not None
        assert wire.closing.close_code is codes.SLOW_CONSUMER

    def test_what_was_written_counts_no_more(self) -> None:
        session, wire, _ = live()
        for _ in range(100):
            session.send(b" " * LIMITS.outbound_bytes_max)
            session.data_to_send()
        assert wire.closing is None

    def test_a_refusal_before_the_welcome_is_the_shells_to_say(self) -> None:
        session, wire, _ = session_in(State.JOINING)
        refusal = Refusal(31009, "banned")
        session.refused(refusal)
        assert wire.asked == ["refused"]
        assert wire.refusal is refusal
        assert session.close_expected()

    def test_a_wake_is_asked_for_once_until_it_is_written(self) -> None:
        session, wire, _ = live()
        session.send(b"1")
        session.send(b"2")
        assert wire.asked == ["wake"]
        session.data_to_send()
        session.send(b"3")
        assert wire.asked == ["wake", "wake"]


class TestPending:
    def test_too_many_outstanding_calls_stop_the_reading_until_half_are_answered(self) -> None:
        session, wire, _ = live()

        def post(session: Session, command: Any, now: float) -> None:
            session.pending += 1

        session.handlers = dict.fromkeys(commands.COMMANDS, post)
        for _ in range(PENDING_MAX + 1):
            session.receive_text(PING, 0.0)
        assert wire.asked == ["pause"]
        while session.pending > PENDING_MAX // 2:
            session.settle()
        assert wire.asked == ["pause"]
        session.settle()
        assert wire.asked == ["pause", "resume"]

    def test_the_last_answer_settles_a_cut_session(self) -> None:
        session, _, _ = live()
        session.pending = 2
        session.cut(REVOKED)
        settled: list[bool] = []
        session.on_settled = lambda: settled.append(True)
        session.settle()
        assert settled == []
        session.settle()
        assert settled == [True]

    def test_a_handlers_refusal_is_the_answer(self) -> None:
        session, wire, _ = live()

        def refuse(session: Session, command: Any, now: float) -> None:
            raise Refusal(405, "on the blocklist", retry_after_ms=7)

        session.handlers = dict.fromkeys(commands.COMMANDS, refuse)
        session.receive_text(EXAMPLES[commands.Send], 0.0)
        assert said(session) == [
            {"type": "error", "code": 405, "reason": "on the blocklist", "id": "c1", "retry_after_ms": 7}
        ]
        assert wire.closing is None
