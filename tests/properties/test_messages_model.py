"""Messages that are sent, repeated, changed and recalled at random: devices and histories end with the same view.

The model knows no inbox: it holds what the two users should see. A device is a cursor and what came of the pushes
behind it; it catches up when it likes, so it may have seen a message before, between or after what happened to it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.config import Config
from gateway.services.errors import DATA_MISSING, Refused
from gateway.services.messages import Draft
from gateway.services.mids import mid_of
from gateway.services.services import Services
from gateway.store import accounts, messages
from gateway.store.recalls import Target
from tests.nodes import CREDENTIALS
from tests.properties.world import World
from tests.servers import Server

NAMES = ("ann", "bob")
ways = st.sampled_from([("ann", "bob"), ("bob", "ann"), ("ann", "ann")])
MESSAGES = 5
"""Few, so that more happens to each."""
indexes = st.integers(0, MESSAGES - 1)


@dataclass
class Message:
    """What both users should know of it.

    Attributes:
        text: None = recalled.
        sent_at: as the sender was told.
        echoed: whether the sender's devices have a copy.
        shown: in histories.
    """

    mid: str
    sender: str
    to: str
    text: str | None
    sent_at: int
    echoed: bool = False
    shown: bool = True
    key: str | None = None


@dataclass
class Device:
    """A client app that applies what comes, in order.

    Attributes:
        view: mid → text.
    """

    place: tuple[int, int] = (0, 0)
    view: dict[str, str] = field(default_factory=dict)

    def take(self, entry: messages.Entry) -> None:
        push: dict[str, Any] = orjson.loads(messages.push("e", entry))
        self.place = entry.place
        if push["type"] == "message":
            self.view[push["mid"]] = push["body"]
        elif push["type"] == "recalled":
            self.view.pop(push["mid"], None)
        elif push["mid"] in self.view:
            self.view[push["mid"]] = push["body"]


class Talk(RuleBasedStateMachine):
    """Two users, and the app's server."""

    world: World
    services: Services

    @initialize()
    def begin(self) -> None:
        self.world.empty()
        for name in NAMES:
            self.world.run(self.world.acts.do(accounts.register(self.world.store.keys, name)))
        self.sent: list[Message] = []
        self.devices = {name: [Device(), Device()] for name in NAMES}
        self.count = 0

    def text(self) -> str:
        self.count += 1
        return f"text {self.count}"

    def has_room(self) -> bool:
        return len(self.sent) < MESSAGES

    def has_sent(self) -> bool:
        return bool(self.sent)

    @precondition(has_room)
    @rule(way=ways, echo=st.booleans(), persist=st.booleans())
    def server_sends(self, way: tuple[str, str], echo: bool, persist: bool) -> None:
        sender, to = way
        text = self.text()
        draft = Draft(sender, "text", text, echo=echo, persist=persist)
        [stored] = self.world.run(self.services.messages.send(draft, [to]))
        echoed = echo and sender != to
        self.sent.append(Message(stored.mid, sender, to, text, stored.sent_at, echoed, persist))

    @precondition(has_room)
    @rule(way=ways)
    def client_sends(self, way: tuple[str, str]) -> None:
        sender, to = way
        text, key = self.text(), f"key {self.count}"
        mid = mid_of(sender, to, key)
        code, place, _ = self.world.run(self.world.acts.send(sender, to, mid=mid, body=f'"{text}"', inbox_max=1000))
        assert code == 0
        self.sent.append(Message(mid, sender, to, text, messages.parse_id(place)[0], key=key))

    @precondition(has_sent)
    @rule(index=indexes, marked=st.booleans())
    def client_repeats(self, index: int, marked: bool) -> None:
        found = [each for each in self.sent if each.key and (marked or each.text == f"text {each.key[4:]}")]
        if not found:
            return
        message = found[index % len(found)]
        assert message.key is not None
        body, flags = f'"text {message.key[4:]}"', "r" if marked else ""
        reply = self.world.run(
            self.world.acts.send(message.sender, message.to, mid=message.mid, body=body, flags=flags, inbox_max=1000)
        )
        assert reply[0] == 0

    @precondition(has_sent)
    @rule(
        index=indexes,
        hint=st.sampled_from(["none", "right", "wrong"]),
        stranger=st.sampled_from([False, False, False, True]),
    )
    def recall(self, index: int, hint: str, stranger: bool) -> None:
        message = self.sent[index % len(self.sent)]
        sent_at = {"none": None, "right": message.sent_at, "wrong": message.sent_at - 10_000_000}[hint]
        if stranger:
            with pytest.raises(Refused) as refused:
                target = Target(message.mid, "mallory", message.to)
                self.world.run(self.services.messages.recall(target, sent_at=sent_at))
            assert refused.value.code == DATA_MISSING
            return
        target = Target(message.mid, message.sender, message.to)
        self.world.run(self.services.messages.recall(target, sent_at=sent_at))
        message.text = None
        for name in NAMES:
            kinds = {entry.kind for entry in self.entries(name, (0, 0), 1000) if message.mid.encode() in entry.tail}
            assert kinds <= {b"r"}, "what it said is still there"

    @precondition(has_sent)
    @rule(index=indexes)
    def update(self, index: int) -> None:
        message = self.sent[index % len(self.sent)]
        target, text = Target(message.mid, message.sender, message.to), self.text()
        if message.text is None:
            with pytest.raises(Refused) as refused:
                self.world.run(self.services.messages.update(target, text))
            assert refused.value.code == DATA_MISSING
        else:
            self.world.run(self.services.messages.update(target, text))
            message.text = text

    @rule(name=st.sampled_from(NAMES), which=st.integers(0, 1), count=st.integers(1, 8))
    def device_reads(self, name: str, which: int, count: int) -> None:
        device = self.devices[name][which]
        for entry in self.entries(name, device.place, count):
            device.take(entry)

    def entries(self, name: str, after: tuple[int, int], count: int) -> Iterator[messages.Entry]:
        call = messages.read(self.world.store.keys, name, after, count)
        return iter(messages.parse_read(self.world.run(self.world.acts.do(call))))

    @invariant()
    def histories_show_what_is_left(self) -> None:
        now = int(time.time() * 1000) + 1000
        for user, other in (("ann", "bob"), ("bob", "ann"), ("ann", "ann")):
            past = self.world.run(
                self.services.histories.direct(
                    user, other, latest_ms=now, earliest_ms=now - 3_600_000, include_latest=True, limit=100
                )
            )
            assert {each.mid: each.content for each in past} == {
                each.mid: each.text
                for each in self.sent
                if {each.sender, each.to} == {user, other} and each.shown and each.text is not None
            }

    def teardown(self) -> None:
        """Every device comes back in the end, however little it had read."""
        if not hasattr(self, "devices"):
            return
        for name, devices in self.devices.items():
            left = {
                each.mid: each.text
                for each in self.sent
                if each.text is not None and (each.to == name or (each.sender == name and each.echoed))
            }
            for device in (*devices, Device()):
                for entry in self.entries(name, device.place, 1000):
                    device.take(entry)
                assert device.view == left


def test_devices_and_histories_end_with_what_the_model_says(valkey: Server) -> None:
    world = World(valkey.url)
    Talk.world, Talk.services = world, Services.over(world.store, Config(), CREDENTIALS)
    try:
        run_state_machine_as_test(Talk, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))
    finally:
        world.close()
