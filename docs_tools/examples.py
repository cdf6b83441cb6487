"""Run the programs in examples/ and write what they print into examples/README.md.

python -m docs_tools.examples
"""

import ast
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "examples"

_INTRO = """\
# Examples

Short programs to start from. Each runs without a key: on the [toys](../docs/lab-models.md), real models inside the
process (`pip install 'mixtura[local]'`), or on a [simulated cloud](../docs/simulator.md), whose HTTP, limits, times and
prices are the real thing and whose words are not.
The tests run all of them; `python -m docs_tools.examples` writes what they print into this page.
[Inside your program](../docs/inside-your-program.md) says which of them fits where.
"""
# From the first thing that a new user does to what comes later.
ORDER = (
    *("ask", "stream", "recipe", "web_handler", "thread_pool", "meter", "budget_and_limits", "own_client", "own_model"),
    "compare",
)
# Programs that a server, a worker or a test runner runs; `tests/house/test_hosted_examples.py` does.
HOSTED = ("fastapi_app", "rq_worker", "test_with_pytest_asyncio")


def run(path: Path) -> str:
    """Return what the program prints; warnings are errors in it.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=50
    )
    return done.stdout


def page(printed: Mapping[str, str]) -> str:
    """Return the text of examples/README.md, given what each program prints."""
    parts = [_INTRO.rstrip()]
    for name in (*ORDER, *HOSTED):
        text = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text("utf-8"))) or ""
        parts.append(f"## [{name}.py]({name}.py)\n\n{text}")
        if name in printed:
            parts.append(f"```text\n{printed[name].rstrip()}\n```")
    parts.append("## [notebook.ipynb](notebook.ipynb)\n\nAsk in a notebook: `await` in a cell, `ask_sync`, and events.")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Run every program and write the page."""
    (FOLDER / "README.md").write_text(page({name: run(FOLDER / f"{name}.py") for name in ORDER}), "utf-8")


if __name__ == "__main__":
    main()
