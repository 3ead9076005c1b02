"""`gateway ctl`: each act, how it is told, and its exit status."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from gateway.services.settings import FIELDS
from tests.cli.processes import Gateway, Program, run
from tests.servers import Server
from tests.waiting import wait_until


def document(gateway: Gateway, *arguments: str) -> Any:
    """A command's JSON document."""
    done = gateway.ctl(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_ban_drops_the_socket_and_says_so(gateway: Gateway) -> None:
    with gateway.connect("banned") as client:
        done = gateway.ctl("ban", "banned", "--minutes", "5", "--reason", "spam")
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"banned: banned for 5 minutes, 1 socket closed on 1 node in [0-9.]+ ms\n", done.stdout), (
            done.stdout
        )
        assert client.ended() == 1
        client.shows("! you were banned until ")
        client.shows(": spam")
    (ban,) = document(gateway, "bans")["bans"]
    assert ban["user"] == "banned"
    assert ban["reason"] == "spam"
    with Program("connect", "banned", cwd=gateway.cwd) as again:
        assert again.ended() == 1
        assert "! you are banned until " in again.output
    assert gateway.ctl("unban", "banned", "other").stdout == "banned: ban lifted\nother: was not banned\n"
    assert gateway.ctl("bans").stdout == "nobody is banned\n"
    gateway.ctl("ban", "banned", "--for-ever")
    assert re.search(r"^banned +until lifted +-", gateway.ctl("bans").stdout, re.MULTILINE)
    assert document(gateway, "bans")["bans"][0]["until"] is None
    gateway.ctl("unban", "banned")


def test_a_user_that_is_not_registered_is_noted(gateway: Gateway) -> None:
    note = " (no such user is registered)"
    assert run("token", "known", cwd=gateway.cwd).returncode == 0
    for act in (["kick"], ["ban", "--minutes", "1"], ["deactivate"]):
        done = gateway.ctl(act[0], "known", "unknown", *act[1:])
        known, unknown = done.stdout.splitlines()
        assert (done.returncode, note in known, unknown.endswith(note)) == (0, False, True), done.stdout
    gateway.ctl("reactivate", "known")
    done = gateway.ctl("friends", "add", "known", "stranger")
    assert done.stdout == f"known: now friends with stranger{note}\n"


def test_a_setting_that_is_a_list_is_written_with_commas(gateway: Gateway) -> None:
    chosen = ["message:send", "user:friendship"]
    assert document(gateway, "setting", "webhookEvents", ",".join(chosen)) == {"webhookEvents": chosen}
    assert gateway.ctl("setting", "webhook-events").stdout.split()[-1] == ",".join(chosen)
    assert document(gateway, "setting", "webhookEvents", "none") == {"webhookEvents": []}
    assert gateway.ctl("setting", "webhookEvents", "message:sent").returncode == 1


def test_help_of_live_settings_names_them_all(gateway: Gateway) -> None:
    shown = gateway.ctl("setting", "--help", COLUMNS="200").stdout
    assert all(f"\n{name}, " in shown for name in FIELDS), shown
    assert "--empty" not in gateway.ctl("kick", "--help").stdout


def test_a_kick_of_a_device_spares_other_users_and_devices(gateway: Gateway) -> None:
    with gateway.connect("kicked", "--device", "one") as client:
        (session,) = document(gateway, "sessions", "kicked")["sessions"]
        assert session["device"] == "one"
        (spared,) = document(gateway, "kick", "--device", "kicked", "two")["results"]
        assert spared["sessions_closed"] == 0
        (done,) = document(gateway, "kick", "--session", "kicked", session["session"])["results"]
        assert done["sessions_closed"] == 1
        assert done["nodes_silent"] == []
        assert len(done["nodes_answered"]) == 1
        assert client.ended() == 1
        client.shows("! you were kicked")
    assert gateway.ctl("kick", "kicked").stdout.startswith("kicked: kicked, no socket was open (")


def test_an_expired_token_that_was_brought_along_is_the_end(gateway: Gateway) -> None:
    token = run("token", "brought", cwd=gateway.cwd).stdout.strip()
    with gateway.connect("brought", "--token", token) as client:
        assert document(gateway, "expire", "brought")["results"][0]["sessions_closed"] == 1
        assert client.ended() == 1
        client.shows("your token has ended")


def test_expired_tokens_end_their_sockets_and_new_ones_work(gateway: Gateway) -> None:
    with gateway.connect("expired") as client:
        assert document(gateway, "expire", "expired", "--before", "2020-01-01")["results"][0]["sessions_closed"] == 0
        assert document(gateway, "expire", "expired")["results"][0]["sessions_closed"] == 1
        client.shows("the token was voided; connecting again")
        wait_until(lambda: client.output.count("connected as expired") == 2, 10)


def test_one_revoked_token_ends_the_socket_that_came_with_it(gateway: Gateway) -> None:
    with gateway.connect("revoked") as client:
        (session,) = document(gateway, "sessions", "revoked")["sessions"]
        assert document(gateway, "revoke", "revoked", session["jti"])["results"][0]["sessions_closed"] == 1
        client.shows("the token was revoked; connecting again")
        wait_until(lambda: client.output.count("connected as revoked") == 2, 10)


def test_a_deactivated_user_is_out_until_reactivated(gateway: Gateway) -> None:
    with gateway.connect("gone") as client:
        assert document(gateway, "deactivate", "gone")["results"][0]["sessions_closed"] == 1
        assert client.ended() == 1
    with Program("connect", "gone", cwd=gateway.cwd) as again:
        assert again.ended() == 1
        assert "deactivated" in again.output
    assert gateway.ctl("reactivate", "gone").stdout == "gone: active again\n"
    gateway.connect("gone").kill()


def test_lists_edited_here_bind_the_next_message(gateway: Gateway) -> None:
    with gateway.connect("ann") as ann, gateway.connect("ben") as ben:
        ann.say("/to ben one")
        ben.shows("ann: one")
        assert gateway.ctl("blocklist", "add", "ben", "ann").stdout == "ben: blocks ann\n"
        assert document(gateway, "blocklist", "list", "ben") == {"users": ["ann"]}
        ann.say("two")
        ann.shows("(405)")
        gateway.ctl("blocklist", "remove", "ben", "ann")
        gateway.ctl("allowlist", "on", "ben")
        assert document(gateway, "allowlist", "list", "ben") == {"users": [], "enabled": True}
        ann.say("three")
        ann.shows("(407)")
        gateway.ctl("allowlist", "add", "ben", "ann", "carl")
        assert document(gateway, "allowlist", "list", "ben", "--limit", "1")["users"] in (["carl"], ["ann"])
        ann.say("four")
        ben.shows("ann: four")
        gateway.ctl("allowlist", "off", "ben")
        gateway.ctl("mute", "ann")
        ann.say("five")
        ann.shows("(20106)")
        gateway.ctl("unmute", "ann")
        assert gateway.ctl("setting", "friends-only", "on").returncode == 0
        wait_until(lambda: (ann.say("six"), "(25469)" in ann.output)[1])
        assert gateway.ctl("friends", "add", "ann", "ben").stdout == "ann: now friends with ben\n"
        (friend,) = document(gateway, "friends", "list", "ben")["friends"]
        assert friend["user"] == "ann"
        ann.say("seven")
        ben.shows("ann: seven")
        gateway.ctl("friends", "remove", "ben", "ann")
        assert gateway.ctl("friends", "list", "ann").stdout == "ann has no friends\n"
        assert document(gateway, "setting", "friendsOnly", "off") == {"friendsOnly": False}


def test_who_is_there_is_shown_as_tables(gateway: Gateway) -> None:
    with gateway.connect("shown"):
        assert re.search(r"^shown\s+yes\s*\nnobody\s+no", gateway.ctl("online", "shown", "nobody").stdout, re.MULTILINE)
        header, row = gateway.ctl("sessions", "shown").stdout.splitlines()
        assert header.split()[:3] == ["session", "platform", "device"]
        assert "desktop" in row
        users = gateway.ctl("users", "shown", "nobody")
        assert users.returncode == 1
        assert "nobody: no such user" in users.stdout
        (node,) = document(gateway, "nodes")["nodes"]
        assert node["answered"]
        assert node["sessions"] >= 1
        assert node["node"] in gateway.ctl("nodes").stdout


def test_a_drained_node_takes_clients_again_after_resume(gateway: Gateway) -> None:
    (node,) = document(gateway, "nodes")["nodes"]
    with gateway.connect("drained") as client:
        assert gateway.ctl("drain", node["node"]).stdout == f"{node['incarnation']}: drains\n"
        client.shows("the node drains; connecting again")
        assert document(gateway, "resume", node["incarnation"]) == {"nodes": [node["incarnation"]]}
        wait_until(lambda: client.output.count("connected as drained") == 2, 30)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["ban", "bob"], 2, "say either --minutes N or --for-ever"),
        (["ban", "bob", "--minutes", "0"], 2, "--minutes must be from 1 to 43200, not 0"),
        (["ban", "bob", "--minutes", "soon"], 2, 'unable to convert "soon" into int'),
        (["kick"], 2, "name users, or --session"),
        (["kick", "not an id", "bob"], 2, "not a user id: 'not an id'"),
        (["expire", "bob", "--before", "soon"], 2, "neither an ISO time"),
        (["frobnicate"], 2, 'Unknown command "frobnicate"'),
        (["drain", "nowhere"], 1, "no live node nowhere"),
        (["setting", "colour", "red"], 1, "no setting colour"),
        (["setting", "devicePolicy", "maybe"], 1, "devicePolicy: Invalid enum value 'maybe'; possible are platform, "),
        (["setting", "webhookEvents", "message:sent"], 1, "; possible are user:connection_status, "),
        (["friends", "add", "bob", "bob"], 1, "refused (25473): bob: a user cannot be their own friend"),
        (["setting", "friendsOnly", "maybe"], 1, "friendsOnly: write true or false"),
        (["nodes", "--redis-url", "redis://127.0.0.1:1"], 1, "Redis is away"),
        (["nodes", "--data-dir", "elsewhere"], 1, "no gateway runs on data directory elsewhere"),
    ],
)
def test_what_cannot_be_done_is_told_with_a_status(
    gateway: Gateway, arguments: list[str], status: int, told: str
) -> None:
    done = gateway.ctl(*arguments)
    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_redis_of_the_running_gateway_needs_no_flag_unless_it_has_a_password(
    tmp_path: Path, fresh_valkey: Server
) -> None:
    with Gateway(tmp_path, "--redis-url", fresh_valkey.url) as gateway:
        (node,) = document(gateway, "nodes")["nodes"]
        assert node["answered"]
        assert run("token", "alice", cwd=gateway.cwd).returncode == 0
    with fresh_valkey.client() as client:
        client.config_set("requirepass", "right")
    with Gateway(tmp_path, GATEWAY_REDIS_URL=fresh_valkey.url.replace("://", "://:right@")) as gateway:
        done = gateway.ctl("nodes")
        assert done.returncode == 1
        assert "://***@" in done.stderr
        assert "give --redis-url with its password" in done.stderr
        assert "right" not in (gateway.cwd / "data" / "gateway.json").read_text()


def test_a_silent_node_is_named_and_makes_it_fail(tmp_path: Path) -> None:
    with Gateway(tmp_path, "--node-id", "frozen") as frozen, frozen.connect("held"):
        frozen.process.send_signal(signal.SIGSTOP)
        done = frozen.ctl("kick", "held", GATEWAY_DROP_WAIT_S="1.5", GATEWAY_LEASE_S="1", GATEWAY_LEASE_RENEW_S="0.3")
        assert done.returncode == 1
        assert "0 sockets closed on 0 nodes" in done.stdout
        assert "silent: frozen." in done.stdout
        frozen.process.send_signal(signal.SIGCONT)
