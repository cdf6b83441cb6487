"""`python -m training`: from seeds to files, in one command."""

import argparse
from pathlib import Path

from training.build import Build, run, write_files
from training.plan import PLANS


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("plan", choices=PLANS, help="full: the family in the package; smoke: the same steps in minutes")
    parser.add_argument("--folder", type=Path, default=None, help="where weights and drafts are kept (build/PLAN)")
    parser.add_argument("--files", type=Path, default=None, help="where the model files go (FOLDER/files)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once, one thread each (2)")
    given = parser.parse_args()
    folder = given.folder or Path("build") / given.plan
    build = Build(PLANS[given.plan], folder)
    run(build, given.jobs)
    for path in write_files(build, given.files or folder / "files"):
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
