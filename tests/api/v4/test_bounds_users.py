"""Bad input of the operations on users, their tags, mutes and profiles, beside their ids."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.admin import Admin, refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")

USERS, SOFT_DELETED = "/v4/user/list", "/v4/user/soft-deleted/list"
MUTE, MUTED = "/v4/channel-type/mute/set", "/v4/channel-type/mute/list"
TAG = "/v4/user/tag/batch/set"
PROFILE, PROFILES = "/v4/user/profile/set", "/v4/user/profile/list"


@pytest.mark.parametrize(
    ("path", "body", "code", "field"),
    [
        (USERS, {"page": 0}, 1002, "page"),
        (USERS, {"page": "1"}, 1002, "page"),
        (USERS, {"page": 10_000_001}, 1002, "page"),
        (USERS, {"pageSize": 0}, 1002, "pageSize"),
        (USERS, {"pageSize": 101}, 1002, "pageSize"),
        (USERS, {"order": 2}, 1002, "order"),
        (USERS, {"pageToken": "never-given-out"}, 1002, "pageToken"),
        (USERS, {"pageToken": ""}, 1002, "pageToken"),
        (USERS, {"pageToken": "t" * 257}, 1005, "pageToken"),
        (USERS, {"pageToken": 7}, 1002, "pageToken"),
        (SOFT_DELETED, {"page": 0}, 1002, "page"),
        (SOFT_DELETED, {"pageSize": 51}, 1002, "pageSize"),
        (SOFT_DELETED, {"pageSize": "10"}, 1002, "pageSize"),
        (MUTE, {"userIds": ["a"], "channelTypes": ["PERSON"]}, 1002, "muteState"),
        (MUTE, {"userIds": ["a"], "muteState": 2, "channelTypes": ["PERSON"]}, 1002, "muteState"),
        (MUTE, {"userIds": ["a"], "muteState": True, "channelTypes": ["PERSON"]}, 1002, "muteState"),
        (MUTE, {"userIds": ["a"], "muteState": "1", "channelTypes": ["PERSON"]}, 1002, "muteState"),
        (MUTE, {"userIds": ["a"], "muteState": 1}, 1002, "channelTypes"),
        (MUTE, {"userIds": ["a"], "muteState": 1, "channelTypes": []}, 1002, "channelTypes"),
        (MUTE, {"userIds": ["a"], "muteState": 1, "channelTypes": ["person"]}, 1002, "channelTypes[0]"),
        (MUTE, {"userIds": ["a"], "muteState": 1, "channelTypes": ["PERSON"] * 4}, 1002, "channelTypes"),
        (MUTE, {"userIds": ["a"], "muteState": 1, "channelTypes": "PERSON"}, 1002, "channelTypes"),
        (MUTED, {}, 1002, "channelType"),
        (MUTED, {"channelType": "OPEN"}, 1002, "channelType"),
        (MUTED, {"channelType": "PERSON", "pageSize": 201}, 1002, "pageSize"),
        (MUTED, {"channelType": "PERSON", "pageSize": 0}, 1002, "pageSize"),
        (MUTED, {"channelType": "PERSON", "offset": -1}, 1002, "offset"),
        (TAG, {"userIds": ["a"]}, 1002, "tags"),
        (TAG, {"userIds": ["a"], "tags": "vip"}, 1002, "tags"),
        (TAG, {"userIds": ["a"], "tags": [""]}, 1002, "tags[0]"),
        (TAG, {"userIds": ["a"], "tags": ["good", 7]}, 1002, "tags[1]"),
        (TAG, {"userIds": ["a"], "tags": ["good", "two words"]}, 1002, "tags[1]"),
        (TAG, {"userIds": ["a"], "tags": ["good", "a,b"]}, 1002, "tags[1]"),
        (TAG, {"userIds": ["a"], "tags": ["line\n"]}, 1002, "tags[0]"),
        (TAG, {"userIds": ["a"], "tags": ["good", "t" * 41]}, 1005, "tags[1]"),
        (TAG, {"userIds": ["a"], "tags": ["good", "ä" * 21]}, 1005, "tags[1]"),
        (TAG, {"userIds": ["a"], "tags": [f"t{index}" for index in range(21)]}, 1002, "tags"),
        (PROFILE, {"userId": "a"}, 1002, "userProfile or userExtProfile"),
        (PROFILE, {"userId": "a", "userProfile": {}, "userExtProfile": {}}, 1002, "userProfile or userExtProfile"),
        (PROFILE, {"userId": "a", "userProfile": []}, 1002, "userProfile"),
        (PROFILE, {"userId": "a", "userExtProfile": "{}"}, 1002, "userExtProfile"),
        (PROFILE, {"userId": "nobody", "userProfile": {"name": "N"}}, 24366, "userId"),
        (PROFILES, {"page": 0}, 1002, "page"),
        (PROFILES, {"page": 1, "pageSize": 101}, 1002, "pageSize"),
        (PROFILES, {"order": -1}, 1002, "order"),
    ],
)
async def test_fields(shared_admin: Admin, path: str, body: dict[str, Any], code: int, field: str) -> None:
    answer = await shared_admin.call(path, body)
    assert refusal(answer) == (400, code), answer.text
    assert answer.json()["errorMessage"].startswith(f"{field}: ")


@pytest.mark.parametrize("channel_type", ["GROUP", "CHATROOM"])
async def test_there_are_direct_channels_only(shared_admin: Admin, channel_type: str) -> None:
    both = {"userIds": ["a"], "muteState": 1, "channelTypes": ["PERSON", channel_type]}
    assert refusal(await shared_admin.call(MUTE, both)) == (430, 1009)
    assert refusal(await shared_admin.call(MUTED, {"channelType": channel_type})) == (430, 1009)
    assert (await shared_admin.result(MUTED, {"channelType": "PERSON"}))["totalCount"] == 0


BASIC, EXTENDED = "userProfile", "userExtProfile"


@pytest.mark.parametrize(
    ("part", "key", "value", "code"),
    [
        *(
            (BASIC, key, "x" * (most + 1), 24364)
            for key, most in (("uniqueId", 32), ("name", 64), ("portraitUri", 1024))
        ),
        *((BASIC, key, "x" * (most + 1), 24364) for key, most in (("email", 128), ("birthday", 32), ("location", 32))),
        (BASIC, "name", 7, 1002),
        (BASIC, "name", None, 1002),
        (BASIC, "gender", "1", 24367),
        (BASIC, "gender", True, 24367),
        (BASIC, "gender", 1.0, 24367),
        (BASIC, "gender", None, 24367),
        (BASIC, "gender", 3, 24368),
        (BASIC, "role", 101, 24368),
        (BASIC, "role", -1, 24368),
        (BASIC, "level", 2**70, 24368),
        (BASIC, "shoeSize", 43, 24361),
        (BASIC, "ext_city", "Oslo", 24361),
        (BASIC, "k" * 500, "v", 24361),
        (EXTENDED, "city", "Oslo", 24362),
        (EXTENDED, "ext_", "Oslo", 24362),
        (EXTENDED, "ext_the_city", "Oslo", 24362),
        (EXTENDED, "ext_città", "Roma", 24362),
        (EXTENDED, "", "Oslo", 24362),
        (EXTENDED, "ext_" + "k" * 29, "Oslo", 24364),
        (EXTENDED, "ext_city", "v" * 257, 24364),
        (EXTENDED, "ext_city", 7, 1002),
        (EXTENDED, "ext_city", None, 1002),
    ],
)
async def test_keys_of_a_profile(shared_admin: Admin, part: str, key: str, value: Any, code: int) -> None:
    answer = await shared_admin.call(PROFILE, {"userId": "a", part: {key: value}})
    content = answer.json()
    assert (answer.status_code, content["code"]) == (400, code), answer.text
    assert content["profileKey"] == key[:128]
    assert content["errorMessage"].startswith(f"{part}.{key}"[:128])


async def test_a_profile_has_twenty_keys_of_its_own(shared_admin: Admin) -> None:
    many = {f"ext_k{index}": "v" for index in range(21)}
    answer = await shared_admin.call(PROFILE, {"userId": "a", EXTENDED: many})
    assert (answer.status_code, answer.json()["code"], answer.json()["profileKey"]) == (400, 24363, "ext_k20")
