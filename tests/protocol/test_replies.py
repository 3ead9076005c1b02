"""What is composed by hand is what the encoder writes."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol import replies


@given(
    st.text(min_size=1, max_size=64),
    st.uuids().map(str) | st.uuids().map(lambda each: each.hex),
    st.integers(0, 2**53),
    st.booleans(),
)
def test_sent(command_id: str, mid: str, sent_at: int, online: bool) -> None:
    made = replies.sent(command_id, mid, b"%d" % sent_at, online)
    assert made == replies.encode(replies.Sent(command_id, mid, sent_at, online))
