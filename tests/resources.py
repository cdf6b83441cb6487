"""What a test needs and a machine may lack: recorded data beside the checkout, a server.

Without it the test is skipped, all tests with one line in the summary. In CI (the variable `CI` is set) the test fails:
there everything is meant to be at hand. Only `../shared` may be missing as a whole, as it is beside a stranger's clone.
"""

import os
from pathlib import Path
from typing import NoReturn

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def in_ci() -> bool:
    """Say whether the tests run in CI."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def recorded_data(name: str) -> Path:
    """Return a file or folder of `../shared/data`; the test is skipped without, and fails in CI when it has moved."""
    found = SHARED / "data" / name
    if not found.exists():
        if in_ci() and SHARED.is_dir():
            pytest.fail(f"../shared is there, and data/{name} is not in it", pytrace=False)
        pytest.skip("there is no recorded data in ../shared beside this checkout")
    return found


def lack(what: str) -> NoReturn:
    """Skip the test, which needs a server that this machine lacks; in CI it fails."""
    if in_ci():
        pytest.fail(what, pytrace=False)
    pytest.skip(what)
