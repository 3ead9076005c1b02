"""What can go wrong between the gateway and Redis, by what it means for the caller."""

from __future__ import annotations


class StoreError(Exception):
    """Anything the store could not do."""


class StoreUnavailable(StoreError):
    """The command was certainly not carried out: it never left, or Redis refused to run it. Try again later (503)."""


class OutcomeUnknown(StoreError):
    """The command went out and no answer came in time: it may or may not have been carried out (504)."""


class StoreRefused(StoreError):
    """Redis answered with an error that is no outage: a fault of the gateway or of Redis' configuration."""
