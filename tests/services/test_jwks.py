"""The app's own keys from a JWKS URL: fetched in the background, exchanged when they rotate, never weakened."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.core.claims import Key, Rules, Verifier
from gateway.core.close import Refusal
from gateway.services.jwks import BYTES_MAX, Jwks
from tests.waiting import eventually

SECRET = "the gateway's own secret, of more than 32 bytes"
ALGORITHMS = frozenset({"RS256", "ES256"})


class App:
    """An app's server of keys; ``answer`` is its whole HTTP answer."""

    def __init__(self) -> None:
        self.answer = b""
        self.asked = 0
        self.url = ""

    def serves(self, *keys: dict[str, Any], status: int = 200) -> None:
        self.serves_text(json.dumps({"keys": keys}), status)

    def serves_text(self, text: str, status: int = 200) -> None:
        body = text.encode()
        self.answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        writer.write(self.answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def serving() -> AsyncIterator[App]:
    app = App()
    server = await asyncio.start_server(app.handle, "127.0.0.1", 0)
    app.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    async with server:
        yield app


class Signer:
    """One of the app's keys."""

    def __init__(self, kid: str, kind: str = "RS256") -> None:
        self.kid, self.kind = kid, kind
        self.private: Any = (
            rsa.generate_private_key(public_exponent=65537, key_size=2048)
            if kind == "RS256"
            else ec.generate_private_key(ec.SECP256R1())
        )

    def public(self, **more: Any) -> dict[str, Any]:
        algorithm = jwt.algorithms.get_default_algorithms()[self.kind]
        return json.loads(algorithm.to_jwk(self.private.public_key())) | {"kid": self.kid} | more  # type: ignore[attr-defined]

    def token(self, **headers: Any) -> str:
        now = int(time.time())
        claims = {"sub": "alice", "aud": "app", "iat": now, "exp": now + 60}
        return jwt.encode(claims, self.private, algorithm=self.kind, headers={"kid": self.kid} | headers)


def verifier() -> Verifier:
    return Verifier(Rules(audience="app"), [Key(SECRET, frozenset({"HS256"}))])


def accepted(judge: Verifier, token: str) -> bool:
    try:
        return judge.verify(token, time.time_ns() // 1_000_000).foreign
    except Refusal:
        return False


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def test_keys_serve_the_tokens_of_their_own_id_and_algorithm() -> None:
    async with serving() as app, httpx.AsyncClient() as client:
        judge = verifier()
        first, second, stranger = Signer("one"), Signer("two", "ES256"), Signer("one")
        app.serves(first.public(use="sig"), second.public())
        assert not accepted(judge, first.token())
        await Jwks(judge, app.url, ALGORITHMS, 30).fetch(client)
        assert accepted(judge, first.token())
        assert accepted(judge, second.token())
        assert not accepted(judge, stranger.token())
        assert not accepted(judge, first.token(kid="two"))
        # A public key is no HMAC secret, whatever the token says.
        forged = jwt.encode({"sub": "alice", "aud": "app"}, "x" * 64, algorithm="HS256", headers={"kid": "one"})
        assert not accepted(judge, forged)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"keys": 7}',
        '{"keys": []}',
        '{"keys": [7]}',
        '{"keys": [null]}',
        '{"keys": [{"kty": "RSA"}]}',
        '{"keys": [{"kty": "RSA", "n": 7, "e": "AQAB"}]}',
        '{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}',
        '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}',
        '{"keys": ["' + "x" * BYTES_MAX + '"]}',
        "[" * 50_000,
    ],
)
async def test_an_answer_that_is_no_key_set_leaves_the_last_good_keys(text: str) -> None:
    async with serving() as app, httpx.AsyncClient() as client:
        judge, signer = verifier(), Signer("one")
        keys = Jwks(judge, app.url, ALGORITHMS, 30)
        app.serves(signer.public())
        await keys.fetch(client)
        app.serves_text(text)
        with pytest.raises(ValueError):
            await keys.fetch(client)
        app.serves(signer.public(), status=500)
        with pytest.raises(httpx.HTTPStatusError):
            await keys.fetch(client)
        assert accepted(judge, signer.token())


async def test_one_bad_key_does_not_take_the_good_ones_with_it() -> None:
    async with serving() as app, httpx.AsyncClient() as client:
        judge, signer = verifier(), Signer("one")
        app.serves({"kty": "new"}, signer.public(), Signer("enc").public(use="enc"))
        await Jwks(judge, app.url, ALGORITHMS, 30).fetch(client)
        assert accepted(judge, signer.token())
        assert [key.kid for key in judge.keys] == [None, "one"]


async def test_an_unknown_key_id_wakes_a_fetch_but_not_one_a_stranger_can_repeat() -> None:
    async with serving() as app:
        judge, old, new = verifier(), Signer("old"), Signer("new")
        app.serves(old.public())
        running = asyncio.create_task(Jwks(judge, app.url, ALGORITHMS, 2.0).run())
        try:
            await eventually(lambda: accepted(judge, old.token()))
            fetched_at = time.monotonic()
            app.serves(new.public())
            assert not accepted(judge, new.token()), "refused at once, not fetched for"
            await eventually(lambda: accepted(judge, new.token()))
            assert time.monotonic() - fetched_at >= 1.9
            assert app.asked == 2
            assert not accepted(judge, old.token())
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
