"""The app of docs/python-sdk.md, as it is printed there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import START_DEADLINE_S, Gateway, Program

PAGE = Path(__file__).parents[2] / "docs" / "python-sdk.md"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with Gateway(tmp_path) as running:
        yield running


class App(Program):
    """The app in a process of its own, for one user."""

    program = ("chat.py",)

    def __init__(self, gateway: Gateway, me: str, other: str) -> None:
        app = re.search(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        assert app is not None
        (gateway.cwd / "chat.py").write_text(app[1], "utf-8")
        # Where `gateway` is, which the app asks for a token.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        super().__init__(me, other, f"ws://127.0.0.1:{gateway.client_port}", cwd=gateway.cwd, PATH=path)


def test_two_people_chat_over_a_restart_of_the_gateway(gateway: Gateway) -> None:
    with App(gateway, "alice", "bob") as alice:
        alice.say("anybody?")
        alice.shows("  not sent: no such user", START_DEADLINE_S)
        with App(gateway, "bob", "alice") as bob:
            alice.shows("* bob is online", START_DEADLINE_S)
            alice.say("hello")
            bob.shows("alice: hello")
            alice.shows("  delivered")
            ports = (gateway.client_port, gateway.admin_port)
            gateway.process.kill()
            gateway.ended()
            alice.shows("* waiting")
            alice.say("are you still there?")
            with Gateway(gateway.cwd, ports=ports) as again:
                bob.shows("alice: are you still there?", 60)
                bob.say("I am")
                alice.shows("bob: I am", 60)
                assert again.ctl("ban", "alice", "--minutes", "5").returncode == 0
                assert alice.ended() == 1
                assert "* banned (4502)" in alice.output
                bob.say("gone?")
                bob.shows("kept until alice is back")
                assert bob.process.stdin is not None
                bob.process.stdin.close()
                assert bob.ended() == 0
                assert again.stop() == 0
            assert (bob.output.count("alice: hello"), bob.output.count("are you still there?")) == (1, 1)
            assert "Traceback" not in alice.output + bob.output
