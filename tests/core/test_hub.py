"""The hub: sessions by id and by user."""

from gateway.core.hub import Hub
from gateway.core.session import Session
from gateway.core.states import State
from tests.core.recording import session_in


def session(session_id: str, user: str) -> Session:
    made, _, _ = session_in(State.JOINING)
    made.id, made.user = session_id, user
    return made


def test_sessions_of_a_user_oldest_first() -> None:
    hub = Hub()
    first, second, other = session("1", "alice"), session("2", "alice"), session("3", "bob")
    for each in (first, second, other):
        hub.add(each)
    assert hub.of("alice") == (first, second)
    assert hub.of("bob") == (other,)
    assert hub.of("carol") == ()
    assert len(hub) == 3
    assert set(hub.users) == {"alice", "bob"}


def test_removing_is_idempotent_and_forgets_the_user() -> None:
    hub = Hub()
    first, second = session("1", "alice"), session("2", "alice")
    hub.add(first)
    hub.add(second)
    assert hub.remove(first)
    assert not hub.remove(first)
    assert hub.of("alice") == (second,)
    assert hub.remove(second)
    assert (len(hub), set(hub.users)) == (0, set())


def test_it_may_change_while_it_is_walked() -> None:
    hub = Hub()
    for number in range(10):
        hub.add(session(str(number), f"u{number % 3}"))
    for each in hub:
        hub.remove(each)
    for number in range(4):
        hub.add(session(str(number), "alice"))
    for each in hub.of("alice"):
        hub.remove(each)
    assert len(hub) == 0
