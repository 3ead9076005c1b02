"""Requests to the app's own server: verified, bounded, and nothing secret in what is told of their failures."""

from __future__ import annotations

import asyncio
import io
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import structlog

from gateway.config import Config, ConfigError, load
from gateway.log import configure
from gateway.metrics import METRICS
from gateway.services.clock import Clock
from gateway.services.receiver import ANSWER_BYTES_MAX, Receiver, Unanswered
from gateway.services.sender import shown
from tests.app_server import app_server
from tests.certificates import self_signed
from tests.nodes import CREDENTIALS, login, running_node
from tests.servers import Server
from tests.waiting import eventually


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver(CREDENTIALS, Clock(), 0.3)
    yield receiver
    await receiver.close()


@asynccontextmanager
async def raw_server(answer: bytes, *, drip: bool = False, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A port that says these bytes to whoever asks, all at once or byte by byte."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            if drip:
                for byte in answer:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.02)
            else:
                writer.write(answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A certificate for 127.0.0.1 that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path_factory.mktemp("tls")))
    return context


async def test_a_certificate_that_nobody_vouches_for_is_not_spoken_to(receiver: Receiver, tls: ssl.SSLContext) -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", tls=tls) as port:
        with pytest.raises(Unanswered, match="certificate"):
            await receiver.post(f"https://127.0.0.1:{port}/", b"{}")


async def test_a_redirect_is_an_answer_and_is_not_followed(receiver: Receiver) -> None:
    async with app_server() as app:
        head = f"HTTP/1.1 307 Elsewhere\r\nLocation: {app.url}\r\nContent-Length: 0\r\n\r\n"
        async with raw_server(head.encode()) as port:
            assert (await receiver.post(f"http://127.0.0.1:{port}/", b"{}")).status == 307
        assert app.requests == []


async def test_an_answer_that_drips_is_none(receiver: Receiver) -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000, drip=True) as port:
        with pytest.raises(Unanswered, match=r"within 0\.3 s"):
            await receiver.post(f"http://127.0.0.1:{port}/", b"{}")


async def test_an_answer_that_does_not_end_is_none(receiver: Receiver) -> None:
    body = b"x" * (ANSWER_BYTES_MAX + 1)
    async with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) as port:
        with pytest.raises(Unanswered, match="too long"):
            await receiver.post(f"http://127.0.0.1:{port}/", b"{}")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_a_proxy_says_for_a_server_that_is_away_is_none(receiver: Receiver, status: int) -> None:
    async with app_server() as app:
        app.answer = lambda _: (status, {})
        with pytest.raises(Unanswered, match=f"HTTP {status}"):
            await receiver.post(app.url, b"{}")


async def test_the_user_part_of_an_address_becomes_a_header(receiver: Receiver) -> None:
    async with app_server() as app:
        await receiver.post(app.url.replace("http://", "http://hook:pass%3Aword@"), b"{}")
        assert app.requests[0].headers["authorization"] == f"Basic {b64encode(b'hook:pass:word').decode()}"


# Secrets.


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure("debug", "json", stream)
    yield stream
    structlog.reset_defaults()


@pytest.mark.parametrize("status", [None, 400])
async def test_nothing_secret_is_logged_or_measured(valkey: Server, logged: io.StringIO, status: int | None) -> None:
    async with app_server() as app:
        app.answer = lambda _: None if status is None else (status, {"error": "pssst"})
        address = app.url.replace("http://", "http://hooker:hunter2@") + "/path-s3cret?key=query-s3cret"
        quick = {"webhook_timeout_s": 0.1, "webhook_backoff_s": 0.01, "webhook_pause_s": 0.1}
        before = METRICS.webhook_tries_failed
        async with running_node(valkey.url, webhook_url=address, **quick) as node:
            await login(node, "alice")
            await eventually(lambda: METRICS.webhook_tries_failed >= before + 3)
            await eventually(lambda: "does not answer" in logged.getvalue() or "given up" in logged.getvalue())
            told = logged.getvalue() + node.metrics().decode() + repr(node.config)
        assert f"http://127.0.0.1:{app.port}" in logged.getvalue()
        signature = app.requests[0].query["signature"]
        for secret in ("hunter2", "hooker", "s3cret", "pssst", CREDENTIALS.app_secret, signature):
            assert secret not in told


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:pass@hook.example:8443/a?b=c", "https://hook.example:8443"),
        ("http://hook.example", "http://hook.example"),
    ],
)
def test_of_an_address_a_log_shows_scheme_host_and_port(url: str, expected: str) -> None:
    assert shown(url) == expected


# Settings.


@pytest.mark.parametrize(
    "url", ["ftp://x", "hook.example", "https://", "https://x:0/", "https://x/#part", "http://[::1"]
)
@pytest.mark.parametrize("name", ["webhook_url", "webhook_v1_status_url", "webhook_v1_friendship_url"])
def test_an_address_that_cannot_be_posted_to_is_a_fault(name: str, url: str) -> None:
    with pytest.raises(ConfigError, match=r"http://|is not a URL"):
        load({name: url}, {}, None)


def test_events_are_chosen_by_their_names() -> None:
    given = {"GATEWAY_WEBHOOK_EVENTS": "message:send, direct_channel:pre_messaging"}
    assert load({}, given, None).webhook_events == ("message:send", "direct_channel:pre_messaging")
    assert "direct_channel:pre_messaging" not in Config().webhook_events
    with pytest.raises(ConfigError, match="unknown entries: message:sent"):
        load({}, {"GATEWAY_WEBHOOK_EVENTS": "message:sent"}, None)
