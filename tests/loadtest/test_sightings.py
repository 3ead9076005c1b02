"""The judge of presence must be able to catch each thing it counts."""

from loadtest.sightings import EXAMPLES_MAX, Sightings, Told


def watched() -> Sightings:
    sightings = Sightings()
    sightings.watches("ann", "bob", online=False, version=1)
    sightings.watches("cal", "bob", online=False, version=1)
    return sightings


def test_a_push_is_timed_from_the_change_it_tells_of() -> None:
    sightings = watched()
    sightings.changed("bob", True, 1000)
    assert sightings.waiting() == 2
    assert sightings.pushed("ann", Told("bob", True, 2), 1400) == 400
    assert sightings.pushed("cal", Told("bob", True, 2), 1700) == 700
    assert (sightings.waiting(), sightings.wrong(["bob"])) == (0, [])


def test_a_watcher_who_was_never_told_is_found() -> None:
    sightings = watched()
    sightings.changed("bob", True, 1000)
    sightings.pushed("ann", Told("bob", True, 2), 1400)
    assert sightings.waiting() == 1
    assert sightings.wrong(["bob"]) == ["cal believes that bob is offline"]


def test_a_watcher_who_was_told_the_wrong_state_is_found() -> None:
    sightings = watched()
    sightings.changed("bob", True, 1000)
    assert sightings.pushed("ann", Told("bob", False, 2), 1400) is None
    assert "ann believes that bob is offline" in sightings.wrong(["bob"])


def test_the_same_push_twice_and_a_late_one_are_stale() -> None:
    sightings = watched()
    sightings.changed("bob", True, 1000)
    sightings.pushed("ann", Told("bob", True, 2), 1400)
    assert sightings.pushed("ann", Told("bob", True, 2), 1500) is None
    assert sightings.pushed("ann", Told("bob", False, 1), 1600) is None
    assert sightings.stale == 2
    assert sightings.examples[1] == "ann was told version 1 of bob after 2"
    assert "ann believes that bob is offline" not in sightings.wrong(["bob"])


def test_a_push_about_somebody_not_watched_is_strange() -> None:
    sightings = watched()
    sightings.changed("dan", True, 1000)
    assert sightings.pushed("ann", Told("dan", True, 2), 1400) is None
    assert sightings.strange == 1


def test_a_change_nobody_heard_of_before_the_next_is_overtaken() -> None:
    sightings = watched()
    sightings.changed("bob", True, 1000)
    sightings.pushed("ann", Told("bob", True, 2), 1400)
    sightings.changed("bob", False, 5000)
    assert sightings.overtaken == 1
    assert sightings.pushed("ann", Told("bob", False, 3), 5300) == 300


def test_a_watcher_who_left_is_asked_nothing() -> None:
    sightings = watched()
    sightings.changed("bob", True, 1000)
    sightings.forget("cal")
    sightings.pushed("ann", Told("bob", True, 2), 1400)
    assert (sightings.waiting(), sightings.wrong(["bob"])) == (0, [])


def test_examples_are_few() -> None:
    sightings = watched()
    for number in range(100):
        sightings.pushed("ann", Told(f"nobody{number}", True, 2), 1)
    assert (sightings.strange, len(sightings.examples)) == (100, EXAMPLES_MAX)


def test_who_is_thrown_out_is_judged_by_the_state_and_not_timed() -> None:
    sightings = watched()
    sightings.changed("bob", True, 1000)
    sightings.disturbed("bob")
    assert sightings.waiting() == 0
    assert sightings.pushed("ann", Told("bob", True, 2), 1400) is None
    assert sightings.wrong(["bob"]) == ["cal believes that bob is offline"]


def test_who_knows_already_need_not_be_told() -> None:
    sightings = watched()
    sightings.pushed("ann", Told("bob", True, 2), 900)
    sightings.changed("bob", True, 1000)
    assert sightings.waiting() == 1


def test_a_push_may_come_before_the_answer_that_names_the_state() -> None:
    sightings = Sightings()
    sightings.asks("ann", ["bob"])
    assert sightings.pushed("ann", Told("bob", True, 3), 900) is None
    assert sightings.watching("ann") == 0
    sightings.watches("ann", "bob", online=False, version=2)
    assert (sightings.strange, sightings.stale, sightings.watching("ann")) == (0, 0, 1)
    assert sightings.wrong([]) == ["ann believes that bob is online"]
