"""Broadcasts, as v1 names them."""

from __future__ import annotations

from gateway.api.v1.kinds import boolean
from gateway.api.v1.messages import CONTENT, PUSH, QUIET, RECALLED, SENDER
from gateway.api.v1.row import Fields, Parameter, row
from gateway.api.v4 import broadcasts
from gateway.api.v4.broadcasts import Sent


def _sent(result: Sent) -> Fields:
    return {"messageUID": result.message_id}


ROWS = (
    row(
        "/message/broadcast.json",
        of=broadcasts.to_all,
        takes=[SENDER, *CONTENT, *PUSH, Parameter("disablePush", "disablePush", boolean), QUIET],
        answer=_sent,
    ),
    row("/message/online/broadcast.json", of=broadcasts.to_online, takes=[SENDER, *CONTENT, QUIET], answer=_sent),
    row("/message/broadcast/recall.json", of=broadcasts.recall, takes=RECALLED),
)
"""Every row about broadcasts."""
