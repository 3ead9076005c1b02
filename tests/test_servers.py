"""The tools of the tests do what the tests believe they do."""

import asyncio
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.proxy import Proxy
from tests.servers import Cluster, Server
from tests.waiting import eventually


def test_every_kind_of_store_answers(any_store: Server | Cluster, any_store_url: str) -> None:
    assert any_store_url == any_store.url
    servers = any_store.servers if isinstance(any_store, Cluster) else [any_store]
    for server in servers:
        with server.client() as client:
            assert client.dbsize() == 0
            assert client.info("server")["redis_version"] >= "7.0"
    if isinstance(any_store, Cluster):
        assert len(servers) == 3
        assert any_store.url.startswith("redis+cluster://127.0.0.1:")


class TestServer:
    def test_pause_and_resume(self, valkey: Server) -> None:
        with Redis.from_url(valkey.url, socket_timeout=0.1) as client:
            valkey.pause()
            with pytest.raises(RedisTimeoutError):
                client.ping()
            valkey.resume()
            assert client.ping()

    def test_killed_in_one_test(self, valkey: Server) -> None:
        valkey.kill()

    def test_is_back_in_the_next(self, valkey: Server) -> None:
        with valkey.client() as client:
            assert client.ping()

    def test_restart_keeps_what_is_on_disk(self, fresh_valkey: Server) -> None:
        with fresh_valkey.client() as client:
            client.set("kept", "yes")
        fresh_valkey.restart()
        with fresh_valkey.client() as client:
            assert client.get("kept") == "yes"


class TestProxy:
    async def test_passes_bytes(self, valkey: Server) -> None:
        async with Proxy(valkey.url) as proxy, AsyncRedis.from_url(proxy.url) as client:
            big = b"x" * 1_000_000
            await client.set("big", big)
            assert await client.get("big") == big
            assert proxy.connections == proxy.accepted == 1

    async def test_paused_answers_come_later_and_in_order(self, valkey: Server) -> None:
        async with Proxy(valkey.url) as proxy, AsyncRedis.from_url(proxy.url) as client:
            await client.ping()
            proxy.pause(to_server=False)
            call = asyncio.create_task(client.incr("n"))
            with valkey.client() as direct:
                await eventually(lambda: direct.get("n") == "1")
                assert not call.done()
            proxy.resume()
            assert await call == 1

    async def test_paused_commands_do_not_arrive(self, valkey: Server) -> None:
        async with Proxy(valkey.url) as proxy, AsyncRedis.from_url(proxy.url, retry=None) as client:
            await client.ping()
            proxy.pause(to_client=False)
            call = asyncio.create_task(client.incr("n"))
            with valkey.client() as direct:
                # One loop turn is not enough to prove an absence; a second connection's round trip comes after it.
                for _ in range(10):
                    await asyncio.sleep(0)
                    assert direct.get("n") is None
            proxy.cut()
            with pytest.raises(RedisConnectionError):
                await call
            with valkey.client() as direct:
                assert direct.get("n") is None

    async def test_a_slow_link_keeps_the_order_also_when_it_gets_faster(self, valkey: Server) -> None:
        async with Proxy(valkey.url) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(proxy.url).port)
            proxy.slow(0.2)
            loop = asyncio.get_running_loop()
            started = loop.time()
            writer.write(b"INCR n\r\n")
            await eventually(lambda: proxy.late == 1)
            proxy.slow(0.0)
            writer.write(b"GET n\r\n")
            assert await reader.readexactly(len(b":1\r\n$1\r\n1\r\n")) == b":1\r\n$1\r\n1\r\n"
            # In the milliseconds that the loop counts in: their difference as seconds is a hair less.
            assert round((loop.time() - started) * 1000) >= 200
            writer.close()
            await writer.wait_closed()

    async def test_refuses_and_accepts(self, redis7: Server) -> None:
        async with Proxy(redis7.url) as proxy:
            proxy.refuse()
            client = AsyncRedis.from_url(proxy.url, retry=None)
            with pytest.raises(RedisConnectionError):
                await client.ping()
            proxy.accept()
            assert await client.ping()
            await client.aclose()
            await eventually(lambda: proxy.connections == 0)
