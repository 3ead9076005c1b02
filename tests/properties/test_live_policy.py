"""The same rules on a running node: random sends, edits and drops over real sockets.

After a drop call has returned, its user's socket gets nothing more, and nothing more that was written to it is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import orjson
import pytest
import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.services.errors import Refused
from gateway.store import messages
from tests.nodes import Client, login, running_node
from tests.properties.policy_model import Model, User
from tests.servers import Server
from tests.waiting import eventually

NAMES = ("ann", "bob", "cat")
T = TypeVar("T")

names = st.sampled_from(NAMES)
yes = st.booleans()


class World:
    """A node on a loop that stands still between acts."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._loop = self._runner.get_loop()
        self._stack = AsyncExitStack()
        self.node = self.run(self._stack.enter_async_context(running_node(url, inbox_max=1000)))
        self.examples = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(asyncio.wait_for(work, 20))

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._runner.close()


class LivePolicies(RuleBasedStateMachine):
    """Users of this example bear its number, so that the node can stay."""

    def __init__(self, world: World) -> None:
        super().__init__()
        world.examples += 1
        self.world = world
        self.run = world.run
        self.services = world.node.services
        self.names = {name: f"{name}-{world.examples}" for name in NAMES}
        self.model = Model(self.names.values())
        self.clients: dict[str, Client] = {}
        self.stored: dict[str, list[str]] = {name: [] for name in self.names.values()}
        self.old_tokens: dict[str, str] = {}
        self.sent = 0

    def teardown(self) -> None:
        async def leave() -> None:
            for client in self.clients.values():
                await client.close()
            await self.services.settings.set({"friendsOnly": False})

        self.run(leave())

    @initialize()
    def begin(self) -> None:
        for name in NAMES:
            self.come(name)

    def _user(self, name: str) -> tuple[str, User]:
        return self.names[name], self.model.users[self.names[name]]

    # Coming and going.

    @rule(name=names)
    def come(self, name: str) -> None:
        """With a new token. All that is kept comes first, in order; nobody acks here."""
        user, state = self._user(name)
        if user in self.clients or state.deactivated:
            return
        self.run(self._come(user, state))

    async def _come(self, user: str, state: User) -> None:
        token = await self.services.tokens.issue(user, user)
        state.registered = True
        if state.banned:
            await self._refused(user, token, 403, 31009)
            return
        client = await login(self.world.node, user, token=token)
        self.clients[user] = client
        self.old_tokens[user] = token
        replayed = [(await client.next("message"))["mid"] for _ in self.stored[user]]
        assert replayed == self.stored[user]
        assert await self.services.presence.online(user)

    async def _refused(self, user: str, token: str, status: int, code: int) -> None:
        with pytest.raises(InvalidStatus) as caught:
            await login(self.world.node, user, token=token)
        assert caught.value.response.status_code == status
        assert orjson.loads(caught.value.response.body)["code"] == code

    @rule(name=names)
    def go(self, name: str) -> None:
        user, _ = self._user(name)
        client = self.clients.pop(user, None)
        if client is not None:
            self.run(client.close())
            self.run(eventually(lambda: self._is_offline(user)))

    async def _is_offline(self, user: str) -> bool:
        return not await self.services.presence.online(user)

    # Policies.

    @rule(name=names, whom=names, add=yes, own=yes)
    def block(self, name: str, whom: str, add: bool, own: bool) -> None:
        """By an admin, or by the user over the own socket: either binds the very next message."""
        user, state = self._user(name)
        other = self.names[whom]
        if user == other:
            return
        (state.block.add if add else state.block.discard)(other)
        self.run(self._block(user, other, add, own))

    async def _block(self, user: str, other: str, add: bool, own: bool) -> None:
        if own and user in self.clients:
            reply = await self.clients[user].ask("blocklist.add" if add else "blocklist.remove", users=[other])
            assert reply["type"] == "ok"
        elif add:
            await self.services.relationships.block(user, [other])
        else:
            await self.services.relationships.unblock(user, [other])

    @rule(name=names, whom=names, on=yes, add=yes)
    def allow(self, name: str, whom: str, on: bool, add: bool) -> None:
        user, state = self._user(name)
        other = self.names[whom]
        state.allowlist_on = on
        self.run(self.services.relationships.enable_allowlist([user], on))
        if user != other:
            (state.allow.add if add else state.allow.discard)(other)
            edit = self.services.relationships.allow if add else self.services.relationships.disallow
            self.run(edit(user, [other]))

    @rule(pair=st.lists(names, min_size=2, max_size=2, unique=True), add=yes)
    def befriend(self, pair: list[str], add: bool) -> None:
        a, b = (self.names[name] for name in pair)
        one, other = self.model.users[a], self.model.users[b]
        if add and (one.deactivated or other.deactivated or (b not in one.friends and self._apart(one, other))):
            with pytest.raises(Refused):
                self.run(self.services.friends.befriend(a, b))
            return
        for mine, theirs in ((one, b), (other, a)):
            (mine.friends.add if add else mine.friends.discard)(theirs)
        if add:
            self.run(self.services.friends.befriend(a, b))
        else:
            self.run(self.services.friends.unfriend(a, [b]))

    @staticmethod
    def _apart(one: User, other: User) -> bool:
        """Whether a list of either stands against a friendship."""
        return any(
            theirs.name in mine.block or (mine.allowlist_on and theirs.name not in mine.allow)
            for mine, theirs in ((one, other), (other, one))
        )

    @rule(on=yes)
    def friends_only(self, on: bool) -> None:
        self.model.friends_only = on
        self.run(self.services.settings.set({"friendsOnly": on}))

    # Messages.

    @rule(sender=names, to=names)
    def send(self, sender: str, to: str) -> None:
        if self.names[sender] in self.clients:
            self.run(self._send(self.names[sender], self.names[to]))

    @rule(to=names)
    def everybody_sends(self, to: str) -> None:
        for sender in NAMES:
            self.send(sender, to)

    async def _send(self, sender: str, to: str) -> None:
        self.sent += 1
        reply = await self.clients[sender].send(to, self.sent)
        state = self.model.users[to]
        expected = self.model.verdict(sender, state) if state.registered else 404
        if expected:
            assert (reply["type"], reply["code"]) == ("error", expected)
            return
        assert (reply["type"], reply["online"]) == ("sent", to in self.clients)
        self.stored[to].append(reply["mid"])
        if to in self.clients:
            message = await self.clients[to].next("message")
            assert (message["mid"], message["from"], message["body"]) == (reply["mid"], sender, self.sent)

    # Drops.

    @precondition(lambda self: self.clients)
    @rule(name=names, act=st.sampled_from(["ban", "kick", "expire", "deactivate", "forever"]))
    def drop(self, name: str, act: str) -> None:
        user, state = self._user(name)
        if state.deactivated:
            return
        self.run(self._drop(user, state, act))

    async def _drop(self, user: str, state: User, act: str) -> None:
        client = self.clients.pop(user, None)
        # Under way while the drop is: they may or may not be carried out, but not after it.
        for number in range(5) if client else ():
            await client.say({"type": "send", "id": f"w{number}", "to": user, "body": f"before {number}"})  # type: ignore[union-attr]
        done = await self._act(user, act)
        assert done.nodes_silent == []
        assert done.sessions_closed == (1 if client else 0)
        state.banned |= act in ("ban", "forever")
        if act == "deactivate":
            state.deactivated, state.allowlist_on = True, False
            state.block, state.allow, self.stored[user] = set(), set(), []
            for other in state.friends:
                self.model.users[other].friends.discard(user)
            state.friends = set()
        else:
            self.stored[user] = await self._inbox(user)
        assert await self._is_offline(user)
        if client is None:
            return
        await self._nothing_passes(user, client, state, act)
        if act in ("expire", "kick"):
            token = self.old_tokens[user]
            if act == "expire":
                await self._refused(user, token, 401, 31020)

    async def _act(self, user: str, act: str) -> Any:
        if act == "ban":
            return await self.services.bans.ban([user], minutes=1, reason="test")
        if act == "forever":
            return await self.services.bans.ban([user], minutes=None)
        if act == "kick":
            return await self.services.control.kick(users=[user], reason="test")
        if act == "deactivate":
            return await self.services.deletion.deactivate([user])
        # Tokens of this very millisecond are not older than it.
        return await self.services.tokens.expire([user], self.world.node.clock.wall_ms() + 1)

    async def _nothing_passes(self, user: str, client: Client, state: User, act: str) -> None:
        """Written to the dropped socket now, and sent to its user now: neither arrives."""
        before = await self._inbox(user)
        try:
            await client.say({"type": "send", "id": "after", "to": user, "body": "after"})
        except ConnectionClosed:
            pass
        late = []
        for other in list(self.clients):
            await self._send(other, user)
            late.append(self.sent)
        code, _ = await client.closed()
        expected = {"ban": 4502, "forever": 4502, "kick": 4505, "expire": 4501, "deactivate": 4503}[act]
        # 1006: something was under way to the client, so the socket was cut without a word.
        assert code in (expected, 1006)
        assert not [push for push in client.received if push.get("body") in late]
        assert not [push for push in client.received if push.get("id") == "after" or push.get("body") == "after"]
        assert await self._inbox(user) == before + self.stored[user][len(before) :]

    async def _inbox(self, user: str) -> list[str]:
        """The mids stored, as Redis has them."""
        reply = await self.world.node.store.execute(messages.read(self.world.node.store.keys, user, (0, 0), 1000))
        return [orjson.loads(b"{" + entry.tail)["mid"] for entry in messages.parse_read(reply)]

    @rule(name=names)
    def lift(self, name: str) -> None:
        user, state = self._user(name)
        self.run(self.services.bans.unban([user]))
        self.run(self.services.deletion.reactivate([user]))
        state.banned = state.deactivated = False


@pytest.fixture
def world(valkey: Server) -> Iterator[World]:
    world = World(valkey.url)
    yield world
    world.close()


def test_a_running_node_does_what_the_rules_say_and_a_dropped_user_gets_nothing_more(world: World) -> None:
    run_state_machine_as_test(
        lambda: LivePolicies(world),
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
