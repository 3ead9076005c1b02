"""What README.md and docs/python-sdk.md show, as it is printed there."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.client import Kicked
from tests.cli.processes import START_DEADLINE_S, Gateway, Program
from tests.client.conftest import Apps
from tests.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "python-sdk.md"
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with Gateway(tmp_path) as running:
        yield running


class App(Program):
    """The app in a process of its own, for one user."""

    program = ("chat.py",)

    def __init__(self, gateway: Gateway, me: str, other: str) -> None:
        (gateway.cwd / "chat.py").write_text(_blocks(PAGE)[0], "utf-8")
        # Where `gateway` is, which the app asks for a token.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        super().__init__(me, other, f"ws://127.0.0.1:{gateway.client_port}", cwd=gateway.cwd, PATH=path)

    def shows(self, text: str, deadline_s: float = START_DEADLINE_S) -> None:
        """As of any program; this one starts another for every attempt to connect."""
        super().shows(text, deadline_s)


def test_two_people_chat_over_a_restart_of_the_gateway(gateway: Gateway) -> None:
    with App(gateway, "alice", "bob") as alice:
        alice.say("anybody?")
        alice.shows("  not sent: no such user")
        with App(gateway, "bob", "alice") as bob:
            alice.shows("* bob is online")
            alice.say("hello")
            bob.shows("alice: hello")
            alice.shows("  delivered")
            ports = (gateway.client_port, gateway.admin_port)
            gateway.process.kill()
            gateway.ended()
            alice.shows("* waiting")
            alice.say("are you still there?")
            with Gateway(gateway.cwd, ports=ports) as again:
                bob.shows("alice: are you still there?")
                bob.say("I am")
                alice.shows("bob: I am")
                assert again.ctl("ban", "alice", "--minutes", "5").returncode == 0
                assert alice.ended(START_DEADLINE_S) == 1
                assert "* banned (4502)" in alice.output
                bob.say("gone?")
                bob.shows("kept until alice is back")
                assert bob.process.stdin is not None
                bob.process.stdin.close()
                assert bob.ended(START_DEADLINE_S) == 0
                assert again.stop() == 0
            assert (bob.output.count("alice: hello"), bob.output.count("are you still there?")) == (1, 1)
            assert "Traceback" not in alice.output + bob.output


def _blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def _function(block: str, *arguments: str) -> Callable[..., Awaitable[None]]:
    """A page's fragment as the body of a coroutine function."""
    source = f"async def fragment({', '.join(arguments)}):\n{textwrap.indent(block, '    ')}"
    names: dict[str, Any] = {}
    exec(source, names)
    return cast("Callable[..., Awaitable[None]]", names["fragment"])


class Output:
    """What was printed, gathered."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    async def shows(self, text: str) -> None:
        await eventually(lambda: text in self._gathered())

    def _gathered(self) -> str:
        self._text += self._capsys.readouterr().out
        return self._text


async def test_what_the_readme_shows_runs(apps: Apps, capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(capsys)
    bob, inbox = await apps.listening("bob")
    (fragment,) = (block for block in _blocks(README) if "gateway.client" in block)
    shown = _function(fragment.replace("ws://127.0.0.1:8080", apps.url()), "get_token")
    running = asyncio.ensure_future(shown(apps.token("alice")))
    await eventually(lambda: inbox.bodies == [{"text": "hello"}])
    await bob.send("alice", "back to you")
    await output.shows("bob back to you\n")
    running.cancel()
    await asyncio.wait({running})
    await bob.blocklist.add("alice")
    again = asyncio.ensure_future(shown(apps.token("alice")))
    await output.shows("bob does not want to hear from you\n")
    again.cancel()
    await asyncio.wait({again})


async def test_the_calls_that_the_page_lists_are_there(apps: Apps, capsys: pytest.CaptureFixture[str]) -> None:
    (calls,) = (block for block in _blocks(PAGE) if "client.watch" in block and "import" not in block)
    output = Output(capsys)
    alice = await apps.connected("alice", device="laptop", platform="desktop")
    phone = await apps.connected("alice", device="phone", platform="ios")
    await _function(calls, "client")(alice)
    assert isinstance(await phone.stopped(), Kicked)
    assert await alice.blocklist.check("mallory") == {"mallory": True}
    assert await alice.allowlist.status()
    await apps.connected("bob")
    await output.shows("user='bob', online=True")
