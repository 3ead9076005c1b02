from __future__ import annotations

import re
import time
import uuid
from typing import Any

import jwt
import pytest

from tests.nodes import CREDENTIALS

from .admin import Admin, refusal
from .signing import signed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def admin(shared_admin: Admin) -> Admin:
    """One server for the whole file: nothing here leaves a trace in it."""
    return shared_admin


BAN_LIST = "/v4/user/ban/list"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(lambda: signed(), id="plain"),
        pytest.param(lambda: signed(prefix="RC-"), id="prefixed"),
        pytest.param(lambda: {name.lower(): value for name, value in signed().items()}, id="lower case"),
        pytest.param(lambda: {name.upper(): value for name, value in signed(prefix="rc-").items()}, id="upper case"),
        pytest.param(lambda: signed(timestamp=str(int(time.time()))), id="seconds"),
    ],
)
async def test_every_way_of_signing(admin: Admin, headers: Any) -> None:
    answer = await admin.call(BAN_LIST, {}, headers=headers())
    assert (answer.status_code, answer.json()["code"]) == (200, 0)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"X-Request-ID": str(uuid.uuid4())}, id="the vendor's client without an app key"),
        pytest.param(signed(secret="another"), id="other secret"),
        pytest.param(signed(timestamp="1600000000000"), id="stale"),
        pytest.param({"Authorization": "Bearer nonsense"}, id="bad token"),
        pytest.param({"Authorization": "Basic YTpi"}, id="basic"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", BAN_LIST), ("POST", "/nowhere"), ("GET", BAN_LIST)])
async def test_without_a_signature_nothing_is_told(
    admin: Admin, headers: dict[str, str], method: str, path: str
) -> None:
    answer = await admin.call(path, method=method, headers=headers)
    assert refusal(answer) == (401, 1004)


async def test_a_bad_token_is_challenged(admin: Admin) -> None:
    answer = await admin.call(BAN_LIST, headers={"Authorization": "Bearer nonsense"})
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
async def test_every_operation_is_a_post(admin: Admin, method: str) -> None:
    answer = await admin.call(BAN_LIST, method=method)
    assert refusal(answer) == (405, 405)
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v4",
        "/v4/user",
        "/v4/user/nothing",
        "/v4/group/create",
        "/schema",
        "/openapi",
        f"{BAN_LIST}/",
        BAN_LIST.replace("/user/", "//user/"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
async def test_unknown_paths(admin: Admin, method: str, path: str) -> None:
    assert refusal(await admin.call(path, method=method)) == (404, 404)


@pytest.mark.parametrize("slashes", ["//", "///"])
async def test_doubled_slashes_lead_to_the_same_place(admin: Admin, slashes: str) -> None:
    answer = await admin.call(slashes + BAN_LIST.lstrip("/"), {})
    assert answer.status_code == 200


async def test_the_request_id_comes_back(admin: Admin) -> None:
    given = str(uuid.uuid4())
    for headers in (signed(), {}):
        answer = await admin.call(BAN_LIST, {}, headers=headers | {"X-Request-ID": given})
        assert answer.headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize("given", ["x" * 37, "", "with space", "é"])
async def test_a_bad_request_id_is_replaced(admin: Admin, given: str) -> None:
    answer = await admin.call(BAN_LIST, {}, headers=signed() | {"X-Request-ID": given.encode()})  # type: ignore[dict-item]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer.headers["x-request-id"])


async def test_success_is_json_with_a_charset(admin: Admin) -> None:
    answer = await admin.call(BAN_LIST, {})
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


async def test_health_needs_no_signature(admin: Admin) -> None:
    for path in ("/healthz", "/readyz", "//healthz"):
        answer = await admin.call(path, method="GET", headers={})
        assert (answer.status_code, answer.json()) == (200, {"code": 0})


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
async def test_what_needs_no_signature_is_only_read(admin: Admin, path: str, method: str) -> None:
    answer = await admin.call(path, method=method, headers={})
    assert refusal(answer) == (405, 405)
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_not_ready_is_503(admin: Admin) -> None:
    admin.unready = "the node stops"
    try:
        answer = await admin.call("/readyz", method="GET", headers={})
        alive = await admin.call("/healthz", method="GET", headers={})
    finally:
        admin.unready = None
    assert refusal(answer) == (503, 1000)
    assert answer.json()["errorMessage"] == "not ready: the node stops"
    assert answer.headers["retry-after"] == "1"
    assert alive.status_code == 200


async def test_a_body_over_the_limit(admin: Admin) -> None:
    body = b'{"userIds":["' + b"a" * admin.config.admin_body_bytes_max + b'"]}'
    headers = signed() | {"Content-Type": "application/json"}
    assert refusal(await admin.call("/v4/user/unban", headers=headers, content=body)) == (413, 413)

    async def pieces() -> Any:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    assert refusal(await admin.call("/v4/user/unban", headers=headers, content=pieces())) == (413, 413)


async def test_a_body_at_the_limit_is_read(admin: Admin) -> None:
    body = b'{"userIds":["a"]}'.ljust(admin.config.admin_body_bytes_max)
    answer = await admin.call("/v4/user/unban", headers=signed() | {"Content-Type": "application/json"}, content=body)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("scope", "path", "body", "expected"),
    [
        ("read", BAN_LIST, {}, 200),
        ("read", "/v4/user/unban", {"userIds": ["a"]}, 403),
        ("read", "/v4/user/kick", {"userIds": ["a"]}, 403),
        ("write", "/v4/user/unban", {"userIds": ["a"]}, 200),
        ("write", BAN_LIST, {}, 403),
        ("kick", "/v4/user/kick", {"userIds": ["a"]}, 200),
        ("read write", "/v4/user/kick", {"userIds": ["a"]}, 403),
        ("read write kick", "/v4/user/kick", {"userIds": ["a"]}, 200),
        ("read", "/nowhere", {}, 404),
    ],
)
async def test_scopes_of_an_admin_token(admin: Admin, scope: str, path: str, body: object, expected: int) -> None:
    now = int(time.time())
    claims = {
        "sub": "ops",
        "aud": f"{CREDENTIALS.app_key}/admin",
        "iat": now,
        "exp": now + 60,
        "scope": scope,
    }
    token = jwt.encode(claims, CREDENTIALS.app_secret, algorithm="HS256")
    answer = await admin.call(path, body, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == expected, answer.text
    if expected == 403:
        assert refusal(answer) == (403, 1007)


async def test_a_signature_wins_over_a_token(admin: Admin) -> None:
    answer = await admin.call(BAN_LIST, {}, headers=signed() | {"Authorization": "Bearer nonsense"})
    assert answer.status_code == 200
