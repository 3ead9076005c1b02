"""What a call does to live sockets: a real node, its admin port, the vendor's client and client apps."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from websockets.exceptions import InvalidStatus

from gateway.node import Node
from tests.api.admin import Admin, refusal
from tests.api.vendor import Vendor
from tests.nodes import Client, login, running_node
from tests.servers import Server
from tests.waiting import eventually


@pytest.fixture
async def node(valkey: Server) -> AsyncIterator[Node]:
    async with running_node(valkey.url) as node:
        yield node


@pytest.fixture
async def admin(node: Node) -> AsyncIterator[Admin]:
    """The node's own admin port."""
    async with httpx.AsyncClient() as http:
        yield Admin(f"http://127.0.0.1:{node.admin.port}", node.services, node.config, http)


async def issue(vendor: Vendor, user: str) -> str:
    result = await vendor.call(
        vendor.users.issue_access_token, "AccessTokenIssueRequest", user_id=user, name=user.title()
    )
    return str(result.access_token)


async def status(vendor: Vendor, user: str) -> str:
    result = await vendor.call(vendor.users.get_user_connection_status, "UserConnectionStatusRequest", user_id=user)
    return str(result.status)


async def refused_with(node: Node, token: str) -> int:
    with pytest.raises(InvalidStatus) as refused:
        await login(node, "alice", token=token)
    return refused.value.response.status_code


@pytest.mark.operation("/v4/auth/access-token/issue", "/v4/user/connection-status/get")
async def test_an_issued_token_opens_a_socket_and_online_status_follows_it(node: Node, vendor: Vendor) -> None:
    assert await status(vendor, "alice") == "0"
    alice = await login(node, "alice", token=await issue(vendor, "alice"))
    assert await status(vendor, "alice") == "1"
    await alice.close()

    async def offline() -> bool:
        return await status(vendor, "alice") == "0"

    await eventually(offline)


@pytest.mark.operation("/v4/user/ban", "/v4/user/unban")
async def test_a_ban_closes_the_socket_and_the_door(node: Node, vendor: Vendor) -> None:
    token = await issue(vendor, "alice")
    alice = await login(node, "alice", token=token)
    await vendor.call(vendor.users.ban_users, "UserBanRequest", user_ids=["alice"], duration_minutes=1)
    assert await status(vendor, "alice") == "0"
    code, reason = await alice.closed()
    assert (code, reason["code"]) == (4502, 31011)
    assert await refused_with(node, token) == 403
    await vendor.call(vendor.users.unban_users, "UserIdsMax20Request", user_ids=["alice"])
    again = await login(node, "alice", token=token)
    await again.close()


@pytest.mark.operation("/v4/auth/access-token/expire")
async def test_expiring_closes_what_older_tokens_opened(node: Node, admin: Admin, vendor: Vendor) -> None:
    token = await issue(vendor, "alice")
    alice = await login(node, "alice", token=token)
    instant = int(time.time() * 1000) + 1
    await vendor.call(
        vendor.users.expire_access_token, "AccessTokenExpireRequest", user_ids=["alice"], expires_at=instant
    )
    code, reason = await alice.closed()
    assert (code, reason["code"]) == (4501, 31020)
    assert await refused_with(node, token) == 401
    await eventually(lambda: time.time() * 1000 > instant + 1)
    later = await login(node, "alice", token=await issue(vendor, "alice"))
    await later.close()


async def test_with_the_vendors_behaviour_expiring_leaves_the_socket(node: Node, admin: Admin, vendor: Vendor) -> None:
    await admin.result("/v4/app/setting/set", {"expireKeepsConnections": True})
    token = await issue(vendor, "alice")
    alice = await login(node, "alice", token=token)
    instant = int(time.time() * 1000) + 1
    result = await admin.result("/v4/auth/access-token/expire", {"userIds": ["alice"], "expiresAt": instant})
    assert result["sessionsClosed"] == 0
    assert (await alice.ask("ping"))["type"] == "pong"
    assert await refused_with(node, token) == 401
    await alice.close()


@pytest.mark.operation("/v4/user/token/revoke")
async def test_revoking_one_token_closes_its_socket_alone(node: Node, admin: Admin, vendor: Vendor) -> None:
    tokens = [await issue(vendor, "alice") for _ in range(2)]
    phone = await login(node, "alice", "?platform=ios", token=tokens[0])
    browser = await login(node, "alice", "?platform=web", token=tokens[1])
    revoked = jwt.decode(tokens[0], options={"verify_signature": False})["jti"]
    result = await admin.result("/v4/user/token/revoke", {"userId": "alice", "tokenId": revoked})
    assert (result["sessionsClosed"], result["nodesAnswered"]) == (1, [node.bus.incarnation])
    assert (await phone.closed())[0] == 4501
    assert (await browser.ask("ping"))["type"] == "pong"
    await browser.close()


async def test_soft_deletion_closes_the_socket(node: Node, vendor: Vendor) -> None:
    alice = await login(node, "alice", token=await issue(vendor, "alice"))
    await vendor.call(vendor.users.soft_delete_users, "UserIdsMax100Request", user_ids=["alice"])
    code, reason = await alice.closed()
    assert (code, reason["code"]) == (4503, 31029)


async def listed(admin: Admin, user: str) -> list[dict[str, Any]]:
    sessions: list[dict[str, Any]] = (await admin.result("/v4/user/session/list", {"userId": user}))["sessions"]
    return sessions


@pytest.mark.operation("/v4/user/kick", "/v4/user/session/list")
async def test_kicking_a_session_a_device_and_a_user(node: Node, admin: Admin) -> None:
    async def devices() -> tuple[Client, Client, Client]:
        phone = await login(node, "alice", "?platform=ios&device=phone")
        browser = await login(node, "alice", "?platform=web&device=browser")
        laptop = await login(node, "alice", "?platform=desktop&device=laptop")
        return phone, browser, laptop

    phone, browser, laptop = await devices()
    sessions = {each["deviceId"]: each for each in await listed(admin, "alice")}
    assert {name: each["platform"] for name, each in sessions.items()} == {
        "phone": "ios",
        "browser": "web",
        "laptop": "desktop",
    }
    one = await admin.result("/v4/user/kick", {"userId": "alice", "sessionId": sessions["phone"]["sessionId"]})
    assert (one["sessionsClosed"], one["nodesAnswered"], one["nodesSilent"]) == (1, [node.bus.incarnation], [])
    code, _ = await phone.closed()
    assert code == 4505
    two = await admin.result("/v4/user/kick", {"userIds": ["alice"], "deviceId": "browser", "reason": "lost browser"})
    assert two["sessionsClosed"] == 1
    code, reason = await browser.closed()
    assert (code, reason["reason"]) == (4505, "lost browser")
    rest = await admin.result("/v4/user/kick", {"userIds": ["alice", "nobody"]})
    assert rest["sessionsClosed"] == 1
    assert (await laptop.closed())[0] == 4505
    assert await listed(admin, "alice") == []


@pytest.mark.operation("/v4/user/kick")
async def test_a_session_or_device_is_found_without_its_user(valkey: Server, node: Node, admin: Admin) -> None:
    async with running_node(valkey.url, node_id="other") as other:
        phone = await login(other, "alice", "?platform=ios&device=phone")
        browser = await login(other, "alice", "?platform=web&device=browser")
        laptop = await login(node, "alice", "?platform=desktop&device=laptop")
        bobs = await login(node, "bob", "?platform=desktop&device=laptop")
        both = sorted([node.bus.incarnation, other.bus.incarnation])

        one = await admin.result("/v4/user/kick", {"sessionId": phone.welcome["session"], "reason": "lost phone"})
        assert (one["sessionsClosed"], one["nodesAnswered"], one["nodesSilent"]) == (1, both, [])
        code, reason = await phone.closed()
        assert (code, reason["reason"]) == (4505, "lost phone")

        two = await admin.result("/v4/user/kick", {"deviceId": "browser"})
        assert two["sessionsClosed"] == 1
        assert (await browser.closed())[0] == 4505

        answer = await admin.call("/v4/user/kick", {"deviceId": "laptop"})
        assert refusal(answer) == (400, 1002)
        three = await admin.result("/v4/user/kick", {"deviceId": "laptop", "userId": "alice"})
        assert three["sessionsClosed"] == 1
        assert (await laptop.closed())[0] == 4505
        assert (await bobs.ask("ping"))["type"] == "pong"

        none = await admin.result("/v4/user/kick", {"sessionId": phone.welcome["session"]})
        assert (none["sessionsClosed"], none["nodesAnswered"], none["nodesSilent"]) == (0, both, [])
        await bobs.close()


async def test_lists_and_friendship_bind_the_very_next_message(node: Node, admin: Admin, vendor: Vendor) -> None:
    alice, bob = await login(node, "alice"), await login(node, "bob")

    async def verdict() -> Any:
        reply = await alice.send("bob")
        return reply.get("code", reply["type"])

    bobs = {"user_id": "bob"}
    assert await verdict() == "sent"
    await vendor.call(vendor.blocklist.add_user_blocklist, "UserBlocklistAddRequest", target_user_ids=["alice"], **bobs)
    assert await verdict() == 405
    await vendor.call(
        vendor.blocklist.remove_user_blocklist, "UserBlocklistRemoveRequest", blocked_user_ids=["alice"], **bobs
    )
    assert await verdict() == "sent"
    await admin.result("/v4/user/allowlist-setting/set", {"userIds": ["bob"], "enabled": True})
    assert await verdict() == 407
    await admin.result("/v4/user/allowlist/add", {"userId": "bob", "targetUserIds": ["alice"]})
    assert await verdict() == "sent"
    await admin.result("/v4/app/setting/set", {"friendsOnly": True})

    async def strangers() -> bool:
        return await verdict() == 25469

    # Settings reach the nodes over the control channel, after the call has returned.
    await eventually(strangers)
    await vendor.call(vendor.friends.add_friend, "FriendAddRequest", user_id="alice", target_id="bob")
    assert await verdict() == "sent"
    await vendor.call(vendor.friends.remove_friends, "FriendDeleteRequest", user_id="alice", target_ids=["bob"])
    assert await verdict() == 25469
    await alice.close()
    await bob.close()


async def test_the_admin_port_tells_what_the_node_carries(node: Node, admin: Admin) -> None:
    alice = await login(node, "alice")
    result = await admin.result("/v4/app/stats")
    (one,) = result["nodes"]
    assert (one["nodeId"], one["answered"], one["draining"]) == (node.bus.incarnation, True, False)
    assert (result["connections"], result["sessions"]) == (1, 1)
    assert (await admin.call("/readyz", method="GET", headers={})).status_code == 200
    await alice.close()
