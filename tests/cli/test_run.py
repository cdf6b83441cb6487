"""The real command as a process of its own, asking a simulated cloud over HTTP."""

import asyncio
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from commands import Done, at, environment, run, sentence, start, until
from mixtura.chat import JsonObject
from mixtura.models.recorded import count_tokens
from mixtura.sim import TUTORIAL_ERA, SimOptions, simulated_cloud

pytestmark = pytest.mark.slow

LLAMA, GEMMA, SEVENTY = "llama-3.1-8b-instant", "gemma2-9b-it", "llama-3.3-70b-versatile"


def says(**texts: str | None) -> Callable[[JsonObject, int], str | None]:
    names = {LLAMA: "llama", GEMMA: "gemma", SEVENTY: "seventy"}
    return lambda request, call: texts.get(names.get(request["model"], "other"))


CLASSIC = SimOptions(reply=says(llama="A draft.", gemma="Another draft.", seventy="The composed answer."))


async def test_elsewhere_than_on_a_terminal_stdout_is_the_answer_alone() -> None:
    async with simulated_cloud(CLASSIC) as cloud:
        done = await run(at(cloud), "ask", "-r", "classic", "Why", "is", "the sky blue?")
        assert (done.code, done.out) == (0, "The composed answer.\n")
        assert [line[0] for line in done.err.splitlines()] == ["✓", "✓", "✓", "-", done.err.splitlines()[-1][0]]
        assert re.search(r"s · 4 calls · [\d,]+ in \+ [\d,]+ out tokens · \$0\.\d+\n\Z", done.err)
        assert "\x1b" not in done.err
        assert cloud.requests[0]["messages"][-1]["content"] == "Why is the sky blue?"
        quiet = await run(at(cloud, FORCE_COLOR="1"), "ask", "-q", "-r", "classic", "Why?")
        assert quiet == Done(0, "The composed answer.\n", "")
        coloured = await run(at(cloud, FORCE_COLOR="1"), "ask", "-r", "classic", "Why?")
        assert coloured.err.startswith("\x1b[32m✓")


async def test_json_is_the_whole_answer_and_its_sums_are_the_clouds() -> None:
    async with simulated_cloud(CLASSIC) as cloud:
        done = await run(at(cloud), "ask", "--json", "-r", "classic", "Why?")
        answer = json.loads(done.out)
        assert (done.code, answer["status"], answer["text"]) == (0, "ok", "The composed answer.")
        assert (answer["n_calls"], len(answer["drafts"])) == (4, 3)
        assert answer["usage"]["prompt_tokens"] == cloud.ledger.prompt_tokens.total()
        assert answer["usage"]["completion_tokens"] == cloud.ledger.completion_tokens.total()
        costs = [call["cost"] for call in (*answer["drafts"], *answer["calls"])]
        assert answer["cost"] == pytest.approx(sum(costs))


@pytest.mark.parametrize(
    ("args", "stdin", "asked"),
    [
        ([], "Grüße?\n".encode(), "Grüße?\n"),
        (["-"], b"\xef\xbb\xbfWhy?", "Why?"),
        (["Summarise:", "-"], b"a text", "Summarise:\n\na text"),
        (["Why?"], b"not read", "Why?"),
    ],
)
async def test_the_question_is_the_argument_or_what_is_piped_in(args: list[str], stdin: bytes, asked: str) -> None:
    async with simulated_cloud(CLASSIC) as cloud:
        done = await run(at(cloud), "ask", "-q", "-m", LLAMA, *args, stdin=stdin)
        assert done == Done(0, "A draft.\n", "")
        assert cloud.requests[0]["messages"][-1]["content"] == asked


@pytest.mark.parametrize(
    ("args", "stdin", "said"),
    [
        ([], b"", "the question is empty"),
        ([], b"caf\xe9", "stdin is not UTF-8 text (byte 4 is 0xe9); convert it first, for example with iconv"),
        ([], b"x" * 1_000_001, "1,000,001 characters; at most 1,000,000"),
        ([], b"x" * 4_000_001, "more than 1,000,000 characters"),
        ([b"caf\xe9"], b"", "the question is not valid UTF-8 text (character 4)"),
    ],
)
async def test_a_question_that_cannot_be_asked_is_one_sentence_and_exit_code_2(
    args: list[bytes], stdin: bytes, said: str
) -> None:
    done = await run(environment(GROQ_API_KEY="gsk_very_secret"), "ask", *args, stdin=stdin)
    assert (done.code, done.out) == (2, "")
    assert said in sentence(done)


async def test_a_bad_key_is_one_sentence_exit_code_3_and_still_a_document() -> None:
    async with simulated_cloud(SimOptions(keys={"gsk_other": "org"})) as cloud:
        done = await run(at(cloud), "ask", "--json", "-r", "classic", "Why?")
        answer = json.loads(done.out)
        assert (done.code, answer["status"], len(answer["failures"])) == (3, "failed", 3)
        assert "GROQ_API_KEY" in sentence(done)
        assert answer["error"] in done.err


async def test_an_unreachable_host_is_one_sentence_and_exit_code_1() -> None:
    env = environment(GROQ_BASE_URL="http://127.0.0.1:1", GROQ_API_KEY="gsk_very_secret")
    done = await run(env, "ask", "--deadline", "5", "-m", SEVENTY, "Why?")
    assert (done.code, done.out) == (1, "")
    assert sentence(done).startswith("mixtura: nothing answers at 127.0.0.1:1 (Connection refused); is it running?")
    mixture = await run(env, "ask", "--deadline", "5", "Why?")
    assert (mixture.code, mixture.out) == (1, "")
    assert mixture.err.splitlines()[-1].startswith("mixtura: nothing answers at 127.0.0.1:1 (Connection refused)")
    listed = await run(env, "models")
    assert (listed.code, "openai/gpt-oss-120b" in listed.out) == (1, True)
    assert "nothing answers at 127.0.0.1:1" in listed.err


async def test_a_dead_model_names_its_replacement_and_exits_with_3() -> None:
    async with simulated_cloud(SimOptions(as_of=TUTORIAL_ERA)) as cloud:
        done = await run(at(cloud), "ask", "-m", "llama3-70b-8192", "Why?")
        assert (done.code, done.out) == (3, "")
        assert re.search(r"was shut down on 2025-08-30; use '[\w./-]+' \(its replacement\)", sentence(done))


async def test_a_spent_limit_beyond_the_deadline_exits_with_75() -> None:
    async with simulated_cloud(SimOptions(faults="429=61@1-")) as cloud:
        done = await run(at(cloud), "ask", "--deadline", "3", "-m", LLAMA, "Why?")
        assert (done.code, done.out) == (75, "")
        sentence(done)


async def test_a_cost_over_the_limit_sends_nothing() -> None:
    async with simulated_cloud() as cloud:
        done = await run(at(cloud), "ask", "--max-cost", "0.000001", "-m", SEVENTY, "Why?")
        assert (done.code, cloud.ledger.arrived) == (1, 0)
        assert "--max-cost" in sentence(done)


async def test_drafts_go_to_stderr_when_piped() -> None:
    async with simulated_cloud(CLASSIC) as cloud:
        done = await run(at(cloud), "ask", "--drafts", "-r", "classic", "Why?")
        assert done.out == "The composed answer.\n"
        assert {"A draft.", "Another draft."} <= set(done.err.splitlines())


async def test_a_withdrawn_beginning_never_reaches_stdout() -> None:
    reply = says(llama="The best draft.", gemma="The best draft of gemma.", seventy="A beginning " * 40)
    async with simulated_cloud(SimOptions(reply=reply, faults=f"error_event=20@1-:{SEVENTY}")) as cloud:
        done = await run(at(cloud), "ask", "-r", "classic", "Why?")
        assert done.code == 0
        assert done.out.startswith("The best draft")
        assert "! the aggregator failed" in done.err
        assert "partial" in done.err.splitlines()[-1]


async def test_ctrl_c_is_silent_exits_with_130_and_leaves_no_request_open() -> None:
    async with simulated_cloud(SimOptions(faults=f"silent@1-:{GEMMA}", profile="fixed:0.1")) as cloud:
        process = await start(at(cloud), "ask", "-r", "classic", "Why?")
        await until(lambda: cloud.ledger.calls.total() == 3 and cloud.ledger.in_flight == 1)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert (process.returncode, out) == (130, b"")
        assert "Traceback" not in err.decode()
        await until(lambda: cloud.ledger.in_flight == 0)
        assert (cloud.ledger.aborted, cloud.ledger.arrived) == (1, 3)


async def test_a_reader_that_goes_away_is_no_error_worth_a_word() -> None:
    process = await start(environment(), "recipes")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout._transport.close()  # type: ignore[attr-defined]  # the only way to close the reading end
    err = await process.stderr.read()
    assert (await process.wait(), err) == (141, b"")


async def test_sim_answers_in_this_process_without_a_key_and_says_so() -> None:
    env = environment(HTTP_PROXY="http://127.0.0.1:1")
    done = await run(env, "ask", "--sim", "--as-of", "2025-09-01", "-r", "classic", "Why?")
    assert done.code == 0
    assert done.err.startswith("mixtura: a simulated cloud answers: its words are filler, no model is asked\n")
    assert count_tokens(done.out.strip()) == 80


async def test_a_piped_chat_keeps_what_was_said_and_survives_failures(tmp_path: Path) -> None:
    async with simulated_cloud(SimOptions(reply=says(llama="Noted."), faults="401@2")) as cloud:
        lines = (
            b"I am Ada.\nfails\n\xff\n/system Be brief.\n/recpie\nWho am I?\n/drafts\n/save talk.md\n/save talk.md\n"
        )
        done = await run(at(cloud), "chat", "-m", LLAMA, stdin=lines, cwd=tmp_path)
        assert done.out == "Noted.\nNoted.\n"
        said = [(turn["role"], turn["content"]) for turn in cloud.requests[-1]["messages"]]
        assert said == [
            ("system", "Be brief."),
            ("user", "I am Ada."),
            ("assistant", "Noted."),
            ("user", "Who am I?"),
        ]
        for part in ("not UTF-8 text (byte 1)", "did you mean /recipe?", "--- llama", "talk.md: cannot be written"):
            assert part in done.err
        assert done.code == 3
        assert "## user\n\nWho am I?" in (tmp_path / "talk.md").read_text()


async def test_models_shows_what_the_key_can_really_use() -> None:
    async with simulated_cloud(SimOptions(as_of=TUTORIAL_ERA, extra_models=("brand/new",))) as cloud:
        told = json.loads((await run(at(cloud), "models", "--json")).out)
        usable = {row["id"]: row["usable"] for row in told["models"]}
        assert usable["openai/gpt-oss-20b"] is True
        assert usable[GEMMA] is True  # served to this key, whatever the catalogue says of today
        assert told["not_in_catalogue"] == ["brand/new"]
        shown = await run(at(cloud), "models")
        assert re.search(r"^gemma2-9b-it +yes +gone since 2025-10-08", shown.out, re.MULTILINE)
    bare = await run(environment(), "models")
    assert (bare.code, "no key is set (GROQ_API_KEY)" in bare.err) == (0, True)


async def test_doctor_finds_what_is_broken_and_spends_nothing_unasked() -> None:
    async with simulated_cloud(SimOptions(as_of=TUTORIAL_ERA)) as cloud:
        well = await run(at(cloud), "doctor", "-r", "classic")
        assert (well.code, cloud.ledger.arrived) == (0, 0), well.out
        assert re.search(r"^✓ groq clock: within 1 s", well.out, re.MULTILINE)
        spent = json.loads((await run(at(cloud), "doctor", "-r", "classic", "--ask", "--json")).out)
        limits = next(check for check in spent if check["name"] == "groq limits")
        assert limits["said"].startswith(f"{LLAMA}: 14399 of 14400 requests left today, ")
        assert cloud.ledger.arrived == 1
    async with simulated_cloud(SimOptions(keys={"gsk_other": "org"})) as cloud:
        refused = await run(at(cloud), "doctor")
        assert refused.code == 1
        assert re.search(r"^✗ groq reached: .*GROQ_API_KEY", refused.out, re.MULTILINE)


async def test_doctor_without_a_key_says_where_to_get_one_and_finds_local_servers() -> None:
    async def listed(_request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "tiny"}, {"id": "small"}]})

    app = web.Application()
    app.router.add_get("/v1/models", listed)
    async with TestServer(app) as server, simulated_cloud() as other:
        url = str(server.make_url("/v1"))
        done = await run(environment(OLLAMA_BASE_URL=url, VLLM_BASE_URL=other.base_url), "doctor")
        assert done.code == 1
        assert "✗ groq key: GROQ_API_KEY is not set; next: make one at https://console.groq.com/keys" in done.out
        asked = "next: mixtura ask --provider ollama -m tiny 'Hello'"
        assert f"✓ ollama: 2 models at {url}: tiny, small; {asked}\n" in done.out
        assert f"- vllm: a server at {other.base_url} wants a key; next: export VLLM_API_KEY=...\n" in done.out


async def _first_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return (await process.stdout.readline()).decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_sim_prints_a_line_to_copy_logs_calls_and_sums_up(number: signal.Signals) -> None:
    args = ("sim", "--port", "0", "--as-of", "2025-09-01", "--tokens", "7", "--profile", "instant")
    process = await start(environment(), *args)
    line = await _first_line(process)
    found = re.fullmatch(r"export (GROQ_BASE_URL)=(http://127\.0\.0\.1:\d+) (GROQ_API_KEY)=(\w+)\n", line)
    assert found is not None
    env = environment(**{found[1]: found[2], found[3]: found[4]})
    asked = await run(env, "ask", "-q", "-m", LLAMA, "Why?")
    assert count_tokens(asked.out.strip()) == 7
    assert (await run(env, "ask", "-m", "nobody/knows", "Why?")).code == 3
    process.send_signal(number)
    _, err = await process.communicate()
    said = err.decode()
    assert process.returncode == 0
    assert f"call 1: {LLAMA}, 1 message, " in said
    assert "refused: 1 with 404" in said
    assert re.search(
        rf"1 call answered \(1 x {LLAMA}\), 1 refused, 0 left by their client; billed \d+ tokens in, 8 out", said
    )


async def test_sim_warns_when_others_can_reach_it_and_says_when_a_port_is_taken() -> None:
    process = await start(environment(), "sim", "--host", "0.0.0.0", "--port", "0")
    port = (await _first_line(process)).split()[1].rpartition(":")[2]
    taken = await run(environment(), "sim", "--port", port)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert "0.0.0.0 is reachable from other machines" in err.decode()
    assert (taken.code, f"port {port}" in sentence(taken)) == (3, True)


def _scores(shown: str) -> dict[str, list[int]]:
    found = re.findall(r"^(\S+) +(\d+) +(\d+) +[\d.]+%", shown, re.MULTILINE)
    return {name: [int(right), int(wrong)] for name, right, wrong in found}


async def test_the_demo_counts_right_and_wrong_of_every_member_and_the_mixture(tmp_path: Path) -> None:
    done = await run(environment(), "demo", "--recorded", "--show", "1", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "scripted drafts" in done.out
    assert _scores(done.out) == {
        LLAMA: [7, 5],
        GEMMA: [9, 3],
        "qwen2-7b-instruct": [7, 5],
        SEVENTY: [11, 1],
        "mixture": [11, 1],
    }
    assert "=> right: the right answer is 77" in done.out
    assert f"agreed on 4 of 12 questions; {SEVENTY} was asked about 8" in done.out


async def test_the_demo_takes_the_shared_recordings_or_those_it_is_given(tmp_path: Path) -> None:
    row: dict[str, Any] = {"question": "What is 2 + 2?", "answer": "4"}
    names = ("llama-3.1-8b-instruct", "gemma-2-9b-it", "qwen2-7b-instruct", "llama-3.1-70b-instruct")
    row["outputs"] = dict.fromkeys(names, "The answer is 4.")
    shared = tmp_path / "shared" / "data" / "recordings" / "gsm8k-dev.jsonl.gz"
    shared.parent.mkdir(parents=True)
    shared.write_bytes(gzip.compress(json.dumps(row).encode()))
    project = tmp_path / "project"
    project.mkdir()
    done = await run(environment(), "demo", "--recorded", "--show", "0", cwd=project)
    assert done.out.startswith("Recordings: ../shared/data/recordings/gsm8k-dev.jsonl.gz")
    assert _scores(done.out)["mixture"] == [1, 0]
    given = await run(environment(), "demo", "--all", "--recordings", str(shared), cwd=tmp_path)
    assert given.out.startswith(f"Recordings: {shared}.")
    assert "=> right: the right answer is 4" in given.out


@pytest.mark.parametrize("where", [("--provider", "openai"), ("--provider", "http://127.0.0.1:1/v1")])
def test_a_simulated_question_is_never_sent_anywhere_else(where: tuple[str, str]) -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "mixtura", "ask", "--sim", *where, "-m", "gpt-4o", "hi"],
        env={**os.environ, "OPENAI_API_KEY": "sk-test"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 3
    assert asked.stdout == ""
    assert asked.stderr == f"mixtura: --sim simulates groq only, and the recipe also asks {where[1]!r}\n"


@pytest.mark.parametrize(
    ("redirected", "status", "said"),
    [
        ("ask --sim hi >/dev/full", 1, "mixtura: cannot write the output: No space left on device\n"),
        ("recipes >/dev/full", 1, "mixtura: cannot write the output: No space left on device\n"),
        ("ask --sim hi >&-", 1, "mixtura: stdout is closed, so an answer could not be written\n"),
        ("ask --sim <&-", 2, "mixtura: the question is empty\n"),
    ],
)
def test_streams_that_are_closed_or_full_are_one_sentence(redirected: str, status: int, said: str) -> None:
    command = f"{sys.executable} -m mixtura {redirected}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stderr.endswith(said)
    assert "Traceback" not in done.stderr


def test_a_closed_stderr_loses_no_answer() -> None:
    command = f"{sys.executable} -m mixtura ask --sim hi 2>&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0
    assert done.stdout.strip()


def test_a_dry_run_says_what_stands_against_the_run() -> None:
    command = [sys.executable, "-m", "mixtura", "ask", "--dry-run", "--max-cost", "0", "-m", "gemma2-9b-it", "hi"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    assert "gemma2-9b-it is gone since 2025-10-08 by the catalogue" in done.stderr
    assert "with --max-cost 0 the run would be refused" in done.stderr
