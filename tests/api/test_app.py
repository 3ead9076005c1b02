"""The application with its settings, and with the store away."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from gateway.api import v4
from gateway.api.bearer import WRITE
from gateway.api.operation import operation
from gateway.api.v4.fields import User
from gateway.services.clock import Clock
from gateway.services.services import Services
from tests.servers import Server

from .admin import Admin, refusal
from .conftest import Serve
from .signing import signed

BAN_LIST = "/v4/user/ban/list"
PREVIOUS = "the-secret-before-0123456789abcd"


class MovedClock(Clock):
    """The wall's clock, moved."""

    ahead_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.ahead_ms


async def test_the_previous_secret_signs_until_its_day(serve: Serve) -> None:
    clock = MovedClock()
    until = datetime.now(UTC) + timedelta(minutes=1)
    async with serve(
        app={"clock": clock}, previous_app_secret=PREVIOUS, previous_app_secret_until=until, signature_window_s=0
    ) as admin:
        assert (await admin.call(BAN_LIST, headers=signed(secret=PREVIOUS))).status_code == 200
        clock.ahead_ms = 61_000
        assert refusal(await admin.call(BAN_LIST, headers=signed(secret=PREVIOUS))) == (401, 1004)
        assert (await admin.call(BAN_LIST)).status_code == 200


async def test_the_window_is_a_setting(serve: Serve) -> None:
    old = signed(timestamp=str(int(time.time() * 1000) - 3_600_000))
    async with serve(signature_window_s=7200) as admin:
        assert (await admin.call(BAN_LIST, headers=old)).status_code == 200
    async with serve(signature_window_s=0) as admin:
        assert (await admin.call(BAN_LIST, headers=old)).status_code == 200
    async with serve() as admin:
        assert refusal(await admin.call(BAN_LIST, headers=old)) == (401, 1004)


async def test_with_the_replay_cache_a_signature_is_good_for_one_call(serve: Serve) -> None:
    once = signed()
    async with serve(replay_cache=True) as admin:
        assert (await admin.call(BAN_LIST, headers=once)).status_code == 200
        assert refusal(await admin.call("/v4/app/setting/get", headers=once)) == (401, 1004)
        assert (await admin.call(BAN_LIST, headers=signed(nonce="another"))).status_code == 200


async def test_ids_follow_the_settings(serve: Serve) -> None:
    async with serve(id_pattern="u[0-9]{1,4}", list_call_max=2) as admin:
        unban = "/v4/user/unban"
        assert (await admin.call(unban, {"userIds": ["u1", "u2"]})).status_code == 200
        assert refusal(await admin.call(unban, {"userIds": ["u1", "u2", "u3"]})) == (400, 1002)
        assert refusal(await admin.call(unban, {"userIds": ["alice"]})) == (400, 1002)


CALLS = [
    ("/v4/auth/access-token/issue", {"userId": "alice", "name": "Alice"}),
    (BAN_LIST, {}),
    ("/v4/user/ban", {"userIds": ["alice"], "durationMinutes": 1}),
    ("/v4/user/blocklist/get", {"userId": "alice"}),
]


@pytest.mark.parametrize(("path", "body"), CALLS)
async def test_the_store_is_gone(admin: Admin, valkey: Server, path: str, body: object) -> None:
    valkey.kill()
    answer = await admin.call(path, body)
    assert refusal(answer) == (503, 1000)
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(("path", "body"), CALLS)
async def test_the_store_does_not_answer(admin: Admin, valkey: Server, path: str, body: object) -> None:
    await admin.result(path, body)
    valkey.pause()
    answer = await admin.call(path, body)
    assert refusal(answer) == (504, 1050)


async def test_metrics_for_a_scraper(serve: Serve) -> None:
    async def of_all() -> bytes:
        return b"gateway_sessions 3.0\n"

    async with serve(app={"metrics": of_all}) as admin:
        answer = await admin.call("/metrics", method="GET", headers={})
        assert (answer.status_code, answer.text) == (200, "gateway_sessions 3.0\n")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    async with serve() as admin:
        assert refusal(await admin.call("/metrics", method="GET", headers={})) == (404, 404)


async def test_a_client_that_hangs_up_is_no_fault_of_ours(admin: Admin) -> None:
    port = int(admin.base_url.rpartition(":")[2])
    head = "".join(f"{name}: {value}\r\n" for name, value in signed().items())
    with structlog.testing.capture_logs() as logged:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST {BAN_LIST} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 100\r\n\r\n{{".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await admin.call(BAN_LIST)).status_code == 200
    assert logged == []


async def test_a_fault_of_ours_tells_nothing_but_the_request_id(serve: Serve) -> None:
    @operation("/v4/test/fault", scope=WRITE)
    async def fault(services: Services, asked: User) -> None:
        """Fails."""
        raise RuntimeError("the password is 1234")

    async with serve(app={"operations": [*v4.OPERATIONS, fault]}) as admin:
        answer = await admin.call("/v4/test/fault", {"userId": "a"}, headers=signed() | {"X-Request-ID": "find-me"})
        assert refusal(answer) == (500, 1000)
        assert answer.json()["errorMessage"] == "internal error; request id find-me"
        assert (await admin.call(BAN_LIST)).status_code == 200
