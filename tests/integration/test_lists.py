"""A client's own lists, and looking users and sessions up, over its socket."""

from typing import Any

from tests.integration.fleet import two_nodes
from tests.nodes import Client, login, running_node
from tests.servers import Server
from tests.waiting import eventually


async def ok(client: Client, type_: str, **fields: Any) -> dict[str, Any]:
    answer = await client.ask(type_, **fields)
    assert answer["type"] == "ok", answer
    return answer


async def pages(client: Client, type_: str, limit: int) -> list[list[Any]]:
    """Every page of a list."""
    found: list[list[Any]] = []
    page: dict[str, str] = {}
    while True:
        answer = await ok(client, type_, limit=limit, **page)
        found.append(answer["users"])
        if "page" not in answer:
            return found
        page = {"page": answer["page"]}


async def test_the_blocklist_binds_at_once_and_is_paged_newest_first(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        alice, bob = await login(a, "alice"), await login(b, "bob")
        for number in range(5):
            await ok(alice, "blocklist.add", users=[f"u{number}"])
        await ok(alice, "blocklist.add", users=["bob", "bob", "alice"])
        assert (await bob.send("alice"))["code"] == 405
        assert await pages(alice, "blocklist.list", 4) == [["bob", "u4", "u3", "u2"], ["u1", "u0"]]
        assert await pages(alice, "blocklist.list", 6) == [["bob", "u4", "u3", "u2", "u1", "u0"]]
        checked = await ok(alice, "blocklist.check", users=["bob", "u9", "alice"])
        assert checked["users"] == {"bob": True, "u9": False, "alice": False}
        # What the admin side says is the same list.
        await b.services.relationships.unblock("alice", ["bob"])
        assert (await bob.send("alice"))["type"] == "sent"
        await ok(alice, "blocklist.remove", users=["u0", "u1", "nobody"])
        assert await pages(alice, "blocklist.list", 100) == [["u4", "u3", "u2"]]
        assert (await alice.ask("blocklist.list", page="not a page"))["code"] == 400
        assert (await alice.ask("blocklist.list", limit=1001))["code"] == 400
        assert (await alice.ask("blocklist.add", users=["not a user!"]))["code"] == 400
        for client in (alice, bob):
            await client.close()


async def test_a_list_has_a_limit_and_is_not_half_changed(valkey: Server) -> None:
    async with running_node(valkey.url, list_max=3) as node:
        alice = await login(node, "alice")
        await ok(alice, "blocklist.add", users=["u1", "u2"])
        assert (await alice.ask("blocklist.add", users=["u3", "u4"]))["code"] == 25467
        assert await pages(alice, "blocklist.list", 10) == [["u2", "u1"]]
        await ok(alice, "blocklist.add", users=["u1", "u2", "u3"])
        await alice.close()


async def test_the_allowlist_binds_only_while_it_is_on(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        alice, bob = await login(a, "alice"), await login(b, "bob")
        assert (await ok(alice, "allowlist.status"))["enabled"] is False
        await ok(alice, "allowlist.enable")
        assert (await ok(alice, "allowlist.status"))["enabled"] is True
        assert (await bob.send("alice"))["code"] == 407
        assert (await alice.send("alice"))["type"] == "sent"
        await ok(alice, "allowlist.add", users=["bob", "carol"])
        assert await pages(alice, "allowlist.list", 1) == [["carol"], ["bob"]]
        assert (await bob.send("alice"))["type"] == "sent"
        # All that apply must pass.
        await ok(alice, "blocklist.add", users=["bob"])
        assert (await bob.send("alice"))["code"] == 405
        await ok(alice, "blocklist.remove", users=["bob"])
        await ok(alice, "allowlist.remove", users=["bob"])
        assert (await bob.send("alice"))["code"] == 407
        await ok(alice, "allowlist.disable")
        assert (await bob.send("alice"))["type"] == "sent"
        for client in (alice, bob):
            await client.close()


async def test_friends_are_listed_with_their_names(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        alice = await login(a, "alice")
        for number in range(3):
            await b.services.tokens.issue(f"u{number}", f"Name {number}")
            assert await b.services.friends.befriend("alice", f"u{number}")
        await b.services.friends.note("alice", "u1", alias="Uno", attributes={"ext_a": "1"})
        found = await pages(alice, "friends.list", 2)
        assert [[(each["user"], each["name"], each["alias"]) for each in page] for page in found] == [
            [("u2", "Name 2", ""), ("u1", "Name 1", "Uno")],
            [("u0", "Name 0", "")],
        ]
        assert (await ok(alice, "friends.check", users=["u1", "bob"]))["users"] == {"u1": True, "bob": False}
        await b.services.friends.unfriend("u1", ["alice"])
        assert (await ok(alice, "friends.check", users=["u1"]))["users"] == {"u1": False}
        bob = await login(a, "bob")
        assert await pages(bob, "friends.list", 10) == [[]]
        for client in (alice, bob):
            await client.close()


async def test_users_are_looked_up_and_unknown_ones_left_out(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        alice = await login(node, "alice")
        await node.services.tokens.issue("bob", "Bob", "https://example.org/bob.png")
        answer = await ok(alice, "user.get", users=["bob", "nobody", "alice", "bob"])
        assert [(each["user"], each["name"], each["avatar_url"]) for each in answer["users"]] == [
            ("bob", "Bob", "https://example.org/bob.png"),
            ("alice", "Alice", ""),
        ]
        assert (await alice.ask("user.get", users=[f"u{n}" for n in range(21)]))["code"] == 400
        assert (await ok(alice, "user.get", users=["nobody"]))["users"] == []
        await alice.close()


async def test_ones_own_sessions_are_listed_on_all_nodes(valkey: Server) -> None:
    async with two_nodes(valkey.url) as (a, b):
        phone = await login(a, "alice", "?platform=ios&device=phone")
        laptop = await login(b, "alice", "?platform=desktop")
        opened = await phone.next("session")
        assert (opened["event"], opened["session"]) == ("opened", laptop.welcome["session"])
        listed = (await ok(laptop, "sessions.list"))["sessions"]
        assert [(each["session"], each["device"], each["platform"], each["node"], each["this"]) for each in listed] == [
            (phone.welcome["session"], "phone", "ios", "a", False),
            (laptop.welcome["session"], None, "desktop", "b", True),
        ]
        await phone.close()
        closed = await laptop.next("session")
        assert (closed["event"], closed["device"]) == ("closed", "phone")
        await eventually(lambda: _one_session(laptop))
        await laptop.close()


async def _one_session(client: Client) -> bool:
    return len((await ok(client, "sessions.list"))["sessions"]) == 1
