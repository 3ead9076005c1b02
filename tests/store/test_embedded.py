import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from gateway.store.embedded import SOCKET_PATH_BYTES_MAX, EmbeddedStore, StoreStartError, _explain, find
from tests.waiting import wait_until

# A gateway in small: starts the store, says so, writes what it is told, then stays.
OWNER = """
import sys, time
from pathlib import Path
from redis import Redis
from gateway.store.embedded import EmbeddedStore
store = EmbeddedStore.start(Path(sys.argv[1]))
Redis.from_url(store.url).set("written", "just before the end")
print(store.pid, flush=True)
while True:
    time.sleep(1)
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TestStart:
    def test_keeps_what_was_written(self, tmp_path: Path) -> None:
        with EmbeddedStore.start(tmp_path) as store, Redis.from_url(store.url) as redis:
            redis.set("kept", "yes")
        assert not store.alive
        with EmbeddedStore.start(tmp_path) as store, Redis.from_url(store.url, decode_responses=True) as redis:
            assert redis.get("kept") == "yes"

    def test_is_private_and_loses_nothing_on_purpose(self, tmp_path: Path) -> None:
        with EmbeddedStore.start(tmp_path) as store, Redis.from_url(store.url, decode_responses=True) as redis:
            settings = redis.config_get("*")
        assert (settings["port"], settings["appendonly"], settings["appendfsync"]) == ("0", "yes", "everysec")
        assert (settings["save"], settings["maxmemory-policy"]) == ("", "noeviction")
        assert settings["client-output-buffer-limit"].endswith("pubsub 268435456 67108864 60")

    def test_odd_and_relative_directories(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with EmbeddedStore.start(Path("a b%20#")) as store, Redis.from_url(store.url) as redis:
            assert redis.ping()
            assert find(Path("a b%20#")) == store.url

    def test_a_long_path_gets_a_short_socket(self, tmp_path: Path) -> None:
        data_dir = tmp_path / ("d" * 60) / ("e" * 60)
        with EmbeddedStore.start(data_dir) as store:
            socket_path = Path(json.loads((data_dir / "store.json").read_bytes())["socket"])
            assert len(os.fsencode(socket_path)) <= SOCKET_PATH_BYTES_MAX
            assert find(data_dir) == store.url
        assert not socket_path.parent.exists()

    def test_only_on_the_main_thread(self, tmp_path: Path) -> None:
        seen: list[Exception] = []

        def start() -> None:
            try:
                EmbeddedStore.start(tmp_path)
            except RuntimeError as error:
                seen.append(error)

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        assert len(seen) == 1


class TestOwner:
    def test_a_second_gateway_is_told_who_holds_it(self, tmp_path: Path, owner: subprocess.Popen[str]) -> None:
        assert owner.stdout is not None
        owner.stdout.readline()
        with pytest.raises(StoreStartError, match=f"in use by process {owner.pid}: stop that gateway"):
            EmbeddedStore.start(tmp_path)
        assert find(tmp_path) is not None

    def test_killed_it_takes_the_store_with_it_and_nothing_is_lost(
        self, tmp_path: Path, owner: subprocess.Popen[str]
    ) -> None:
        assert owner.stdout is not None
        store_pid = int(owner.stdout.readline())
        owner.kill()
        owner.wait()
        # At once, while the old server may still be flushing: the new one has to wait for it.
        with EmbeddedStore.start(tmp_path) as store, Redis.from_url(store.url, decode_responses=True) as redis:
            assert not runs(store_pid)
            assert redis.get("written") == "just before the end"

    def test_store_ends_with_a_killed_owner(self, owner: subprocess.Popen[str]) -> None:
        assert owner.stdout is not None
        store_pid = int(owner.stdout.readline())
        owner.kill()
        wait_until(lambda: not runs(store_pid))


class TestStop:
    def test_twice_is_once(self, tmp_path: Path) -> None:
        store = EmbeddedStore.start(tmp_path)
        store.stop()
        store.stop()
        assert sorted(os.listdir(tmp_path)) == ["store.lock", "valkey"]

    def test_a_stuck_server_is_killed(self, tmp_path: Path) -> None:
        store = EmbeddedStore.start(tmp_path)
        os.kill(store.pid, signal.SIGSTOP)
        store.stop(deadline_s=0.05)
        assert not store.alive

    @pytest.mark.parametrize("told", [True, False], ids=["told", "looked at"])
    async def test_its_end_is_noticed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
        if not told:
            # As on another system than Linux.
            monkeypatch.delattr(os, "pidfd_open")
        before = set(os.listdir("/proc/self/fd"))
        with EmbeddedStore.start(tmp_path) as store:
            ended = asyncio.create_task(store.ended())
            await asyncio.wait({ended}, timeout=0.05)
            assert not ended.done()
            os.kill(store.pid, signal.SIGKILL)
            async with asyncio.timeout(5.0):
                await ended
                await store.ended()
        assert set(os.listdir("/proc/self/fd")) == before


class TestFind:
    def test_only_a_store_that_answers(self, tmp_path: Path) -> None:
        assert find(tmp_path) is None
        with EmbeddedStore.start(tmp_path) as store:
            assert find(tmp_path) == store.url
            kept = (tmp_path / "store.json").read_bytes()
        assert find(tmp_path) is None
        (tmp_path / "store.json").write_bytes(kept)
        assert find(tmp_path) is None
        (tmp_path / "store.json").write_bytes(b"[")
        assert find(tmp_path) is None


class TestRefused:
    def test_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreStartError, match="data cannot be used: Not a directory"):
            EmbeddedStore.start(tmp_path / "file" / "data")

    def test_directory_without_the_right_to_write(self, tmp_path: Path) -> None:
        if os.geteuid() == 0:
            # Root may write everywhere but in the kernel's own tree.
            data_dir = Path("/proc/sys/kernel/gateway")
        else:
            data_dir = tmp_path / "data"
            data_dir.mkdir(mode=0o500)
        with pytest.raises(StoreStartError, match="cannot be used: "):
            EmbeddedStore.start(data_dir)

    def test_damaged_file(self, tmp_path: Path) -> None:
        with EmbeddedStore.start(tmp_path) as store, Redis.from_url(store.url) as redis:
            redis.set("kept", "yes")
        (file,) = (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof")
        file.write_bytes(b"garbage" + file.read_bytes())
        with pytest.raises(StoreStartError) as caught:
            EmbeddedStore.start(tmp_path)
        text = str(caught.value)
        assert "appendonlydir is damaged: restore it from a backup" in text
        assert "Bad file format reading the append only file" in text
        # The lock is free again: the same answer, not "in use".
        with pytest.raises(StoreStartError, match="is damaged"):
            EmbeddedStore.start(tmp_path)

    @pytest.mark.parametrize(
        ("line", "cause"),
        [
            ("Error writing to the AOF file: No space left on device", "is full"),
            ("Can't open the append-only file: Permission denied", "cannot be read and written by this user"),
            ("Something else", "it ended with status 1"),
        ],
    )
    def test_reason_is_taken_from_this_runs_log(self, tmp_path: Path, line: str, cause: str) -> None:
        log = tmp_path / "valkey.log"
        old = "No space left on device, last week\n"
        log.write_text(old + line + "\n")
        text = _explain(tmp_path, log, len(old), "it ended with status 1")
        assert cause in text
        assert text.endswith(f"The end of {log}:\n  {line}")
