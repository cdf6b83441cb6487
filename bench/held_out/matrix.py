"""Who was right, and who gave the same answer: recorded answers as one character per question and model.

"0" is the right answer, "1", "2", ... are wrong ones, the same character for the same answer to one question, and "-"
is no answer at all. That is what votes and cascades need, and it holds none of the texts it was made from.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from bench.tutorial.recorded import FOLDER
from mixtura.engine.answers import extract, normal
from mixtura.models.recorded import RecordingIndex

DATA = Path(__file__).parent / "answers"


class Source(NamedTuple):
    """The recordings that a matrix is made from, and whose they are."""

    file: str
    credit: str


SOURCES: Mapping[str, Source] = {
    "gsm8k": Source("gsm8k-dev.jsonl.gz", "WildEval/ZeroEval, Apache-2.0; questions of openai/gsm8k, MIT"),
    "crux": Source("crux-dev.jsonl.gz", "WildEval/ZeroEval, Apache-2.0; questions of CRUXEval, MIT"),
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
    recordings = RecordingIndex.load(FOLDER / SOURCES[name].file)
    rows = []
    for row in recordings.rows:
        if not normal(row.answer) or not all(model in row.outputs for model in recordings.models):
            continue
        texts = [recordings.output(model, row.prompt or row.question) or "" for model in recordings.models]
        answers = [extract(text, lenient=True) for text in texts]
        marks = {"": NONE, normal(row.answer): RIGHT}
        for answer in answers:
            marks.setdefault(answer, _MARKS[len(marks) - 1])
        rows.append("".join(marks[answer] for answer in answers))
    return Matrix(recordings.models, tuple(rows))


def read(name: str) -> Matrix:
    """Return a matrix that is kept beside this module."""
    _, models, *rows = (DATA / f"{name}.txt").read_text("utf-8").splitlines()
    return Matrix(tuple(models.split()), tuple(rows))


def write(name: str, matrix: Matrix) -> None:
    """Keep a matrix beside this module."""
    DATA.mkdir(exist_ok=True)
    lines = [f"# {SOURCES[name].credit}", " ".join(matrix.models), *matrix.rows]
    (DATA / f"{name}.txt").write_text("\n".join(lines) + "\n", "utf-8")
