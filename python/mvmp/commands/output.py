"""How commands speak: JSON, tables (rich on a terminal, else plain text), the error that ends a command."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class CommandError(Exception):
    """Ends a command with one line and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Table:
    """Rows under a title; numbers are set to the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def add_output_option(parser: argparse.ArgumentParser) -> None:
    """Adds `-o text|json`."""
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json"),
        default="text",
        help="form of the output (default: text)",
    )


def print_json(value: object, *, lines: bool = False) -> None:
    """Prints `value`; with `lines` as one line, for readers that take one object a line."""
    print(json.dumps(value) if lines else json.dumps(value, indent=2), flush=True)


def cell_text(value: object) -> str:
    """Numbers with thousands separators, nothing as a dash."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return "-" if value is None or value == "" else str(value)


def is_number(value: object) -> bool:
    """Whether a cell is set to the right."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain_table(table: Table) -> str:
    """The table with columns as wide as needed, for pipes and files; cells may have several lines."""
    columns = range(len(table.columns))
    cells = [
        [text.splitlines() or [""] for text in map(cell_text, row)] for row in [table.columns, *table.rows]
    ]
    widths = [max(len(line) for row in cells for line in row[i]) for i in columns]
    right = [bool(table.rows) and all(is_number(row[i]) for row in table.rows) for i in columns]
    lines = [table.title]
    for row in cells:
        for height in range(max(map(len, row))):
            texts = [cell[height] if height < len(cell) else "" for cell in row]
            line = (
                text.rjust(width) if to_right else text.ljust(width)
                for text, width, to_right in zip(texts, widths, right, strict=True)
            )
            lines.append(("  " + "  ".join(line)).rstrip())
    return "\n".join(lines)


def print_tables(tables: Iterable[Table]) -> None:
    """Prints tables that have rows: rich on a terminal, plain text elsewhere."""
    shown = [table for table in tables if table.rows]
    if not sys.stdout.isatty():
        print("\n\n".join(plain_table(table) for table in shown), flush=True)
        return
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(highlight=False)
    for table in shown:
        rich_table = RichTable(title=table.title, title_justify="left", box=None, pad_edge=False)
        for i, column in enumerate(table.columns):
            to_right = all(is_number(row[i]) for row in table.rows)
            rich_table.add_column(column, justify="right" if to_right else "left", overflow="fold")
        for row in table.rows:
            rich_table.add_row(*(cell_text(value).replace("[", r"\[") for value in row))
        console.print(rich_table)


def drops_text(drops: dict[str, int]) -> str:
    """Named drops, the largest first: `ring_full 12, quota 3`."""
    largest_first = sorted(drops.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {count:,}" for reason, count in largest_first if count)
