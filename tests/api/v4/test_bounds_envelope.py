"""What every operation refuses before it looks at a field: bodies that are no JSON, bad signatures, old times."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio

from tests.api.admin import Admin, refusal
from tests.api.conftest import module_admin
from tests.api.signing import signed
from tests.api.v4.test_bounds import TABLE
from tests.nodes import CREDENTIALS
from tests.servers import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

WINDOW_MS = 300_000
JSON = {"Content-Type": "application/json"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(valkey_process: Server) -> AsyncIterator[Admin]:
    """One server for the whole file: whatever passes here is a mistake."""
    async with module_admin(valkey_process, rate_limits=False) as admin:
        yield admin


BODIES: dict[str, tuple[bytes, dict[str, str]]] = {
    "cut off": (b"{", JSON),
    "two objects": (b"{}{}", JSON),
    "null": (b"null", JSON),
    "array": (b"[]", JSON),
    "text": (b'"text"', JSON),
    "number": (b"1", JSON),
    "white space": (b"  ", JSON),
    "single quotes": (b"{'userId': 'a'}", JSON),
    "not a number": (b'{"userId": NaN}', JSON),
    "no UTF-8": (b'{"userId":"\xff\xfe"}', JSON),
    "nested deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", JSON),
    "a form": (b"userId=a", {"Content-Type": "application/x-www-form-urlencoded"}),
    "plain text": (b"{}", {"Content-Type": "text/plain"}),
    "multipart": (b"{}", {"Content-Type": "multipart/form-data; boundary=x"}),
    "almost JSON": (b"{}", {"Content-Type": "application/jsonp"}),
    "empty type": (b"{}", {"Content-Type": ""}),
}


@pytest.mark.parametrize("path", TABLE)
async def test_bodies_that_are_no_json_object(admin: Admin, path: str) -> None:
    for name, (content, headers) in BODIES.items():
        answer = await admin.call(path, headers=signed() | headers, content=content)
        assert answer.status_code == 400, (name, answer.text)
        assert refusal(answer) == (400, 1002), (name, answer.text)


async def test_half_a_surrogate_is_no_text(admin: Admin) -> None:
    for content in (b'{"userId":"\\ud800"}', b'{"userId":"a","name":"\\udfff!"}'):
        answer = await admin.call("/v4/user/update", headers=signed() | JSON, content=content)
        assert refusal(answer) == (400, 1002)


@pytest.mark.parametrize("path", TABLE)
async def test_a_charset_is_no_other_type(admin: Admin, path: str) -> None:
    request, _ = TABLE[path]
    for written in ("application/json; charset=utf-8", "Application/JSON", "application/json ;x=y"):
        answer = await admin.call(path, request, headers=signed() | {"Content-Type": written})
        assert "Content-Type" not in answer.text


@pytest.mark.parametrize("path", TABLE)
async def test_no_body_is_an_empty_object(admin: Admin, path: str) -> None:
    for headers in (JSON, {}):
        nothing = await admin.call(path, headers=signed() | headers, content=b"")
        empty = await admin.call(path, headers=signed() | headers, content=b"{}")
        assert nothing.status_code == empty.status_code
        assert nothing.json()["code"] == empty.json()["code"]


def without(headers: Mapping[str, str], name: str) -> dict[str, str]:
    return {each: value for each, value in headers.items() if each != name}


def now_ms() -> int:
    return int(time.time() * 1000)


def unsigned() -> dict[str, dict[str, str]]:
    """Headers that must not pass, made now: some are right but for their time."""
    good = signed()
    stale, early = str(now_ms() - WINDOW_MS - 60_000), str(now_ms() + WINDOW_MS + 60_000)
    return {
        "none": {},
        **{f"no {name}": without(good, name) for name in good},
        **{f"empty {name}": good | {name: ""} for name in good},
        "other secret": signed(secret="another-secret"),
        "empty secret": signed(secret=""),
        "other app": signed(app_key="another-app"),
        "app key in capitals": signed(app_key=CREDENTIALS.app_key.upper()),
        "stale": signed(timestamp=stale),
        "stale in seconds": signed(timestamp=stale[:-3]),
        "early": signed(timestamp=early),
        "long ago": signed(timestamp="1600000000000"),
        "other time than signed": good | {"Timestamp": str(int(good["Timestamp"]) + 1)},
        "other nonce than signed": good | {"Nonce": "1"},
        "nonce too long": signed(nonce="1" * 65),
        "time as text": signed(timestamp="now"),
        "time with a sign": signed(timestamp=f"+{now_ms()}"),
        "time with a fraction": signed(timestamp=f"{now_ms()}.5"),
        "time in microseconds": signed(timestamp=f"{now_ms()}000"),
        "time with white space inside": signed(timestamp=f"{now_ms() // 10} 0"),
        "signature cut": good | {"Signature": good["Signature"][:-1]},
        "signature of another kind": good | {"Signature": "f" * 64},
        "bad bearer": {"Authorization": "Bearer nonsense"},
        "basic": {"Authorization": "Basic YTpi"},
    }


@pytest.mark.parametrize("path", TABLE)
async def test_bad_signatures(admin: Admin, path: str) -> None:
    request, _ = TABLE[path]
    for name, headers in unsigned().items():
        for body in (request, {"userId": 7}):
            answer = await admin.call(path, body, headers=headers)
            assert refusal(answer) == (401, 1004), (name, answer.text)


@pytest.mark.parametrize("path", TABLE)
async def test_only_post(admin: Admin, path: str) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = await admin.call(path, method=method)
        assert refusal(answer) == (405, 405)
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", TABLE)
async def test_a_body_over_the_limit(admin: Admin, path: str) -> None:
    content = b'{"userId":"' + b"a" * admin.config.admin_body_bytes_max + b'"}'
    assert refusal(await admin.call(path, headers=signed() | JSON, content=content)) == (413, 413)
