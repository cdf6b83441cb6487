"""Every server of the table of dialects, asked over HTTP."""

import pytest
from bench.dialects.ask import Mode, ask, differences, modes_of
from bench.dialects.row import Row
from bench.dialects.table import ROWS


@pytest.mark.parametrize(
    ("row", "mode"), [pytest.param(row, mode, id=f"{row.name}-{mode}") for row in ROWS for mode in modes_of(row)]
)
async def test_what_a_server_sends_becomes_what_it_means(row: Row, mode: Mode) -> None:
    assert differences(row, await ask(row, mode)) == []


def test_every_row_has_a_name_of_its_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
