"""All rows. Each file of rows is about one part of a reply."""

from bench.dialects import fields, plain, streams
from bench.dialects.row import Row

PARTS: dict[str, tuple[Row, ...]] = {
    "Plain replies": plain.ROWS,
    "Streams": streams.ROWS,
    "Odd fields": fields.ROWS,
}
"""The rows by the part of a reply that they are about."""

ROWS: tuple[Row, ...] = tuple(row for rows in PARTS.values() for row in rows)
