"""`gateway connect`: what is typed, what is shown, what it lives through."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.cli import words
from tests.api.signing import signed
from tests.cli.processes import START_DEADLINE_S, Gateway, Program, command, environment, run
from tests.waiting import wait_until


def test_every_command_does_what_its_help_says(gateway: Gateway) -> None:
    with gateway.connect("alice") as alice, gateway.connect("bob", "--name", "Bob B.") as bob:
        alice.say("/watch bob")
        alice.shows("* bob is online (desktop)")
        alice.say("/to bob hello")
        alice.shows("delivered")
        bob.shows("alice: hello")
        alice.say("a line without a slash")
        bob.shows("alice: a line without a slash")
        bob.say("/allow alice carol")
        bob.say("/allow remove carol")
        bob.say("/allow on")
        bob.say("/allow list")
        bob.shows("* allowed (on): alice\n")
        bob.say("/block alice")
        bob.shows("* blocked: alice\n")
        alice.shows("* bob is offline")
        alice.say("blocked?")
        alice.shows("! you are on the recipient's blocklist (405)")
        bob.say("/blocked")
        bob.say("/unblock alice")
        bob.shows("* unblocked: alice")
        alice.say("/who bob zed")
        alice.shows("* bob: Bob B.\n* zed: no such user")
        alice.say("/friends")
        alice.shows("* friends: nobody")
        alice.say("/refresh")
        alice.shows("* the new token does not expire")
        bob.say("/sessions")
        bob.shows(", this one")
        alice.say("/unwatch bob")
        alice.shows("* no longer watched: bob")
        found = re.search(r"^\* (\S+)  desktop .*, this one$", bob.output, re.MULTILINE)
        assert found, bob.output
        bob.say(f"/drop {found[1][:6]}")
        assert bob.ended() == 1
        bob.shows("! you were kicked")
        alice.say("/quit")
        # One line was refused.
        assert alice.ended() == 1


def test_what_is_typed_wrong_is_answered_with_how_to_type_it(gateway: Gateway) -> None:
    with gateway.connect("clumsy") as clumsy:
        for line, told in (
            ("hello", "! to whom? write /to bob hello"),
            ("/frobnicate", "! there is no command /frobnicate; /help lists them"),
            ("/to", "! write /to USER [TEXT]"),
            ("/block", "! write /block USER …"),
            ("/unwatch", "! write /unwatch USER …"),
            ("/allow", "! write /allow USER …"),
            ("/drop nothing", "! no sessions begin with nothing"),
            ("/to nobody-there hi", "! no such user (404)"),
            ("/block zz!!", "! zz!!: not a user id"),
            ("x" * 140_000, "! more than 128 KiB are not sent in one line"),
            ("/help", "/sessions"),
        ):
            clumsy.say(line)
            clumsy.shows(told)


def test_a_message_may_begin_with_a_slash(gateway: Gateway) -> None:
    with gateway.connect("slash") as slash, gateway.connect("reader") as reader:
        slash.say("/to reader first")
        slash.say("//shrug")
        reader.shows("slash: /shrug")


def test_joiners_are_shown_and_what_turns_the_direction_is_not() -> None:
    family = "\U0001f468\u200d\U0001f469\ufe0f"
    assert (
        words.clean(f"\u0645\u06cc\u200c\u062e {family} \u202eabc\u2066\x1b[1m")
        == f"\u0645\u06cc\u200c\u062e {family}  abc  [1m"
    )


def test_what_others_write_cannot_move_the_cursor(gateway: Gateway) -> None:
    with gateway.connect("mallory") as mallory, gateway.connect("victim") as victim:
        mallory.say("/to victim \x1b[2Jgone\x07 [red]plain[/red]")
        victim.shows("mallory:  [2Jgone  [red]plain[/red]")


def test_what_the_app_takes_back_or_changes_is_told_once(gateway: Gateway) -> None:
    def ask(path: str, **body: Any) -> Any:
        credentials = json.loads((gateway.cwd / "data" / "credentials.json").read_text())
        headers = signed(app_key=credentials["app_key"], secret=credentials["app_secret"])
        answer = httpx.post(f"http://127.0.0.1:{gateway.admin_port}/v4{path}", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json().get("result")

    between = {"fromUserId": "author", "content": '{"text": "first"}'}
    with gateway.connect("reader") as reader, gateway.connect("author") as author:
        sent = ask("/direct-channel/message/send", toUserIds=["reader"], messageType="text", **between)
        mid = sent["messageIds"][0]["messageId"]
        reader.shows("author: first")
        ask(
            "/direct-channel/message/update",
            **between | {"targetId": "reader", "messageId": mid, "content": "se\x1bcond"},
        )
        reader.shows("* a message of author now says: se cond")
        author.shows("* your message to reader now says: se cond")
        ask("/message/delete", fromUserId="author", channelType=1, channelId="reader", messageId=mid)
        reader.shows("* a message of author was recalled")
        author.shows("* your message to reader was recalled")
        # Who leaves says what was shown; acks wait a moment for more.
        for client in (reader, author):
            client.say("/quit")
            assert client.ended() == 0
    with gateway.connect("reader") as again, gateway.connect("author") as author:
        author.say("/to reader after")
        again.shows("author: after")
        assert "recalled" not in again.output
        assert "cond" not in again.output


def test_piped_lines_are_carried_out_to_the_last(gateway: Gateway) -> None:
    with gateway.connect("listener") as listener:
        done = _piped(gateway, "/to listener from a script\n", "scripted")
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
        listener.shows("scripted: from a script")


def _piped(gateway: Gateway, lines: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("connect", *arguments),
        cwd=gateway.cwd,
        env=environment(),
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_end_of_the_input_waits_for_the_outcome(gateway: Gateway) -> None:
    welcome = _piped(gateway, "", "hasty")
    assert (welcome.returncode, "connected as hasty" in welcome.stdout) == (0, True)
    url = f"ws://127.0.0.1:{gateway.client_port}"
    refused = _piped(gateway, "", "hasty", "--token", "rubbish", "--url", url)
    assert (refused.returncode, "! your token is not valid here" in refused.stdout) == (1, True)
    nobody = _piped(gateway, "", "hasty", "--token", "t", "--url", "ws://127.0.0.1:1")
    assert (nobody.returncode, "nobody answers" in nobody.stderr) == (1, True)


def test_another_port_than_the_clients_is_told_for_what_it_is(gateway: Gateway) -> None:
    done = _piped(gateway, "", "lost", "--token", "t", "--url", f"ws://127.0.0.1:{gateway.admin_port}")
    assert (done.returncode, "! that is not a gateway's client port" in done.stdout) == (1, True), done


def test_a_refused_piped_send_is_in_the_exit_status(gateway: Gateway) -> None:
    done = _piped(gateway, "/to nobody-there hi\n/to scripted but this\n", "scripted")
    assert (done.returncode, "! no such user (404)" in done.stdout) == (1, True)


def test_a_token_and_a_url_are_all_that_a_remote_gateway_takes(gateway: Gateway, tmp_path: Path) -> None:
    token = run("token", "remote", "--name", "Remote", cwd=gateway.cwd)
    assert token.returncode == 0, token.stderr
    url = f"ws://127.0.0.1:{gateway.client_port}"
    with Program("connect", "remote", "--token", token.stdout.strip(), "--url", url, cwd=tmp_path) as client:
        client.shows("connected as remote")
        client.say("/refresh")
        client.shows("this token was given with --token")
    with Program("connect", "remote", "--token", "rubbish", "--url", url, cwd=tmp_path) as client:
        assert client.ended() == 1
        assert "! your token is not valid here (31004)" in client.output


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["alice"], 1, "credentials.json does not exist"),
        (["not an id"], 2, "not a user id"),
        (["alice", "--url", "http://x"], 2, "must begin with ws:// or wss://"),
        (["alice", "--token", "t", "--url", "ws://127.0.0.1:1"], 1, "nobody answers at ws://127.0.0.1:1"),
    ],
)
def test_what_keeps_it_from_connecting_is_one_line(
    tmp_path: Path, arguments: list[str], status: int, told: str
) -> None:
    done = run("connect", *arguments, cwd=tmp_path)
    assert done.returncode == status
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_it_comes_back_after_a_restart_and_gets_what_was_sent_meanwhile(tmp_path: Path) -> None:
    with Gateway(tmp_path) as first:
        ports = (first.client_port, first.admin_port)
        with first.connect("bob") as bob:
            with first.connect("alice") as alice:
                alice.say("/to bob before")
                bob.shows("alice: before")
                bob.say("/watch alice")
                bob.shows("* alice is online")
            bob.shows("* alice is offline")
            assert first.stop() == 0
            bob.shows("; connecting again")
            with Gateway(tmp_path, ports=ports) as second, second.connect("alice") as alice:
                alice.say("/to bob after")
                wait_until(lambda: bob.output.count("connected as bob") == 2, 40)
                bob.shows("alice: after")
                assert bob.output.count("alice: before") == 1
                # Whether alice came before or after the watch was renewed, bob is told.
                wait_until(lambda: bob.output.count("* alice is online") == 2)


class Terminal:
    """A `gateway connect` in a terminal of its own."""

    def __init__(self, gateway: Gateway, user: str) -> None:
        self._master, terminal = pty.openpty()
        self.process = subprocess.Popen(
            command("connect", user),
            cwd=gateway.cwd,
            env=environment(TERM="xterm", COLUMNS="100", LINES="30"),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        self.output = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def leave(self) -> None:
        """Types Ctrl-D at the prompt: between two prompts the terminal would take it for itself."""
        wait_until(lambda: not termios.tcgetattr(self._master)[3] & termios.ICANON)
        self.type("\x04")

    def shows(self, text: str, times: int = 1) -> None:
        """Waits until it has shown a text so often, colours and cursor moves left out."""
        deadline = time.monotonic() + START_DEADLINE_S
        while re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.output).count(text) < times:
            assert time.monotonic() < deadline, f"no {text!r} in {self.output!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                self.output += os.read(self._master, 65536).decode(errors="replace")

    def close(self) -> int:
        deadline = time.monotonic() + START_DEADLINE_S
        try:
            # A terminal that nobody reads may keep its program from writing its last words, and so from ending.
            while self.process.poll() is None:
                assert time.monotonic() < deadline, f"it does not end: {self.output!r}"
                if select.select([self._master], [], [], 0.1)[0]:
                    with contextlib.suppress(OSError):
                        self.output += os.read(self._master, 65536).decode(errors="replace")
            return self.process.returncode
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self._master)


def test_in_a_terminal_pushes_appear_above_the_prompt(gateway: Gateway) -> None:
    terminal = Terminal(gateway, "typist")
    try:
        terminal.shows("connected as typist")
        with gateway.connect("friend") as friend:
            terminal.type("/to friend hi\r")
            friend.shows("typist: hi")
            terminal.shows("typist → friend>")
            terminal.type("half a li")
            friend.say("/to typist psst")
            terminal.shows("friend: psst")
            terminal.type("ne\r")
            friend.shows("typist: half a line")
        terminal.shows("delivered", times=2)
        terminal.leave()
    finally:
        assert terminal.close() == 0
    assert "\x1b[" in terminal.output


def test_a_huge_paste_is_refused_and_the_prompt_goes_on(gateway: Gateway) -> None:
    terminal = Terminal(gateway, "paster")
    try:
        terminal.shows("connected as paster")
        with gateway.connect("pasted") as pasted:
            terminal.type("/to pasted ")
            terminal.type(f"\x1b[200~{'x' * 140_000}\x1b[201~")
            terminal.shows("more than 128 KiB are not sent in one line")
            terminal.type("\x1b[200~short\x1b[201~\r")
            pasted.shows("paster: short\n")
        terminal.shows("delivered")
        terminal.leave()
    finally:
        assert terminal.close() == 0
