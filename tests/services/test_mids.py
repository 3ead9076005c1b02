"""Ids of messages: UUIDs version 7, each once."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from gateway.services import mids
from gateway.services.mids import MessageIds

MS = 1_700_000_000_000
times = st.lists(st.integers(0, 2**48 - 1) | st.integers(MS, MS + 2), min_size=1, max_size=50)


@given(times)
def test_each_is_a_uuid_of_its_time(moments: list[int]) -> None:
    make = MessageIds().make
    made = [make(now_ms) for now_ms in moments]
    for now_ms, mid in zip(moments, made, strict=True):
        found = uuid.UUID(mid)
        assert (str(found), found.version, found.variant) == (mid, 7, uuid.RFC_4122)
        assert found.int >> 80 == now_ms
    assert len(set(made)) == len(made)


def test_those_of_a_millisecond_rise_until_there_is_no_room() -> None:
    ids = MessageIds()
    made = [ids.make(MS) for _ in range(1000)]
    assert made == sorted(made)
    ids._tail = mids._TAIL_MAX - 1
    full = ids.make(MS)
    assert uuid.UUID(full).int >> 80 == MS
    assert full[:23] != made[0][:23]


def test_two_nodes_make_different_ones() -> None:
    one, other = MessageIds(), MessageIds()
    assert {one.make(MS) for _ in range(1000)}.isdisjoint({other.make(MS) for _ in range(1000)})
