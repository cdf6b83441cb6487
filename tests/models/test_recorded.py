"""Recordings: reading files, finding the question in a text, and replaying the output."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.chat import ChatRequest, Delta, Message
from mixtura.errors import ConfigError, RejectedError
from mixtura.models.recorded import RecordedModel, RecordedQuestion, RecordingIndex, count_tokens, split_tokens
from resources import recorded_data

EGGS: dict[str, Any] = {
    "id": "1",
    "question": "How many eggs are left of sixteen?\nShe eats three.",
    "prompt": "## Question:\n\nHow many eggs are left of sixteen?\nShe eats three.\n\nAnswer in JSON.",
    "answer": "13",
    "outputs": {"llama-3.1-8b-instruct": "It is 13.</s></s>\n</s>", "gemma-2-9b-it": "12<end_of_turn>"},
    "graded": {"llama-3.1-8b-instruct": True, "gemma-2-9b-it": False},
}


def _write(path: Path, *rows: dict[str, Any]) -> Path:
    text = "\n".join(json.dumps(row) for row in rows) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_plain_and_gzipped_files_are_read(tmp_path: Path, name: str) -> None:
    recordings = RecordingIndex.load(_write(tmp_path / name, EGGS))
    assert recordings.models == ("llama-3.1-8b-instruct", "gemma-2-9b-it")
    assert recordings.rows[0].graded["gemma-2-9b-it"] is False


@pytest.mark.parametrize(
    "text",
    [
        EGGS["prompt"],
        EGGS["question"],
        f"Question: {EGGS['question']} Think first.",
        f"> several\n> drafts\n\n{EGGS['prompt']}\n\nDraft 1: thirteen",
    ],
)
def test_a_question_is_found_wherever_it_stands_in_the_text(text: str) -> None:
    recordings = RecordingIndex([RecordedQuestion(question="unrelated", outputs={"m": "x"}), RecordedQuestion(**EGGS)])
    found = recordings.find(text)
    assert found is not None
    assert found.id == "1"


def test_of_two_questions_in_a_text_the_longer_one_is_found() -> None:
    short = RecordedQuestion(question="eats three", outputs={"m": "short"})
    recordings = RecordingIndex(
        [short, RecordedQuestion(question="What does it mean that she eats three?", outputs={"m": "long"})]
    )
    assert recordings.output("m", "What does it mean that she eats three?\neats three") == "long"
    assert recordings.output("m", "Who eats three?") == "short"


def test_what_is_not_recorded_is_not_found() -> None:
    recordings = RecordingIndex([RecordedQuestion(**EGGS)])
    assert recordings.find("How many eggs?") is None
    assert recordings.find("") is None
    assert recordings.output("unknown-model", EGGS["question"]) is None


def test_served_ids_stand_for_recorded_names_and_can_be_overridden() -> None:
    recordings = RecordingIndex([RecordedQuestion(**EGGS)])
    assert recordings.output("llama-3.1-8b-instant", EGGS["prompt"]) == "It is 13."
    assert recordings.output("gemma2-9b-it", EGGS["prompt"]) == "12"
    changed = RecordingIndex(
        [RecordedQuestion(**EGGS)], aliases={"llama-3.1-8b-instant": "gemma-2-9b-it", "mine": "gemma-2-9b-it"}
    )
    assert changed.output("llama-3.1-8b-instant", EGGS["prompt"]) == "12"
    assert changed.output("mine", EGGS["prompt"]) == "12"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: not a recording"),
        ('{"question": "x"}', "line 2: not a recording: .*outputs"),
        ('{"question": "x", "outputs": {"m": 1}}', "line 2: not a recording"),
        ('{"question": " ", "outputs": {"m": "y"}}', "line 2: not a recording: its `question` is empty"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(EGGS) + "\n" + line + "\n")
    with pytest.raises(ConfigError, match=f"bad.jsonl, {said}"):
        RecordingIndex.load(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"\x1f\x8bnot gzip at all"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "gone.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"gone\.jsonl: cannot be read as recordings"):
        RecordingIndex.load(path)


def _request(text: str, *, model: str = "llama-3.1-8b-instant", max_tokens: int | None = None) -> ChatRequest:
    turns = (Message(role="system", content="Be brief."), Message(role="user", content=text))
    return ChatRequest(model=model, messages=turns, max_tokens=max_tokens)


async def test_a_recorded_model_replays_and_says_that_its_usage_is_an_estimate() -> None:
    deltas: list[Delta] = []
    model = RecordedModel(RecordingIndex([RecordedQuestion(**EGGS)]))
    done = await model.chat(_request(EGGS["prompt"]), emit=deltas.append)
    assert done.text == "It is 13."
    assert done.finish_reason == "stop"
    assert "".join(delta.text for delta in deltas) == done.text
    assert len(deltas) == done.usage.completion_tokens > 1
    assert done.usage.prompt_tokens == count_tokens("Be brief.") + count_tokens(EGGS["prompt"])
    assert done.usage.estimated


async def test_a_replay_stops_at_the_token_limit() -> None:
    done = await RecordedModel(RecordingIndex([RecordedQuestion(**EGGS)])).chat(_request(EGGS["prompt"], max_tokens=2))
    assert (done.text, done.finish_reason, done.usage.completion_tokens) == ("It is", "length", 2)


async def test_an_unrecorded_question_is_rejected_by_name() -> None:
    model = RecordedModel(RecordingIndex([RecordedQuestion(**EGGS)]))
    with pytest.raises(RejectedError, match=r"llama-3\.1-8b-instant on recorded: no recording .*'Why'"):
        await model.chat(_request("Why"))


@given(st.text())
def test_pieces_join_to_the_text_they_were_cut_from(text: str) -> None:
    assert "".join(split_tokens(text)) == text
    assert all(split_tokens(text))


def test_every_real_recording_is_found_by_its_prompt() -> None:
    recordings = RecordingIndex.load(*(recorded_data(f"recordings/{name}-dev.jsonl.gz") for name in ("gsm8k", "crux")))
    assert len(recordings.rows) == 1060
    assert all(recordings.find(f"Draft 1: no.\n\n{row.prompt}\n\nAnswer.") is row for row in recordings.rows)
    said = [recordings.output(name, row.prompt) for row in recordings.rows for name in row.outputs]
    assert not any(text is None or "</s>" in text for text in said)


def test_replaying_needs_no_running_time() -> None:
    model = RecordedModel(RecordingIndex([RecordedQuestion(**EGGS)]))
    assert asyncio.run(model.chat(_request(EGGS["question"]))).attempts == 1
