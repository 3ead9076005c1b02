"""Live settings: one hash with a version."""

from gateway.store import settings
from tests.store.acts import Acts


async def test_a_change_keeps_the_rest_and_raises_the_version(acts: Acts) -> None:
    assert settings.parse_read(await acts.do(settings.read(acts.keys))) == {}
    assert await acts.do(settings.change(acts.keys, {"friendsOnly": "true", "sendRatePerSecond": "5"})) == 1
    assert await acts.do(settings.change(acts.keys, {"friendsOnly": "false"})) == 2
    assert settings.parse_read(await acts.do(settings.read(acts.keys))) == {
        "friendsOnly": "false",
        "sendRatePerSecond": "5",
        "version": "2",
    }
