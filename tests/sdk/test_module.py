"""The module as apps get it: fresh, typed, packed, and loaded by Node with and without a WebSocket of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

import gateway
from gateway.node import Node
from gateway.protocol import pushes, replies
from gateway.protocol.codes import CLOSE_CODES, STOP_FROM, Code
from tests.nodes import login
from tests.sdk.apps import connected, url
from tests.sdk.stage import SDK, node_stage, until
from tests.servers import node_binary, npm_binary

EXPORT = re.compile(r"^export (?:declare )?class (\w+)(?: extends (\w+))?", re.MULTILINE)
MEMBER = re.compile(r"^  (?:readonly )?(?:(\w+)\??|\[(Symbol\.\w+)\])(?=[(:])", re.MULTILINE)


def run(*command: str | Path, where: Path = SDK) -> str:
    """What a command wrote; AssertionError when it failed."""
    # Without a registry: nothing may be fetched.
    environment = os.environ | {"npm_config_offline": "true", "npm_config_update_notifier": "false"}
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def evaluate(code: str) -> object:
    """A JSON value that a piece of an ES module, in which `sdk` is the module, prints."""
    module = f"import * as sdk from {json.dumps((SDK / 'gateway.js').as_uri())};\n{code}"
    return json.loads(run(node_binary(), "--input-type=module", "--eval", module))


def test_it_is_made_from_its_parts() -> None:
    run(node_binary(), "bundle.js", "--check")


def test_it_needs_nothing() -> None:
    text = (SDK / "gateway.js").read_text()
    assert re.findall(r"^import .*", text, re.MULTILINE) == []
    # Only Node comes there, and only where it has no WebSocket.
    assert re.findall(r"import\((.*?)\)", text) == ["'./node-socket.js'"]


def test_its_types_name_what_it_exports() -> None:
    typed = {name: base for name, base in EXPORT.findall((SDK / "gateway.d.ts").read_text()) if name != "Client"}
    exported = evaluate("""
        const bases = Object.values(sdk).filter((each) => each !== sdk.Client)
            .map((each) => [each.name, Object.getPrototypeOf(each).name]);
        console.log(JSON.stringify(Object.fromEntries(bases)));
    """)
    assert typed == exported


def test_its_types_name_every_member() -> None:
    """Of the client and of each of its lists, from the objects themselves."""
    members = evaluate("""
        const named = (each) => {
            const names = new Set(Object.keys(each));
            for (let on = Object.getPrototypeOf(each); on !== Object.prototype; on = Object.getPrototypeOf(on)) {
                for (const name of Reflect.ownKeys(on)) names.add(typeof name === 'symbol' ? name.description : name);
            }
            return [...names];
        };
        const client = new sdk.Client('ws://localhost', { token: 'x' });
        const found = { Client: named(client) };
        for (const name of ['blocklist', 'allowlist', 'friends', 'sessions', 'users']) {
            found[name[0].toUpperCase() + name.slice(1)] = named(client[name]);
        }
        console.log(JSON.stringify(found));
    """)
    assert isinstance(members, dict)
    text = (SDK / "gateway.d.ts").read_text()
    # What the parts keep for one another is not the app's.
    inner = {"constructor", "handlers"}
    for kind, found in members.items():
        block = re.search(rf"^export (?:class|interface) {kind}\b.*?^}}", text, re.MULTILINE | re.DOTALL)
        assert block is not None, kind
        typed = {name or symbol for name, symbol in MEMBER.findall(block.group())}
        assert typed - inner == set(found) - inner, kind


def test_its_options_are_those_of_the_types() -> None:
    text = (SDK / "gateway.d.ts").read_text()
    block = re.search(r"^export interface Options \{.*?^\}", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    typed = set(re.findall(r"^  (\w+)\??:", block.group(), re.MULTILINE)) - {"token"}
    assert evaluate(f"""
        const taken = {json.dumps(sorted(typed | {"tokens", "toString"}))}.filter((name) => {{
            try {{
                new sdk.Client('ws://localhost', {{ token: 'x', [name]: undefined }});
            }} catch (error) {{
                return !error.message.startsWith('unknown option');
            }}
            return true;
        }});
        console.log(JSON.stringify(taken));
    """) == sorted(typed)


def test_it_knows_every_code_that_says_stop_and_every_push() -> None:
    """What the protocol gets anew must be decided here, not forgotten."""
    text = (SDK / "gateway.js").read_text()
    stops = {close.code for close in CLOSE_CODES if close.code >= STOP_FROM}
    assert stops == {int(code) for code in re.findall(r"^  \[(45\d\d), [A-Z]\w+\],$", text, re.MULTILINE)}
    refusals = {int(code) for code in re.findall(r"^  \[(\d+), [A-Z]\w+\],$", text, re.MULTILINE)} - stops
    only_at_connect = {Code.FORBIDDEN, Code.TOO_MANY_CONNECTS, Code.TOKEN_INVALID, Code.BANNED, Code.REPLACED}
    only_at_connect |= {Code.BANNED_WHILE_CONNECTED, Code.TOKEN_EXPIRED, Code.REFUSED_DEVICE, Code.TOO_MANY_SESSIONS}
    assert refusals == set(Code) - only_at_connect - {Code.PROFANITY_REPLACED, Code.USER_LIMIT}
    handled = set(re.findall(r"case '(\w+)':", text)) | {"welcome", "going_away"}
    assert handled == {str(kind.__struct_config__.tag) for kind in (*pushes.PUSHES, *replies.REPLIES)}


def test_the_package_has_the_version_of_the_gateway() -> None:
    assert json.loads((SDK / "package.json").read_text())["version"] == gateway.__version__


WAYS = ("--experimental-websocket", "--no-experimental-websocket", "--no-experimental-global-webcrypto")
"""How one Node is like another: with a WebSocket of its own, without, and without the global `crypto`."""


def ways() -> list[tuple[str, ...]]:
    """This Node as it is, and with each of those flags that it knows."""
    known = "JSON.stringify([...process.allowedNodeEnvironmentFlags])"
    allowed = set(json.loads(run(node_binary(), "--print", known)))
    return [(), *((flag,) for flag in WAYS if flag in allowed or flag.replace("--no-", "--") in allowed)]


@pytest.mark.asyncio(loop_scope="session")
async def test_node_talks_with_and_without_a_websocket_of_its_own(node: Node) -> None:
    sockets = set()
    for flags in ways():
        user = f"bob{len(sockets)}"
        bob = await login(node, user)
        async with node_stage(*flags) as stage:
            own = await stage.run("return typeof WebSocket !== 'undefined'")
            assert own is {"--experimental-websocket": True, "--no-experimental-websocket": False}.get(
                "".join(flags), own
            )
            sockets.add(own)
            await connected(stage, url(node), await node.services.tokens.issue("alice", "Alice"))
            await stage.run(f"await app.client.send('{user}', 'é'.repeat(40000))")
            assert (await bob.next("message"))["body"] == "é" * 40000
            await bob.send("alice", "ü" * 60000)
            await until(stage, "app.of.client.messages.length === 1")
            assert await stage.run("return app.of.client.messages[0].body") == "ü" * 60000
        await bob.close()
    assert False in sockets, "the package's own WebSocket was not used"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A module of an app that has the package from its tarball, installed without a network."""
    run(npm_binary(), "pack", "--pack-destination", tmp_path)
    [tarball] = tmp_path.glob("*.tgz")
    app = tmp_path / "app"
    app.mkdir()
    (app / "package.json").write_text('{"name": "app", "private": true}')
    run(npm_binary(), "install", "--no-audit", "--no-fund", tarball, where=app)
    packed = {"README.md", "gateway.d.ts", "gateway.js", "node-socket.js", "package.json"}
    assert {each.name for each in (app / "node_modules" / "gateway-client").iterdir()} == packed
    (app / "app.mjs").write_text("export * from 'gateway-client';")
    return app / "app.mjs"


@pytest.mark.asyncio(loop_scope="session")
async def test_the_packed_tarball_installs_offline_and_runs(node: Node, package: Path) -> None:
    bob = await login(node, "bob")
    async with node_stage(module=package) as stage:
        await connected(stage, url(node), await node.services.tokens.issue("alice", "Alice"))
        await stage.run("await app.client.send('bob', 'from a package')")
        assert (await bob.next("message"))["body"] == "from a package"
    await bob.close()
