"""What a scenario needs of its target, asked before anybody logs in."""

from __future__ import annotations

from loadtest.breaking import Breaker
from loadtest.scenario import Break, Scenario
from loadtest.target import Target, TargetFault

FOR_ALL = ("connect", "chat")
"""Acts that other servers than gateways know as well."""


def check(scenario: Scenario, target: Target) -> None:
    """Whether the target can be loaded so.

    Raises:
        TargetFault: it cannot; a line for each reason, with what is needed.
    """
    if target.kind != "gateway" and scenario.act not in FOR_ALL:
        raise TargetFault(f"{scenario.act} is for gateways: {target.kind} knows {' and '.join(FOR_ALL)}")
    callable_ = target.api and target.credentials is not None
    how = "the Server API: give --api, and --data-dir or --app-key and --app-secret"
    found = [] if callable_ else [f"{what} {how}" for what in _calls(scenario)]
    breaker = Breaker(target)
    for kind in dict.fromkeys(_breaks(scenario)):
        try:
            breaker.check(kind)
        except TargetFault as fault:
            found.append(str(fault))
    if found:
        raise TargetFault("\n".join(found))


def _calls(scenario: Scenario) -> list[str]:
    """What of a scenario calls the Server API."""
    found = []
    if scenario.act == "kick" or (scenario.act == "mixed" and scenario.drops_per_s):
        found.append(f"{scenario.act} drops users over")
    if scenario.tokens == "api":
        found.append("tokens = api: they are issued by")
    return found


def _breaks(scenario: Scenario) -> list[Break]:
    if scenario.act == "mixed":
        return [phase.break_ for phase in scenario.phases if phase.break_ is not None]
    return list(scenario.breaks) if scenario.act == "reconnect" else []
