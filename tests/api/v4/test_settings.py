from __future__ import annotations

import pytest

from tests.api.admin import Admin, refusal


async def test_all_settings_have_a_value(admin: Admin) -> None:
    settings = await admin.result("/v4/app/setting/get")
    assert settings == {
        "friendsOnly": False,
        "devicePolicy": "platform",
        "expireKeepsConnections": False,
        "sendRatePerSecond": 200,
        "offlineRetentionDays": 7,
        "friendPermissionDefault": 1,
        "strictListMode": False,
        "strictExtKeys": True,
        "wordsBindServerSends": False,
        "trimAcked": False,
        "webhookEvents": [
            "user:connection_status",
            "user:friendship",
            "user:profile_update",
            "user:deletion_state",
            "message:send",
            "message:delete",
        ],
        "webhookServerMessages": False,
    }


@pytest.mark.operation("/v4/app/setting/get", "/v4/app/setting/set")
async def test_a_subset_is_changed_and_the_whole_comes_back(admin: Admin) -> None:
    before = await admin.result("/v4/app/setting/get", {})
    changes = {"friendsOnly": True, "sendRatePerSecond": 5}
    assert await admin.result("/v4/app/setting/set", changes) == before | changes
    assert await admin.result("/v4/app/setting/set", {"devicePolicy": "single"}) == before | changes | {
        "devicePolicy": "single"
    }
    assert await admin.result("/v4/app/setting/get") == before | changes | {"devicePolicy": "single"}


async def test_one_bad_setting_changes_none(admin: Admin) -> None:
    before = await admin.result("/v4/app/setting/get")
    answer = await admin.call("/v4/app/setting/set", {"friendsOnly": True, "offlineRetentionDays": 0})
    assert refusal(answer) == (400, 1002)
    assert await admin.result("/v4/app/setting/get") == before
