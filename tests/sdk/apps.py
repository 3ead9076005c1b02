"""Code of small apps, as the tests of the JavaScript SDK run them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from gateway.node import Node
from tests.proxy import Proxy
from tests.sdk.stage import Stage


def url(node: Node, proxy: Proxy | None = None) -> str:
    """Of a node's client port, or of a proxy in front of it."""
    return f"ws://127.0.0.1:{proxy.url.rpartition(':')[2] if proxy is not None else node.listener.port}/"


def in_front_of(node: Node) -> Proxy:
    """A proxy for the client port, to be entered."""
    return Proxy(f"redis://127.0.0.1:{node.listener.port}")


async def prepare(
    stage: Stage, address: str, tokens: str | Iterable[str], name: str = "client", **options: Any
) -> None:
    """Makes a client that keeps what it is told under its name: `app.of[name].messages`, `.states`, `.faults` …

    Args:
        tokens: one, given as a string; or several, given by a function one after the other, the last for ever.
    """
    given = json.dumps({"device": "d1", **options})
    token = json.dumps(tokens if isinstance(tokens, str) else list(tokens))
    await stage.run(f"""
        const told = {{ messages: [], states: [], faults: [], resumed: [], asked: 0 }};
        const tokens = {token};
        const next = () => {{
            told.asked += 1;
            return tokens.length > 1 ? tokens.shift() : tokens[0];
        }};
        const token = typeof tokens === 'string' ? tokens : async () => next();
        const client = app.{name} = new sdk.Client({json.dumps(address)}, {{ token, ...{given} }});
        app.of = {{ ...app.of, {name}: told }};
        client.onState((state) => told.states.push(state));
        client.onError((error) => told.faults.push(String(error)));
        client.onResumed((recovered) => told.resumed.push(recovered));
        client.stopped().then((why) => {{ told.why = why; }});
    """)


async def listen(stage: Stage, name: str = "client") -> None:
    """Its messages go to `messages` from now on."""
    await stage.run(f"app.{name}.onMessage((message) => {{ app.of.{name}.messages.push(message); }})")


async def connected(
    stage: Stage, address: str, tokens: str | Iterable[str], name: str = "client", **options: Any
) -> None:
    """The same, listening and connected."""
    await prepare(stage, address, tokens, name, **options)
    await listen(stage, name)
    await stage.run(f"await app.{name}.connect()")


async def told(stage: Stage, what: str, name: str = "client") -> Any:
    """What it was told so far."""
    return await stage.run(f"return app.of.{name}.{what}")
