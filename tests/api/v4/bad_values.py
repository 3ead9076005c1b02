"""What is bad for each kind of field, and the most and the least that is not. Held against every operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

INVALID, MINUTES_INVALID, TOO_LONG = 1002, 1003, 1005

Bad = tuple[tuple[Any, int], ...]


class Kind(NamedTuple):
    """One kind of field.

    Attributes:
        bad: values and the codes that they are refused with.
        good: values at the bounds, which the bounds let through.
        required: whether it may not be left out.
        missing: the code when it is.
    """

    bad: Bad
    good: tuple[Any, ...] = ()
    required: bool = False
    missing: int = INVALID


def needed(kind: Kind) -> Kind:
    """The same, where it may not be left out or null."""
    return kind._replace(required=True, bad=(*kind.bad, (None, kind.missing)))


_ID: Bad = (
    ("", INVALID),
    ("a b", INVALID),
    ("a/b", INVALID),
    ("ä", INVALID),
    ("a\n", INVALID),
    ("a\u0000", INVALID),
    ("x" * 65, TOO_LONG),
    (7, INVALID),
    (True, INVALID),
    (["a"], INVALID),
    ({}, INVALID),
)
USER = Kind(_ID, ("x" * 64, "A-z_0+9=.@"))


def users(most: int) -> Kind:
    """A list of 1 to so many user ids."""
    bad: Bad = (
        ([], INVALID),
        ([f"u{index}" for index in range(most + 1)], INVALID),
        # Counted before duplicates are dropped.
        (["same"] * (most + 1), INVALID),
        *((["good", value], code) for value, code in _ID),
        (["good", None], INVALID),
        ("good", INVALID),
        ({"good": 1}, INVALID),
        (7, INVALID),
    )
    return Kind(bad, ([f"u{index}" for index in range(most)], ["same", "same"]))


def text(most: int, *, least: int = 0) -> Kind:
    """Text of so many characters."""
    bad: Bad = (("t" * (most + 1), TOO_LONG), ("ü" * (most + 1), TOO_LONG), (7, INVALID), (["t"], INVALID))
    return Kind((*bad, ("", INVALID)) if least else bad, ("ü" * most, "t" * least))


def octets(most: int) -> Kind:
    """Text of so many bytes, written as JSON's UTF-8."""
    bad: Bad = (("t" * (most + 1), TOO_LONG), ("ü" * (most // 2 + 1), TOO_LONG), (7, INVALID), ({}, INVALID))
    return Kind(bad, ("t" * most, "ü" * (most // 2)))


def whole(least: int, most: int | None, *, invalid: int = INVALID, as_text: bool = False) -> Kind:
    """A whole number.

    Args:
        most: the greatest one; None = what is greater counts as the greatest.
        as_text: written as text it is one all the same.
    """
    values: list[Any] = [least - 1, 1.5, True, "", "many", [least]]
    if most is not None:
        values += [most + 1, 10**30]
    if not as_text:
        values.append(str(least))
    greatest = 10**30 if most is None else most
    good: tuple[Any, ...] = (least, greatest, str(greatest)) if as_text else (least, greatest)
    return Kind(tuple((value, invalid) for value in values), good, missing=invalid)


MINUTES = whole(1, 43_200, invalid=MINUTES_INVALID)
MILLISECONDS = whole(0, 2**53)
SWITCH = whole(0, 1)
TRUTH = Kind(
    ((0, INVALID), (1, INVALID), ("true", INVALID), ("yes", INVALID), ([], INVALID), ({}, INVALID)), (True, False)
)


def one_of(*words: str) -> Kind:
    """One of some words."""
    bad: tuple[Any, ...] = ("", words[0].lower() + "x", 7, [words[0]], True)
    return Kind(tuple((value, INVALID) for value in bad), words)


def some_of(*words: str) -> Kind:
    """A list of some words."""
    bad: tuple[Any, ...] = ([], [""], ["NONE"], [7], words[0], {}, [*words, words[0]])
    return Kind(tuple((value, INVALID) for value in bad), ([words[0]],))


def texts(most: int, longest: int, *, least: int = 1) -> Kind:
    """A list of so many texts, none of them empty."""
    bad: Bad = (
        ([f"t{index}" for index in range(most + 1)], INVALID),
        (["good", ""], INVALID),
        (["good", "t" * (longest + 1)], TOO_LONG),
        (["good", 7], INVALID),
        (["good", None], INVALID),
        ("good", INVALID),
        ({}, INVALID),
    )
    good = ([f"t{index}" for index in range(most)], ["t" * longest])
    return Kind((*bad, ([], INVALID)) if least else bad, good)


OBJECT = Kind((("{}", INVALID), ([], INVALID), (7, INVALID), (True, INVALID)))
PAGE_TOKEN = Kind((("t" * 257, TOO_LONG), (7, INVALID), ([], INVALID)))


def refusals(bad: Sequence[tuple[Any, int]]) -> str:
    """What was wrong, for an assertion: long values cut."""
    return "\n".join(f"{str(value)[:60]}: {why}" for value, why in bad)
