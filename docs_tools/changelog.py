"""Assemble the changelog from fragments.

    python -m docs_tools.changelog check              # every fragment is well-formed
    python -m docs_tools.changelog draft              # print the section that the next release gets
    python -m docs_tools.changelog release 0.2.0      # write it into CHANGELOG.md and delete the fragments

A fragment is a file `changelog.d/<issue>-<slug>.<category>.md`, e.g. `12-events.changed.md`. It holds one line per
effect that a user notices: what changes for them, not how it was done. Parallel branches add files of their own, so
they do not collide in one list.
"""

import argparse
import datetime as dt
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

# In the order in which a reader of a release needs them.
CATEGORIES = {
    "breaking": "Breaking",
    "added": "Added",
    "changed": "Changed",
    "deprecated": "Deprecated",
    "removed": "Removed",
    "fixed": "Fixed",
    "security": "Security",
}
LONGEST = 300
"""Characters that one line may have."""

_NAME = re.compile(r"(?P<issue>\d+)-(?P<slug>[a-z0-9]+(?:-[a-z0-9]+)*)\.(?P<category>[a-z]+)\.md")
_HEADING = re.compile(r"^## (?P<version>\S+)", re.MULTILINE)
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")


class ChangelogError(Exception):
    """A fragment or a release is not as it has to be; the text names the file and says what is expected."""


class Fragment(NamedTuple):
    """One fragment file: its category and its lines, without the leading dash."""

    path: Path
    issue: int
    category: str
    lines: tuple[str, ...]


def read_fragment(path: Path) -> Fragment:
    """Return the fragment in `path`.

    Raises:
        ChangelogError: its name or one of its lines is not well-formed.
    """
    name = _NAME.fullmatch(path.name)
    if name is None:
        raise ChangelogError(f"{path.name}: expected a name like 12-events.changed.md: <issue>-<slug>.<category>.md")
    if name["category"] not in CATEGORIES:
        raise ChangelogError(f"{path.name}: expected a category of {', '.join(CATEGORIES)}, got {name['category']!r}")
    lines = path.read_text("utf-8").splitlines()
    if not lines:
        raise ChangelogError(f"{path.name}: expected at least one line, got an empty file")
    return Fragment(path, int(name["issue"]), name["category"], tuple(_check_line(path, line) for line in lines))


def _check_line(path: Path, line: str) -> str:
    if not line.startswith("- ") or line != line.rstrip():
        raise ChangelogError(f"{path.name}: expected lines that begin with '- ' and end without spaces, got {line!r}")
    if not line.endswith("."):
        raise ChangelogError(f"{path.name}: expected a sentence that ends with a full stop, got {line!r}")
    if len(line) > LONGEST:
        raise ChangelogError(f"{path.name}: expected at most {LONGEST} characters a line, got {len(line)}")
    return line.removeprefix("- ")


def read_fragments(folder: Path) -> list[Fragment]:
    """Return every fragment in `folder`, ordered by category, then issue, then name.

    Raises:
        ChangelogError: a file there is not a well-formed fragment.
    """
    order = list(CATEGORIES)
    found = [read_fragment(path) for path in folder.iterdir() if path.name not in (".gitkeep", "README.md")]
    return sorted(found, key=lambda one: (order.index(one.category), one.issue, one.path.name))


def section(fragments: Iterable[Fragment]) -> str:
    """Return the body of a release: a heading for each category that has lines, and the lines below it."""
    parts: dict[str, list[str]] = {}
    for fragment in fragments:
        parts.setdefault(fragment.category, []).extend(f"- {line}" for line in fragment.lines)
    return "\n\n".join(
        "\n".join([f"### {title}", "", *parts[category]]) for category, title in CATEGORIES.items() if category in parts
    )


def with_release(changelog: str, version: str, day: dt.date, body: str) -> str:
    """Return `changelog` with a section for `version` above all others.

    Raises:
        ChangelogError: `version` is not a version number, has a section already, or there is nothing to release.
    """
    if not _VERSION.fullmatch(version):
        raise ChangelogError(f"expected a version like 0.2.0 or 0.2.0rc1, got {version!r}")
    if not body:
        raise ChangelogError("expected at least one fragment in changelog.d, found none")
    first = _HEADING.search(changelog)
    if any(found["version"] == version for found in _HEADING.finditer(changelog)):
        raise ChangelogError(f"CHANGELOG.md has a section for {version} already")
    place = first.start() if first else len(changelog)
    return f"{changelog[:place]}## {version} ({day.isoformat()})\n\n{body}\n\n{changelog[place:]}".rstrip("\n") + "\n"


def release(root: Path, version: str, day: dt.date) -> None:
    """Write the section for `version` into CHANGELOG.md below `root` and delete the fragments it was made of.

    Raises:
        ChangelogError: as `with_release`, or the package does not have that version yet.
    """
    declared = re.search(r'"(.+)"', (root / "src/mixtura/_version.py").read_text("utf-8").split("=", 1)[1])
    if declared is None or declared[1] != version:
        said = declared[1] if declared else "none"
        raise ChangelogError(f"set the version in src/mixtura/_version.py first: it is {said}, not {version}")
    fragments = read_fragments(root / "changelog.d")
    page = root / "CHANGELOG.md"
    page.write_text(with_release(page.read_text("utf-8"), version, day, section(fragments)), "utf-8")
    for fragment in fragments:
        fragment.path.unlink()


def main(args: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m docs_tools.changelog", description="Assemble the changelog.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("check", help="check that every fragment is well-formed")
    verbs.add_parser("draft", help="print the section that the next release gets")
    releasing = verbs.add_parser("release", help="write the section into CHANGELOG.md and delete the fragments")
    releasing.add_argument("version")
    releasing.add_argument("--date", type=dt.date.fromisoformat, default=None, help="YYYY-MM-DD; today by default")
    given = parser.parse_args(args)
    try:
        if given.verb == "release":
            release(root, given.version, given.date or dt.datetime.now(dt.UTC).date())
        else:
            fragments = read_fragments(root / "changelog.d")
            print(section(fragments) if given.verb == "draft" else f"{len(fragments)} fragments are well-formed.")
    except ChangelogError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
