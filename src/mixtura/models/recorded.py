"""Models that answer from recordings: the outputs of real models to known questions, looked up by the question.

A recording file is JSONL, plain or gzipped, with one question a line:
`{"id", "question", "prompt", "answer", "outputs": {model: text}, "graded": {model: right?}}`. Only `question`
and `outputs` are required.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from mixtura.chat import ChatRequest, Completion, Delta, Usage
from mixtura.errors import ConfigError, RejectedError
from mixtura.input_files import cause_of, read_input, shown_name, utf8_text
from mixtura.models.base import Emit

ALIASES: Mapping[str, str] = {
    "llama-3.1-8b-instant": "llama-3.1-8b-instruct",
    "llama-3.3-70b-versatile": "llama-3.1-70b-instruct",
    "gemma2-9b-it": "gemma-2-9b-it",
    "mixtral-8x7b-32768": "mixtral-8x7b-instruct-v0.1",
}
"""The recorded name that stands in for a served id. The recorded 70B is one version older than the served one."""

_SPECIAL_TOKENS = re.compile(r"(?:\s*(?:</s>|<\|(?:eot_id|im_end|endoftext|end)\|>|<end_of_turn>|<eos>))+\s*\Z")
_PIECE = re.compile(r"\s?[^\W\d_]{1,6}|\s?\d{1,3}|\s+|[^\w\s]{1,3}|_", re.UNICODE)
_MOST = 1_000_000_000  # bytes of a recording file
_KEY_LENGTH = 64  # a question is indexed by so many characters of its longest line


def split_tokens(text: str) -> list[str]:
    """Split `text` into pieces of about a token's size. Joined, the pieces give `text` again."""
    pieces = _PIECE.findall(text)
    # A character that no branch matches (a combining mark, say) would be lost: fall back to single characters.
    return pieces if sum(map(len, pieces)) == len(text) else list(text)


def count_tokens(text: str) -> int:
    """Return an estimate of the tokens in `text`, without a tokenizer."""
    return len(split_tokens(text))


class RecordedQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """One question and the output of each model. `graded` says which outputs a grader marked as right."""

    question: str
    outputs: dict[str, str]
    id: str | int = ""
    prompt: str = ""
    answer: str = ""
    graded: dict[str, bool] = {}


class RecordingIndex:
    """Recorded questions, indexed so that they are found in a longer text.

    Args:
        rows: the recordings. Of several with the same question the first one wins.
        aliases: recorded names by served id, added to `ALIASES`.
    """

    def __init__(self, rows: Iterable[RecordedQuestion], aliases: Mapping[str, str] | None = None) -> None:
        self.rows = tuple(rows)
        self.aliases = {**ALIASES, **(aliases or {})}
        self._by_line: dict[str, list[RecordedQuestion]] = {}
        for row in self.rows:
            self._by_line.setdefault(_longest_line(row.question), []).append(row)

    @classmethod
    def load(cls, *paths: Path | str, aliases: Mapping[str, str] | None = None) -> "RecordingIndex":
        """Read recording files.

        Raises:
            ConfigError: a file cannot be read or a line is not a recording. The message names the file and the line.
        """
        return cls((row for path in paths for row in _read(Path(path))), aliases)

    @property
    def models(self) -> tuple[str, ...]:
        """Every recorded model, in the order of first appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.outputs))

    def name_of(self, model: str) -> str:
        """Return the recorded name for a served id: its alias, or the id itself."""
        return self.aliases.get(model, model)

    def find(self, text: str) -> RecordedQuestion | None:
        """Return the recording whose question (or prompt) occurs in `text`, the one with the longest question."""
        found = [
            row
            for line in dict.fromkeys(line.strip()[:_KEY_LENGTH] for line in text.splitlines())
            for row in self._by_line.get(line, ())
            if row.question in text or (row.prompt and row.prompt in text)
        ]
        if not found:  # the question is part of a longer line
            found = [row for row in self.rows if row.question in text]
        return max(found, key=lambda row: len(row.question), default=None)

    def output(self, model: str, text: str) -> str | None:
        """Return the output of `model` to the question in `text`, None if there is none.

        Trailing special tokens are removed.
        """
        row = self.find(text)
        output = row.outputs.get(self.name_of(model)) if row else None
        return None if output is None else _SPECIAL_TOKENS.sub("", output)


class RecordedModel:
    """A `ChatModel` that replays recordings. Usage is an estimate and marked as one; replies take no time."""

    def __init__(self, recordings: RecordingIndex, *, provider: str = "recorded") -> None:
        self._recordings = recordings
        self._provider = provider

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Replay the model's output to the question in the last user message.

        Raises:
            RejectedError: there is no recording for this model and question.
        """
        asked = next((turn.text for turn in reversed(request.messages) if turn.role == "user"), "")
        text = self._recordings.output(request.model, asked)
        if text is None:
            raise RejectedError(
                self._provider,
                request.model,
                f"no recording of this model for {asked[:60]!r}",
                code="no_recording",
            )
        pieces = split_tokens(text)
        finish = "stop"
        if request.max_tokens is not None and len(pieces) > request.max_tokens:
            pieces, finish = pieces[: request.max_tokens], "length"
        if emit is not None:
            for piece in pieces:
                emit(Delta(text=piece))
        prompt = sum(count_tokens(turn.text) for turn in request.messages)
        return Completion(
            model=request.model,
            text="".join(pieces),
            finish_reason="length" if finish == "length" else "stop",
            usage=Usage(prompt_tokens=prompt, completion_tokens=len(pieces), estimated=True),
        )


def _longest_line(text: str) -> str:
    return max((line.strip() for line in text.splitlines()), key=len, default="")[:_KEY_LENGTH]


def _read(path: Path) -> Iterator[RecordedQuestion]:
    try:
        raw = read_input(path, _MOST)
        text = utf8_text(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ConfigError(f"{shown_name(path)}: cannot be read as recordings: {cause_of(error)}") from error
    decoder = msgspec.json.Decoder(RecordedQuestion)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise ConfigError(f"{path}, line {number}: not a recording: {error}") from error
        if not row.question.strip():
            raise ConfigError(f"{path}, line {number}: not a recording: its `question` is empty")
        yield row
