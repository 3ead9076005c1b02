"""Work that comes all at once is spread over turns of the loop, in its order."""

import asyncio

from gateway.store.turns import Turns


async def test_so_many_a_turn_and_all_in_order() -> None:
    turns, done = Turns(3), list[int]()
    for number in range(8):
        turns.do(done.append, number)
    assert done == [0, 1, 2]
    most = 0
    while len(done) < 8:
        before = len(done)
        await asyncio.sleep(0)
        most = max(most, len(done) - before)
    assert done == list(range(8))
    assert most == 3


async def test_who_comes_while_others_wait_does_not_overtake_them() -> None:
    turns, done = Turns(1), list[str]()
    for name in "abc":
        turns.do(done.append, name)
    await asyncio.sleep(0)
    turns.do(done.append, "late")
    assert not turns.take()
    while len(done) < 4:
        await asyncio.sleep(0)
    assert done == ["a", "b", "c", "late"]


async def test_every_turn_has_its_places_again() -> None:
    turns = Turns(2)
    for _ in range(3):
        assert [turns.take() for _ in range(3)] == [True, True, False]
        for _ in range(2):
            await asyncio.sleep(0)
