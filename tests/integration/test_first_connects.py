"""Users who come with a valid token and were never registered."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from websockets.exceptions import InvalidStatus

from gateway.core.claims import sign
from tests.integration.raw import RawClient
from tests.nodes import CREDENTIALS, login, open_socket, running_node
from tests.servers import Server

SECRET = "the app's own secret, which has more than 32 bytes"


def foreign(user: str, **changes: object) -> str:
    now = int(time.time())
    return sign({"sub": user, "aud": "shop", "iat": now, "exp": now + 600} | changes, SECRET)


SHOP = {"jwt_algorithms": ("HS256",), "jwt_secret": SECRET, "jwt_audience": "shop"}


async def test_a_first_connect_with_the_apps_own_token_registers_the_user(valkey: Server) -> None:
    async with running_node(valkey.url, **SHOP) as node:
        assert await node.services.accounts.get("alice") is None
        alice = await login(node, "alice", token=foreign("alice"))
        assert (await alice.send("alice"))["type"] == "sent"
        account = await node.services.accounts.get("alice")
        assert account is not None
        assert account.registered
        # Cut-offs hold for it as for the gateway's own.
        await node.services.tokens.expire(["alice"], int(time.time() * 1000) + 1000)
        assert (await alice.closed())[0] == 4501


async def test_a_ban_or_deactivation_made_before_the_first_connect_holds(valkey: Server) -> None:
    async with running_node(valkey.url, **SHOP) as node:
        await node.services.bans.ban(["alice"], minutes=5)
        await node.services.deletion.deactivate(["bob"])
        for user, code in (("alice", 31009), ("bob", 31029)):
            with pytest.raises(InvalidStatus) as caught:
                await open_socket(node, foreign(user))
            assert caught.value.response.status_code == 403
            assert f'"code":{code}'.encode() in caught.value.response.body


async def test_without_auto_register_an_unknown_user_stays_out(valkey: Server) -> None:
    async with running_node(valkey.url, auto_register=False, **SHOP) as node:
        with pytest.raises(InvalidStatus) as caught:
            await open_socket(node, foreign("alice"))
        assert caught.value.response.status_code == 401
        await node.services.tokens.issue("alice", "Alice")
        await (await login(node, "alice", token=foreign("alice"))).close()


async def test_the_development_environment_counts_users_who_come_by_connecting(valkey: Server) -> None:
    async with running_node(valkey.url, environment="development", users_development_max=2, **SHOP) as node:
        clients = [await login(node, user, token=foreign(user)) for user in ("u1", "u2")]
        with pytest.raises(InvalidStatus) as caught:
            await open_socket(node, foreign("u3"))
        assert caught.value.response.status_code == 403
        assert b'"code":2007' in caught.value.response.body
        late = await RawClient.begin(node, foreign("u3"), "auth")
        assert b'{"code":2007' in await late.until_end()
        # Who is registered may come back.
        await clients[0].close()
        again = await login(node, "u1", token=foreign("u1"))
        for client in (clients[1], again):
            await client.close()


async def test_the_previous_secret_is_accepted_until_its_date_and_not_after(valkey: Server) -> None:
    old = "the secret of before the rotation, also over 32 bytes"
    now = int(time.time())
    token = sign({"sub": "alice", "aud": CREDENTIALS.app_key, "iat": now, "iat_ms": now * 1000, "jti": "j"}, old)
    for hours, accepted in ((1, True), (-1, False)):
        until = datetime.now(UTC) + timedelta(hours=hours)
        async with running_node(valkey.url, previous_app_secret=old, previous_app_secret_until=until) as node:
            if accepted:
                await (await login(node, "alice", token=token)).close()
                continue
            with pytest.raises(InvalidStatus) as caught:
                await open_socket(node, token)
            assert caught.value.response.status_code == 401
