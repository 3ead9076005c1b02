"""Profanity words, through the vendor's client and on live sockets of two nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.node import Node
from tests.api.admin import Admin, refusal
from tests.api.vendor import Vendor
from tests.nodes import Client, login, running_node
from tests.servers import Server
from tests.waiting import eventually

ADD, LIST = "/v4/profanity-word/batch/add", "/v4/profanity-word/list"
REMOVE, REMOVE_BATCH = "/v4/profanity-word/remove", "/v4/profanity-word/batch/remove"


@pytest.fixture
async def nodes(valkey: Server) -> AsyncIterator[tuple[Node, Node]]:
    async with (
        running_node(valkey.url, node_id="a", words_max=4, body_bytes_max=1024) as a,
        running_node(valkey.url, node_id="b", words_max=4, body_bytes_max=1024) as b,
    ):
        yield a, b


@pytest.fixture
async def admin(nodes: tuple[Node, Node]) -> AsyncIterator[Admin]:
    """The first node's own admin port; clients are on the second."""
    node, _ = nodes
    async with httpx.AsyncClient() as http:
        yield Admin(f"http://127.0.0.1:{node.admin.port}", node.services, node.config, http)


@pytest.fixture
async def pair(nodes: tuple[Node, Node]) -> AsyncIterator[tuple[Client, Client]]:
    alice, bob = await login(nodes[1], "alice"), await login(nodes[1], "bob")
    yield alice, bob
    await alice.close()
    await bob.close()


async def add(vendor: Vendor, **words: str | None) -> int:
    listed = [{"word": word, "replacement": instead} for word, instead in words.items()]
    result = await vendor.call(
        vendor.moderation.batch_add_profanity_words, "ProfanityWordBatchAddRequest", words=listed
    )
    return int(result.remaining_quota)


async def listed(vendor: Vendor, filter_type: str | None = None) -> list[tuple[str, str, str]]:
    fields = {} if filter_type is None else {"filter_type": filter_type}
    result = await vendor.call(vendor.moderation.list_profanity_words, "ProfanityWordListRequest", **fields)
    return [(each.word, each.replacement, each.filter_type) for each in result.words]


async def answered(sender: Client, body: Any, code: int | None, **fields: Any) -> dict[str, Any]:
    """The answer to a send, once nodes have heard of the words: repeated until it bears the code."""
    answer: dict[str, Any] = {}

    async def bears() -> bool:
        nonlocal answer
        answer = await sender.send("bob", body, **fields)
        return answer.get("code") == code

    await eventually(bears)
    return answer


@pytest.mark.operation(ADD)
async def test_a_word_without_a_replacement_blocks_the_message(vendor: Vendor, pair: tuple[Client, Client]) -> None:
    alice, bob = pair
    assert await add(vendor, Scam=None) == 3
    answer = await answered(alice, {"text": "no \\u0053CAM"}, None)
    assert answer["type"] == "sent"
    answer = await answered(alice, {"text": "a SCAM", "scam": 1}, 21501)
    assert answer["type"] == "error"
    # Escaped, it is the same text.
    await alice.socket.send('{"type":"send","id":"e","to":"bob","body":{"text":"\\u0073cam"}}')
    assert (await alice.next("error"))["code"] == 21501
    marker = await alice.send("bob", "the end")
    received = []
    while not received or received[-1]["mid"] != marker["mid"]:
        received.append(await bob.next("message"))
    assert "a SCAM" not in str(received)


@pytest.mark.operation(ADD)
async def test_a_word_with_a_replacement_is_replaced_in_what_is_stored_and_delivered(
    nodes: tuple[Node, Node], vendor: Vendor, pair: tuple[Client, Client]
) -> None:
    alice, bob = pair
    laptop = await login(nodes[0], "alice", "?platform=desktop&device=laptop")
    await add(vendor, damn='"*"')
    answer = await answered(alice, {"text": "Damn it", "n": 1}, 21502)
    assert answer["type"] == "sent"

    async def body_of(client: Client) -> Any:
        while True:
            message = await client.next("message")
            if message["mid"] == answer["mid"]:
                return message["body"]

    expected = {"text": '"*" it', "n": 1}
    assert await body_of(bob) == expected
    assert await body_of(laptop) == expected
    again = await login(nodes[0], "bob", "?platform=desktop")
    assert await body_of(again) == expected
    plain = await alice.send("bob", "fine")
    assert "code" not in plain
    await laptop.close()
    await again.close()


async def test_a_body_that_grows_over_its_limit_is_refused(vendor: Vendor, pair: tuple[Client, Client]) -> None:
    await add(vendor, x="y" * 32)
    await answered(pair[0], "x", 21502)
    answer = await pair[0].send("bob", "x" * 40)
    assert (answer["type"], answer["code"]) == ("error", 30016)


async def test_an_ephemeral_message_is_looked_at_too(vendor: Vendor, pair: tuple[Client, Client]) -> None:
    await add(vendor, scam=None)
    assert (await answered(pair[0], "scam", 21501, ephemeral=True))["type"] == "error"


@pytest.mark.operation(LIST, REMOVE, REMOVE_BATCH)
async def test_words_are_listed_and_removed(vendor: Vendor, pair: tuple[Client, Client]) -> None:
    assert await listed(vendor, "2") == []
    assert await add(vendor, Scam=None, damn="d*mn", heck="") == 1
    assert await listed(vendor) == [("heck", "", "1"), ("Scam", "", "1")]
    assert await listed(vendor, "0") == [("damn", "d*mn", "0")]
    assert await listed(vendor, "2") == [("damn", "d*mn", "0"), ("heck", "", "1"), ("Scam", "", "1")]
    # The same word in another case takes its place and costs nothing.
    assert await add(vendor, SCAM="***") == 1
    await answered(pair[0], "scam", 21502)
    await vendor.call(vendor.moderation.remove_profanity_word, "ProfanityWordDeleteRequest", word="scaM")
    await answered(pair[0], "scam", None)
    await vendor.call(
        vendor.moderation.batch_remove_profanity_words, "ProfanityWordBatchDeleteRequest", words=["DAMN", "unheard"]
    )
    assert await listed(vendor, "2") == [("heck", "", "1")]


@pytest.mark.operation(ADD)
async def test_more_words_than_there_may_be_are_refused_and_none_is_added(vendor: Vendor, admin: Admin) -> None:
    await add(vendor, one=None, two=None)
    body = {"words": [{"word": word} for word in ("TWO", "three", "four", "five")]}
    assert refusal(await admin.call(ADD, body)) == (400, 1019)
    assert [word for word, _, _ in await listed(vendor)] == ["one", "two"]
    body["words"].pop()
    assert (await admin.result(ADD, body))["remainingQuota"] == 0


async def test_a_node_that_starts_knows_the_words_before_it_admits_anybody(valkey: Server, vendor: Vendor) -> None:
    await add(vendor, scam=None)
    async with running_node(valkey.url, node_id="c") as node:
        alice = await login(node, "alice")
        assert (await alice.send("alice", "a scam"))["code"] == 21501
        await alice.close()


async def test_a_node_that_missed_the_change_learns_of_it_with_its_lease(
    nodes: tuple[Node, Node], vendor: Vendor, pair: tuple[Client, Client]
) -> None:
    deaf = nodes[1]
    deaf.bus.on_control = lambda payload: None
    await add(vendor, scam=None)
    await answered(pair[0], "scam", 21501)
    assert deaf.services.words.lexicon


async def test_many_changes_at_once_leave_every_node_with_the_last(
    nodes: tuple[Node, Node], vendor: Vendor, admin: Admin
) -> None:
    for _ in range(5):
        await asyncio.gather(
            *(admin.result(ADD, {"words": [{"word": word}]}) for word in ("one", "two", "three")),
            *(admin.result(REMOVE, {"word": word}) for word in ("one", "four")),
        )
    await admin.result(REMOVE_BATCH, {"words": ["one", "two"]})

    def settled(node: Node) -> bool:
        lexicon = node.services.words.lexicon
        return lexicon is not None and lexicon.words == {"three": ""}

    for node in nodes:
        await eventually(lambda node=node: settled(node))
