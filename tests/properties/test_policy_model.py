"""Random acts at the Functions against a model of the rules: every verdict, drop, push, session and inbox entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from gateway.store import accounts, friends, messages, relationships, sessions
from gateway.store.friends import Intent, Pair
from tests.properties.policy_model import DEACTIVATED, EXPIRED, INBOX_MAX, KICKED, LIST_MAX, Live, Token
from tests.properties.session_rules import SessionRules, users, yes
from tests.properties.world import FAR_FUTURE_MS, World
from tests.servers import Server
from tests.store.acts import NOW_MS, RETENTION_MS

rarely = st.sampled_from([False, False, True])
others = st.lists(users, min_size=1, max_size=2, unique=True)


class Policies(SessionRules):
    """With what users say to each other and think of each other besides."""

    @rule(name=users, muted=yes)
    def mute(self, name: str, muted: bool) -> None:
        self.do(accounts.mute(self.keys, name, muted))
        self.model.mute(name, muted)

    @rule(friends_only=yes)
    def set_friends_only(self, friends_only: bool) -> None:
        self.model.friends_only = friends_only

    # Lists.

    @rule(name=users, which=st.sampled_from(["block", "allow"]), members=others, add=yes)
    def edit(self, name: str, which: Any, members: list[str], add: bool) -> None:
        members = [member for member in members if member != name]
        if not members:
            return
        reply = self.do(relationships.edit(self.keys, name, which, "add" if add else "remove", members, LIST_MAX))
        assert reply == self.model.edit(name, which, members, add)

    @rule(name=users, on=yes)
    def set_allowlist(self, name: str, on: bool) -> None:
        self.do(relationships.set_allowlist(self.keys, name, on))
        self.model.users[name].allowlist_on = on

    @rule(pair=st.lists(users, min_size=2, max_size=2, unique=True), add=yes, dies=yes)
    def befriend(self, pair: list[str], add: bool, dies: bool) -> None:
        both = Pair.of(*pair)
        decided = self.model.decide_friendship(both, add)
        code, intent = self._decide(both, add)
        assert code == decided
        # Whoever is refused lets the place go that it holds, and finishes what it finds.
        if code or (intent is not None and not dies):
            self.run(self.world.friends.sweep(FAR_FUTURE_MS))
            self._finish_all()

    def _decide(self, pair: Pair, add: bool) -> tuple[int, Intent | None]:
        """What a process does that dies before it writes the other half."""
        if not add:
            return friends.parse_decision(pair, "remove", self.do(friends.unfriend(self.keys, pair)))
        version = friends.parse_look(self.do(friends.look(self.keys, pair.smaller, pair.larger))).version
        code = self.do(friends.hold(self.keys, pair, version, LIST_MAX))
        if code:
            return int(code), None
        return friends.parse_decision(pair, "add", self.do(friends.befriend(self.keys, pair, version, LIST_MAX)))

    @rule()
    def sweep(self) -> None:
        self.run(self.world.friends.sweep(FAR_FUTURE_MS))
        self._finish_all()

    def _finish_all(self) -> None:
        for pair in list(self.model.intents):
            self.model.finish_friendship(pair)
        self.model.finish_leaving()

    # Messages.

    @rule(data=st.data(), sender=users, to=users, retry=yes, ephemeral=rarely, alone=rarely)
    def send(self, data: st.DataObject, sender: str, to: str, retry: bool, ephemeral: bool, alone: bool) -> None:
        known = [mid for _, mid in self.model.users[to].inbox] if retry else []
        mid = data.draw(st.sampled_from([f"m{self.next()}", *known]))
        expected, first = self.model.relay(sender, to, mid, retry=retry, ephemeral=ephemeral)
        flags = ("m" if self.model.users[sender].muted else "") + ("f" if self.model.friends_only else "")
        flags += ("r" if retry else "") + ("e" if ephemeral else "")
        if alone:
            reply = self.run(self.acts.send(sender, to, flags=flags, mid=mid, inbox_max=INBOX_MAX))
        else:
            (answer,) = self.run(self.acts.send_many((sender, to, flags, mid), inbox_max=INBOX_MAX))
            reply = [0, answer[1:], answer[:1] == b"+"] if isinstance(answer, bytes) else [answer]
        assert reply[0] == expected
        if expected:
            return
        if first is not None:
            assert messages.parse_id(reply[1]) == first
        elif ephemeral:
            assert reply[1] == b""
        else:
            place = messages.parse_id(reply[1])
            self.model.stored(to, mid, place)
            self.places[to].append((self.model.users[to].epochs, place))
        assert (reply[2] > 0) == bool(self.model.users[to].sessions)

    @rule(sends=st.lists(st.tuples(users, users, rarely), min_size=2, max_size=5))
    def send_many(self, sends: list[tuple[str, str, bool]]) -> None:
        """Each in its turn, as if sent alone."""
        made = []
        for sender, to, ephemeral in sends:
            flags = ("m" if self.model.users[sender].muted else "") + ("f" if self.model.friends_only else "")
            made.append((sender, to, flags + ("e" if ephemeral else ""), f"m{self.next()}"))
        for answer, (sender, to, flags, mid) in zip(
            self.run(self.acts.send_many(*made, inbox_max=INBOX_MAX)), made, strict=True
        ):
            ephemeral = "e" in flags
            expected, _ = self.model.relay(sender, to, mid, retry=False, ephemeral=ephemeral)
            assert expected == (0 if isinstance(answer, bytes) else answer)
            if isinstance(answer, bytes):
                assert (answer[:1] == b"+") == bool(self.model.users[to].sessions)
                if not ephemeral:
                    place = messages.parse_id(answer[1:])
                    self.model.stored(to, mid, place)
                    self.places[to].append((self.model.users[to].epochs, place))

    @rule(data=st.data())
    def echo(self, data: st.DataObject) -> None:
        picked = self._pick(data, ghosts=True)
        if picked is not None:
            self.echo_of(picked)

    def echo_of(self, picked: Live) -> int:
        mid = f"m{self.next()}"
        expected, stored = self.model.echo(picked, mid)
        tail = f'"mid":"{mid}","from":"{picked.user}","to":"x","kind":"text","body":1,"device":"d1"}}'.encode()
        reply = self.do(messages.echo(self.keys, picked.user, picked.id, tail, INBOX_MAX, RETENTION_MS, 1 << 26))
        if expected:
            assert reply == expected
        elif stored:
            self.model.stored(picked.user, mid, messages.parse_id(reply))
        else:
            assert reply == b""
        return expected

    @rule(data=st.data(), name=users, device=st.sampled_from(["d1", "d2"]), stale=st.sampled_from([False, False, True]))
    def ack(self, data: st.DataObject, name: str, device: str, stale: bool) -> None:
        user = self.model.users[name]
        if not user.inbox or name not in self.epochs:
            return
        place = data.draw(st.sampled_from(user.inbox))[0]
        epoch = self.run(self.acts.field(name, "epoch"))
        assert epoch is not None
        moved = self.run(self.acts.ack(name, device, "f00" if stale else epoch, place))
        assert moved == (0 if stale else self.model.ack(name, device, place))

    @rule(watcher=users, name=users)
    def watch(self, watcher: str, name: str) -> None:
        user = self.model.users[name]
        state = sessions.parse_watch(self.do(sessions.watch(self.keys, name, watcher)))
        hidden = user.registered and watcher in user.block
        assert (state.visible, state.version) == (not hidden, user.version)
        assert state.online == (not hidden and bool(user.sessions))
        assert tuple(state.platforms) == (() if hidden else self.model.platforms(user))
        assert (state.last_seen is not None) == (not hidden and user.was_online)


@pytest.fixture
def world(valkey: Server) -> Iterator[World]:
    world = World(valkey.url)
    yield world
    world.close()


def held_to_the_rules(machine: Callable[[], RuleBasedStateMachine], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )


def test_the_functions_do_what_the_rules_say(world: World) -> None:
    held_to_the_rules(lambda: Policies(world), 150)


def test_sessions_come_and_go_as_the_rules_say(world: World) -> None:
    """Nothing but sessions: so what only drops, reaps and reclaims in a row can show is met often."""
    held_to_the_rules(lambda: SessionRules(world), 100)


# Rows of acts that chance has found: each once held the model and the Functions apart.

ISSUED_AT = NOW_MS + 10
DROPS: dict[str, Callable[[SessionRules], object]] = {
    "a ban that is over": lambda rules: rules.ban("ann", 1, True),
    "a ban that is lifted": lambda rules: (rules.ban("ann", 0, True), rules.unban("ann")),
    "an account that came back": lambda rules: (rules.deactivate("ann", True), rules.reactivate("ann")),
    "a kick": lambda rules: rules.kick_by("ann", "", "", True),
    "a kick of the session": lambda rules: rules.kick_by("ann", "session", "s1", True),
    "a kick of the device": lambda rules: rules.kick_by("ann", "device", "d1", True),
}


@pytest.fixture
def rules(world: World) -> Policies:
    """With one session of ann's, on the node a.1."""
    rules = Policies(world)
    rules.begin()
    rules.login(Live("s1", "ann", "a.1", "d1", "ios", Token(ISSUED_AT, "t1")))
    return rules


@pytest.mark.parametrize("drop", DROPS)
def test_who_was_dropped_while_its_node_was_taken_for_dead_stays_out(rules: Policies, drop: str) -> None:
    """Redis does not list the session any more: the drop selects nobody, and must hold all the same."""
    session = rules.model.users["ann"].sessions["s1"]
    rules.reap_one(session)
    rules.redis_and_the_model_agree()
    DROPS[drop](rules)
    rules.redis_and_the_model_agree()
    assert rules.reclaim_one(session, "a.1") == KICKED
    rules.redis_and_the_model_agree()


@pytest.mark.parametrize(("keep", "code"), [(True, 0), (False, EXPIRED)])
def test_an_expiry_that_keeps_connections_keeps_those_of_a_node_taken_for_dead(
    rules: Policies, keep: bool, code: int
) -> None:
    session = rules.model.users["ann"].sessions["s1"]
    rules.reap_one(session)
    rules.expire_before("ann", ISSUED_AT + 1, keep, True)
    assert rules.reclaim_one(session, "a.1") == code
    rules.redis_and_the_model_agree()


def test_a_message_under_way_leaves_nothing_in_the_inbox_of_a_deactivated_sender(rules: Policies) -> None:
    session = rules.model.users["ann"].sessions["s1"]
    rules.deactivate("ann", False)
    assert rules.echo_of(session) == DEACTIVATED
    rules.redis_and_the_model_agree()
