"""The sources of the simulated models' text, and their order."""

import json
import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mixtura.errors import ConfigError
from mixtura.models.recorded import RecordingIndex, count_tokens
from mixtura.sim import Reply, SimOptions, serve, simulated_cloud
from mixtura.sim.replies import SIMULATED, ReplyScript, ReplySources, filler
from mixtura.sim.schemas import sample

LLAMA, GEMMA = "llama-3.1-8b-instant", "gemma2-9b-it"


async def _texts(options: SimOptions, *calls: tuple[str, Any], **fields: Any) -> list[str]:
    """Return the answer to each (model, user content); `fields` are in every request."""
    replies = []
    async with simulated_cloud(options) as cloud, aiohttp.ClientSession() as session:
        for model, content in calls:
            body = {"model": model, "messages": [{"role": "user", "content": content}], **fields}
            url, headers = f"{cloud.base_url}/chat/completions", {"authorization": "Bearer gsk_secret"}
            async with session.post(url, json=body, headers=headers) as response:
                replies.append((await response.json())["choices"][0]["message"]["content"])
    return replies


SCRIPT = """
[[rules]]
contains = "Draft 1"
model = "openai/gpt-oss-120b"
text = "From the drafts: yes."
reasoning = "Compare them."

[[rules]]
matches = "(\\\\d+) \\\\+ (\\\\d+)"
call = 2
text = "{2} and {1} again, {unknown}"

[[rules]]
matches = "(\\\\d+) \\\\+ (\\\\d+)"
text = "{model} sees {1} and {2}"
"""


async def test_a_script_answers_by_model_text_and_call(tmp_path: Path) -> None:
    path = tmp_path / "script.toml"
    path.write_text(SCRIPT)
    texts = await _texts(
        SimOptions(script=str(path)),
        (LLAMA, "1 + 2?"),
        (LLAMA, "3 + 4?"),
        (LLAMA, "5 + 6?"),
        ("openai/gpt-oss-120b", "Draft 1: 1 + 2"),
        (LLAMA, [{"type": "text", "text": "7 +"}, {"type": "text", "text": "7 + 8"}]),
        (LLAMA, "nothing fits"),
    )
    assert texts == [
        f"{LLAMA} sees 1 and 2",
        "4 and 3 again, {unknown}",
        f"{LLAMA} sees 5 and 6",
        "From the drafts: yes.",
        f"{LLAMA} sees 7 and 8",
        f"{SIMULATED} (Call 6.)",
    ]


async def test_a_script_can_be_jsonl_and_a_rule_can_fail(tmp_path: Path) -> None:
    path = tmp_path / "script.jsonl"
    path.write_text('{"contains": "x", "text": "y"}\n\n{"text": "z", "fault": "null_content"}\n')
    assert await _texts(SimOptions(script=str(path)), (LLAMA, "x"), (LLAMA, "w")) == ["y", None]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("s.toml", "[[rules]]\nanswer = 1\n", "rule 1: .*answer"),
        ("s.toml", "[[rules]]\n[[rules]]\nmatches = '('\n", "rule 2"),
        ("s.toml", "[[rules]]\nfault = 'explode'\n", "rule 1: fault 'explode'"),
        ("s.toml", "rules = [", "cannot be read as a script"),
        ("s.toml", "x = 1", r"expected at least one \[\[rules\]\] table"),
        ("s.jsonl", "{", "cannot be read as a script"),
    ],
)
def test_a_wrong_script_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        ReplyScript.load(path)
    with pytest.raises(ConfigError, match="cannot be read as a script"):
        ReplyScript.load(tmp_path / "missing.toml")


async def test_a_function_goes_first_and_may_leave_the_reply_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "script.toml"
    path.write_text('[[rules]]\ntext = "from the script"\n')
    seen: list[tuple[str, int]] = []

    def reply(request: dict[str, Any], call: int) -> Reply | str | None:
        seen.append((request["model"], call))
        replies: dict[int, Reply | str] = {1: "plain", 2: Reply(text="whole")}
        return replies.get(call)

    options = SimOptions(reply=reply, script=str(path))
    assert await _texts(options, *[(LLAMA, "x")] * 3) == ["plain", "whole", "from the script"]
    assert seen == [(LLAMA, 1), (LLAMA, 2), (LLAMA, 3)]


async def test_recordings_answer_where_they_know_the_question(tmp_path: Path) -> None:
    row = {"question": "What is two?", "outputs": {"llama-3.1-8b-instruct": "2</s>", "tiny-model": "3"}}
    path = tmp_path / "recorded.jsonl"
    path.write_text(json.dumps(row))
    options = SimOptions(recordings=(str(path),))
    asked = "Answer this.\n\nWhat is two?"
    texts = await _texts(options, (LLAMA, asked), ("tiny-model", asked), (GEMMA, asked), (LLAMA, "What is three?"))
    assert texts == ["2", "3", f"{SIMULATED} (Call 3.)", f"{SIMULATED} (Call 4.)"]


async def test_a_recorded_fence_is_left_out_where_json_was_asked_for(tmp_path: Path) -> None:
    row = {"question": "What is two?", "outputs": {LLAMA: 'Well:\n```json\n{"answer": "2"}\n```', "x": "two"}}
    path = tmp_path / "recorded.jsonl"
    path.write_text(json.dumps(row))
    recordings = RecordingIndex.load(path, aliases={LLAMA: LLAMA})
    request: dict[str, Any] = {"model": LLAMA, "messages": [{"role": "user", "content": "What is two?"}]}
    replies, rng = ReplySources(recordings=recordings), random.Random(0)
    assert (replies.reply(request, 1, rng, reasons=False).text or "").startswith("Well")
    request["response_format"] = {"type": "json_object"}
    assert replies.reply(request, 1, rng, reasons=False).text == '{"answer": "2"}'


async def test_the_unscripted_reply_says_what_it_is_and_repeats_no_secret() -> None:
    (text,) = await _texts(SimOptions(), (LLAMA, "my password is hunter2"))
    assert "simulated" in text
    assert "hunter2" not in text
    assert "gsk_secret" not in text


@pytest.mark.parametrize(
    ("stop", "left"), [("three", "one two "), (["four", "two"], "one "), (["five"], "one two three")]
)
async def test_a_reply_ends_before_the_first_stop_text(stop: str | list[str], left: str) -> None:
    told = SimOptions(reply=lambda _request, _call: "one two three")
    assert await _texts(told, (LLAMA, "x"), stop=stop) == [left]


async def test_filler_has_the_length_asked_for_and_differs_between_calls() -> None:
    first, second = await _texts(SimOptions(tokens=120), (LLAMA, "x"), (LLAMA, "x"))
    assert first != second
    assert count_tokens(first) == count_tokens(second) == 120
    assert filler(9, random.Random(1)) == filler(9, random.Random(1))


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "simulated"),
        ({"enum": [3, 4]}, 3),
        ({"const": "c"}, "c"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"type": ["integer", "null"]}, 1),
        ({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "boolean"}}}}, {"a": [True]}),
        ({}, {}),
    ],
)
def test_a_schema_has_a_small_sample(schema: dict[str, Any], value: object) -> None:
    assert sample(schema) == value


async def test_wrong_options_fail_before_anything_is_served(tmp_path: Path) -> None:
    for options in (
        SimOptions(profile="warp"),
        SimOptions(speed=0),
        SimOptions(tokens=0),
        SimOptions(faults="bang"),
        SimOptions(script=str(tmp_path / "none.toml")),
        SimOptions(recordings=(str(tmp_path / "none.jsonl"),)),
    ):
        with pytest.raises(ConfigError):
            await serve(options, port=0)
