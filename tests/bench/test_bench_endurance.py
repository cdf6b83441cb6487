"""The benchmark of endurance measures what it says, and says when something is missed."""

import pytest

from bench import endurance

pytestmark = pytest.mark.slow


def test_each_part_holds_in_small(capsys: pytest.CaptureFixture[str]) -> None:
    assert endurance.measure_files(100, 64)
    assert endurance.measure_books(2, 10)
    endurance.measure_growth(100)
    said = capsys.readouterr().out
    # So few asks say nothing about growth.
    assert "100 asks of 5 fifths" in said
    assert "; 0 lost" in said
    assert "100 asks at once, 64 descriptors: 100 answered" in said
    assert "2 processes x 10 asks" in said
    assert "$0.000000 still reserved; 0 failed: holds" in said


def test_what_is_lost_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    # So few descriptors are not even enough to begin with.
    assert not endurance.measure_files(20, 5)
    assert "MISSED" in capsys.readouterr().out
