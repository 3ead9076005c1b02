"""Rates of operations, counted over the whole cluster; and signatures that are good for one call."""

from __future__ import annotations

import asyncio
import math

import pytest

from gateway.api import v4
from gateway.api.bearer import READ, WRITE
from gateway.api.openapi import rate
from gateway.api.operation import Rate, operation
from gateway.api.v4.fields import User, UserList
from gateway.metrics import METRICS
from gateway.services.services import Services
from tests.servers import Server
from tests.waiting import eventually

from .admin import Admin, refusal
from .conftest import Serve
from .signing import signed

SELDOM, BATCH, BROADCAST = "/v4/test/seldom", "/v4/test/batch", "/v4/test/broadcast"


@operation(SELDOM, scope=READ, rate=Rate(3, 1))
async def seldom(services: Services, asked: User) -> None:
    """Three times a second."""


@operation(BATCH, scope=WRITE, rate=Rate(10, 3600, counted="users"))
async def batch(services: Services, asked: UserList) -> None:
    """Ten users an hour."""


@operation(BROADCAST, scope=WRITE, rate=(Rate(2, 1), Rate(3, 3600)))
async def broadcast(services: Services, asked: User) -> None:
    """Twice a second and three times an hour."""


APP = {"operations": [*v4.OPERATIONS, seldom, batch, broadcast]}
ALICE = {"userId": "alice"}


async def test_over_the_rate_is_429_with_the_time_to_wait(serve: Serve) -> None:
    before = METRICS.admin_rate_refusals
    async with serve(app=APP) as admin:
        answers = [await admin.call(SELDOM, ALICE) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert refusal(answers[-1]) == (429, 1008)
        assert answers[-1].headers["retry-after"] in ("1", "2")
        assert METRICS.admin_rate_refusals == before + 1
        # What is refused is not counted: the call passes once the first three are over.
        await eventually(lambda: _passes(admin, SELDOM), deadline_s=3)


async def test_limits_do_not_mix(serve: Serve) -> None:
    async with serve(app=APP) as admin:
        for _ in range(3):
            assert (await admin.call(SELDOM, ALICE)).status_code == 200
        assert (await admin.call(BATCH, {"userIds": ["alice"]})).status_code == 200


async def test_all_admin_ports_count_together(serve: Serve) -> None:
    async with serve(app=APP) as one, serve(app=APP) as other:
        answers = await asyncio.gather(*(admin.call(BATCH, {"userIds": ["a", "b"]}) for admin in [one, other] * 5))
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 5


async def test_users_count_one_by_one(serve: Serve) -> None:
    async with serve(app=APP) as admin:
        # Naming somebody twice is naming them once.
        assert (await admin.call(BATCH, {"userIds": ["a", "b", "a", "b"]})).status_code == 200
        assert (await admin.call(BATCH, {"userIds": [f"u{n}" for n in range(9)]})).status_code == 429
        assert (await admin.call(BATCH, {"userIds": [f"u{n}" for n in range(8)]})).status_code == 200
        answer = await admin.call(BATCH, {"userIds": ["a"]})
        assert refusal(answer) == (429, 1008)
        assert 3540 <= int(answer.headers["retry-after"]) <= math.ceil(3600 * 51 / 50)


async def test_a_call_heavier_than_the_limit_takes_all_of_it(serve: Serve) -> None:
    async with serve(app=APP) as admin:
        assert (await admin.call(BATCH, {"userIds": [f"u{n}" for n in range(20)]})).status_code == 200
        assert (await admin.call(BATCH, {"userIds": ["a"]})).status_code == 429


async def test_all_windows_hold(serve: Serve) -> None:
    async with serve(app=APP) as admin:
        for _ in range(2):
            assert (await admin.call(BROADCAST, ALICE)).status_code == 200
        short = await admin.call(BROADCAST, ALICE)
        assert (short.status_code, int(short.headers["retry-after"]) <= 2) == (429, True)
        await eventually(lambda: _passes(admin, BROADCAST), deadline_s=3)
        long = await admin.call(BROADCAST, ALICE)
        assert (long.status_code, int(long.headers["retry-after"]) > 3000) == (429, True)


async def test_bad_requests_count_nothing(serve: Serve) -> None:
    async with serve(app=APP) as admin:
        for _ in range(5):
            assert (await admin.call(SELDOM, {"userId": ""})).status_code == 400
            assert (await admin.call(SELDOM, ALICE, headers={})).status_code == 401
        assert (await admin.call(SELDOM, ALICE)).status_code == 200


async def test_both_dialects_of_an_operation_share_its_limits(serve: Serve) -> None:
    v4_path, v1_path = "/v4/system-channel/message/broadcast/delete", "/message/broadcast/recall.json"
    async with serve(v1_enabled=True) as admin:
        asked = {"fromUserId": "news", "messageId": "none"}
        assert refusal(await admin.call(v4_path, asked)) == (400, 1015)
        older = await admin.call(v1_path, {"fromUserId": "news", "messageUID": "none"})
        assert (older.status_code, older.json()["code"]) == (400, 1015)
        assert refusal(await admin.call(v4_path, asked)) == (429, 1008)
        older = await admin.call(v1_path, {"fromUserId": "news", "messageUID": "none"})
        assert (older.status_code, older.json()["code"]) == (429, 1008)
        assert int(older.headers["retry-after"]) > 3000


def test_the_limits_are_those_of_the_hosted_service() -> None:
    special = {
        "/v4/auth/access-token/issue": "200 a second",
        "/v4/user/soft-delete": "100 users a second",
        "/v4/user/restore": "100 users a second",
        "/v4/user/tag/batch/set": "10 a second",
        "/v4/friend/remove": "100 users a second",
        "/v4/friend/relationship/get": "100 users a second",
        "/v4/friend/permission/set": "100 users a second",
        "/v4/friend/permission/get": "100 users a second",
        "/v4/direct-channel/message/send": "6,000 recipients a minute",
        "/v4/direct-channel/history-message/list": "10 a second",
        "/v4/system-channel/message/send": "100 recipients a second",
        "/v4/system-channel/message/broadcast-online": "60 a minute",
        "/v4/system-channel/message/broadcast-all": "2 an hour and 3 a day",
        "/v4/system-channel/message/broadcast/delete": "2 an hour and 3 a day",
    }
    assert {row.paths[0]: rate(row) for row in v4.OPERATIONS if rate(row) != "100 a second"} == special


async def test_limits_can_be_switched_off(serve: Serve) -> None:
    async with serve(app=APP, rate_limits=False) as admin:
        for _ in range(10):
            assert (await admin.call(SELDOM, ALICE)).status_code == 200


async def test_a_replay_is_refused_by_every_admin_port(serve: Serve) -> None:
    once = signed()
    async with serve(replay_cache=True) as one, serve(replay_cache=True) as other:
        assert (await one.call("/v4/user/ban/list", headers=once)).status_code == 200
        assert refusal(await other.call("/v4/user/ban/list", headers=once)) == (401, 1004)
        upper = once | {"Signature": once["Signature"].upper()}
        assert refusal(await other.call("/v4/app/setting/get", headers=upper)) == (401, 1004)
        assert (await other.call("/v4/user/ban/list", headers=signed(nonce="another"))).status_code == 200


@pytest.mark.parametrize(("kill", "expected"), [(True, (503, 1000)), (False, (504, 1050))])
async def test_without_the_store_no_signature_is_taken_for_unused(
    serve: Serve, valkey: Server, kill: bool, expected: tuple[int, int]
) -> None:
    async with serve(replay_cache=True) as admin:
        (valkey.kill if kill else valkey.pause)()
        assert refusal(await admin.call("/nowhere")) == expected


async def _passes(admin: Admin, path: str) -> bool:
    return (await admin.call(path, ALICE)).status_code == 200
