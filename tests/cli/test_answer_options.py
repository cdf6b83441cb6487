"""`mixtura ask` with what is asked of the answer, as a process of its own over HTTP."""

import json
from pathlib import Path

import pytest

from commands import at, environment, run, sentence
from mixtura.sim import SimOptions, simulated_cloud

pytestmark = pytest.mark.slow

SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
CLOUD = SimOptions(
    unlimited=True,
    reply=lambda body, call: '{"colour": "red"}' if body.get("response_format") else f"Words of call {call}.",
    extra_models=("qwen/qwen3.8-27b",),
)


async def test_sampling_limits_and_stop_words_reach_the_model_that_writes() -> None:
    async with simulated_cloud(CLOUD) as cloud:
        args = ["--max-tokens", "55", "--temperature", "0.2", "--top-p", "0.9", "--stop", "END", "--stop", "FIN"]
        done = await run(at(cloud), "ask", "-q", *args, "Why?")
        assert done.code == 0, done.err
        *drafts, answer = cloud.requests
        assert (answer["max_completion_tokens"], answer["temperature"], answer["top_p"]) == (55, 0.2, 0.9)
        assert answer["stop"] == ["END", "FIN"]
        assert all("stop" not in body and body["max_completion_tokens"] != 55 for body in drafts)


async def test_a_schema_gives_json_and_an_image_is_shown_to_all(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
    (tmp_path / "colour.json").write_text(json.dumps(schema), "utf-8")
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")
    async with simulated_cloud(CLOUD) as cloud:
        args = ["--schema", str(tmp_path / "colour.json"), "--image", str(tmp_path / "cat.png")]
        done = await run(at(cloud), "ask", *args, "Which colour is it?")
        assert json.loads(done.out) == {"colour": "red"}, done.err
        assert cloud.requests[-1]["response_format"]["json_schema"]["schema"] == schema
        for body in cloud.requests:
            (url,) = [part["image_url"]["url"] for part in body["messages"][-1]["content"] if "image_url" in part]
            assert url == "data:image/png;base64,iVBORw=="
        done = await run(at(cloud), "ask", "-q", "--schema", "{}", "Which colour is it?")
        assert cloud.requests[-1]["response_format"] == {"type": "json_object"}


async def test_prompts_are_shown_on_stderr_after_the_answer() -> None:
    async with simulated_cloud(CLOUD) as cloud:
        done = await run(at(cloud), "ask", "--show-prompts", "-s", "Be brief.", "Why?")
        assert done.out == "Words of call 4.\n"
        heads = [line for line in done.err.splitlines() if line.startswith("--- call")]
        assert [head.split(":")[1].split()[0] for head in heads] == ["proposer"] * 3 + ["aggregator"]
        assert "reads the drafts of calls" in heads[-1]
        last = cloud.requests[-1]["messages"]
        for message in last:
            assert f"[{message['role']}]\n{message['content']}\n" in done.err
        refused = await run(at(cloud), "ask", "--show-prompts", "-r", "nothing", "Why?")
        assert refused.code == 3


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--max-tokens", "0"], "max_tokens: expected at least 1, got 0"),
        (["--temperature", "3"], "temperature: expected 0 to 2, got 3.0"),
        (["--top-p", "0"], "top_p: expected above 0 and up to 1, got 0.0"),
        (["--stop", ""], "stop: expected texts that are not empty"),
        (["--schema", "no-such-file"], "--schema no-such-file: cannot be read: No such file or directory"),
        (["--schema", "LIST"], "expected a JSON schema, which is an object"),
        (["--schema", "BROKEN"], "not JSON"),
        (["--schema", "NONE"], "is no JSON schema"),
        (["--image", "notes.txt"], "expected a file that is named like an image"),
        (["--image", "none.png"], "--image none.png: cannot be read: No such file or directory"),
    ],
)
async def test_what_cannot_be_is_one_sentence(args: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "LIST").write_text("[1]", "utf-8")
    (tmp_path / "BROKEN").write_text("{", "utf-8")
    (tmp_path / "NONE").write_text('{"type": "strin"}', "utf-8")
    done = await run(environment(GROQ_API_KEY="gsk_x"), "ask", "--dry-run", *args, "Why?", cwd=tmp_path)
    assert done.code == 2, done.err
    assert said in sentence(done)
