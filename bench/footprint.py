"""What an install brings: packages and megabytes, in fresh environments. `python -m bench.footprint`."""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


def installs() -> dict[str, tuple[int, float]]:
    """Return {name: (packages, megabytes)} of fresh environments: this project's, and the groq SDK's."""
    return {"mixtura": _install(str(ROOT)), "groq": _install("groq")}


def _install(what: str) -> tuple[int, float]:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=False)
        python = Path(folder) / "bin" / "python"
        site = next(Path(folder).glob("lib/python*/site-packages"))
        # The pip of this environment installs into the other, so that no installer is counted.
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile", what],
            check=True,
        )
        packages = len(list(site.glob("*.dist-info")))
        size = sum(
            path.stat().st_size for path in site.rglob("*") if path.is_file() and "__pycache__" not in path.parts
        )
        return packages, size / 1e6


if __name__ == "__main__":
    for name, (packages, megabytes) in installs().items():
        print(f"{name}: {packages} packages, {megabytes:.1f} MB")
