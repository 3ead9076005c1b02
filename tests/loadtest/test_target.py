"""Targets: started with everything that belongs to them, found where they run, refused where they are not ours."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from gateway.config import Credentials
from loadtest.sampling import Sampler
from loadtest.target import TargetFault, attached, check_owned, started, workers_of

CREDENTIALS = Credentials("key", "0123456789abcdef0123456789abcdef")


def listening() -> socket.socket:
    """A port of this machine."""
    return socket.create_server(("127.0.0.1", 0))


def test_a_gateway_is_started_with_its_store_and_leaves_nothing() -> None:
    with started() as target:
        assert target.data_dir is not None
        data_dir, pids = target.data_dir, target.pids()
        assert set(pids) == {"gateway", "store"}
        assert target.address[0] == "127.0.0.1"
        assert target.api.startswith("http://127.0.0.1:")
        assert target.token("somebody").count(".") == 2
        assert set(target.resident_bytes()) == set(target.cpu_s()) == {"gateway", "store"}

        # Found by its directory, as a second terminal would.
        same = attached(None, None, data_dir, None)
        assert (same.url, same.api, same.credentials) == (target.url, target.api, target.credentials)
        assert same.pids() == pids
        with pytest.raises(TargetFault, match="only a gateway that the load test has started"):
            same.restart()

        sampler = Sampler(target.pids, list)
        target.restart()
        whole = sum(target.cpu_s().values())
        asyncio.run(sampler.look())
        assert sampler.gateway_s + sampler.store_s >= whole
        assert target.url == same.url
        assert target.pids()["gateway"] != pids["gateway"]
    assert not data_dir.exists()
    assert not [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()]


def test_a_gateway_that_does_not_start_shows_its_own_words() -> None:
    with pytest.raises(TargetFault, match=r"(?s)did not start.*no-such-flag"):
        with started("gateway serve --no-such-flag"):
            pass


def test_pinned_processes_stay_on_their_core() -> None:
    core = min(os.sched_getaffinity(0))
    with started(core=core) as target:
        assert [os.sched_getaffinity(pid) for pid in target.pids().values()] == [{core}, {core}]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"])
def test_this_machine_is_ours(host: str) -> None:
    check_owned(f"ws://{host}:80/v1/connect")


def test_another_machine_is_refused_until_it_is_named() -> None:
    # A documentation address (RFC 5737): nobody is there, and nobody is asked.
    with pytest.raises(TargetFault, match=r"--i-own-this-target 192\.0\.2\.7"):
        check_owned("ws://192.0.2.7:80/v1/connect")
    check_owned("ws://192.0.2.7:80/v1/connect", ("192.0.2.7",))
    with pytest.raises(TargetFault, match=r"192\.0\.2\.7"):
        attached("ws://192.0.2.7:80/v1/connect", None, None, CREDENTIALS)
    with listening() as here:
        url = f"ws://127.0.0.1:{here.getsockname()[1]}/v1/connect"
        with pytest.raises(TargetFault, match=r"--i-own-this-target 192\.0\.2\.8"):
            attached(url, "http://192.0.2.8:80", None, CREDENTIALS)


def test_nobody_there_is_told() -> None:
    with listening() as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TargetFault, match="nothing answers there"):
        attached(f"ws://127.0.0.1:{port}/v1/connect", None, None, CREDENTIALS)


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(TargetFault, match="no gateway runs on"):
        attached(None, None, tmp_path, None)
    with listening() as here:
        port = here.getsockname()[1]
        with pytest.raises(TargetFault, match="--app-key"):
            attached(f"ws://127.0.0.1:{port}", None, None, None)
        with pytest.raises(TargetFault, match="speaks ws://"):
            attached(f"wss://127.0.0.1:{port}", None, None, CREDENTIALS)
        assert attached(f"ws://127.0.0.1:{port}", None, None, CREDENTIALS).url.endswith("/v1/connect")
    for url in ("ws://", "127.0.0.1", "ws://127.0.0.1:x/"):
        with pytest.raises(TargetFault):
            attached(url, None, None, CREDENTIALS)


def test_workers_are_read_from_the_command() -> None:
    assert [workers_of(command) for command in ("", "gateway serve", "gateway serve --workers 3")] == [1, 1, 3]
