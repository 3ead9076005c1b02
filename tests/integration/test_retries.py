"""What a repeated send takes of the sender's rate."""

import pytest

from tests.integration.fleet import MovableClock
from tests.nodes import login, running_node
from tests.servers import Server

PATIENT = {"lease_s": 300.0, "heartbeat_s": 3000.0, "drop_wait_s": 301.0}
"""A jump of the clock is then a gap, not the end of a lease or of a silent client."""


@pytest.mark.parametrize("burst", [20, 5])
async def test_a_repeat_that_was_too_fast_passes_when_it_was_told(valkey: Server, burst: int) -> None:
    clock = MovableClock()
    async with running_node(valkey.url, clock, send_rate_per_s=1, send_burst=burst, **PATIENT) as node:
        alice = await login(node, "alice")
        mids = set()
        while (answer := await alice.send("alice", "once", key="k1", retry=True))["type"] == "sent":
            mids.add(answer["mid"])
        assert len(mids) == 1
        # First told when any command may come, then when a repeat may.
        for _ in range(2):
            assert answer["code"] == 20604
            clock.jump(answer["retry_after_ms"] / 1000)
            answer = await alice.send("alice", "once", key="k1", retry=True)
        assert answer["type"] == "sent"
        await alice.close()
