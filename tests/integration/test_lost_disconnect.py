"""A disconnect that Redis did not carry out is not the end of it: nobody stays online who is gone."""

from tests.nodes import login, running_node
from tests.servers import Server
from tests.waiting import eventually


async def test_a_disconnect_that_was_refused_is_made_good(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        alice = await login(node, "alice")
        with valkey.client() as redis:
            redis.execute_command("FUNCTION", "FLUSH")
            await alice.close()
            await eventually(lambda: not node.hub.sessions)

            async def offline() -> bool:
                return not await node.services.presence.online("alice")

            await eventually(offline)


async def test_a_node_that_stops_with_a_disconnect_unheard_leaves_its_lease_to_a_reaper(valkey: Server) -> None:
    async with running_node(valkey.url, node_id="second", lease_s=2, lease_renew_s=0.5) as second:
        async with running_node(valkey.url) as node:
            await login(node, "alice")
            with valkey.client() as redis:
                # The node's last disconnect is refused, and it has no time left to compare.
                redis.execute_command("FUNCTION", "FLUSH")

        async def offline() -> bool:
            return not await second.services.presence.online("alice")

        await eventually(offline, 8)
