"""Real servers for every test that needs a store; see tests/servers.py."""

import asyncio
import warnings
from collections.abc import Callable, Iterator

import hypothesis
import pytest
import uvloop

from tests.servers import Cluster, Server, redis7_binary, valkey_binary

# A shared machine has slow moments; hypothesis' own clock would call them failures.
hypothesis.settings.register_profile("gateway", deadline=None, print_blob=True)
hypothesis.settings.load_profile("gateway")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the event loop that the gateway runs on: its transports differ from asyncio's."""
    return {"uvloop": uvloop.new_event_loop}


_leaks: list[str] = []


def pytest_warning_recorded(warning_message: warnings.WarningMessage, nodeid: str) -> None:
    """Sockets that a test has left open (one that failed anyway may have)."""
    if issubclass(warning_message.category, ResourceWarning):
        _leaks.append(f"{nodeid or 'somewhere'}: {warning_message.message}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _leaks and not session.testsfailed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for leak in _leaks:
        terminalreporter.line(f"left open: {leak}")


@pytest.fixture(scope="session")
def valkey_process() -> Iterator[Server]:
    server = Server.on_socket(valkey_binary())
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis7_process() -> Iterator[Server]:
    server = Server.on_socket(redis7_binary())
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cluster_processes() -> Iterator[Cluster]:
    cluster = Cluster(redis7_binary())
    yield cluster
    cluster.stop()


@pytest.fixture
def valkey(valkey_process: Server) -> Server:
    """The session's Valkey, emptied. May be paused, killed and restarted; the next test gets it running and empty."""
    valkey_process.empty()
    return valkey_process


@pytest.fixture
def redis7(redis7_process: Server) -> Server:
    """Debian's Redis 7.0, the same way."""
    redis7_process.empty()
    return redis7_process


@pytest.fixture
def cluster(cluster_processes: Cluster) -> Cluster:
    """Three Redis 7.0 masters, the same way."""
    cluster_processes.empty()
    return cluster_processes


@pytest.fixture
def fresh_valkey() -> Iterator[Server]:
    """A Valkey of this test alone, without Functions, which keeps its data over a restart."""
    server = Server.on_socket(valkey_binary(), appendonly="yes", appendfsync="always")
    yield server
    server.stop()


@pytest.fixture(params=["valkey", "redis7", "cluster"])
def any_store(request: pytest.FixtureRequest) -> Server | Cluster:
    """Each of the three kinds of store in turn."""
    store: Server | Cluster = request.getfixturevalue(request.param)
    return store


@pytest.fixture
def any_store_url(any_store: Server | Cluster) -> str:
    return any_store.url
