"""What a `ctl` command has to tell: the same facts as lines and tables, or as one JSON document."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.plain import plain
from gateway.services.drops import Acknowledgement

PIPED_WIDTH = 500


@dataclasses.dataclass(slots=True)
class Report:
    """The outcome of one command.

    Attributes:
        document: for `--json`.
        shown: lines and tables.
        succeeded: whether the exit status is 0.
    """

    document: Any
    shown: list[Text | Table]
    succeeded: bool = True


def show(report: Report, *, as_json: bool) -> int:
    """Prints a report on stdout; returns the exit status."""
    if as_json:
        sys.stdout.write(orjson.dumps(report.document, option=orjson.OPT_INDENT_2).decode() + "\n")
        sys.stdout.flush()
    else:
        # A file or a program that reads along has no width to fit into.
        console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
        for each in report.shown:
            console.print(each, soft_wrap=isinstance(each, Text))
    return 0 if report.succeeded else 1


def lines(document: Any, texts: Iterable[str], *, succeeded: bool = True) -> Report:
    """A report of plain lines."""
    return Report(document, [Text(text) for text in texts], succeeded)


def table(name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], empty: str, **more: Any) -> Report:
    """A report of one table; times are columns that end in `_at`, `_ms` or `until`.

    Args:
        name: of the list in the JSON document.
        rows: raw values; the document has them all.
        columns: which of them the table shows.
        empty: the line instead of a table without rows.
        more: further fields of the document.
    """
    document = {name: list(rows), **more}
    if not rows:
        return Report(document, [Text(empty, "dim")])
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        number = isinstance(rows[0][column], int | float) and not isinstance(rows[0][column], bool)
        grid.add_column(_title(column), justify="right" if number and not _is_time(column) else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(_cell(column, row[column])) for column in columns))
    return Report(document, [grid])


def record(values: Mapping[str, Any]) -> Table:
    """One record as a table of two columns."""
    grid = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for name, value in values.items():
        grid.add_row(Text(_title(name), "dim"), Text(_cell(name, value)))
    return grid


def dropped(acknowledgements: Mapping[str, Acknowledgement], done: str, strangers: Collection[str]) -> Report:
    """What an act did to the live sockets of each user; silent nodes make it a failure, ``strangers`` only a note."""
    document = [
        {"user": user, "registered": user not in strangers, **dataclasses.asdict(each)}
        for user, each in acknowledgements.items()
    ]
    shown = []
    for user, each in acknowledgements.items():
        shown.append(
            Text.assemble((user, "bold"), f": {done}, {_sockets(each)}", (noted("", user, strangers), "yellow"))
        )
        if each.nodes_silent:
            silent = ", ".join(each.nodes_silent)
            shown.append(Text(f"  silent: {silent} - sockets there may live until its lease ends", "bold red"))
        if each.replicas == 0:
            shown.append(Text("  no replica has confirmed the record yet", "yellow"))
    return Report({"results": document}, list(shown), not any(each.nodes_silent for each in acknowledgements.values()))


def noted(text: str, user: str, strangers: Collection[str]) -> str:
    """The text, with a note where that user is one of the strangers."""
    return f"{text} (no such user is registered)" if user in strangers else text


def _sockets(each: Acknowledgement) -> str:
    if not each.sessions_closed and not each.nodes_silent:
        return f"no socket was open ({each.took_ms:g} ms)"
    closed, nodes = each.sessions_closed, len(each.nodes_answered)
    return f"{_count(closed, 'socket')} closed on {_count(nodes, 'node')} in {each.took_ms:g} ms"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _title(column: str) -> str:
    return column.removesuffix("_ms").replace("_", " ")


def _is_time(column: str) -> bool:
    return column.endswith(("_at", "_ms", "until", "before", "last_seen"))


def _cell(column: str, value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and _is_time(column):
        return written(value)
    return plain(str(value))


def written(at_ms: int) -> str:
    """A time, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
