"""connect, reclaim, refresh, disconnect and watch on every kind of store."""

import time

import pytest

from gateway.protocol import pushes
from gateway.protocol.codes import Code
from gateway.store import accounts, drops, messages, relationships, sessions
from gateway.store.sessions import NOT_THERE
from tests.store.acts import DAY_MS, NODE, NOW_MS, OTHER, Acts, session

AWKWARD = "a+b=c_d.e@f-G"


def now_ms() -> int:
    return int(time.time() * 1000)


async def add_entry(acts: Acts, user: str, place: str) -> None:
    await acts.raw(user, "XADD", acts.keys.user(user).inbox, place, "m", f'"mid":"{place}"}}')


# Who is let in.


async def test_reasons_to_refuse_a_session_come_in_the_documented_order(acts: Acts) -> None:
    who = session("bob", "s1", issued_at=NOW_MS, jti="t1")
    assert await acts.connect(who) == [Code.NO_SUCH_USER, 0]
    await acts.register("bob")
    ends = now_ms() + 60_000
    await acts.do(drops.expire(acts.keys, "bob", "", NOW_MS + 1, False))
    await acts.do(drops.revoke(acts.keys, "bob", "", "t2"))
    await acts.do(drops.deactivate(acts.keys, "bob", ""))
    await acts.do(drops.ban(acts.keys, "bob", "", ends, "spam"))
    assert await acts.connect(who) == [Code.TOKEN_EXPIRED, 0]
    # Issued in the very millisecond of the cut-off: not before it.
    assert await acts.connect(session("bob", "s1", issued_at=NOW_MS + 1, jti="t2")) == [Code.TOKEN_EXPIRED, 0]
    newer = session("bob", "s1", issued_at=NOW_MS + 1, jti="t3")
    assert await acts.connect(newer) == [Code.DEACTIVATED, 0]
    await acts.do(accounts.reactivate(acts.keys, "bob", 0))
    assert await acts.connect(newer) == [Code.BANNED, ends]
    await acts.do(drops.unban(acts.keys, "bob"))
    assert (await acts.connect(newer))[0] == 0
    assert await acts.online("bob") == ["s1"]


async def test_a_user_may_be_banned_before_there_is_such_a_user(acts: Acts) -> None:
    await acts.do(drops.ban(acts.keys, "bob", "", 0, ""))
    assert await acts.connect(session("bob", "s1")) == [Code.BANNED, 0]
    await acts.register("bob")
    assert await acts.connect(session("bob", "s1")) == [Code.BANNED, 0]


async def test_a_ban_ends_by_itself(acts: Acts) -> None:
    await acts.register("bob")
    await acts.do(drops.ban(acts.keys, "bob", "", now_ms() - 1, ""))
    assert (await acts.connect(session("bob", "s1")))[0] == 0


async def test_an_older_cut_off_does_not_take_back_a_newer_one(acts: Acts) -> None:
    await acts.register("bob")
    await acts.do(drops.expire(acts.keys, "bob", "", NOW_MS + 10, False))
    await acts.do(drops.expire(acts.keys, "bob", "", NOW_MS, False))
    assert await acts.connect(session("bob", "s1", issued_at=NOW_MS + 5)) == [Code.TOKEN_EXPIRED, 0]


# Device policies.


@pytest.mark.parametrize(
    ("policy", "outcomes"),
    [
        # What a second session gets beside one on ios: on android (its class), on web (another), and who stays.
        ("platform", {"android": ["new"], "web": ["new", "old"]}),
        ("single", {"android": ["new"], "web": ["new"]}),
        ("unlimited", {"android": ["new", "old"], "web": ["new", "old"]}),
        ("refuse", {"android": ["old"], "web": ["new", "old"]}),
    ],
)
async def test_the_device_policy_decides_who_stays(acts: Acts, policy: str, outcomes: dict[str, list[str]]) -> None:
    for platform, stay in outcomes.items():
        user = f"bob-{policy}-{platform}"
        await acts.register(user)
        await acts.joined(user, "old", device="d1", platform="ios", policy=policy)
        async with acts.hearing(user, NODE) as (ear,):
            reply = await acts.connect(session(user, "new", device="d2", platform=platform), policy=policy)
            assert await acts.online(user) == stay
            if "new" in stay:
                assert reply[0] == 0
            else:
                assert reply == [Code.REFUSED_DEVICE, 0]
            told = await ear.drops()
        replaced = [drop for drop in told if drop.sessions == {"old"}]
        assert bool(replaced) == ("old" not in stay)
        for drop in replaced:
            assert (drop.close_code, drop.code, drop.all, drop.call) == (4504, Code.REPLACED, False, "")


@pytest.mark.parametrize("policy", ["platform", "single", "unlimited", "refuse"])
async def test_the_same_device_replaces_itself_under_every_policy(acts: Acts, policy: str) -> None:
    await acts.register("bob")
    await acts.joined("bob", "old", OTHER, device="d1", platform="ios", policy=policy)
    async with acts.hearing("bob", NODE, OTHER) as (mine, others):
        await acts.joined("bob", "new", NODE, device="d1", platform="ios", policy=policy)
        [drop] = await others.drops()
        assert drop.sessions == {"old"}
        assert await mine.drops() == []
    assert await acts.online("bob") == ["new"]
    # Two without a device id are two devices.
    if policy == "unlimited":
        await acts.joined("bob", "n1", policy=policy)
        await acts.joined("bob", "n2", policy=policy)
        assert await acts.online("bob") == ["n1", "n2", "new"]


async def test_the_limit_of_sessions_counts_what_would_be_left(acts: Acts) -> None:
    await acts.register("bob")
    await acts.joined("bob", "s1", device="d1", sessions_max=2)
    await acts.joined("bob", "s2", device="d2", sessions_max=2)
    assert await acts.connect(session("bob", "s3"), sessions_max=2) == [Code.TOO_MANY_SESSIONS, 0]
    await acts.joined("bob", "s4", device="d1", sessions_max=2)
    assert await acts.online("bob") == ["s2", "s4"]


# Where the replay starts.


async def test_since_is_honoured_or_the_welcome_says_that_something_is_missing(acts: Acts) -> None:
    await acts.register("bob")
    first = await acts.joined("bob", "s0", device="d1")
    now = now_ms()
    places = [f"{now - 5000 + n}-{n}" for n in range(5)]
    for place in places:
        await add_entry(acts, "bob", place)
    epoch = first.epoch

    async def start(since: tuple[str, str] | None, device: str | None = None) -> tuple[str, str, int]:
        reply = await acts.connect(session("bob", "s1", device=device), since=since)
        assert reply[2].decode() == epoch
        return reply[3].decode(), reply[4].decode(), reply[5]

    head = places[4]
    assert await start((epoch, places[1])) == (places[1], head, 1)
    assert await start((epoch, head)) == (head, head, 1)
    # Between two entries, and before the first while nothing was trimmed.
    assert await start((epoch, f"{now - 4997}-9")) == (f"{now - 4997}-9", head, 1)
    assert await start((epoch, "0-0")) == ("0-0", head, 1)
    # Beyond the last one generated, of another epoch, and never ours: what is unacked, and said to be incomplete.
    for since in ((epoch, f"{now}-0"), ("f00", places[1]), ("-", "0-0")):
        assert await start(since) == ("0-0", head, 0), since
    # Without since: nothing unacked was trimmed.
    assert await start(None) == ("0-0", head, 1)


async def test_without_a_usable_since_the_replay_starts_at_the_ack(acts: Acts) -> None:
    await acts.register("bob")
    first = await acts.joined("bob", "s0")
    now = now_ms()
    places = [(now - 5000 + n, 0) for n in range(4)]
    for place in places:
        await add_entry(acts, "bob", messages.cursor("x", place)[2:])
    await acts.ack("bob", "mine", first.epoch, places[0])
    await acts.ack("bob", "theirs", first.epoch, places[2])
    wrong = ("f00", "1-1")
    for device, since, start, recovered in (
        ("mine", None, places[0], 1),
        ("mine", wrong, places[0], 0),
        ("fresh", None, places[2], 1),
        (None, None, places[2], 1),
        (None, wrong, places[2], 0),
    ):
        reply = await acts.connect(session("bob", "s1", device=device), since=since)
        assert (messages.parse_id(reply[3]), reply[5]) == (start, recovered), device


async def test_below_the_floor_nothing_counts_as_recovered(acts: Acts) -> None:
    await acts.register("bob")
    first = await acts.joined("bob", "s0")
    now = now_ms()
    for place in (f"{now - 9 * DAY_MS}-1", f"{now - 8 * DAY_MS}-2", f"{now - 5}-0"):
        await add_entry(acts, "bob", place)
    floor = f"{now - 8 * DAY_MS}-2"
    # connect trims what has expired; one who knew the floor's entry misses nothing, one who did not does.
    reply = await acts.connect(session("bob", "s1"), since=(first.epoch, f"{now - 9 * DAY_MS}-1"))
    assert (reply[3], reply[5]) == (b"0-0", 0)
    assert len(await acts.inbox("bob")) == 1
    assert await acts.field("bob", "floor") == floor
    reply = await acts.connect(session("bob", "s1"), since=(first.epoch, floor))
    assert (reply[3].decode(), reply[5]) == (floor, 1)
    # Without since: what was trimmed had not been acked.
    assert (await acts.connect(session("bob", "s1")))[5] == 0


async def test_the_head_stays_when_everything_has_been_trimmed(acts: Acts) -> None:
    await acts.register("bob")
    await acts.joined("bob", "s0")
    place = f"{now_ms() - 8 * DAY_MS}-2"
    await add_entry(acts, "bob", place)
    assert (await acts.connect(session("bob", "s1")))[4].decode() == place
    assert (await acts.connect(session("bob", "s1")))[4].decode() == place


# Presence.


async def test_presence_is_published_on_real_changes_only_and_its_version_rises(acts: Acts) -> None:
    await acts.register(AWKWARD)
    async with acts.watching(AWKWARD) as ear:

        async def said() -> list[tuple[bool, list[str]]]:
            found = await ear.said(b"p", pushes.Presence)
            assert all(push.user == AWKWARD for push in found)
            versions.extend(push.version for push in found)
            last_seen.extend(push.last_seen for push in found)
            return [(push.online, push.platforms) for push in found]

        versions: list[int] = []
        last_seen: list[int | None] = []
        one = await acts.joined(AWKWARD, "s1", NODE, platform="web", device="d1")
        assert await said() == [(True, ["web"])]
        two = await acts.joined(AWKWARD, "s2", OTHER, platform="web")
        assert await said() == []
        three = await acts.joined(AWKWARD, "s3", NODE, platform="ios")
        assert await said() == [(True, ["ios", "web"])]
        # A session that replaces itself changes nothing that a watcher sees.
        again = await acts.joined(AWKWARD, "s4", OTHER, platform="web", device="d1")
        assert await said() == []
        assert await acts.disconnect(one) == NOT_THERE
        assert await said() == []
        assert await acts.disconnect(three) == 1
        assert await said() == [(True, ["web"])]
        assert await acts.disconnect(two, OTHER) == 1
        assert await said() == []
        assert await acts.disconnect(again, OTHER) == 1
        assert await said() == [(False, [])]
        assert versions == [1, 2, 3, 4]
        assert last_seen[:3] == [None] * 3
        assert str(last_seen[3]) == await acts.field(AWKWARD, "last_seen")
    assert await acts.field(AWKWARD, "nodes") is None


async def test_only_the_incarnation_that_owns_a_session_ends_it(acts: Acts) -> None:
    await acts.register("bob")
    who = await acts.joined("bob", "s1", NODE)
    async with acts.watching("bob") as ear:
        assert await acts.disconnect(who, OTHER) == 0
        assert await ear.heard() == []
    assert await acts.online("bob") == ["s1"]
    assert await acts.field("bob", "nodes") == NODE
    assert await acts.disconnect(who, NODE) == 1
    assert await acts.disconnect(who, NODE) == NOT_THERE
    assert await acts.online("bob") == []


async def test_other_sessions_hear_who_came_and_went(acts: Acts) -> None:
    await acts.register("bob")
    await acts.joined("bob", "s1", NODE, platform="web")
    async with acts.hearing("bob", NODE, OTHER) as (mine, others):

        async def said() -> list[tuple[str, str, str | None, str]]:
            found = await mine.said(b"e", pushes.SessionChanged)
            return [(push.event, push.session, push.device, push.platform) for push in found]

        phone = 'the "phone" /1\\'
        await acts.joined("bob", "s2", OTHER, platform="ios", device=phone)
        assert await said() == [("opened", "s2", phone, "ios")]
        # Told to those who were there before, not to the newcomer.
        assert await others.said(b"e", pushes.SessionChanged) == []
        newer = await acts.joined("bob", "s3", OTHER, platform="ios", device=phone)
        assert await said() == [("closed", "s2", phone, "ios"), ("opened", "s3", phone, "ios")]
        await acts.disconnect(newer, OTHER)
        assert await said() == [("closed", "s3", phone, "ios")]
        assert (await others.drops())[0].sessions == {"s2"}


async def test_a_watcher_sees_the_present_state_and_a_blocked_one_sees_nothing(acts: Acts) -> None:
    async def seen(watcher: str) -> sessions.PresenceRecord:
        return sessions.parse_watch(await acts.do(sessions.watch(acts.keys, "bob", watcher)))

    assert await seen("alice") == sessions.PresenceRecord(True, False, 0, None, [])
    await acts.register("bob")
    who = await acts.joined("bob", "s1", platform="desktop")
    await acts.do(relationships.edit(acts.keys, "bob", "block", "add", ["carol"], 10))
    assert await seen("alice") == sessions.PresenceRecord(True, True, 1, None, ["desktop"])
    assert await seen("carol") == sessions.PresenceRecord(False, False, 1, None, [])
    await acts.disconnect(who)
    gone = await seen("alice")
    assert (gone.online, gone.version) == (False, 2)
    assert gone.last_seen is not None
    assert abs(gone.last_seen - now_ms()) < 60_000


# Coming back.


async def test_a_reclaimed_session_is_registered_again_as_it_was(acts: Acts) -> None:
    await acts.register("bob")
    who = await acts.joined("bob", "s1", NODE, device="d1", platform="ios", jti="t1")
    before = sessions.parse_list(await acts.do(sessions.list_of(acts.keys, "bob")))
    await acts.do(accounts.mute(acts.keys, "bob", True))
    place = (await acts.send("alice", "bob"))[1]
    async with acts.watching("bob") as watcher, acts.hearing("bob", NODE) as (ear,):
        # While it was still there nothing changes and nobody hears anything.
        assert await acts.reclaim(who, NODE) == [0, 1, place, b"0-0", 0, who.epoch.encode(), b""]
        assert await watcher.heard() == await ear.heard() == []
        assert sessions.parse_list(await acts.do(sessions.list_of(acts.keys, "bob"))) == before
        # Swept meanwhile, it comes back under the node's new incarnation.
        await acts.disconnect(who, NODE)
        await watcher.heard()
        assert (await acts.reclaim(who, OTHER))[0:5:4] == [0, 1]
        [push] = await watcher.said(b"p", pushes.Presence)
        assert push.online
    [after] = sessions.parse_list(await acts.do(sessions.list_of(acts.keys, "bob")))
    assert after.node == OTHER
    assert after.connected_at == before[0].connected_at
    assert await acts.field("bob", "nodes") == OTHER


async def test_others_hear_of_a_reclaimed_session_that_they_had_seen_go(acts: Acts) -> None:
    await acts.register("bob")
    who = await acts.joined("bob", "s1", NODE)
    await acts.joined("bob", "s2", OTHER)
    await acts.disconnect(who, NODE)
    async with acts.hearing("bob", OTHER, NODE) as (others, mine):
        assert (await acts.reclaim(who, NODE))[0] == 0
        [push] = await others.said(b"e", pushes.SessionChanged)
        assert (push.event, push.session) == ("opened", "s1")
        assert await mine.heard() == []


async def test_reclaim_is_refused_for_what_was_revoked_meanwhile(acts: Acts) -> None:
    await acts.register("bob", "carol", "dave", "erin")
    gone = [await acts.joined(user, f"s-{user}", jti="t1") for user in ("bob", "carol", "dave", "erin")]
    ends = now_ms() + 60_000
    await acts.do(drops.ban(acts.keys, "bob", "", ends, ""))
    await acts.do(drops.deactivate(acts.keys, "carol", ""))
    await acts.do(drops.expire(acts.keys, "dave", "", NOW_MS + 1, False))
    await acts.do(drops.revoke(acts.keys, "erin", "", "t1"))
    assert [await acts.reclaim(who) for who in gone] == [
        [Code.BANNED_WHILE_CONNECTED, ends],
        [Code.DEACTIVATED, 0],
        [Code.TOKEN_EXPIRED, 0],
        [Code.TOKEN_EXPIRED, 0],
    ]


async def test_what_a_cut_off_node_did_not_hear_dropped_is_not_reclaimed(acts: Acts) -> None:
    """A kick leaves no other record, and a ban may have been lifted again."""
    await acts.register("bob")
    kicked = await acts.joined("bob", "s1")
    banned = await acts.joined("bob", "s2")
    await acts.do(drops.kick(acts.keys, "bob", "", "", "session", "s1"))
    assert (await acts.reclaim(banned))[0] == 0
    await acts.do(drops.ban(acts.keys, "bob", "", 0, ""))
    await acts.do(drops.unban(acts.keys, "bob"))
    assert [(await acts.reclaim(who))[0] for who in (kicked, banned)] == [4505, 4505]
    # What connects anew is another session.
    await acts.joined("bob", "s3")


@pytest.mark.parametrize(
    ("policy", "newer", "still_there", "outcome"),
    [
        # The old session: ios, device d1. The newer one, and whether it is still there when the old one comes back.
        ("platform", {"platform": "android", "device": "d2"}, True, Code.REPLACED),
        ("platform", {"platform": "android", "device": "d2"}, False, Code.REPLACED),
        ("platform", {"platform": "web", "device": "d2"}, True, 0),
        ("single", {"platform": "web", "device": "d2"}, True, Code.REPLACED),
        ("single", {"platform": "web", "device": "d2"}, False, Code.REPLACED),
        ("unlimited", {"platform": "ios", "device": "d2"}, True, 0),
        ("unlimited", {"platform": "ios", "device": "d1"}, True, Code.REPLACED),
        ("unlimited", {"platform": "ios", "device": "d1"}, False, Code.REPLACED),
        ("refuse", {"platform": "ios", "device": "d2"}, True, Code.REPLACED),
        ("refuse", {"platform": "ios", "device": "d2"}, False, 0),
        ("refuse", {"platform": "web", "device": "d1"}, True, Code.REPLACED),
    ],
)
async def test_reclaim_displaces_nobody_and_gives_way_to_what_came_later(
    acts: Acts, policy: str, newer: dict[str, str], still_there: bool, outcome: int
) -> None:
    await acts.register("bob")
    old = await acts.joined("bob", "old", NODE, device="d1", platform="ios", policy=policy)
    # Its node was taken for dead: the session was swept before the newer one came.
    await acts.disconnect(old, NODE)
    new = await acts.joined("bob", "new", OTHER, policy=policy, **newer)
    if not still_there:
        await acts.disconnect(new, OTHER)
    async with acts.hearing("bob", OTHER) as (ear,):
        assert (await acts.reclaim(old, NODE, policy=policy))[0] == outcome
        assert await ear.drops() == []
    expected = (["new"] if still_there else []) + (["old"] if outcome == 0 else [])
    assert await acts.online("bob") == expected


async def test_an_older_session_is_no_reason_to_refuse_a_reclaim(acts: Acts) -> None:
    await acts.register("bob")
    await acts.joined("bob", "older", OTHER, platform="web", policy="single")
    newest = await acts.joined("bob", "newest", NODE, platform="ios", policy="unlimited")
    for policy in ("single", "platform", "refuse", "unlimited"):
        assert (await acts.reclaim(newest, NODE, policy=policy))[0] == 0


# A new token.


async def test_refresh_swaps_the_token_and_looks_at_ban_and_cut_off_again(acts: Acts) -> None:
    await acts.register("bob")
    who = await acts.joined("bob", "s1", NODE, issued_at=NOW_MS, jti="t1")

    async def refresh(issued_at: int, jti: str, node: str = NODE) -> list[int]:
        return list(await acts.do(sessions.refresh(acts.keys, who, node, issued_at, jti)))

    assert await refresh(NOW_MS + 100, "t2") == [0, 0]
    [record] = sessions.parse_list(await acts.do(sessions.list_of(acts.keys, "bob")))
    assert (record.issued_at, record.jti, record.session) == (NOW_MS + 100, "t2", "s1")
    # The old token voided now takes nothing with it; the new one voided does.
    assert drops.parse_dropped(await acts.do(drops.revoke(acts.keys, "bob", "", "t1"))) == (0, [])
    assert drops.parse_dropped(await acts.do(drops.expire(acts.keys, "bob", "", NOW_MS + 50, False))) == (0, [])
    assert await refresh(NOW_MS + 10, "t3") == [Code.TOKEN_EXPIRED, 0]
    assert await refresh(NOW_MS + 100, "t1") == [Code.TOKEN_EXPIRED, 0]
    assert await refresh(NOW_MS + 100, "t3", OTHER) == [Code.TOKEN_EXPIRED, 0]
    ends = now_ms() + 60_000
    await acts.do(drops.ban(acts.keys, "bob", "", ends, ""))
    assert await refresh(NOW_MS + 100, "t4") == [Code.BANNED_WHILE_CONNECTED, ends]
    await acts.do(drops.deactivate(acts.keys, "bob", ""))
    assert await refresh(NOW_MS + 100, "t4") == [Code.DEACTIVATED, 0]
    assert drops.parse_dropped(await acts.do(drops.revoke(acts.keys, "bob", "", "t2"))) == (1, [NODE])


async def test_what_an_incarnation_holds_is_listed_in_batches(acts: Acts) -> None:
    await acts.register(AWKWARD)
    partition = acts.keys.partition(AWKWARD)
    for number in range(16):
        await acts.joined(AWKWARD, f"s{number}", NODE)
    held: set[tuple[str, str]] = set()
    cursor = "0"
    while True:
        cursor, pairs = sessions.parse_held(await acts.do(sessions.held(acts.keys, partition, NODE, cursor, 5)))
        held.update(pairs)
        if cursor == "0":
            break
    assert held == {(AWKWARD, f"s{number}") for number in range(16)}


async def test_who_is_online_is_counted_by_user(acts: Acts) -> None:
    async def online() -> int:
        return sum([int(await acts.do(sessions.online(acts.keys, each))) for each in range(acts.keys.partitions)])

    await acts.register("bob", "carol")
    phone = await acts.joined("bob", "s1", NODE, device="phone", platform="ios")
    laptop = await acts.joined("bob", "s2", OTHER, platform="desktop")
    carol = await acts.joined("carol", "s3", OTHER)
    assert await online() == 2
    # A newer login replaces the phone's session; its node's disconnect finds nothing of it.
    newer = await acts.joined("bob", "s4", OTHER, device="phone", platform="ios")
    await acts.disconnect(phone, NODE)
    await acts.disconnect(laptop, OTHER)
    assert await online() == 2
    await acts.disconnect(newer, OTHER)
    assert await online() == 1
    # After a break it may be that only the reclaim makes a user known again.
    assert (await acts.reclaim(newer, OTHER))[0] == 0
    assert await online() == 2
    await acts.disconnect(newer, OTHER)
    await acts.disconnect(carol, OTHER)
    assert await online() == 0
