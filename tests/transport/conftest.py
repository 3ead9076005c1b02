"""Every test here also holds that nothing went wrong on the gateway's side."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest
from structlog.testing import capture_logs

from gateway.node import Node
from tests.nodes import running_node
from tests.servers import Server

Edge = Callable[..., AbstractAsyncContextManager[Node]]


@pytest.fixture
def edge(valkey: Server) -> Edge:
    """Starts a node without its admin port: `async with edge(auth_timeout_s=0.1) as node`."""
    return partial(running_node, valkey.url, role="edge")


@pytest.fixture(autouse=True)
def no_error_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with capture_logs() as events:
        yield
    # The event loop tells what was raised in a callback by logging it.
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []
    assert [event for event in events if event["log_level"] in ("error", "critical")] == []
