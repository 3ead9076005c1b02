"""Scenarios: all faults at once, in words that help; flags over files."""

from pathlib import Path

import pytest

from loadtest.scenario import Scenario, ScenarioFault, keys, load, of, shipped


def faults(written: str, tmp_path: Path, **flags: str) -> list[str]:
    """What is wrong with a file."""
    path = tmp_path / "mine.toml"
    path.write_text(written)
    with pytest.raises(ScenarioFault) as caught:
        load(str(path), flags)
    return caught.value.faults


@pytest.mark.parametrize("name", shipped())
def test_what_is_shipped_has_no_fault(name: str) -> None:
    scenario = load(name)
    assert scenario.name == scenario.act == name


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    found = faults('usres = 5\nusers = "many"\nrate = -1\nspread = "all"\nbody_bytes = 10\n', tmp_path, devices="99")
    assert len(found) == 6
    text = "\n".join(found)
    assert "usres: no such key; did you mean users?" in text
    assert "users: Expected int, got str, not 'many'" in text
    for key in ("rate", "spread", "body_bytes", "--devices"):
        assert f"{key}: " in text


def test_of_phases_too_every_fault_is_told_with_its_place(tmp_path: Path) -> None:
    first = '[[phases]]\nname = "night"\nonline = 3.0\nbreak = "fall"\n'
    found = faults(f'act = "mixed"\nusers = 4\n{first}[[phases]]\nnmae = "day"\n', tmp_path)
    assert found == [
        "phases: number 1: online: Expected float <= 1.0, not 3.0",
        "phases: number 1: break: one of drain, restart, kill is wanted, not 'fall'",
        "phases: number 2: name: it needs one",
        "phases: number 2: nmae: no such key; did you mean name?",
    ]


def test_of_a_word_that_is_none_of_several_they_are_told(tmp_path: Path) -> None:
    found = faults('act = "chatt"\n', tmp_path, drops="kick,shout")
    assert found == [
        "act: one of connect, chat, presence, kick, reconnect, soak, mixed is wanted, not 'chatt'",
        "--drops: one of ban, expire, kick is wanted, not ('kick', 'shout')",
    ]


def test_a_word_where_a_list_is_wanted_is_told_so(tmp_path: Path) -> None:
    assert faults('act = "kick"\ndrops = "kick"\n', tmp_path) == ["drops: a list is wanted, not 'kick'"]


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("users = 5", "users: pairs need an even number"),
        ("users = 1", "users: somebody to write to is needed"),
        ("users = 2\nrefused_share = 0.5", "users: refused_share needs at least 4"),
        ("rate = 10.0\nwindow = 1", "window: rate is an open loop"),
        ("users = 4\nprocesses = 5", "processes: more than there are users"),
        ('act = "reconnect"', "breaks: reconnect breaks something"),
        ('act = "mixed"', "phases: mixed has at least one phase"),
        ('act = "presence"', "watch: presence has watchers"),
        ('act = "kick"\ndrops_per_s = 1.0\ndrops = []', "drops: drops_per_s is above 0"),
        (
            'act = "mixed"\n[[phases]]\nname = "x"\nhuors = 1',
            "phases: number 1: huors: no such key; did you mean hours?",
        ),
    ],
)
def test_contradictions_are_told(written: str, fault: str, tmp_path: Path) -> None:
    assert fault in "\n".join(faults(written, tmp_path))


def test_keys_that_would_do_nothing_are_told_with_the_acts_that_use_them(tmp_path: Path) -> None:
    written = 'breaks = ["kill"]\ndrops_per_s = 1.0\nchurn_per_s = 0.0\n'
    assert faults(written, tmp_path, watch="2") == [
        "breaks: chat does not use it; it is for reconnect",
        "drops_per_s: chat does not use it; it is for kick, mixed",
        "watch: chat does not use it; it is for presence, soak, mixed",
    ]
    assert faults('act = "kick"\nbreaks = ["kill"]', tmp_path) == ["breaks: kick does not use it; it is for reconnect"]


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    assert "not TOML" in faults("users = = 5", tmp_path)[0]
    with pytest.raises(ScenarioFault, match="did you mean chat"):
        load("chatt")


def test_flags_win_over_the_file() -> None:
    scenario = load("kick", {"users": "40", "body-bytes": "200", "drops": "ban,kick"})
    assert (scenario.users, scenario.body_bytes, scenario.drops) == (40, 200, ("ban", "kick"))


def test_a_flag_for_one_kind_of_loop_ends_the_other() -> None:
    assert (load("chat", {"rate": "50"}).rate, load("chat", {"rate": "50"}).window) == (50.0, 0)
    kick = load("kick", {"window": "2"})
    assert (kick.rate, kick.window) == (0.0, 2)


def test_who_writes_without_a_rate_has_a_window() -> None:
    assert of("plain", {"users": 4}).window == 1


def test_every_key_is_explained() -> None:
    assert all(keys().values())
    assert set(keys()) == set(Scenario.__struct_fields__)
