"""All rows. Each file of rows is about one part of a reply."""

from bench.dialects import addresses, money, plain
from bench.dialects.row import Row

PARTS: dict[str, tuple[Row, ...]] = {
    "Plain replies": plain.ROWS,
    "Addresses": addresses.ROWS,
    "Usage and cost": money.ROWS,
}
"""The rows by the part of a reply that they are about."""

ROWS: tuple[Row, ...] = tuple(row for rows in PARTS.values() for row in rows)
