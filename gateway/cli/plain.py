"""Text of others, made fit for a terminal."""

from __future__ import annotations

JOINERS = "\u200c\u200d"
"""ZWNJ and ZWJ: Persian, Indic scripts and many emoji need them; unlike other format characters they move nothing."""


def plain(text: str) -> str:
    """The text without what would move the cursor, change colours, or turn the direction of writing."""
    return "".join(each if each.isprintable() or each in JOINERS else " " for each in text)
