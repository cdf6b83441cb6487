"""`mixtura doctor --provider`: six small calls to one server, and what they showed in a line each."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.dialects.row import Reply, as_json, closing, pieces, sse, whole

from commands import Done, at, environment, run, sentence, start, until
from mixtura.models.trial.calls import CALLS
from mixtura.sim import SimOptions, simulated_cloud
from replying_servers import replying_server
from servers import llama_server

pytestmark = pytest.mark.slow

TOYS = Path(sys.modules["mixtura"].__path__[0]) / "models/toy/files"


def plain(body: dict[str, Any]) -> Reply:
    """Answer everything in words, but for a prompt that is too long."""
    if len(body["messages"][-1]["content"]) > 1000:
        return as_json({"error": {"message": "out of memory"}}, 500)
    return sse(*pieces("Forty", "-two"), closing()) if body.get("stream") else whole("Forty-two")


async def doctor(home: Path, *args: str, **env: str) -> Done:
    return await run(environment(MIXTURA_HOME=str(home), **env), "doctor", *args)


def lines(done: Done) -> dict[str, str]:
    """Return what was said of each call, and under "" what to do."""
    *calls, last = done.out.splitlines()
    found = {line.split()[0]: line[11:] for line in calls}
    assert tuple(found) == CALLS, done.out + done.err
    return {**found, "": last}


async def test_six_calls_are_announced_made_and_told_in_a_line_each(tmp_path: Path) -> None:
    async with replying_server(plain) as server:
        done = await doctor(tmp_path, "--provider", server.url)
        assert len(server.bodies) == 6
        assert all(body["model"] == "m" for body in server.bodies)
    assert done.code == 0
    assert done.err.startswith(f"m at {server.url}: 6 small calls, one after the other, of at most ")
    assert "the last is a prompt of 1,148 tokens, to be refused; a server in one's own network" in done.err
    found = lines(done)
    assert found["whole"].startswith("works: 3 tokens in ")
    assert found["streamed"].startswith("works: first token after ")
    assert found["overflow"].startswith('HTTP 500 "out of memory"')
    assert "Do not rely on response_format here" in found[""]
    assert "Keep prompts shorter than the model's context" in found[""]


async def test_one_json_document_holds_the_same_in_types(tmp_path: Path) -> None:
    async with replying_server(plain) as server:
        done = await doctor(tmp_path, "--provider", server.url, "-m", "another", "--json")
    told = json.loads(done.out)
    assert (told["provider"], told["url"], told["model"], told["interrupted"]) == (
        server.url,
        server.url,
        "another",
        False,
    )
    assert [call["name"] for call in told["calls"]] == list(CALLS)
    assert [call["outcome"] for call in told["calls"]] == [
        *("works", "works", "not_called", "not_kept", "none", "not_tried")
    ]
    assert told["calls"][3]["works"] is False
    assert told["advice"]


async def test_a_server_that_does_not_stream_fails_the_check_and_one_that_answers_whole_does_not(
    tmp_path: Path,
) -> None:
    refused = as_json({"error": {"message": "streaming is off here"}}, 400)
    async with replying_server(lambda body: refused if body.get("stream") else plain(body)) as server:
        done = await doctor(tmp_path, "--provider", server.url)
    assert done.code == 1
    assert lines(done)["streamed"] == 'not taken: HTTP 400 "streaming is off here"'
    assert lines(done)[""].startswith("Only whole replies come")
    async with replying_server(lambda body: plain({**body, "stream": False})) as server:
        done = await doctor(tmp_path, "--provider", server.url)
    assert done.code == 0
    assert "is answered whole" in lines(done)["streamed"]


async def test_what_a_server_writes_commands_no_terminal(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        return as_json({"error": {"message": "\x1b[2Jno tools\r\n\x9b31m"}}, 400) if body.get("tools") else plain(body)

    async with replying_server(answer, [{"id": "m\x1b[2J"}]) as server:
        for more in ([], ["--json"]):
            done = await doctor(tmp_path, "--provider", server.url, *more)
            assert not set("\x1b\x9b\r") & set(done.out + done.err)
            assert "no tools" in done.out


async def test_where_nothing_answers_the_command_says_what_to_do(tmp_path: Path) -> None:
    for more in ([], ["-m", "m"]):
        done = await doctor(tmp_path, "--provider", "http://127.0.0.1:9", *more)
        assert done.code == 1
        assert "nothing answers at 127.0.0.1:9" in lines(done)["whole"]
        assert lines(done)[""].startswith("Nothing answers at this address: start the server")


async def test_a_key_that_is_refused_is_named_by_its_variable_and_not_shown(tmp_path: Path) -> None:
    refused = as_json({"error": {"message": "Invalid API key gsk_very_secret"}}, 401)
    for models in (refused, None):
        async with replying_server(lambda _body: refused, models) as server:
            done = await doctor(tmp_path, "--provider", server.url, MIXTURA_API_KEY="gsk_very_secret")
        assert done.code == 1
        assert lines(done)[""] == "The key is missing or refused: set MIXTURA_API_KEY."
    done = await doctor(tmp_path, "--provider", "groq")
    assert done.code == 3
    assert "GROQ_API_KEY" in sentence(done)


@pytest.mark.parametrize("tail", ["", "/v1/chat/completions", "/v1/models", "/api"])
async def test_an_address_that_is_not_quite_the_base_url_leads_to_it(tail: str, tmp_path: Path) -> None:
    async with replying_server(plain, path="/v1") as server:
        root = server.url.removesuffix("/v1")
        done = await doctor(tmp_path, "--provider", f"{root}{tail}", "-m", "m")
        # What is known to be no part of a base URL is set right before anything is sent.
        assert done.code == 0 or tail
        if done.code:
            assert done.code == 1
            assert lines(done)[""] == f"Models are listed at {root}/v1: use that as the base URL."


async def test_a_server_without_a_list_is_asked_for_the_model_that_is_named(tmp_path: Path) -> None:
    missing = as_json({"error": {"message": "Not Found"}}, 404)
    async with replying_server(plain, missing) as server:
        done = await doctor(tmp_path, "--provider", server.url)
        assert done.code == 1
        assert not server.bodies
        assert lines(done)["tools"] == "not tried: no model is known to ask"
        assert lines(done)[""].endswith("Where only the list is missing, --model names the model.")
        done = await doctor(tmp_path, "--provider", server.url, "--model", "m")
    assert done.code == 0
    assert lines(done)["overflow"] == "not tried: the server does not say how long its context is"


async def test_a_machine_that_loads_its_model_is_waited_for(tmp_path: Path) -> None:
    lists = [as_json({"error": {"message": "Loading model"}}, 503), as_json({"data": [{"id": "m"}]})]
    async with replying_server(plain, lambda: lists.pop(0)) as server:
        done = await doctor(tmp_path, "--provider", server.url)
    assert done.code == 0


async def test_a_web_page_in_place_of_a_server_leads_to_the_server_below_it(tmp_path: Path) -> None:
    page = Reply(b"<!doctype html><title>Chat</title>", 200, {"Content-Type": "text/html"})
    async with replying_server(plain, other=page) as server:
        root = server.url.removesuffix("/v1")
        done = await doctor(tmp_path, "--provider", f"{root}/ui")
        assert done.code == 1
        assert "a web page ('Chat')" in lines(done)["whole"]
        assert lines(done)[""] == f"Models are listed at {root}/v1: use that as the base URL."


async def test_a_name_of_the_settings_is_a_server(tmp_path: Path) -> None:
    async with replying_server(plain) as server:
        env = environment(MIXTURA_HOME=str(tmp_path))
        assert (await run(env, "config", "set", "base_urls.mine", server.url)).code == 0
        done = await run(env, "doctor", "--provider", "mine")
        assert done.code == 0
        assert f"m at {server.url}: " in done.err


async def test_models_that_answer_no_question_are_not_asked(tmp_path: Path) -> None:
    async with replying_server(plain, [{"id": "nomic-embed-text"}, {"id": "whisper-1"}]) as server:
        done = await doctor(tmp_path, "--provider", server.url)
        assert done.code == 3
        assert "lists no model that answers questions; name one with --model" in sentence(done)
    async with replying_server(plain, [{"id": "nomic-embed-text"}, {"id": "qwen"}]) as server:
        await doctor(tmp_path, "--provider", server.url)
        assert {body["model"] for body in server.bodies} == {"qwen"}


async def test_calls_that_are_billed_are_made_on_request_alone(tmp_path: Path) -> None:
    async with simulated_cloud(SimOptions()) as cloud:
        env = at(cloud, MIXTURA_HOME=str(tmp_path))
        done = await run(env, "doctor", "--provider", "groq")
        assert done.code == 3
        assert "may cost at most $0.000" in sentence(done)
        assert "nothing was sent; add --ask to send them" in sentence(done)
        assert cloud.ledger.arrived == 0
        done = await run(env, "doctor", "--provider", "groq", "--ask")
        assert done.code == 0
        assert done.err.startswith("llama-3.1-8b-instant at ")  # the cheapest
        assert lines(done)["JSON"].startswith("json_object only; the schema goes along in words")
        done = await run(env, "doctor", "--provider", "groq", "--ask", "-m", "openai/gpt-oss-20b")
        assert done.code == 0
        assert "they cost at most $0.000" in done.err
        found = lines(done)
        assert found["JSON"] == "json_schema works"
        assert found["reasoning"] == "in a field of its own"
        assert "Mixtura knows" in found["overflow"]
        done = await run(env, "doctor", "--provider", "groq", "--ask", "-m", "no-such-model")
        assert done.code == 1
        assert "name another one with --model. It lists openai/gpt-oss-" in lines(done)[""]


async def test_models_in_this_process_are_asked_as_well(tmp_path: Path) -> None:
    done = await doctor(tmp_path, "--provider", "toy")
    assert done.code == 0
    assert done.err.startswith("toy-dense in this process: 6 small calls")
    assert lines(done)["overflow"].startswith("the model declines it")


@pytest.fixture
def llama() -> Iterator[str]:
    with llama_server(TOYS / "toy-dense.gguf") as url:
        yield url


@pytest.mark.models
async def test_a_real_server_of_llama_cpp_takes_all_of_it(llama: str, tmp_path: Path) -> None:
    for url in (llama, llama.removesuffix("/v1")):
        done = await doctor(tmp_path, "--provider", url)
        assert done.code == 0
        found = lines(done)
        assert "usage comes in the last chunk" in found["streamed"]
        assert found["JSON"].startswith("json_schema")
        assert "exceeds the available context size (512 tokens)" in found["overflow"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize("more", [[], ["--json"]])
async def test_ctrl_c_leaves_what_is_known(more: list[str], tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        return sse(*pieces("Forty"), done=False) if body.get("stream") else plain(body)

    async with replying_server(answer, holds_open=True) as server:
        process = await start(environment(MIXTURA_HOME=str(tmp_path)), "doctor", "--provider", server.url, *more)
        await until(lambda: len(server.bodies) == 2)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err
    if more:
        told = json.loads(out)
        assert told["interrupted"] is True
        assert [call["name"] for call in told["calls"]] == ["whole"]
    else:
        assert [line.split()[0] for line in out.decode().splitlines()] == ["whole", "Interrupted:"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--provider", "http://127.0.0.1:9", "-r", "fast"], "give one of them"),
        (["-m", "m"], "--model needs --provider"),
        (["--provider", " "], "expected a value"),
    ],
)
async def test_options_that_do_not_go_together_are_refused(args: list[str], said: str, tmp_path: Path) -> None:
    done = await doctor(tmp_path, *args)
    assert done.code == 2
    assert said in sentence(done)
    done = await doctor(tmp_path, "--provider", "nowhere")
    assert done.code == 3
    assert "unknown provider 'nowhere'" in sentence(done)
