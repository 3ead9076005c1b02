"""One short chaos run; longer ones, with other seeds, by `python -m tests.faults.chaos`."""

from tests.faults.chaos import run


async def test_nothing_is_lost_while_everything_breaks() -> None:
    # Most of its time is waiting for nodes that are started again and leases that end.
    report = await run(seed=1, seconds=20.0, devices=30, every_s=0.5)
    assert report.good, str(report)
    outcomes = [sending.outcome for sending in report.ledger.sendings.values()]
    assert outcomes.count("sent") > 200, str(report)
    kinds = " ".join(report.ledger.faults)
    for broken in ("node", "store", "links", "ban", "kick", "block", "tokens", "app"):
        assert broken in kinds, str(report)


async def test_nothing_is_lost_while_workers_are_replaced() -> None:
    # The same of two nodes of two workers each, which are killed and frozen one by one as well.
    report = await run(seed=3, seconds=12.0, devices=20, every_s=0.5, workers=2)
    assert report.good, str(report)
    outcomes = [sending.outcome for sending in report.ledger.sendings.values()]
    assert outcomes.count("sent") > 50, str(report)
    assert report.ledger.faults["worker killed"], str(report)
