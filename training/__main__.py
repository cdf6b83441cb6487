"""`python -m training`: builds the model files from seeds, in one command."""

import argparse
from pathlib import Path

from training.build import FamilyBuild, run, write_cards, write_files
from training.golden import write_golden
from training.held_out import write_problems
from training.plan import PLANS
from training.vocabulary import write_words


def main() -> None:
    """Parse the command line and build the models."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("plan", choices=PLANS, help="full: the family in the package; smoke: the same steps in minutes")
    parser.add_argument("--folder", type=Path, default=None, help="folder for weights and drafts (build/PLAN)")
    parser.add_argument("--files", type=Path, default=None, help="folder for the exported files (FOLDER/files)")
    parser.add_argument("--jobs", type=int, default=2, help="parallel processes, one thread each (2)")
    given = parser.parse_args()
    build = FamilyBuild(PLANS[given.plan], given.folder or Path("build") / given.plan)
    files: Path = given.files or build.folder / "files"
    run(build, given.jobs)
    for path in write_files(build, files):
        print(f"{path}  {path.stat().st_size:,} bytes")
    write_cards(build, files / "cards.json")
    write_words(files / "words.json")
    write_problems(files / "problems.jsonl", build.plan.held_out)
    write_golden(build, files / "golden.json")


if __name__ == "__main__":
    main()
