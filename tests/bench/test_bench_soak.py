"""The soak runs, and says when something is lost."""

import asyncio

import pytest
from bench.soak import __main__ as soak
from bench.soak.raw_server import FAULTS

from mixtura.events import CallStarted

pytestmark = pytest.mark.slow


def test_runs_over_a_server_of_25_kinds_of_faults_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(FAULTS) == 25
    assert asyncio.run(soak.measure(120, 3, 0.5)) == 0
    assert "Nothing was lost, nothing is left." in capsys.readouterr().out


def test_a_call_without_an_end_is_found() -> None:
    started = CallStarted(at=0.0, call=0, role="proposer", model="m", provider="p")
    assert "calls [0] were started and [] ended" in list(soak._check([started], None))
