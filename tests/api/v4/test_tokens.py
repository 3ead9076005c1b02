from __future__ import annotations

import time

import pytest
from ncsdk import exceptions

from gateway.core.claims import Key, Rules, Verifier
from tests.api.admin import Admin, refusal
from tests.api.vendor import Vendor
from tests.nodes import CREDENTIALS


async def issue(vendor: Vendor, user: str = "alice", name: str = "Alice") -> str:
    result = await vendor.call(
        vendor.users.issue_access_token, "AccessTokenIssueRequest", user_id=user, name=name, avatar_url="https://a/b"
    )
    assert result.user_id == user
    return str(result.access_token)


@pytest.mark.operation("/v4/auth/access-token/issue")
async def test_an_issued_token_is_the_users(admin: Admin, vendor: Vendor) -> None:
    before = int(time.time() * 1000)
    token = await issue(vendor)
    key = Key(CREDENTIALS.app_secret, frozenset({"HS256"}))
    claims = Verifier(Rules(CREDENTIALS.app_key), [key]).verify(token, int(time.time() * 1000))
    assert claims.user == "alice"
    assert before - 1000 <= claims.issued_at <= time.time() * 1000 + 1000
    assert claims.expires_at is None


async def test_a_further_token_does_not_replace_the_first(admin: Admin, vendor: Vendor) -> None:
    assert await issue(vendor) != await issue(vendor)


async def test_issuing_registers_and_overwrites_the_name(admin: Admin, vendor: Vendor) -> None:
    await issue(vendor)
    await issue(vendor, name="Алиса")
    user = await vendor.call(vendor.users.get_user, "UserGetRequest", user_id="alice")
    assert (user.name, user.avatar_url) == ("Алиса", "https://a/b")


async def test_a_deleted_user_gets_no_token(admin: Admin, vendor: Vendor) -> None:
    await issue(vendor)
    await vendor.call(vendor.users.soft_delete_users, "UserIdsMax100Request", user_ids=["alice"])
    with pytest.raises(exceptions.ForbiddenException) as refused:
        await issue(vendor)
    assert refused.value.error_code == 31029
    await vendor.call(vendor.users.restore_users, "UserIdsMax100Request", user_ids=["alice"])
    await issue(vendor)


@pytest.mark.operation("/v4/auth/access-token/expire")
async def test_expiring_writes_the_cut_off(admin: Admin, vendor: Vendor) -> None:
    await issue(vendor)
    instant = int(time.time() * 1000)
    await vendor.call(
        vendor.users.expire_access_token, "AccessTokenExpireRequest", user_ids=["alice", "bob"], expires_at=instant
    )
    account = await admin.services.accounts.get("alice")
    assert account is not None
    assert account.void_before == instant


async def test_expiring_says_what_it_dropped(admin: Admin) -> None:
    result = await admin.result("/v4/auth/access-token/expire", {"userIds": ["a"], "expiresAt": 1})
    took = result.pop("tookMs")
    assert result == {"sessionsClosed": 0, "nodesAnswered": [], "nodesSilent": []}
    assert took >= 0


@pytest.mark.operation("/v4/user/token/revoke")
async def test_revoking_one_token(admin: Admin) -> None:
    result = await admin.result("/v4/user/token/revoke", {"userId": "alice", "tokenId": "0123"})
    assert result["sessionsClosed"] == 0


async def test_a_wrong_secret_is_unauthorized(admin: Admin) -> None:
    wrong = Vendor(admin.base_url, secret="another-secret-0123456789abcdefgh")
    with pytest.raises(exceptions.UnauthorizedException) as refused:
        await issue(wrong)
    wrong.close()
    assert (refused.value.status, refused.value.error_code) == (401, 1004)
    assert refused.value.error_message == "signature verification failed"


async def test_a_base_url_with_a_slash_at_its_end(admin: Admin) -> None:
    slashed = Vendor(admin.base_url + "/")
    await issue(slashed)
    slashed.close()


async def test_what_the_client_lets_through_is_refused_here(admin: Admin, vendor: Vendor) -> None:
    with pytest.raises(exceptions.BadRequestException) as refused:
        await issue(vendor, name="n" * 65)
    assert refused.value.error_code == 1005
    assert "name" in str(refused.value.error_message)
    assert refusal(await admin.call("/v4/auth/access-token/issue", {"userId": "a"})) == (400, 1002)
