"""What a v1 caller is told: the v4 refusals in v1 words, always JSON, with the path."""

from __future__ import annotations

import pytest

from gateway.api import v1
from gateway.api.v1.row import Row
from tests.api.admin import Admin
from tests.api.conftest import Serve

from .libraries import FORM, Old, exchange, request, seconds, signed

OWN_SECRET = "a-secret-that-signs-nothing-but-v1-calls"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def served(shared_served: Admin) -> Admin:
    """One server for the whole file."""
    return shared_served


@pytest.mark.parametrize(
    ("path", "body", "code", "field"),
    [
        ("/user/getToken.json", "userId=alice", 1002, "name: "),
        ("/user/getToken.json", "userId=alice&name=", 1002, "name: "),
        ("/user/getToken.json", "name=Alice", 1002, "userId: "),
        ("/user/getToken.json", f"userId={'a' * 65}&name=A", 1005, "userId: "),
        ("/user/getToken.json", f"userId=a&name={'n' * 65}", 1005, "name: "),
        ("/user/getToken.json", f"userId=a&name=A&portraitUri={'u' * 1025}", 1005, "portraitUri: "),
        ("/user/refresh.json", f"userId=a&portraitUri={'u' * 1025}", 1005, "portraitUri: "),
        ("/user/checkOnline.json", "userId=a%20b", 1002, "userId: "),
        ("/user/block.json", "userId=a&minute=0", 1003, "minute: "),
        ("/user/block.json", "userId=a&minute=43201", 1003, "minute: "),
        ("/user/block.json", "userId=a&minute=1.5", 1003, "minute: "),
        ("/user/block.json", "userId=a&minute=1e3", 1003, "minute: "),
        ("/user/block.json", "userId=a", 1003, "minute: "),
        ("/user/block.json", "minute=5", 1002, "userId: "),
        ("/user/block.json", "minute=5&userId=", 1002, "userId: "),
        ("/user/block.json", "minute=5&userId=a&userId=b!", 1002, "userId[1]: "),
        ("/user/block.json", "minute=5" + "".join(f"&userId=u{n}" for n in range(21)), 1002, "userId: "),
        ("/user/block.json", "minute=5&userId=" + ",".join(f"u{n}" for n in range(21)), 1002, "userId: "),
        ("/user/block.json", '{"userId": 7, "minute": 5}', 1002, "userId[0]: "),
        ("/user/block.json", '{"userId": "a", "minute": true}', 1003, "minute: "),
        ("/user/block/query.json", "page=-1", 1002, "page: "),
        ("/user/block/query.json", "page=1&size=x", 1002, "size: "),
        ("/user/token/expire.json", "userId=a&time=soon", 1002, "time: "),
        ("/user/token/expire.json", "userId=a", 1002, "time: "),
        ("/user/deactivate.json", "userId=" + ",".join(f"u{n}" for n in range(101)), 1002, "userId: "),
        ("/user/blacklist/add.json", "userId=a&blackUserId=b,c!", 1002, "blackUserId[1]: "),
        ("/user/blacklist/remove.json", "userId=a", 1002, "blackUserId: "),
        ("/user/blacklist/query.json", "userId=a&size=1001", 1002, "size: "),
        ("/user/blacklist/query.json", "userId=a&pageToken=never", 1002, "pageToken: "),
        ("/user/whitelist/add.json", "userId=a&whiteUserId=", 1002, "whiteUserId: "),
        ("/user/whitesetting/set.json", "userId=a&whiteSetting=2", 1002, "whiteSetting: "),
        ("/user/whitesetting/set.json", "userId=a", 1002, "whiteSetting: "),
    ],
)
async def test_fields_are_named_as_v1_does(lone: Old, path: str, body: str, code: int, field: str) -> None:
    answer = await lone.raw(path, body.encode())
    assert answer.refusal == (400, code), answer.content
    assert answer.content["errorMessage"].startswith(field)
    assert answer.content["url"] == path


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"userId=\xff", FORM, "UTF-8"),
        (b"userId=%ff", FORM, "UTF-8"),
        (b"[]", "application/json", "object"),
        (b"null", "application/json", "object"),
        (b"{", FORM, "JSON"),
        (b'{"userId": "\xff"}', FORM, "JSON"),
        (b'{"a":' + b"[" * 100_000, FORM, "JSON"),
        (b"userId=a", "application/json", "JSON"),
        (b"--x\r\n", "multipart/form-data; boundary=x", "Content-Type"),
        (b"&".join(b"userId=a" for _ in range(5000)), FORM, "fields"),
    ],
)
async def test_bodies_that_are_neither_form_nor_object(lone: Old, body: bytes, content_type: str, message: str) -> None:
    answer = await lone.raw("/user/info.json", body, content_type)
    assert answer.refusal == (400, 1002)
    assert message in answer.content["errorMessage"]


@pytest.mark.parametrize("row", v1.ROWS, ids=lambda row: row.paths[0])
async def test_no_body_at_all(lone: Old, row: Row) -> None:
    answer = await lone.raw(row.paths[0], b"")
    if answer.status != 200:
        assert answer.refusal == (400, 1003)
        names = {parameter.name for parameter in row.parameters}
        assert answer.content["errorMessage"].partition(":")[0] in names


async def test_a_body_over_the_limit(served: Admin, lone: Old) -> None:
    body = b"userId=".ljust(served.config.admin_body_bytes_max + 1, b"a")
    assert (await lone.raw("/user/info.json", body)).refusal == (413, 413)


async def test_unknown_paths_and_methods_are_answered_after_the_signature(lone: Old) -> None:
    missing = await lone.raw("/group/create.json", b"")
    assert missing.refusal == (404, 404)
    assert missing.content["url"] == "/group/create.json"
    wrong = await lone.raw("/user/info.json", b"", method="GET")
    assert wrong.refusal == (405, 405)
    assert wrong.headers["allow"] == "POST"
    options = await lone.raw("/user/info.json", b"", method="OPTIONS")
    assert options.refusal == (405, 405)
    for path in ("/user/info.json", "/group/create.json"):
        assert (await exchange(lone.base_url, request(path, {}, b""))).refusal == (401, 1004)


async def test_without_v1_its_paths_do_not_exist(serve: Serve) -> None:
    async with serve() as admin:
        for row in v1.ROWS:
            for path in row.paths:
                answer = await Old(admin.base_url).raw(path, b"userId=a")
                assert (answer.status, answer.content["code"]) == (404, 404)
        unsigned = await exchange(admin.base_url, request("/user/info.json", {}, b""))
        assert (unsigned.status, unsigned.content["code"]) == (401, 1004)


async def test_a_secret_of_its_own(serve: Serve) -> None:
    async with serve(v1_enabled=True, v1_app_secret=OWN_SECRET) as admin:
        own, apps = signed("1", seconds(), secret=OWN_SECRET), signed("1", seconds())
        old_path, new_path = "/user/block/query.json", "/v4/user/ban/list"
        verdicts = [
            (await exchange(admin.base_url, request(path, headers, b"{}"))).status
            for path in (old_path, new_path, f"{old_path}/")
            for headers in (own, apps)
        ]
        # The last is no path of either dialect.
        assert verdicts == [200, 401, 401, 200, 401, 404]
