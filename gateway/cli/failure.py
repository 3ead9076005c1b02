"""What went wrong, as lines for the person at the terminal; no traceback is one of them."""

from __future__ import annotations

from gateway.config import ConfigError
from gateway.services.errors import Refused
from gateway.store.errors import OutcomeUnknown, StoreError, StoreUnavailable

FAILED = 1
USAGE = 2


class Failed(Exception):
    """A command cannot go on.

    Attributes:
        lines: what to print, one fault a line.
        status: the exit status.
    """

    def __init__(self, *lines: str, status: int = FAILED) -> None:
        super().__init__("\n".join(lines))
        self.lines = list(lines)
        self.status = status


def explained(error: BaseException) -> Failed | None:
    """What a fault of a lower floor means to a person; None where it is a fault of the program."""
    if isinstance(error, Failed):
        return error
    if isinstance(error, ConfigError):
        return Failed(*map(str, error.faults))
    if isinstance(error, Refused):
        return Failed(f"refused ({error.code}): {error.reason}")
    if isinstance(error, StoreError):
        return Failed(*of_store(error))
    if isinstance(error, OSError) and error.filename is not None:
        return Failed(f"{error.filename}: {error.strerror}")
    return None


def of_store(error: StoreError, *, changes: bool = True) -> list[str]:
    """The lines that tell what is wrong with the store; ``changes``: whether the call was to change something."""
    # A StoreUnfit has them; its module brings redis-py along, which `gateway --help` need not wait for.
    faults = getattr(error, "faults", None)
    if faults:
        return [fault.problem for fault in faults]
    if isinstance(error, OutcomeUnknown) and changes:
        return [f"{error}; whether the change was made is unknown: look, or do it again"]
    if isinstance(error, StoreUnavailable | OutcomeUnknown):
        return [str(error)]
    return [f"the store refused the call: {error}"]
