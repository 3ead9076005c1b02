"""The main job, end to end, on one node."""

from gateway.metrics import METRICS
from tests.nodes import login, running_node
from tests.servers import Server


async def test_two_users_exchange_messages_and_a_block_binds_at_once(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        alice = await login(node, "alice")
        bob = await login(node, "bob")
        sent = await alice.send("bob", {"text": "hi"}, kind="text")
        assert sent["type"] == "sent", sent
        assert sent["online"]
        message = await bob.next("message")
        assert message["from"] == "alice"
        assert message["body"] == {"text": "hi"}
        assert message["mid"] == sent["mid"]
        assert message["sent_at"] == sent["sent_at"]
        assert (await bob.ask("blocklist.add", users=["alice"]))["type"] == "ok"
        refused = await alice.send("bob")
        assert refused["code"] == 405
        ban = await node.services.bans.ban(["bob"], minutes=5, reason="test")
        assert ban.sessions_closed == 1
        assert ban.nodes_silent == []
        code, reason = await bob.closed()
        assert code == 4502
        assert reason["code"] == 31011
        assert not await node.services.presence.online("bob")
        await alice.close()


async def test_a_push_that_cannot_be_read_leaves_the_others_of_its_batch(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        alice, bob = await login(node, "alice"), await login(node, "bob")
        before = METRICS.callbacks_failed
        pushes = [b'{"type":"message","mid":"%d"}' % number for number in range(3)]
        places = (b"9999999999999-1", b"no-place", b"9999999999999-2")
        heads = [b"bob\n%b\n%d" % (place, len(push)) for place, push in zip(places, pushes, strict=True)]
        node.relay.received_many(b"M3\n" + b"\n".join(heads) + b"\n" + b"".join(pushes))
        assert [(await bob.next("message"))["mid"] for _ in range(2)] == ["0", "2"]
        assert METRICS.callbacks_failed == before + 1
        await alice.close()
        await bob.close()
