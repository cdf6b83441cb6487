"""Changelog fragments are well-formed, and a release assembles them."""

import datetime as dt
from pathlib import Path

import pytest
from docs_tools import changelog
from docs_tools.changelog import ChangelogError, main, read_fragment, read_fragments, section, with_release

ROOT = Path(__file__).resolve().parents[2]
DAY = dt.date(2027, 1, 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a small project with two fragments and a released version."""
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "src/mixtura").mkdir(parents=True)
    (tmp_path / "src/mixtura/_version.py").write_text('"""The version."""\n\n__version__ = "0.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\nNewest first.\n\n## 0.1.0\n\n### Added\n\n- A first line.\n")
    (tmp_path / "changelog.d/README.md").write_text("# How\n")
    (tmp_path / "changelog.d/7-wait.fixed.md").write_text("- A wait of 0 s ends.\n- So does one of 1 s.\n")
    (tmp_path / "changelog.d/12-events.breaking.md").write_text("- `Decision.detail` is a struct.\n")
    return tmp_path


def test_every_fragment_of_the_project_is_well_formed(capsys: pytest.CaptureFixture[str]) -> None:
    read_fragments(ROOT / "changelog.d")
    assert main(["check"]) == 0
    assert "well-formed" in capsys.readouterr().out


def test_a_release_writes_breaking_changes_first_and_deletes_the_fragments(root: Path) -> None:
    assert main(["release", "0.2.0", "--date", "2027-01-02"], root) == 0
    assert (root / "CHANGELOG.md").read_text() == (
        "# Changelog\n\nNewest first.\n\n"
        "## 0.2.0 (2027-01-02)\n\n"
        "### Breaking\n\n- `Decision.detail` is a struct.\n\n"
        "### Fixed\n\n- A wait of 0 s ends.\n- So does one of 1 s.\n\n"
        "## 0.1.0\n\n### Added\n\n- A first line.\n"
    )
    assert [path.name for path in (root / "changelog.d").iterdir()] == ["README.md"]


def test_a_release_is_refused_and_nothing_is_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (root / "CHANGELOG.md").read_text()
    assert main(["release", "0.3.0"], root) == 1
    assert "it is 0.2.0, not 0.3.0" in capsys.readouterr().err
    (root / "changelog.d/9-bad.fixed.md").write_text("no dash\n")
    assert main(["release", "0.2.0"], root) == 1
    assert "9-bad.fixed.md" in capsys.readouterr().err
    assert (root / "CHANGELOG.md").read_text() == before
    assert (root / "changelog.d/7-wait.fixed.md").exists()


def test_the_draft_is_what_the_release_will_say(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draft"], root) == 0
    drafted = capsys.readouterr().out.strip()
    assert main(["release", "0.2.0"], root) == 0
    assert drafted in (root / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    ("version", "body", "problem"),
    [
        ("two", "### Added", "expected a version"),
        ("0.1.0", "### Added", "has a section for 0.1.0 already"),
        ("0.2.0", "", "at least one fragment"),
    ],
)
def test_a_section_that_cannot_be_is_refused(version: str, body: str, problem: str) -> None:
    with pytest.raises(ChangelogError, match=problem):
        with_release("# Changelog\n\n## 0.1.0\n", version, DAY, body)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("events.changed.md", "- A line.\n", "<issue>-<slug>.<category>.md"),
        ("12-events.md", "- A line.\n", "<issue>-<slug>.<category>.md"),
        ("12-Events.changed.md", "- A line.\n", "<issue>-<slug>.<category>.md"),
        ("12-events.changed.txt", "- A line.\n", "<issue>-<slug>.<category>.md"),
        ("12-events.improved.md", "- A line.\n", "expected a category of breaking"),
        ("12-events.changed.md", "", "an empty file"),
        ("12-events.changed.md", "A line.\n", "begin with '- '"),
        ("12-events.changed.md", "- A line.\n\n- Another.\n", "begin with '- '"),
        ("12-events.changed.md", "- A line. \n", "end without spaces"),
        ("12-events.changed.md", "- A line\n", "full stop"),
        ("12-events.changed.md", f"- {'a' * changelog.LONGEST}.\n", "at most 300 characters"),
    ],
)
def test_a_fragment_that_is_not_well_formed_is_refused(tmp_path: Path, name: str, text: str, problem: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ChangelogError, match=problem) as error:
        read_fragment(path)
    assert name in str(error.value)


def test_a_changelog_without_a_release_gets_its_first() -> None:
    assert with_release("# Changelog\n\n", "0.1.0", DAY, "### Added\n\n- One.") == (
        "# Changelog\n\n## 0.1.0 (2027-01-02)\n\n### Added\n\n- One.\n"
    )


def test_categories_without_lines_have_no_heading(root: Path) -> None:
    assert "### Added" not in section(read_fragments(root / "changelog.d"))
