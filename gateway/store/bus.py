"""A node's hot links to all masters: commands go out by partition, pushes come in, breaks are told by partition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from gateway.core.session import Gate
from gateway.store import epochs
from gateway.store import keys as names
from gateway.store.call import Call
from gateway.store.errors import StoreError, StoreUnavailable
from gateway.store.functions import load
from gateway.store.link import Link
from gateway.store.master import Master
from gateway.store.pipeline import Callback, LinkTimes, Part, Pipeline
from gateway.store.relaying import RelayLimits, RelayPipeline, wrote
from gateway.store.replicated import ReplicatedPipeline, Replication
from gateway.store.topology import Topology
from gateway.store.turns import Turns

log = structlog.get_logger(__name__)


SETTLE_S = 0.5
"""How often the topology is looked at while a link is away, where another server may have taken over."""

SENTINELS_S = 2.0
"""How often sentinels are asked while all is well: a master that they cannot reach does not know of its successor."""

ANSWERS_A_TURN = 4
"""Admins' calls whose waiting tasks are woken in one turn of the loop: what each does then holds up the relays."""


class Bus:
    """The links of one node.

    Args:
        topology: the masters, already discovered.
        times: the links' deadlines.
        pending_max: commands outstanding on a link at which further ones are refused.
        replication: what the answers to stored messages wait for; None = for nothing beyond their master's.

    Attributes:
        incarnation: the node id that keys and channels bear; set before ``start``.
        on_push: gets the payload of every message that a Function has published to this node.
        on_control: gets the payload of every message on the control channel, where people write.
        withheld: while true, no gate opens, whatever the links say: this node may have been taken for dead.
        on_linked: called whenever a link has been (re)connected and subscribed.
        on_up: gets the partitions that a link has begun to serve: it is connected, and nothing is withheld.
        on_down: gets the partitions whose link has broken.
        on_open: gets a gate that a barrier has opened again.
        on_data: called before anything received is looked at.
    """

    def __init__(
        self, topology: Topology, times: LinkTimes, pending_max: int, replication: Replication | None = None
    ) -> None:
        self.topology = topology
        self.keys = topology.keys
        self.times = times
        self.pending_max = pending_max
        self.incarnation = ""
        self.on_push: Callable[[bytes], None] = _nothing
        self.on_control: Callable[[bytes], None] = _nothing
        self.withheld = False
        self.on_linked: Callable[[], None] = _nothing
        self.on_up: Callable[[frozenset[int]], None] = _nothing
        self.on_down: Callable[[frozenset[int]], None] = _nothing
        self.on_open: Callable[[Gate], None] = _nothing
        self.on_data: Callable[[], None] = _nothing
        self.links: list[Link] = []
        # What stores messages goes out on these: the links themselves, or one pipeline more for each master.
        self._storing: Sequence[RelayPipeline] = self.links
        self._replication = replication
        self._cluster = topology.address.cluster
        self.gates: list[Gate] = []
        self._owner: list[int] = []
        self._generation = -1
        self._watched: dict[str, int] = {}
        self._turns = Turns(ANSWERS_A_TURN)
        self._barrier = 0
        self._settling: asyncio.Task[None] | None = None
        self._looked_at = 0.0
        self._unsettled = ""
        self._closed = False

    # Commands, by place.

    def store(self, place: int, command: tuple[Part, ...], callback: Callback, context: object = None) -> None:
        """Sends a command that stores a message; its reply comes when that is as durable as the deployment promises."""
        self._storing[self._owner[place]].post(command, callback, context)

    def relay(
        self,
        sender: str,
        to: str,
        flags: str,
        tail: bytes,
        limits: RelayLimits,
        callback: Callback,
        context: object = None,
    ) -> None:
        """Sends one direct message; its reply (RelayPipeline.relay) comes when it is as durable as ``store`` has it."""
        partition, prefix, _ = self.keys.relay(to)
        # A call of a cluster stays in one slot.
        group = partition if self._cluster else 0
        pipeline = self._storing[self._owner[partition]]
        pipeline.relay(group, f"{prefix}u:{to}", f"{prefix}in:{to}", sender, flags, tail, limits, callback, context)

    def call(self, call: Call, callback: Callback, context: object = None, *, urgent: bool = False) -> None:
        """Sends a call on the link of its partition (or place); urgent ones may use its reserve. See Pipeline.post."""
        self.links[self._owner[call.place]].post(call.command, callback, context, urgent=urgent)

    def tell(self, call: Call) -> None:
        """Sends a command whose answer nobody waits for."""
        self.links[self._owner[call.place]].post_unanswered(call.command)

    def ask(self, calls: Sequence[Call], *, storing: bool = False) -> asyncio.Future[list[Any]] | None:
        """Sends calls of one master for somebody who waits; None where its link cannot carry them now.

        Args:
            storing: they store messages, as in ``store``.

        Returns:
            A future of the replies, errors (store.errors) among them; it never fails, and may be cancelled.
        """
        if self._generation != self.topology.generation:
            return None
        link = (self._storing if storing else self.links)[self._owner[calls[0].place]]
        if link.spare < len(calls):
            return None
        answers = _Answers(len(calls), self._turns)
        for index, call in enumerate(calls):
            link.post(call.command, answers.put, index)
        return answers.whole

    def gate(self, partition: int) -> Gate:
        """The gate of the link that serves a partition."""
        return self.gates[self._owner[partition]]

    def watch(self, partition: int, channel: str, callback: Callback, context: object) -> None:
        """Subscribes to a channel, now and after every break."""
        self._watched[channel] = partition
        self.links[self._owner[partition]].subscribe(channel, callback, context)

    def unwatch(self, channel: str) -> None:
        """Ends it."""
        partition = self._watched.pop(channel, None)
        if partition is not None:
            self.links[self._owner[partition]].unsubscribe(channel)

    @property
    def replicates(self) -> bool:
        """Whether answers to stored messages wait for replicas."""
        return self._replication is not None

    @property
    def ready(self) -> bool:
        """Whether every link is connected, its probe has come back, and nothing is withheld."""
        linked = self.up and all(link.echoed for link in self.links)
        return linked and not self.withheld and all(each.up for each in self._storing)

    @property
    def fault(self) -> str | None:
        """Why not, for a person."""
        for link in self.links:
            if not link.up:
                return f"Redis at {link.endpoint} is away: {link.last_fault}"
            if not link.echoed:
                return f"Redis at {link.endpoint} does not echo the probe"
        for storing in self._storing:
            if not storing.up:
                return f"Redis at {storing.endpoint} takes no replicated messages: {storing.last_fault}"
        return "this node holds no lease" if self.withheld else None

    @property
    def up(self) -> bool:
        """Whether every link is connected and subscribed."""
        return bool(self.links) and all(link.up for link in self.links)

    # Life.

    def start(self) -> None:
        """Builds the links and begins to connect them."""
        self.links = []
        self.gates = []
        # The topology is shared with the admin calls, which may find a change first: until the links are rebuilt
        # they serve what they were built for.
        self._owner, self._generation = self.topology.owner[:], self.topology.generation
        for index, master in enumerate(self.topology.masters):
            gate = Gate()
            gate.away = gate.shut = True
            self.gates.append(gate)
            self.links.append(self._link(index, master))
        self._storing = self.links
        if self._replication is not None:
            self._storing = [self._replicated(index, master) for index, master in enumerate(self.topology.masters)]
        for each in self._connections():
            each.start()

    async def close(self) -> None:
        """Ends all links."""
        self._closed = True
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)
        for each in self._connections():
            await each.close()

    def _connections(self) -> Sequence[Pipeline]:
        return self.links if self._storing is self.links else (*self._storing, *self.links)

    def rename(self, incarnation: str) -> None:
        """Goes on as another incarnation: every link is rebuilt, subscribed to the new channels."""
        self.incarnation = incarnation
        for index, link in enumerate(self.links):
            link.probe_channel = self._probe_channel(index)
        for each in self._connections():
            each.rebuild("the node has a new incarnation")

    def withhold(self) -> None:
        """Shuts every gate, as if all links had broken, until ``release``."""
        if self.withheld:
            return
        self.withheld = True
        for index, gate in enumerate(self.gates):
            if not gate.away:
                gate.away = gate.shut = True
                self.on_down(frozenset(self._partitions(index)))

    def release(self) -> None:
        """Opens the gates of the links that are up, as if these had just been connected."""
        if not self.withheld:
            return
        self.withheld = False
        for index, link in enumerate(self.links):
            if link.up:
                self._open(index)

    def _open(self, index: int) -> None:
        self.gates[index].away = self.gates[index].shut = False
        self.on_up(frozenset(self._partitions(index)))

    def barrier(self) -> None:
        """Shuts every gate until its server has answered a PING sent now: what waited before it is then known."""
        self._barrier += 1
        for index, gate in enumerate(self.gates):
            if not gate.away:
                gate.shut = True
                self.links[index].post(("PING",), self._barrier_answered, (gate, self._barrier), urgent=True)

    def _barrier_answered(self, context: tuple[Gate, int], reply: object) -> None:
        gate, barrier = context
        if gate.away or barrier != self._barrier:
            # Another gap has come since: what happened in it lies behind its own PING.
            # The link broke: its sessions are fenced, and reclaimed when it is up again.
            return
        if isinstance(reply, StoreError):
            self.links[self.gates.index(gate)].rebuild("no answer to the barrier after a gap")
            return
        gate.shut = False
        self.on_open(gate)

    def tick(self, now: float) -> None:
        """Deadlines and probes; ``now`` is the event loop's time."""
        if self._generation not in (-1, self.topology.generation) or self._doubtful(now):
            self._looked_at = now
            self._settle_soon(None)
        for each in self._connections():
            each.tick(now)

    def _doubtful(self, now: float) -> bool:
        """Whether it is time to ask who the masters are."""
        address = self.topology.address
        if not address.moves:
            return False
        away = not all(link.up for link in self.links)
        return (away or bool(address.sentinels)) and now - self._looked_at > (SETTLE_S if away else SENTINELS_S)

    def _partitions(self, index: int) -> list[int]:
        return [place for place in range(self.keys.partitions) if self._owner[place] == index]

    def _probe_channel(self, index: int) -> str:
        partitions = self._partitions(index)
        return self.keys.node_channel(partitions[0] if partitions else 0, self.incarnation)

    def _link(self, index: int, master: Master) -> Link:
        partitions = frozenset(self._partitions(index))

        def channels() -> tuple[Iterable[str], Iterable[str]]:
            sharded = [self.keys.node_channel(partition, self.incarnation) for partition in sorted(partitions)]
            sharded += [channel for channel, partition in self._watched.items() if partition in partitions]
            # PUBLISH reaches every node of a cluster, so one link hears the control channel for all.
            return sharded, [names.CONTROL] if index == 0 else []

        def up(_: Link) -> None:
            self.on_linked()
            if not self.withheld and self.gates[index].away:
                self._open(index)

        def down(_: Link) -> None:
            self.gates[index].away = self.gates[index].shut = True
            if self._storing is not self.links:
                # It has no probe of its own, and what is asked of it before the break must not pass after it.
                self._storing[index].rebuild("the link to the same server broke")
            self.on_down(partitions)

        return Link(
            master.endpoint,
            self.times,
            channels=channels,
            on_subscribed=lambda link: self._admit(link, partitions),
            probe_channel=self._probe_channel(index),
            on_push=self._received,
            on_control=lambda payload: self.on_control(payload),
            on_up=up,
            on_down=down,
            **self._options(master),
        )

    def _replicated(self, index: int, master: Master) -> ReplicatedPipeline:
        assert self._replication is not None
        return ReplicatedPipeline(
            master.endpoint,
            self.times,
            self._replication,
            mark=self.keys.mark(next(iter(self._partitions(index)), 0)),
            wrote=wrote,
            on_up=_nothing,
            on_down=_nothing,
            **self._options(master),
        )

    def _options(self, master: Master) -> dict[str, Any]:
        """What all connections to a master have in common."""
        return {
            "pending_max": self.pending_max,
            "on_unsettled": lambda _: self._settle_soon(None),
            "on_missing": lambda _: self._settle_soon(master),
            "on_data": lambda: self.on_data(),
        }

    def _received(self, payload: bytes) -> None:
        if payload[:1] == b"q":
            token = payload[1:]
            for link in self.links:
                if link.probe_echo(token):
                    return
            return
        self.on_push(payload)

    # When the servers are no longer what they were.

    async def _admit(self, link: Link, partitions: frozenset[int]) -> None:
        """Lets a link be up; raises StoreError where its server is not the master, or is not taken for it."""
        if self.topology.address.sentinels:
            # One that was killed may be back, perhaps empty, before anybody has told it that another took its place.
            try:
                await self.topology.discover()
            except StoreError as error:
                log.warning("no sentinel tells who the master is: it is taken to be the one it was", reason=str(error))
            if self._generation != self.topology.generation:
                raise StoreUnavailable("the sentinels name another master")
        await epochs.settle(self.keys, sorted(partitions), link.ask)

    def _settle_soon(self, missing: Master | None) -> None:
        if self._closed or (self._settling is not None and not self._settling.done()):
            return
        self._settling = asyncio.get_running_loop().create_task(self._settle(missing), name="bus settle")

    async def _settle(self, missing: Master | None) -> None:
        try:
            if missing is not None:
                await load(missing)
                return
            if not await self.topology.discover() and self._generation == self.topology.generation:
                return
        except StoreError as error:
            # Asked again and again while nobody answers: said once.
            if str(error) != self._unsettled:
                self._unsettled = str(error)
                log.warning("the store's topology is unsettled", reason=self._unsettled)
            return
        self._unsettled = ""
        log.warning("the store's topology changed: all links are rebuilt")
        for each in self._connections():
            await each.close()
        self.start()


class _Answers:
    """Collects the replies of calls that were sent together."""

    __slots__ = ("_missing", "_replies", "_turns", "whole")

    def __init__(self, count: int, turns: Turns) -> None:
        self.whole: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._replies: list[Any] = [None] * count
        self._missing = count
        self._turns = turns

    def put(self, index: int, reply: Any) -> None:
        self._replies[index] = reply
        self._missing -= 1
        if not self._missing:
            self._turns.do(self._wake)

    def _wake(self) -> None:
        if not self.whole.done():
            self.whole.set_result(self._replies)


def _nothing(*_: object) -> None:
    pass
