"""Refusals that several services say alike."""

from __future__ import annotations

import structlog

from gateway.core.close import Refusal
from gateway.protocol.codes import Code
from gateway.store.errors import OutcomeUnknown, StoreUnavailable

log = structlog.get_logger(__name__)

RETRY_AFTER_MS = 1_000
"""When to come again while the store is away."""

_REASONS: dict[int, str] = {
    Code.NO_SUCH_USER: "no such user",
    Code.DEACTIVATED: "the user is deactivated",
    Code.MUTED: "you may not send direct messages",
    Code.BLOCKED: "you are on the recipient's blocklist",
    Code.NOT_ALLOWED: "the recipient takes allowlisted senders only",
    Code.NOT_FRIENDS: "only friends may send each other messages",
    Code.PROFANITY_BLOCKED: "the message contains a word that is not allowed",
    Code.INBOX_FULL: "the recipient's inbox is full",
    Code.LIST_FULL: "the list is at its limit",
    Code.BANNED: "the user is banned",
    Code.BANNED_WHILE_CONNECTED: "the user is banned",
    Code.REPLACED: "a newer login took over",
    Code.TOKEN_EXPIRED: "the token was voided",
    Code.TOKEN_INVALID: "the user is not registered",
    Code.REFUSED_DEVICE: "another device of this class is online",
    Code.TOO_MANY_SESSIONS: "too many sessions of this user",
}


def of_code(code: int, until: int = 0) -> Refusal:
    """The refusal that a Function's verdict means."""
    return Refusal(code, _REASONS.get(code, "refused"), until=until or None)


def of_fault(fault: Exception) -> Refusal:
    """The refusal that a fault of the store means to a client."""
    if isinstance(fault, StoreUnavailable):
        return Refusal(
            Code.STORE_UNAVAILABLE, "the store is away, nothing was written: try again", retry_after_ms=RETRY_AFTER_MS
        )
    if isinstance(fault, OutcomeUnknown):
        return Refusal(Code.OUTCOME_UNKNOWN, "no answer in time: repeat with the same key and retry")
    # Redis answered with an error that is no outage: ours to mend, not the client's to read.
    log.error("the store refused a call", fault=str(fault))
    return Refusal(Code.STORE_UNAVAILABLE, "the store refused it, nothing was written", retry_after_ms=RETRY_AFTER_MS)
