"""What v1 client libraries do that no document asks for, sent as the bytes that they send."""

from __future__ import annotations

import time

import pytest

from tests.api.admin import Admin
from tests.api.conftest import Serve

from .libraries import GO, JAVA, LIBRARIES, PY, PY2, Answer, Library, Old, exchange, request, seconds, signed

USERS = [("userId", "alice"), ("userId", "bob")]


async def banned(admin: Admin) -> set[str]:
    return {ban.user for ban in await admin.services.bans.list()}


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
async def test_every_librarys_signature_and_form(served: Admin, library: Library) -> None:
    answer = await exchange(served.base_url, library.form("/user/block.json", [*USERS, ("minute", "5")]))
    assert answer.content == {"code": 200}
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert await banned(served) == {"alice", "bob"}


def test_the_nonces_are_as_long_as_they_are_in_life() -> None:
    assert [len(library.sign()["Nonce"]) for library in (GO, JAVA)] == [19, 17]
    assert len(PY2.sign()["rc-nonce"]) == 22


async def test_node_signs_once_in_its_life(serve: Serve) -> None:
    stale = str(int(time.time()) - 3600 * 23)
    once = signed("4821", stale)
    async with serve(v1_enabled=True, replay_cache=True) as admin:
        raw = request("/user/checkOnline.json", once, b"userId=alice")
        for _ in range(3):
            assert (await exchange(admin.base_url, raw)).fields == {"status": "0"}
        # The same signature on a v4 path is judged by the v4 rules.
        v4 = await exchange(admin.base_url, request("/v4/user/ban/list", once, b"{}"))
        assert (v4.status, v4.content["code"]) == (401, 1004)


async def test_the_window_ends_and_can_be_endless(serve: Serve) -> None:
    async def call(admin: Admin, age_s: int) -> Answer:
        headers = signed("1", str(int(time.time()) - age_s))
        return await exchange(admin.base_url, request("/user/checkOnline.json", headers, b"userId=alice"))

    async with serve(v1_enabled=True) as admin:
        assert (await call(admin, 86_400 - 60)).status == 200
        late = await call(admin, 86_400 + 60)
        assert late.refusal == (401, 1004)
        assert late.content["url"] == "/user/checkOnline.json"
    async with serve(v1_enabled=True, v1_signature_window_s=0) as admin:
        assert (await call(admin, 86_400 * 1000)).status == 200


async def test_python_escapes_nothing(served: Admin) -> None:
    library = Old(served.base_url, PY)
    name, portrait = "Ælice 爱丽丝 👩‍🚀", "https://example.com/a?size=3:4;x=y#top"
    issued = await library.form("/user/getToken.json", userId="alice=_-@.1", name=name, portraitUri=portrait)
    assert issued.fields["userId"] == "alice=_-@.1"
    info = (await library.form("/user/info.json", userId="alice=_-@.1")).fields
    assert (info["userName"], info["userPortrait"]) == (name, portrait)


async def test_pythons_plus_is_a_space_and_its_ampersand_is_lost(served: Admin) -> None:
    library = Old(served.base_url, PY)
    await library.form("/user/getToken.json", userId="alice", name="a+b & c")
    assert (await library.form("/user/info.json", userId="alice")).fields["userName"] == "a b "
    refused = await library.form("/user/info.json", userId="+alice")
    assert refused.refusal == (400, 1002)
    assert refused.content["errorMessage"].startswith("userId: ")


async def test_python_sends_json_wherever_its_text_happens_to_be_json(lone: Old) -> None:
    assert (await lone.raw("/user/block/query.json", b"{}", "application/json")).fields == {"users": []}
    asked = {"userId": ["alice", "bob"], "minute": 5}
    assert (await lone.json("/user/block.json", asked)).fields == {}
    # … and forms under a JSON content type, or none at all.
    assert (await lone.raw("/user/unblock.json", b' {"userId": "alice,bob"}', "text/plain")).fields == {}
    assert (await lone.raw("/user/checkOnline.json", b"userId=alice", None)).fields == {"status": "0"}


async def test_go_doubles_the_slash(served: Admin) -> None:
    library = Old(served.base_url, GO)
    assert (await library.form("//user/checkOnline.json", userId="alice")).fields == {"status": "0"}


@pytest.mark.parametrize("path", ["/user/block.json", "/user/deactivate.json"])
@pytest.mark.parametrize(
    "body",
    [
        b"minute=5&userId=alice&userId=bob",
        b"minute=5&userId=alice,bob",
        b"minute=5&userId=alice%2Cbob%2C",
        b"minute=5&userId=alice&userId=bob,alice",
        b'{"minute": "5", "userId": "alice,bob"}',
        b'{"minute": 5, "userId": ["alice", "bob"]}',
    ],
)
async def test_lists_in_all_their_forms(served: Admin, lone: Old, path: str, body: bytes) -> None:
    assert (await lone.raw(path, body)).status == 200
    if path == "/user/block.json":
        assert await banned(served) == {"alice", "bob"}


async def test_headers_in_any_case_and_with_the_prefix(served: Admin) -> None:
    for lower in (True, False):
        for prefix in ("", "RC-"):
            headers = signed("1", seconds(), prefix=prefix, lower=lower)
            raw = request("/user/checkOnline.json", headers, b"userId=alice")
            assert (await exchange(served.base_url, raw)).status == 200


async def test_unknown_fields_and_empty_optional_ones_are_ignored(served: Admin, lone: Old) -> None:
    await lone.form("/user/getToken.json", userId="alice", name="Alice", portraitUri="https://example.com/a")
    # Libraries that send every field they know leave alone what the caller did not fill in.
    assert (await lone.form("/user/refresh.json", userId="alice", name="Alicia", portraitUri="", os="iOS")).fields == {}
    record = await served.services.accounts.get("alice")
    assert record is not None
    assert (record.name, record.avatar_url) == ("Alicia", "https://example.com/a")


async def test_java_begins_with_an_ampersand(lone: Old) -> None:
    assert (await lone.raw("/user/checkOnline.json", b"&userId=alice&")).fields == {"status": "0"}


async def test_a_scalar_sent_twice_counts_once(lone: Old) -> None:
    assert (await lone.raw("/user/block.json", b"userId=alice&minute=5&minute=0")).fields == {}
