"""Every fault of the simulated cloud, as an HTTP client sees it."""

import asyncio
import email.utils
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from mixtura.errors import ConfigError
from mixtura.sim import Fault, FaultInjector, Reply, SimOptions, SimulatedCloud, parse_faults, simulated_cloud
from mixtura.virtual import run_virtual

LLAMA, GEMMA = "llama-3.1-8b-instant", "gemma2-9b-it"


class WireReply(NamedTuple):
    status: int
    headers: Any
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


Ask = Callable[..., Awaitable[WireReply]]


def _with_cloud(options: SimOptions, scenario: Callable[[Ask, SimulatedCloud], Awaitable[None]]) -> None:
    """Run a scenario against a cloud in virtual time."""

    async def main() -> None:
        async with simulated_cloud(options) as cloud, aiohttp.ClientSession() as session:

            async def ask(model: str = LLAMA, *, text: str = "hi", stream: bool = False, **fields: Any) -> WireReply:
                body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream} | fields
                headers = {"authorization": "Bearer gsk_a"}
                url = f"{cloud.base_url}/chat/completions"
                async with asyncio.timeout(3600):
                    async with session.post(url, json=body, headers=headers, timeout=_FOREVER) as response:
                        return WireReply(response.status, response.headers, await response.read())

            await scenario(ask, cloud)

    run_virtual(main())


_FOREVER = aiohttp.ClientTimeout(total=None)


def _faulty(faults: str, scenario: Callable[[Ask, SimulatedCloud], Awaitable[None]], **options: Any) -> None:
    _with_cloud(SimOptions(faults=faults, unlimited=True, **options), scenario)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("400", 400, None),
        ("401", 401, "invalid_api_key"),
        ("403", 403, None),
        ("404", 404, "model_not_found"),
        ("413", 413, "rate_limit_exceeded"),
        ("429", 429, "rate_limit_exceeded"),
        ("498", 498, "capacity_exceeded"),
        ("500", 500, None),
        ("503", 503, None),
        ("context", 400, "context_length_exceeded"),
        ("decommissioned", 400, "model_decommissioned"),
        ("json_validate", 400, "json_validate_failed"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_status_comes_with_its_body_and_is_not_billed(
    fault: str, status: int, code: str | None, stream: bool
) -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        response = await ask(stream=stream)
        assert response.status == status
        assert response.body["error"].get("code") == code
        assert response.body["error"]["message"]
        assert (cloud.ledger.total_tokens, cloud.ledger.refused, cloud.ledger.faults) == (0, {status: 1}, {fault: 1})

    _faulty(fault, scenario)


def test_over_capacity_has_the_recorded_words() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        assert (await ask()).body == {
            "error": {
                "message": f"{LLAMA} is currently over capacity. Please try again and back off exponentially. Visit "
                "https://groqstatus.com to see if there is an active incident.",
                "type": "internal_server_error",
            }
        }

    _faulty("503", scenario)


def test_a_bad_gateway_is_a_page() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        response = await ask()
        assert (response.status, response.headers["content-type"]) == (502, "text/html")
        assert b"<html>" in response.raw

    _faulty("502", scenario)


@pytest.mark.parametrize(
    ("fault", "header"),
    [("429=0.5", "0.5"), ("429=7.66", "7.66"), ("429=61", "61"), ("429=420", "420"), ("429=0", "0"), ("429", "2")],
)
def test_a_rate_limit_can_name_any_wait(fault: str, header: str) -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        assert (await ask()).headers["retry-after"] == header

    _faulty(fault, scenario)


def test_a_rate_limit_can_name_a_date_or_nothing() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        assert "retry-after" not in (await ask()).headers
        moment = email.utils.parsedate_to_datetime((await ask()).headers["retry-after"]).timestamp()
        assert 20 < moment - time.time() < 61

    _faulty("429=none@1,429=date+60@2", scenario)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["reset", "reset_headers", "cut"])
def test_a_broken_connection_is_an_error_at_the_client_and_the_next_call_works(fault: str, stream: bool) -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        with pytest.raises(aiohttp.ClientError):
            await ask(stream=stream)
        assert (await ask(stream=stream)).status == 200
        assert (cloud.ledger.aborted, cloud.ledger.in_flight, cloud.ledger.faults) == (0, 0, {fault: 1})

    _faulty(f"{fault}@1", scenario)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["silent", "stall"])
def test_a_hanging_reply_ends_when_the_client_disconnects_and_is_counted(fault: str, stream: bool) -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await ask(stream=stream)
        await asyncio.sleep(1)
        assert (cloud.ledger.aborted, cloud.ledger.in_flight) == (1, 0)

    _faulty(fault, scenario)


def _content(raw: bytes) -> str:
    events = [json.loads(part[6:]) for part in raw.decode().split("\n\n") if part.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


def test_a_stalled_stream_sends_its_first_pieces() -> None:
    async def main() -> bytes:
        got = b""

        async def read() -> None:
            nonlocal got
            async with asyncio.timeout(30), session.post(url, json=body, headers=headers) as response:
                async for part in response.content.iter_any():
                    got += part

        async with simulated_cloud(SimOptions(faults="stall=2")) as cloud, aiohttp.ClientSession() as session:
            body = {"model": LLAMA, "messages": [{"role": "user", "content": "hi"}], "stream": True}
            url, headers = f"{cloud.base_url}/chat/completions", {"authorization": "Bearer k"}
            with pytest.raises(TimeoutError):
                await read()
        return got

    assert _content(run_virtual(main())) == "This is"


def test_a_truncated_stream_closes_cleanly_without_its_last_events() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        response = await ask(stream=True)
        assert _content(response.raw) == "This is a"
        assert b"[DONE]" not in response.raw
        assert b'"usage"' not in response.raw
        assert cloud.ledger.completion_tokens[LLAMA] == 3
        whole = await ask()
        with pytest.raises(json.JSONDecodeError):
            json.loads(whole.raw)

    _faulty("truncated", scenario)


def test_an_error_can_come_in_the_middle_of_a_stream() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        response = await ask(stream=True)
        assert response.status == 200
        *_, error = [part for part in response.raw.decode().split("\n\n") if part]
        name, _, data = error.partition("\n")
        assert name == "event: error"
        body = json.loads(data.removeprefix("data: "))
        assert list(body["error"]) == ["message", "type", "code", "failed_generation", "status_code"]
        assert body["error"]["code"] == "tool_use_failed"
        assert b"[DONE]" not in response.raw
        assert _content(response.raw) == "This"
        assert (await ask()).status == 400

    _faulty("error_event=1", scenario)


@pytest.mark.slow
def test_a_drip_sends_one_byte_a_second() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        loop = asyncio.get_running_loop()
        for stream in (False, True):
            start = loop.time()
            response = await ask(stream=stream, max_tokens=1)
            assert loop.time() - start == pytest.approx(len(response.raw), abs=2)

    _faulty("drip", scenario)


def test_a_slow_call_waits_in_the_queue() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        loop = asyncio.get_running_loop()
        response = await ask()
        assert loop.time() == 8
        assert response.body["usage"]["queue_time"] == 8

    _faulty("slow=8@1", scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_a_line_can_be_megabytes_long(stream: bool) -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        response = await ask(stream=stream)
        assert max(map(len, response.raw.splitlines())) > 2_000_000
        assert response.raw.endswith(b"data: [DONE]\n\n" if stream else b"}\n")

    _faulty("flood=2", scenario)


def test_a_200_may_lack_a_completion() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        null = (await ask()).body["choices"][0]["message"]
        assert null == {"role": "assistant", "content": None}
        assert (await ask()).body["choices"] == []
        broken = await ask()
        with pytest.raises(json.JSONDecodeError):
            json.loads(broken.raw)
        assert "choices" not in (await ask()).body
        thought = (await ask("openai/gpt-oss-20b")).body["choices"][0]
        assert (thought["message"]["content"], thought["finish_reason"]) == ("", "length")
        assert thought["message"]["reasoning"]
        surrogate = await ask()
        assert rb"\ud83d" in surrogate.raw
        assert surrogate.body["choices"][0]["message"]["content"].endswith(" \ud83d")
        assert (await ask()).body["choices"][0]["message"]["content"] == ""

    _faulty(
        "null_content@1,empty_choices@2,not_json@3,not_completion@4,only_reasoning@5,surrogate@6,empty_text@7",
        scenario,
    )


def test_a_stream_may_lack_a_completion() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        assert _content((await ask(stream=True)).raw) == ""
        empty = (await ask(stream=True)).raw
        assert b'"choices":[]' in empty
        assert b'"choices":[{' not in empty
        assert (await ask(stream=True)).raw.startswith(b"data: {upstream")
        assert b'{"object":"list"' in (await ask(stream=True)).raw
        assert rb"\ud83d" in (await ask(stream=True)).raw
        assert b'"choices":[],"usage"' in (await ask(stream=True)).raw

    _faulty("null_content@1,empty_choices@2,not_json@3,not_completion@4,surrogate@5,usage_last@6", scenario)


def test_more_than_one_choice_is_refused_or_ignored() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        ignored = await ask(n=3)
        assert len(ignored.body["choices"]) == 1
        assert (await ask(n=3)).status == 400

    _faulty("ignore_n@1", scenario)


def test_faults_match_calls_by_number_and_model() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        statuses = [(await ask(model)).status for model in (LLAMA, GEMMA, GEMMA, LLAMA, GEMMA, LLAMA)]
        assert statuses == [200, 200, 500, 200, 500, 429]
        assert cloud.ledger.faults == {"500": 2, "429": 1}

    _faulty(f"500@2-:{GEMMA},429@3:{LLAMA}", scenario)


def test_faults_match_calls_by_streaming_and_text() -> None:
    faults = (Fault(kind="500", streaming=True), Fault(kind="498", contains="Draft 1"))

    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        assert (await ask(stream=True)).status == 500
        assert (await ask(text="Draft 1: x")).status == 498
        assert (await ask()).status == 200

    _with_cloud(SimOptions(faults=faults), scenario)


def test_a_reply_can_carry_a_fault_of_its_own() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        assert _content((await ask(stream=True, text="please cut")).raw) == "some"
        assert (await ask(text="please fail")).headers["retry-after"] == "9"
        assert (await ask()).status == 200

    def reply(request: dict[str, Any], call: int) -> Reply:
        text = request["messages"][-1]["content"]
        fault = "truncated=1" if "cut" in text else "429=9" if "fail" in text else ""
        return Reply(text="some words here", fault=fault)

    _with_cloud(SimOptions(reply=reply), scenario)


def test_a_share_of_the_calls_fails_and_the_seed_says_which() -> None:
    def failures(seed: int) -> list[bool]:
        plan = FaultInjector(parse_faults("500%20"), seed)
        return [plan.choose("m", "", streaming=False) is not None for _ in range(2000)]

    assert sum(failures(1)) / 2000 == pytest.approx(0.2, abs=0.03)
    assert failures(1) == failures(1) != failures(2)


def test_of_several_faults_the_first_match_wins_and_all_of_them_count() -> None:
    plan = FaultInjector(parse_faults("429@1,500@1-2,503@3"))
    chosen = [plan.choose("m", "", streaming=False) for _ in range(4)]
    assert [fault.kind if fault else None for fault in chosen] == ["429", "500", "503", None]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("429@2", Fault(kind="429", first=2)),
        ("429=7.66@1-3", Fault(kind="429", value="7.66", first=1, last=3)),
        ("reset@4:llama-3.1-8b-instant", Fault(kind="reset", first=4, model=LLAMA)),
        ("stall%5", Fault(kind="stall", share=0.05)),
        ("cut=7@2-:a/b-c%50", Fault(kind="cut", value="7", first=2, last=0, model="a/b-c", share=0.5)),
    ],
)
def test_the_compact_form_parses_to_the_same_fault(text: str, fault: Fault) -> None:
    assert parse_faults(text) == (fault,)
    assert parse_faults(f" {text} , {text},") == (fault, fault)


@pytest.mark.parametrize("text", ["explode", "429@x", "429@", "=3", "stall=soon", "429=date+soon", "429 2"])
def test_a_fault_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="fault "):
        parse_faults(text)


def test_faults_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(
        '[[faults]]\nkind = "429"\nvalue = "61"\nstreaming = true\n\n[[faults]]\nkind = "cut"\nshare = 0.5\n'
    )
    assert parse_faults(str(path)) == (
        Fault(kind="429", value="61", streaming=True),
        Fault(kind="cut", share=0.5),
    )
    path.write_text('[[faults]]\nkind = "429"\n\n[[faults]]\nkind = "429"\nwhen = 3\n')
    with pytest.raises(ConfigError, match=r"faults\.toml, fault 2: .*when"):
        parse_faults(str(path))
    with pytest.raises(ConfigError, match="cannot be read as faults"):
        parse_faults(str(tmp_path / "none.toml"))


@pytest.mark.parametrize("text", ["429%200", "429%0", "429@0", "429@3-1", "429=abc", "429=61s"])
def test_an_impossible_fault_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"fault {text!r}"):
        parse_faults(text)


@pytest.mark.parametrize("stream", [False, True])
def test_replies_of_hostile_size_are_sound_but_for_what_is_added(stream: bool) -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        large = await ask(stream=stream)
        assert b'"x_more":[[],[]' in large.raw
        assert 1_000_000 < len(large.raw) < 1_100_000
        assert b'"x_more":[[[[' in (await ask(stream=stream)).raw
        assert len((await ask(stream=stream)).raw) > 900_000

    _faulty("bloat=1@1,nested=50@2,comments=1@3", scenario)
