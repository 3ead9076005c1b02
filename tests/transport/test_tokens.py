"""Bringing a token: three ways, what is refused and how, and tokens that the app signs itself."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.node import Node
from tests.nodes import CREDENTIALS, login, open_socket
from tests.transport.conftest import Edge
from tests.transport.wire import RawSocket, Response, raw_socket, upgrade_request
from tests.waiting import eventually

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SECRET = "a-foreign-secret-as-long-as-HS512-wants-it-" * 2
WAYS = ["header", "subprotocol", "auth"]


def own(secret: str = CREDENTIALS.app_secret, **changes: Any) -> str:
    """A token as the gateway issues it, with claims changed (None removes one)."""
    now = int(time.time())
    claims = {"sub": "alice", "aud": CREDENTIALS.app_key, "iat": now, "jti": "j"} | changes
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, secret, "HS256")


def foreign(key: Any, algorithm: str, kid: str | None = None, **changes: Any) -> str:
    now = int(time.time())
    claims = {"sub": "alice", "aud": CREDENTIALS.app_key, "iat": now, "exp": now + 60} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid} if kid else None)


async def bring(client: RawSocket, token: str, way: str) -> Response | None:
    """Brings a token; the HTTP response where that is already the refusal."""
    if way == "header":
        client.send(upgrade_request(token=token))
    elif way == "subprotocol":
        client.send(upgrade_request(sec_websocket_protocol=f"gateway.v1, gateway.bearer.{token}"))
    else:
        client.send(upgrade_request())
    response = await client.response()
    if response.status != 101:
        return response
    assert response.headers["sec-websocket-protocol"] == "gateway.v1"
    assert token not in str(response.headers)
    if way == "auth":
        client.text({"type": "auth", "token": token})
    return None


async def verdict(node: Node, token: str, way: str = "header") -> int:
    """0 when the token opens a session, else the code of the refusal; said as the way has it."""
    async with raw_socket(node) as client:
        response = await bring(client, token, way)
        if response is not None:
            assert response.status in (401, 403), response
            assert (response.status == 401) == ("www-authenticate" in response.headers)
            return int(response.json["code"])
        opcode, payload = await client.frame()
        if opcode == 1:
            assert json.loads(payload)["type"] == "welcome"
            return 0
        reason = json.loads(payload[2:])
        assert (
            int.from_bytes(payload[:2], "big") == {31004: 4500, 31020: 4501, 31009: 4502, 31029: 4503}[reason["code"]]
        )
        return int(reason["code"])


class TestWays:
    @pytest.mark.parametrize("way", WAYS)
    async def test_each_way_is_welcomed(self, edge: Edge, way: str) -> None:
        async with edge() as node:
            token = await node.services.tokens.issue("alice", "Alice")
            async with raw_socket(node) as client:
                assert await bring(client, token, way) is None
                welcome = await client.message("welcome")
                assert welcome["user"] == "alice"
                assert welcome["node"] == "test"
                assert welcome["recovered"]
                assert welcome["token_expires_at"] is None
                assert set(welcome["limits"]) == {"frame_bytes_max", "send_rate_per_s", "watch_max"}

    async def test_no_subprotocol_offered_none_answered(self, edge: Edge) -> None:
        async with edge() as node, raw_socket(node) as client:
            client.send(upgrade_request(sec_websocket_protocol=None, token=own()))
            response = await client.response()
            assert response.status == 101
            assert "sec-websocket-protocol" not in response.headers
            assert (await client.message())["type"] == "welcome"

    async def test_another_subprotocol_is_refused(self, edge: Edge) -> None:
        async with edge() as node:
            for offered in ("gateway.v2", f"gateway.bearer.{own()}"):
                async with raw_socket(node) as client:
                    client.send(upgrade_request(sec_websocket_protocol=offered, token=own()))
                    response = await client.response()
                    assert (response.status, response.json["code"]) == (400, 400)
                    assert "gateway.v1" in response.json["reason"]

    async def test_the_header_comes_first(self, edge: Edge) -> None:
        async with edge() as node, raw_socket(node) as client:
            bad = f"gateway.v1, gateway.bearer.{own(sub='mallory')}"
            client.send(upgrade_request(token=own(), sec_websocket_protocol=bad))
            assert (await client.response()).status == 101
            assert (await client.message("welcome"))["user"] == "alice"

    async def test_what_is_not_secret_may_come_in_the_query_or_in_auth(self, edge: Edge) -> None:
        async with edge() as node, raw_socket(node) as client, raw_socket(node) as other:
            client.send(upgrade_request("/v1/connect?device=d1&platform=ios"))
            await client.response()
            client.text({"type": "auth", "token": own()})
            assert (await client.message("welcome"))["device"] == "d1"
            other.send(upgrade_request("/v1/connect?device=d1&platform=ios"))
            await other.response()
            other.text({"type": "auth", "token": own(), "device": "d2", "platform": "web"})
            assert (await other.message("welcome"))["device"] == "d2"
            records = await node.services.presence.sessions("alice")
            assert [(record.device, record.platform) for record in records] == [("d1", "ios"), ("d2", "web")]

    @pytest.mark.parametrize("query", ["platform=toaster", "device=", "device=" + "x" * 65, "device=a%20b", "since="])
    async def test_a_bad_query_is_refused_by_name(self, edge: Edge, query: str) -> None:
        async with edge() as node:
            async with raw_socket(node) as client:
                client.send(upgrade_request(f"/v1/connect?{query}", token=own()))
                response = await client.response()
                assert (response.status, response.json["code"]) == (400, 400)
                assert query.partition("=")[0] in response.json["reason"]
            async with raw_socket(node) as client:
                client.send(upgrade_request(f"/v1/connect?{query}"))
                assert (await client.response()).status == 101
                code, reason = await client.closed()
                assert (code, reason["code"]) == (4500, 400)

    async def test_a_token_in_the_url_is_refused(self, edge: Edge) -> None:
        async with edge() as node:
            async with raw_socket(node) as client:
                client.send(upgrade_request(f"/v1/connect?token={own()}"))
                assert (await client.response()).status == 101
                code, reason = await client.closed()
                assert (code, reason["code"]) == (4500, 400)
                assert "URL" in reason["reason"]
            async with raw_socket(node) as client:
                # Even beside one that came rightly: whoever sends it there should hear of it.
                client.send(upgrade_request(f"/v1/connect?token={own()}", token=own()))
                assert (await client.response()).status == 400

    async def test_a_token_in_the_url_is_taken_where_that_is_allowed(self, edge: Edge) -> None:
        async with edge(allow_token_in_url=True) as node:
            async with raw_socket(node) as client:
                client.send(upgrade_request(f"/v1/connect?token={own()}"))
                assert (await client.response()).status == 101
                assert (await client.message())["type"] == "welcome"
            async with raw_socket(node) as client:
                # A browser may have sent it, so it is told by a close.
                client.send(upgrade_request("/v1/connect?token=garbage"))
                assert (await client.response()).status == 101
                assert (await client.closed())[0] == 4500

    async def test_no_token_in_time(self, edge: Edge) -> None:
        async with edge(auth_timeout_s=0.2) as node, raw_socket(node) as client:
            client.send(upgrade_request())
            await client.response()
            client.text({"type": "ping", "id": "1"})
            code, reason = await client.closed()
            assert (code, reason["code"]) == (4000, 4000)
            assert [json.loads(payload)["type"] for _, payload in client.frames] == ["pong"]
            await client.ended()

    async def test_a_command_before_auth_and_a_second_auth(self, edge: Edge) -> None:
        async with edge() as node, raw_socket(node) as client:
            client.send(upgrade_request())
            await client.response()
            client.text({"type": "send", "id": "1", "to": "bob", "body": 1})
            error = await client.message()
            assert (error["type"], error["code"], error["id"]) == ("error", 400, "1")
            assert "auth" in error["reason"]
            client.text({"type": "auth", "token": own()})
            assert (await client.message())["type"] == "welcome"
            client.text({"type": "auth", "token": own()})
            error = await client.message()
            assert (error["type"], error["code"]) == ("error", 400)
            assert "already" in error["reason"]
            client.text({"type": "ping", "id": "2"})
            assert (await client.message())["type"] == "pong"


class TestRefused:
    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize(
        ("make", "code"),
        [
            (lambda: "garbage", 31004),
            (lambda: "x" * 5_000, 31004),
            (lambda: jwt.encode({"sub": "alice", "aud": CREDENTIALS.app_key, "iat": 1}, None, "none"), 31004),
            (lambda: own(aud="another-app"), 31004),
            (lambda: own("another-secret-of-more-than-32-bytes"), 31004),
            (lambda: own(exp=int(time.time()) - 60), 31020),
            (lambda: own(iat=int(time.time()) + 60), 31004),
            (lambda: own(nbf=int(time.time()) + 60), 31004),
            (lambda: own(sub="not a user id"), 31004),
            (lambda: jwt.encode({"sub": "alice"}, CREDENTIALS.app_secret, headers={"alg": "HS256", "x": [[]]}), 31004),
        ],
        ids=["garbage", "5 KB", "alg none", "other aud", "other key", "expired", "iat ahead", "nbf", "sub", "no aud"],
    )
    async def test_each_way_says_why(self, edge: Edge, way: str, make: Callable[[], str], code: int) -> None:
        async with edge() as node:
            assert await verdict(node, make(), way) == code
            assert await verdict(node, own(), way) == 0

    async def test_ten_kilobytes_of_garbage(self, edge: Edge) -> None:
        async with edge() as node:
            garbage = "x" * 10_240
            for way in ("header", "subprotocol"):
                async with raw_socket(node) as client:
                    # Longer than a header line may be: no one looks at it as a token.
                    response = await bring(client, garbage, way)
                    assert response is not None
                    assert (response.status, response.json["code"]) == (431, 400)
            assert await verdict(node, garbage, "auth") == 31004

    @pytest.mark.parametrize("alg", ["[]", "{}", "null", "5", '["HS256"]'])
    async def test_an_alg_that_is_no_string(self, edge: Edge, alg: str) -> None:
        async with edge() as node:
            head = jwt.utils.base64url_encode(f'{{"alg":{alg}}}'.encode()).decode()
            assert await verdict(node, f"{head}.e30.AAAA") == 31004

    async def test_banned_and_deactivated_by_each_way(self, edge: Edge) -> None:
        async with edge() as node:
            token = await node.services.tokens.issue("alice", "Alice")
            await node.services.bans.ban(["alice"], minutes=5, reason="spam")
            assert [await verdict(node, token, way) for way in WAYS] == [31009] * 3
            await node.services.deletion.deactivate(["alice"])
            assert [await verdict(node, token, way) for way in WAYS] == [31029] * 3


class TestOwnKeys:
    async def test_the_previous_secret_until_its_date(self, edge: Edge) -> None:
        previous = "the-secret-before-the-last-rotation"
        for until, code in ((timedelta(hours=1), 0), (-timedelta(hours=1), 31004)):
            date = datetime.now(UTC) + until
            async with edge(previous_app_secret=previous, previous_app_secret_until=date) as node:
                assert await verdict(node, own(previous)) == code
                assert await verdict(node, own()) == 0

    async def test_an_unregistered_user_where_that_is_off(self, edge: Edge) -> None:
        async with edge(auto_register=False) as node:
            assert await verdict(node, own(sub="stranger")) == 31004


def pem(path: Path, key: Any) -> Path:
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


class TestForeign:
    @pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
    async def test_by_secret(self, edge: Edge, algorithm: str) -> None:
        async with edge(jwt_algorithms=(algorithm,), jwt_secret=SECRET) as node:
            assert await verdict(node, foreign(SECRET, algorithm)) == 0
            assert await verdict(node, foreign(SECRET, algorithm, exp=None)) == 31004
            assert await verdict(node, foreign(SECRET, algorithm, exp=int(time.time()) - 60)) == 31020
            assert await verdict(node, foreign(SECRET, "HS512" if algorithm == "HS256" else "HS256")) == 31004

    @pytest.mark.parametrize(
        ("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")], ids=["RSA", "EC", "ED"]
    )
    async def test_by_pem(self, edge: Edge, tmp_path: Path, key: Any, algorithm: str) -> None:
        path = pem(tmp_path / "key.pem", key)
        async with edge(jwt_algorithms=(algorithm,), jwt_public_key_file=path) as node:
            assert await verdict(node, foreign(key, algorithm)) == 0
            assert await verdict(node, foreign(key, algorithm, aud="another-app")) == 31004
            # The public key's bytes are no HMAC secret, whatever the token's header says.
            confused = HMACAlgorithm(HMACAlgorithm.SHA256)
            head, body, _ = own().split(".")
            signature = jwt.utils.base64url_encode(confused.sign(f"{head}.{body}".encode(), path.read_bytes()))
            assert await verdict(node, f"{head}.{body}.{signature.decode()}") == 31004

    async def test_issuer_audience_and_user_claim(self, edge: Edge) -> None:
        rules = {"jwt_audience": "shop", "jwt_issuer": "https://id.example", "jwt_user_claim": "uid"}
        async with edge(jwt_algorithms=("HS256",), jwt_secret=SECRET, **rules) as node:
            good = {"aud": "shop", "iss": "https://id.example", "uid": "carol"}
            client = await login(node, "carol", token=foreign(SECRET, "HS256", **good))
            assert client.welcome["user"] == "carol"
            assert client.welcome["token_expires_at"] > time.time() * 1000
            await client.close()
            for wrong in ({"aud": "app"}, {"iss": "https://evil.example"}, {"uid": None}):
                assert await verdict(node, foreign(SECRET, "HS256", **(good | wrong))) == 31004


class JwksServer:
    """A key server on loopback that counts who asks."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.asked: list[float] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.asked.append(time.monotonic())
                body = json.dumps({"keys": served.keys}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"

    def __enter__(self) -> "JwksServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def put(self, key: Any, kid: str, **more: Any) -> None:
        algorithm = {type(RSA): RSAAlgorithm, type(EC): ECAlgorithm, type(ED): OKPAlgorithm}[type(key)]
        self.keys.append(algorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"} | more)


@pytest.fixture
def jwks() -> Iterator[JwksServer]:
    with JwksServer() as server:
        yield server


class TestJwks:
    async def test_each_kind_of_key(self, edge: Edge, jwks: JwksServer) -> None:
        for key, kid in ((RSA, "r"), (EC, "e"), (ED, "d")):
            jwks.put(key, kid)
        jwks.put(RSA, "enc", use="enc")
        algorithms = ("RS256", "ES256", "EdDSA")
        async with edge(jwt_algorithms=algorithms, jwt_jwks_url=jwks.url) as node:
            await eventually(lambda: len(node.verifier.keys) == 4)
            assert await verdict(node, foreign(RSA, "RS256", "r")) == 0
            assert await verdict(node, foreign(EC, "ES256", "e")) == 0
            assert await verdict(node, foreign(ED, "EdDSA", "d")) == 0
            # A key is bound to its id and to its algorithm.
            assert await verdict(node, foreign(RSA, "RS256", "e")) == 31004
            assert await verdict(node, foreign(RSA, "RS256", "enc")) == 31004
            assert await verdict(node, foreign(RSA, "RS256")) == 31004
            assert await verdict(node, own()) == 0

    async def test_an_unknown_key_is_refused_at_once_and_fetched_soon(self, edge: Edge, jwks: JwksServer) -> None:
        jwks.put(RSA, "old")
        config = {"jwt_algorithms": ("RS256", "ES256"), "jwt_jwks_url": jwks.url, "jwks_refresh_s": 1.0}
        async with edge(**config) as node:
            await eventually(lambda: len(node.verifier.keys) == 2)
            jwks.put(EC, "new")
            token = foreign(EC, "ES256", "new")
            # Had it waited for the next fetch it would know the key.
            assert await verdict(node, token) == 31004

            async def accepted() -> bool:
                return await verdict(node, token) == 0

            await eventually(accepted, 8.0)
            # Strangers who name keys that never were cannot make it ask more often than that.
            fetched = len(jwks.asked)
            until = time.monotonic() + 2.0
            while time.monotonic() < until:
                assert await verdict(node, foreign(EC, "ES256", "nobody")) == 31004
                await asyncio.sleep(0.02)
            assert len(jwks.asked) - fetched <= 2
            pauses = [late - early for early, late in zip(jwks.asked, jwks.asked[1:], strict=False)]
            assert min(pauses) >= 0.9

    async def test_a_key_server_that_fails_leaves_the_last_keys(self, edge: Edge, jwks: JwksServer) -> None:
        jwks.put(RSA, "r")
        config = {"jwt_algorithms": ("RS256",), "jwt_jwks_url": jwks.url, "jwks_refresh_s": 1.0}
        async with edge(**config) as node:
            await eventually(lambda: len(node.verifier.keys) == 2)
            jwks.keys = [{"kty": "nonsense"}]
            fetched = len(jwks.asked)

            async def asked_again() -> bool:
                assert await verdict(node, foreign(RSA, "RS256", "other")) == 31004
                return len(jwks.asked) > fetched

            await eventually(asked_again, 8.0)
            assert await verdict(node, foreign(RSA, "RS256", "r")) == 0


async def test_a_token_is_nowhere_in_what_the_gateway_keeps(edge: Edge) -> None:
    async with edge() as node:
        token = own(jti="needle-in-the-haystack")
        socket = await open_socket(node, token)
        (connection,) = node.listener.connections
        kept = {name: getattr(connection, name, None) for name in type(connection).__slots__}
        kept |= {name: getattr(connection.session, name, None) for name in type(connection.session).__slots__}
        assert token not in repr(kept)
        await socket.close()
