"""What only a page has: a network that goes and comes, and a window that is hidden and shown again."""

from __future__ import annotations

import pytest

from gateway.core.close import Closing
from gateway.node import Node
from gateway.protocol import codes
from tests.nodes import login
from tests.sdk.apps import connected, in_front_of, told, url
from tests.sdk.stage import PageStage, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

NEVER = "Math.random = () => 1;"
"""Every back-off at its longest from now on."""


async def token(node: Node, user: str) -> str:
    return await node.services.tokens.issue(user, user.title())


async def test_offline_it_waits_and_online_it_is_back_at_once(node: Node, page: PageStage) -> None:
    bob = await login(node, "bob")
    await connected(page, url(node), [await token(node, "alice")])
    await page.page.context.set_offline(True)
    await until(page, "app.client.state === 'waiting'")
    assert await told(page, "asked") == 1
    await bob.send("alice", "while you were out")
    await page.run("app.sending = app.client.send('bob', 'written out there')")
    # The back-off would be over by then many times; without a network nothing is tried.
    await page.run("await new Promise((resolve) => setTimeout(resolve, 700))")
    assert await told(page, "states") == ["connecting", "live", "waiting"]
    assert await told(page, "asked") == 1
    await page.page.context.set_offline(False)
    await until(page, "app.of.client.messages.length === 1")
    await page.run("await app.sending")
    assert (await bob.next("message"))["body"] == "written out there"
    assert await told(page, "resumed") == [True, True]
    await bob.close()


async def test_back_online_the_back_off_is_forgotten_but_not_what_the_gateway_said(node: Node, page: PageStage) -> None:
    async with in_front_of(node) as proxy:
        await connected(page, url(node, proxy), [await token(node, "alice")])
        await page.run(NEVER)
        proxy.refuse()
        # Four attempts have failed: the next one is eight seconds away.
        await until(page, "app.of.client.asked === 4 && app.client.state === 'waiting'")
        proxy.accept()
        await page.page.context.set_offline(True)
        await page.page.context.set_offline(False)
        await until(page, "app.client.state === 'live'", 3.0)
    await page.run("await app.client.close()")
    await connected(page, url(node), [await token(node, "alice")], "told")
    [session] = node.hub.of("alice")
    session.cut(Closing.of(codes.TRY_LATER, "come later", retry_after_ms=60_000))
    await until(page, "app.told.state === 'waiting'")
    await page.page.context.set_offline(True)
    await page.page.context.set_offline(False)
    await page.run("await new Promise((resolve) => setTimeout(resolve, 300))")
    assert await told(page, "asked", "told") == 1


async def test_a_page_that_was_hidden_checks_its_link_and_misses_nothing(node: Node, page: PageStage) -> None:
    bob = await login(node, "bob")
    async with in_front_of(node) as proxy:
        await connected(page, url(node, proxy), [await token(node, "alice")])
        await _visibility(page, "hidden")
        # The link dies without a word meanwhile, as when a laptop is shut.
        proxy.pause()
        await bob.send("alice", "while you looked away")
        await _visibility(page, "visible")
        # The default heartbeat would notice after some forty seconds.
        await until(page, "app.client.state !== 'live'", 8.0)
        proxy.cut()
        proxy.resume()
        await until(page, "app.of.client.messages.length === 1")
        assert await told(page, "resumed") == [True, True]
    await bob.close()


async def test_a_page_that_goes_keeps_what_it_has_handled(node: Node, page: PageStage) -> None:
    """It may never run again: what is batched is told before."""
    bob = await login(node, "bob")
    await page.run(f"""
        app.saved = [];
        const cursors = {{ load: () => null, save: (cursor) => {{ app.saved.push(cursor); }} }};
        const client = app.client = new sdk.Client('{url(node)}', {{ token: '{await token(node, "alice")}', cursors }});
        app.places = [];
        client.onMessage(({{ cursor }}) => {{ app.places.push(cursor); }});
        await client.connect();
    """)
    sent = await bob.send("alice", "the last")
    assert sent["type"] == "sent"
    kept = """
        while (app.places.length === 0) await new Promise((resolve) => { setTimeout(resolve); });
        const before = app.saved.at(-1) === app.places[0];
        window.dispatchEvent(new Event('pagehide'));
        await Promise.resolve();
        await Promise.resolve();
        return [before, app.saved.at(-1) === app.places[0]];
    """
    assert await page.run(kept) == [False, True]
    await bob.close()


async def test_a_page_that_was_hidden_keeps_a_link_that_lives(node: Node, page: PageStage) -> None:
    bob = await login(node, "bob")
    await connected(page, url(node), [await token(node, "alice")])
    await _visibility(page, "hidden")
    await bob.send("alice", "still there")
    await _visibility(page, "visible")
    await until(page, "app.of.client.messages.length === 1")
    await page.run("await app.client.ping()")
    assert await told(page, "states") == ["connecting", "live"]
    await bob.close()


async def test_a_page_shown_again_tries_at_once(node: Node, page: PageStage) -> None:
    async with in_front_of(node) as proxy:
        await connected(page, url(node, proxy), [await token(node, "alice")])
        await page.run(NEVER)
        proxy.refuse()
        await until(page, "app.of.client.asked === 4 && app.client.state === 'waiting'")
        proxy.accept()
        await _visibility(page, "hidden")
        await _visibility(page, "visible")
        await until(page, "app.client.state === 'live'", 3.0)


async def _visibility(page: PageStage, state: str) -> None:
    """What the page is told when its tab is covered or shown; a browser without windows never covers one by itself."""
    await page.run(f"""
        Object.defineProperty(document, 'visibilityState', {{ value: '{state}', configurable: true }});
        document.dispatchEvent(new Event('visibilitychange'));
    """)
