"""The echo: what one device sends, the user's other devices see."""

from gateway.metrics import METRICS
from tests.integration.fleet import everything, two_nodes
from tests.nodes import login, running_node
from tests.servers import Server
from tests.waiting import eventually


async def test_what_one_device_sends_the_others_see_once_and_the_sender_not_at_all(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        phone = await login(a, "alice", "?platform=ios&device=phone")
        laptop = await login(b, "alice", "?platform=desktop&device=laptop")
        tab = await login(a, "alice", "?platform=web")
        bob = await login(b, "bob")
        assert (await phone.next("session"))["event"] == "opened"
        sent = await phone.send("bob", {"text": "hi"})
        for other in (laptop, tab):
            echo = await other.next("message")
            assert (echo["from"], echo["to"], echo["mid"], echo["device"]) == ("alice", "bob", sent["mid"], "phone")
            assert echo["body"] == {"text": "hi"}
        assert (await bob.next("message")).get("device") is None
        # An answer of bob's comes after it in alice's inbox, on the device that was passed over as well.
        await bob.send("alice", "back")
        for mine in (phone, laptop, tab):
            assert (await mine.next("message"))["body"] == "back"
        assert [message for message in phone.received if message["type"] == "message"] == []
        for client in (phone, laptop, tab, bob):
            await client.close()


async def test_a_device_that_was_away_gets_the_echo_from_the_inbox(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        laptop = await login(node, "alice", "?platform=desktop&device=laptop")
        bob = await login(node, "bob")
        await bob.send("alice", "one")
        await laptop.say({"type": "ack", "cursor": (await laptop.next("message"))["cursor"]})
        await laptop.ask("ping")
        await laptop.close()
        phone = await login(node, "alice", "?platform=ios&device=phone")
        sent = await phone.send("bob", "two")
        laptop = await login(node, "alice", "?platform=desktop&device=laptop")
        echo = await laptop.next("message")
        assert (echo["mid"], echo["device"], echo["to"]) == (sent["mid"], "phone", "bob")
        for client in (phone, laptop, bob):
            await client.close()


async def test_a_device_that_comes_again_is_not_brought_what_it_sent_itself(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        token = await a.services.tokens.issue("alice", "Alice")
        laptop = await login(b, "alice", "?platform=desktop&device=laptop", token)
        phone = await login(a, "alice", "?platform=ios&device=phone", token)
        bob = await login(b, "bob")
        # Neither the body nor a name that ends like the device's makes it another's or its own.
        bodies = ["mine", {"device": "laptop"}]
        for body in bodies:
            assert (await phone.send("bob", body))["type"] == "sent"
        assert [(await laptop.next("message"))["body"] for _ in bodies] == bodies
        assert (await laptop.send("bob", {"device": "phone"}))["type"] == "sent"
        assert (await phone.next("message"))["body"] == {"device": "phone"}
        await bob.send("alice", {"text": "x", "device": "phone"})
        await phone.next("message")
        for query in ("", f"&since={phone.welcome['cursor']}"):
            await phone.close()
            phone = await login(b, "alice", f"?platform=ios&device=phone{query}", token)
            brought = [await phone.next("message") for _ in range(2)]
            assert [(each["from"], each.get("device")) for each in brought] == [("alice", "laptop"), ("bob", None)]
            assert await everything(phone) == []
        for client in (phone, laptop, bob):
            await client.close()


async def test_a_user_with_one_device_has_no_echo_and_a_refused_message_has_none(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        alice = await login(node, "alice", "?platform=ios&device=phone")
        bob = await login(node, "bob")
        inbox = node.store.keys.user("alice").inbox
        await alice.send("bob", "alone")
        with valkey.client() as redis:
            assert redis.xlen(inbox) == 0
            tab = await login(node, "alice", "?platform=web")
            await alice.next("session")
            await bob.ask("blocklist.add", users=["alice"])
            assert (await alice.send("bob"))["code"] == 405
            await alice.send("bob", "typing", ephemeral=True)
            await alice.send("alice", "note to self")
            assert (await tab.next("message"))["body"] == "note to self"
            await eventually(lambda: redis.xlen(inbox) == 1)
        for client in (alice, tab, bob):
            await client.close()


async def test_an_inbox_half_full_passes_echoes_on_and_keeps_room_for_others(valkey: Server) -> None:
    async with two_nodes(valkey.url, inbox_max=6) as (a, b):
        phone = await login(a, "alice", "?platform=ios&device=phone")
        laptop = await login(b, "alice", "?platform=desktop&device=laptop")
        await phone.next("session")
        bob = await login(b, "bob")
        stored, unstored = METRICS.messages_echoed, METRICS.echoes_unstored
        for number in range(5):
            assert (await phone.send("bob", number))["type"] == "sent"
        echoes = [await laptop.next("message") for _ in range(5)]
        assert [each["body"] for each in echoes] == list(range(5))
        assert ["cursor" in each for each in echoes] == [True] * 3 + [False] * 2
        assert all(each["device"] == "phone" and each["sent_at"] > 0 for each in echoes)
        await eventually(lambda: METRICS.echoes_unstored == unstored + 2)
        assert METRICS.messages_echoed == stored + 3
        # Others still reach her, on both devices, and in one order with what came before.
        for number in range(3):
            assert (await bob.send("alice", number))["type"] == "sent"
        assert (await bob.send("alice", "no room"))["code"] == 20607
        for mine in (phone, laptop):
            assert [(await mine.next("message"))["body"] for _ in range(3)] == [0, 1, 2]
        await laptop.close()
        laptop = await login(a, "alice", f"?platform=desktop&device=laptop&since={echoes[2]['cursor']}")
        assert laptop.welcome["recovered"] is True
        assert [(await laptop.next("message"))["from"] for _ in range(3)] == ["bob"] * 3
        for client in (phone, laptop, bob):
            await client.close()
