"""docs/dialects.md is what the table of dialects says, and every row of the table can be shown."""

import re
from pathlib import Path

import pytest
from bench.dialects.row import Expected, Row, whole
from bench.dialects.table import PARTS, ROWS
from docs_tools import dialects

from pages import table


def test_the_page_is_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert dialects.main(["--check"]) == 0, capsys.readouterr().out


def test_a_stale_page_is_found_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dialects, "PAGE", tmp_path / "dialects.md")
    assert dialects.main(["--check"]) == 1
    assert "stale: run python -m docs_tools.dialects" in capsys.readouterr().out
    assert dialects.main([]) == 0
    assert dialects.main(["--check"]) == 0
    dialects.PAGE.write_text("# Something else\n", "utf-8")
    assert dialects.main(["--check"]) == 1


def test_every_row_stands_under_its_part() -> None:
    for part, rows in PARTS.items():
        if rows:
            shown = table("dialects.md", f"## {part}")
            assert len(shown) == len(rows)
            assert all(len(cells) == len(("sent", "known from", "becomes", "source")) for cells in shown)


def row(**given: object) -> Row:
    fields = {"name": "a", "servers": ("S",), "sends": "x", "becomes": "y", "whole": whole(), "expect": Expected()}
    return Row(**{**fields, **given})  # type: ignore[arg-type]  # a test's own words


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain words, it's 5", "plain words, it's 5"),
        ("a `|` and | beside it", r"a `\|` and \| beside it"),
        ("<think> in text", r"\<think\> in text"),
        ("`<think>` in code", "`<think>` in code"),
        ("two  lines\nin one", "two lines in one"),
        ("an odd ` tick", r"an odd \` tick"),
        ("``a ` b``", "``a ` b``"),
        (r"`\|` twice", r"\\\| twice"),
        ("a * star_s [x](y) &lt; #1", r"a \* star\_s \[x\](y) \&lt; \#1"),
        ("BerriAI/litellm#1234", "[BerriAI/litellm\\#1234](https://github.com/BerriAI/litellm/issues/1234)"),
        (
            "ggml-org/llama.cpp#5, a/b_c#6.",
            r"[ggml-org/llama.cpp\#5](https://github.com/ggml-org/llama.cpp/issues/5), [a/b\_c\#6](https://github.com/a/b_c/issues/6).",
        ),
        ("`a/b#1`", "`a/b#1`"),
        ("no/issue#x and v1/chat/x#2", r"no/issue\#x and v1/chat/x\#2"),
        ("see https://docs.vllm.ai/en/v1_x#a.", "see <https://docs.vllm.ai/en/v1_x#a>."),
        ("", ""),
    ],
)
def test_a_cell_shows_what_was_written(said: str, shown: str) -> None:
    assert dialects.cell(said) == shown


def test_a_hostile_row_breaks_no_table_and_a_part_without_rows_is_not_shown() -> None:
    odd = row(sends="a | b\n\n## Heading", becomes="`|`", servers=("A|B", "<b>"), source="x/y#1\n- item")
    page = dialects.written({"Odd | parts (1)": (odd, odd), "Empty": ()})
    assert "Empty" not in page
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(lines) == 4
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {6}
    assert "- [Odd \\| parts (1)](#odd--parts-1): 2" in page
    assert "\n## Heading" not in page
    assert "2 rows, of 2 servers" in page


def test_a_row_names_a_server_and_replies_and_says_what_becomes_of_them() -> None:
    for one in ROWS:
        assert one.servers, one.name
        assert all(name and name == name.strip() for name in one.servers), one.name
        assert one.sends.strip(), one.name
        assert one.becomes.strip(), one.name
        assert one.whole is not None or one.stream is not None, one.name
        assert re.fullmatch(r"[\w.]+(?:-[\w.]+)*", one.name), one.name
        assert one.source == one.source.strip(), one.name
        assert isinstance(one.source, str), one.name


def test_no_name_stands_twice_and_no_file_of_rows_is_left_out() -> None:
    assert len({one.name for one in ROWS}) == len(ROWS)
    folder = Path(dialects.PAGE).parents[1] / "bench/dialects"
    files = [file.stem for file in folder.glob("*.py") if re.search(r"^ROWS\b", file.read_text("utf-8"), re.MULTILINE)]
    told = (folder / "table.py").read_text("utf-8")
    missing = [name for name in files if name != "table" and not re.search(rf"\b{name}\.ROWS\b", told)]
    assert not missing
