"""All rows. Each file of rows is about one part of a reply."""

from bench.dialects import addresses, failures, fields, finish, money, plain, reasoning, refusals, streams, tools
from bench.dialects.row import Row

PARTS: dict[str, tuple[Row, ...]] = {
    "Plain replies": plain.ROWS,
    "Reasoning": reasoning.ROWS,
    "How a reply ends": finish.ROWS,
    "Tool calls": tools.ROWS,
    "When to come back": (*failures.WAITS, *failures.LOADING),
    "Accounts and keys": failures.ACCOUNTS,
    "Too long": refusals.TOO_LONG,
    "Errors in a success": refusals.IN_A_SUCCESS,
    "Addresses": addresses.ROWS,
    "Usage and cost": money.ROWS,
    "Streams": streams.ROWS,
    "Odd fields": fields.ROWS,
}
"""The rows by the part of a reply that they are about."""

ROWS: tuple[Row, ...] = tuple(row for rows in PARTS.values() for row in rows)
