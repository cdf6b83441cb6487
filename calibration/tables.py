"""Formats Markdown tables and figures for the reports."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column is text and whose other columns are figures."""
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join([" --- "] + [" ---: "] * (len(head) - 1)) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def percent(share: float) -> str:
    """Return a share as per cent with one decimal; "" for nan."""
    return "" if share != share else f"{100 * share:.1f}%"


def paragraphs(*parts: str) -> str:
    """Return the parts separated by empty lines."""
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"
