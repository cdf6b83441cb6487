"""Who was right, and who gave the same answer: recorded answers as one character per question and model.

"0" is the right answer, "1", "2", ... are wrong ones, the same character for the same answer to one question, and "-"
is no answer at all. That is what votes and cascades need, and it holds none of the texts it was made from.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from bench.tutorial.recorded import FOLDER
from mixtura.engine import answers
from mixtura.engine.answers import AnswerValue, Expected
from mixtura.models.recorded import RecordingIndex

DATA = Path(__file__).parent / "answers"


class Source(NamedTuple):
    """The recordings that a matrix is made from, and whose they are."""

    file: str
    credit: str
    expected: Expected = ""


SOURCES: Mapping[str, Source] = {
    "gsm8k": Source("gsm8k-dev.jsonl.gz", "WildEval/ZeroEval, Apache-2.0; questions of openai/gsm8k, MIT", "number"),
    "crux": Source("crux-dev.jsonl.gz", "WildEval/ZeroEval, Apache-2.0; questions of CRUXEval, MIT", "literal"),
    "mmlu": Source("mmlu-redux-dev.jsonl.gz", "HELM runs in aryopg/mmlu-redux, CC-BY-4.0"),
}
RIGHT = "0"
NONE = "-"
_MARKS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Matrix(NamedTuple):
    """The answers of `models` to some questions: a row is a question, a column a model."""

    models: tuple[str, ...]
    rows: tuple[str, ...]

    def answers(self, models: Iterable[str]) -> list[str]:
        """Return what these models answered to each question, a character a model."""
        columns = [self.models.index(model) for model in models]
        return ["".join(row[column] for column in columns) for row in self.rows]

    def half(self, second: bool) -> "Matrix":
        """Return every second question, from the first or from the second on."""
        return Matrix(self.models, self.rows[second::2])


def from_recordings(name: str) -> Matrix:
    """Return the matrix of recordings, whose answers are read as the engine reads drafts.

    Questions that not every model was asked are left out, and those whose right answer is no final answer to the
    engine (an empty text, or a very long one).

    Raises:
        ConfigError: the recordings are not beside the project.
    """
    recordings, expected = RecordingIndex.load(FOLDER / SOURCES[name].file), SOURCES[name].expected
    rows = []
    for row in recordings.rows:
        gold = answers.parse(row.answer, literal=expected == "literal")
        if gold is None or not all(model in row.outputs for model in recordings.models):
            continue
        texts = [recordings.output(model, row.prompt or row.question) or "" for model in recordings.models]
        known = [gold]
        rows.append("".join(_mark(answers.find(text, expected).value, known) for text in texts))
    return Matrix(recordings.models, tuple(rows))


def _mark(value: AnswerValue | None, known: list[AnswerValue]) -> str:
    """Return the character of an answer; one that is like none of those known becomes known."""
    if value is None:
        return NONE
    for place, other in enumerate(known):
        if answers.same(value, other):
            return _MARKS[place]
    known.append(value)
    return _MARKS[len(known) - 1]


def read(name: str) -> Matrix:
    """Return a matrix that is kept beside this module."""
    _, models, *rows = (DATA / f"{name}.txt").read_text("utf-8").splitlines()
    return Matrix(tuple(models.split()), tuple(rows))


def write(name: str, matrix: Matrix) -> None:
    """Keep a matrix beside this module."""
    DATA.mkdir(exist_ok=True)
    lines = [f"# {SOURCES[name].credit}", " ".join(matrix.models), *matrix.rows]
    (DATA / f"{name}.txt").write_text("\n".join(lines) + "\n", "utf-8")
