"""Keys: one slot a partition, and partitions spread evenly."""

from collections import Counter

import pytest

from gateway.store.keys import SLOTS, Keys, slot, tags
from tests.servers import Cluster


@pytest.mark.parametrize("partitions", [1, 16, 256, 1024])
@pytest.mark.parametrize("masters", [1, 3, 5])
def test_equal_ranges_of_slots_hold_equal_numbers_of_partitions(partitions: int, masters: int) -> None:
    share = -(-SLOTS // masters)
    counts = Counter(slot(tag) // share for tag in tags(partitions))
    assert len(set(tags(partitions))) == partitions
    if partitions >= masters:
        # A master's two borders may each cut through one partition's range.
        assert max(counts.values()) - min(counts.values()) <= 2
        assert len(counts) == masters


def test_the_slot_is_redis_own(cluster: Cluster) -> None:
    keys = Keys(256)
    with cluster.servers[0].client() as client:
        for partition in (0, 17, 255, keys.meta_place, keys.nodes_place, keys.settings_place):
            name = keys.todo(partition) if partition < 256 else ("gw:meta", "gw:nodes", "gw:settings")[partition - 256]
            assert client.execute_command("CLUSTER", "KEYSLOT", name) == keys.slot(partition)


def test_all_of_a_user_lies_in_one_slot() -> None:
    keys = Keys(256)
    user = keys.user("a+b=c_d.e@f-G")
    names = [name for name in user if isinstance(name, str)]
    assert len(names) == len(set(names))
    names += [keys.held(user.partition, "n.1"), keys.reply(user.partition, "c"), keys.todo(user.partition)]
    assert len({name[name.index("{") : name.index("}")] for name in names}) == 1
    assert keys.relay("bob")[:2] == (keys.user("bob").partition, keys.user("bob").user.removesuffix("u:bob"))
