"""The measure of how answers are read: a recording of four questions, whose figures are known."""

import gzip
import json
import sys
from pathlib import Path

import pytest

from bench import answers as bench_answers

SMALL = ("llama-3.1-8b-instruct", "gemma-2-9b-it", "qwen2-7b-instruct")
LARGE = "llama-3.1-70b-instruct"


def row(gold: str, *said: str) -> dict[str, object]:
    outputs = {
        model: json.dumps({"reasoning": f"It makes {text}.", "answer": text})
        for model, text in zip((*SMALL, LARGE), said, strict=True)
    }
    graded = {model: text == gold for model, text in zip((*SMALL, LARGE), said, strict=True)}
    return {"id": gold, "question": "How many?", "answer": gold, "outputs": outputs, "graded": graded}


def test_drafts_pairs_and_replays_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        row("18", "18", "18", "18", "18"),
        row("5", "5", "6", "6", "5"),
        row("7", "7", "8", "9", "7"),
        row("4", "3", "3", "3", "4"),
    ]
    with gzip.open(tmp_path / "gsm8k-dev.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(one) + "\n" for one in rows)
    monkeypatch.setattr(sys, "argv", ["answers", str(tmp_path)])
    bench_answers.main()
    said = capsys.readouterr().out
    assert "16    100.00%       24         0 (0)            8" not in said
    assert "16    100.00%       24         0 (0)            0" in said
    assert "vote of three 0.500, with the 70B where they do not agree 0.750" in said
    assert "they agree on 2 of 4 and are right on 0.500 of those" in said
    assert "gsm8k-dev: sure 16, of which right 100.0%" in said
