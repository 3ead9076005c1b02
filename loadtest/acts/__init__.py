"""Acts: what happens in a run. Each has a conductor's side (``Act``) and may have one among the users (``Crowd``)."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from loadtest.refusals import TellingCrowd
    from loadtest.stage import Stage


class Act(Protocol):
    """The conductor's side."""

    async def run(self, stage: Stage) -> None:
        """Carries it out, from the first login to the last message.

        Raises:
            stage.Interrupted: Ctrl-C; what was found so far is reported.
        """
        ...


def act_of(name: str) -> Act:
    """The act of that name: the module's class of that name."""
    act: Act = getattr(importlib.import_module(f"loadtest.acts.{name}"), name.capitalize())()
    return act


def crowd_of(name: str) -> type[TellingCrowd]:
    """Who plays in the act: the subclass of TellingCrowd that its module defines, or TellingCrowd."""
    from loadtest.refusals import TellingCrowd

    module = importlib.import_module(f"loadtest.acts.{name}")
    for _, found in inspect.getmembers(module, inspect.isclass):
        if issubclass(found, TellingCrowd) and found.__module__ == module.__name__:
            return found
    return TellingCrowd
