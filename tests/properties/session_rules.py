"""Acts on sessions at the Functions, step by step against the model: logins, reaps, reclaims, drops."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.store import accounts, drops, messages, relationships, sessions
from gateway.store.call import Call
from tests.properties.policy_model import SESSIONS_MAX, Live, Model, Place, Token
from tests.properties.world import FAR_FUTURE_MS, NODES, USERS, World
from tests.store.acts import NOW_MS, session

users = st.sampled_from(USERS)
nodes = st.sampled_from(NODES)
yes = st.booleans()
# What an act does to a session that its node hears of, or does not.
hears = st.sampled_from([True, True, True, False])


class SessionRules(RuleBasedStateMachine):
    """The acts. ``ghosts`` are sessions that their node still holds and Redis does not."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.acts = world.acts
        self.keys = world.acts.keys
        self.run = world.run
        world.empty()
        self.model = Model(USERS)
        self.live: dict[str, Any] = {}
        self.ghosts: dict[str, Live] = {}
        self.tokens: dict[str, list[Token]] = {name: [] for name in USERS}
        self.epochs: dict[str, str] = {}
        self.places: dict[str, list[tuple[int, Place]]] = {name: [] for name in USERS}
        self.touched: set[str] = set()
        self.count = 0

    def do(self, call: Any) -> Any:
        return self.run(self.acts.do(call))

    def next(self) -> int:
        self.count += 1
        return self.count

    # Who there is.

    @initialize()
    def begin(self) -> None:
        for name in USERS[:3]:
            self.register(name)

    @rule(name=users)
    def register(self, name: str) -> None:
        user = self.model.users[name]
        reply = self.do(accounts.register(self.keys, name))
        if user.deactivated:
            assert reply[0] == 31029
        else:
            assert (reply[0], reply[2]) == (0, 0 if user.registered else 1)
            user.registered = True

    @rule(policy=st.sampled_from(["platform", "single", "unlimited", "refuse"]))
    def set_device_policy(self, policy: str) -> None:
        self.model.device_policy = policy

    # Sessions.

    @rule(
        data=st.data(),
        name=users,
        node=nodes,
        device=st.sampled_from([None, "d1", "d2"]),
        platform=st.sampled_from(["ios", "android", "web"]),
    )
    def connect(self, data: st.DataObject, name: str, node: str, device: str | None, platform: str) -> None:
        token = self._token(data, name)
        since = data.draw(st.sampled_from([None, None, *self.places[name][-4:]]))
        self.login(Live(f"s{self.next()}", name, node, device, platform, token), since)

    def login(self, model: Live, since: tuple[int, Place] | None = None) -> None:
        name, token = model.user, model.token
        user = self.model.users[name]
        expected, replaced = self.model.connect(model)
        real = session(
            name, model.id, device=model.device, platform=model.platform, issued_at=token.issued_at, jti=token.jti
        )
        cursor = None
        if since is not None:
            known = since[0] == user.epochs and name in self.epochs
            cursor = (self.epochs[name] if known else "f00", "{}-{}".format(*since[1]))
        reply = self.run(
            self.acts.connect(
                real, model.node, policy=self.model.device_policy, sessions_max=SESSIONS_MAX, since=cursor
            )
        )
        assert reply[0] == expected
        if expected:
            if expected == 31009:
                assert reply[1] == user.ban_end
            return
        self.epochs[name] = real.epoch
        start, recovered = self.model.replay(
            model, since[1] if since else None, cursor is not None and cursor[0] != "f00"
        )
        assert (messages.parse_id(reply[3]), bool(reply[5])) == (start, recovered)
        assert messages.parse_id(reply[4]) == user.head
        assert bool(reply[6]) == user.muted
        assert bool(reply[8]) == self.model.has_other_devices(model)
        self.live[model.id] = real
        for gone in replaced:
            self.ghosts[gone.id] = gone

    def _token(self, data: st.DataObject, name: str) -> Token:
        fresh = Token(NOW_MS + 10 * self.next(), f"t{self.count}")
        token = data.draw(st.sampled_from([fresh, fresh, *self.tokens[name][-3:]]))
        if token is fresh:
            self.tokens[name].append(token)
        return token

    def _pick(self, data: st.DataObject, ghosts: bool = False) -> Live | None:
        held = [each for user in self.model.users.values() for each in user.sessions.values()]
        held += self.ghosts.values() if ghosts else ()
        return data.draw(st.sampled_from(held)) if held else None

    @rule(data=st.data(), node=nodes)
    def disconnect(self, data: st.DataObject, node: str) -> None:
        """By the owner, by another incarnation, or of a session that is no longer there."""
        picked = self._pick(data, ghosts=True)
        if picked is None:
            return
        self._disconnect(picked, node)

    def _disconnect(self, picked: Live, node: str) -> None:
        self.touched.add(picked.user)
        expected = self.model.disconnect(picked, node)
        assert self.run(self.acts.disconnect(self.live[picked.id], node)) == expected
        if expected or picked.node == node:
            self.ghosts.pop(picked.id, None)

    @rule(data=st.data())
    def reap(self, data: st.DataObject) -> None:
        """Its node is taken for dead; it is not."""
        picked = self._pick(data)
        if picked is not None:
            self.reap_one(picked)

    def reap_one(self, picked: Live) -> None:
        self._disconnect(picked, picked.node)
        self.ghosts[picked.id] = picked

    @precondition(lambda self: self.live)
    @rule(data=st.data(), node=nodes)
    def reclaim(self, data: st.DataObject, node: str) -> None:
        picked = self._pick(data, ghosts=True)
        if picked is not None:
            self.reclaim_one(picked, node)

    def reclaim_one(self, picked: Live, node: str) -> int:
        real = self.live[picked.id]
        expected = self.model.reclaim(picked, node)
        reply = self.run(self.acts.reclaim(real, node, policy=self.model.device_policy))
        assert reply[0] == expected
        if expected == 0:
            self.ghosts.pop(picked.id, None)
            assert bool(reply[1]) == self.model.users[picked.user].muted
        else:
            # As the node does: what is refused leaves.
            self._disconnect(picked, picked.node)
        return expected

    @rule(data=st.data(), node=nodes)
    def refresh(self, data: st.DataObject, node: str) -> None:
        picked = self._pick(data, ghosts=True)
        if picked is None:
            return
        token = self._token(data, picked.user)
        real = self.live[picked.id]
        expected = self.model.refresh(picked, token, node)
        reply = self.do(sessions.refresh(self.keys, real, node, token.issued_at, token.jti))
        assert reply[0] == expected
        if expected == 0:
            real.issued_at, real.jti = token.issued_at, token.jti

    # Drops.

    def _dropped(self, reply: Any, selected: list[Live], heard: bool) -> None:
        count, told = drops.parse_dropped(reply)
        assert count == len(selected)
        assert sorted(told) == sorted({each.node for each in selected})
        if heard:
            for each in selected:
                self._disconnect(each, each.node)

    @rule(name=users, end=st.sampled_from([0, 1, FAR_FUTURE_MS]), heard=hears)
    def ban(self, name: str, end: int, heard: bool) -> None:
        """Until lifted, until a time long past (it has ended by itself), or until a time far away."""
        selected = self.model.ban(name, end, over=end == 1)
        self._dropped(self.do(drops.ban(self.keys, name, "c", end, "why")), selected, heard)

    @rule(name=users)
    def unban(self, name: str) -> None:
        user = self.model.users[name]
        assert self.do(drops.unban(self.keys, name)) == (user.ban_end is not None)
        user.banned, user.ban_end = False, None

    @rule(data=st.data(), name=users, after=st.integers(0, 1), keep=hears.map(lambda heard: not heard), heard=hears)
    def expire(self, data: st.DataObject, name: str, after: int, keep: bool, heard: bool) -> None:
        """At or just after the instant of one of the user's tokens."""
        if not self.tokens[name]:
            return
        self.expire_before(name, data.draw(st.sampled_from(self.tokens[name])).issued_at + after, keep, heard)

    def expire_before(self, name: str, cut_off: int, keep: bool, heard: bool) -> None:
        selected = self.model.expire(name, cut_off, keep)
        self._dropped(self.do(drops.expire(self.keys, name, "c", cut_off, keep)), selected, heard)

    @rule(data=st.data(), name=users, heard=hears)
    def revoke(self, data: st.DataObject, name: str, heard: bool) -> None:
        if not self.tokens[name]:
            return
        jti = data.draw(st.sampled_from(self.tokens[name])).jti
        selected = self.model.revoke(name, jti)
        self._dropped(self.do(drops.revoke(self.keys, name, "c", jti)), selected, heard)

    @rule(name=users, heard=hears)
    def deactivate(self, name: str, heard: bool) -> None:
        selected = self.model.deactivate(name)
        self._dropped(self.do(drops.deactivate(self.keys, name, "c")), selected, heard)

    @rule(name=users)
    def reactivate(self, name: str) -> None:
        assert self.do(accounts.reactivate(self.keys, name, 0)) == self.model.reactivate(name)

    @rule(data=st.data(), by=st.sampled_from(["", "session", "device"]), heard=hears)
    def kick(self, data: st.DataObject, by: str, heard: bool) -> None:
        picked = self._pick(data, ghosts=True)
        if picked is None or (by == "device" and picked.device is None):
            return
        self.kick_by(picked.user, by, {"": "", "session": picked.id, "device": picked.device or ""}[by], heard)

    def kick_by(self, name: str, by: str, wanted: str, heard: bool) -> None:
        selected = self.model.kick(name, by, wanted)
        self._dropped(self.do(drops.kick(self.keys, name, "c", "bye", by, wanted)), selected, heard)

    # What must hold after every act.

    @invariant()
    def redis_and_the_model_agree(self) -> None:
        """On what was published, on what is held, and on every sender's verdict."""
        expected, self.model.published = self.model.published, Counter()
        holdings, verdicts = self._holdings(), self._verdicts()
        published, replies = self.world.look([*holdings, *verdicts])
        assert published == expected
        self._compare(replies[: len(holdings)])
        assert [reply[0] for reply in replies[len(holdings) :]] == [
            self.model.verdict(sender, user) if user.registered else 404
            for user in self.model.users.values()
            for sender in USERS
        ]

    def _verdicts(self) -> list[Call]:
        """Messages that leave nothing behind, on channels that nobody hears."""
        calls = []
        for to in USERS:
            for sender in USERS:
                flags = ("m" if self.model.users[sender].muted else "") + ("f" if self.model.friends_only else "")
                place, command = messages.relay(self.keys, sender, to, flags + "e", "", b"}", 1, 1, 1, 1)
                calls.append(Call(place, (*command[:-3], "nobody:", 1, 1)))
        return calls

    def _holdings(self) -> list[Call]:
        calls = []
        for name in USERS:
            calls += [
                sessions.list_of(self.keys, name),
                messages.read(self.keys, name, (0, 0), 100),
                relationships.page(self.keys, name, "block", None, 100),
                relationships.page(self.keys, name, "allow", None, 100),
                relationships.page(self.keys, name, "friends", None, 100),
            ]
        return calls

    def _compare(self, replies: list[Any]) -> None:
        for index, (name, user) in enumerate(self.model.users.items()):
            listed, inbox, *lists = replies[5 * index : 5 * index + 5]
            held = {each.session: (each.node, each.device, each.issued_at) for each in sessions.parse_list(listed)}
            assert held == {each.id: (each.node, each.device, each.token.issued_at) for each in user.sessions.values()}
            assert [messages.parse_id(place) for place, _ in inbox] == [place for place, _ in user.inbox]
            for reply, expected in zip(lists, (user.block, user.allow, user.friends), strict=True):
                assert {entry.user for entry in relationships.parse_page(reply, 100)[0]} == expected, name
