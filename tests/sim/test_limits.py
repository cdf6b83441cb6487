"""The simulated cloud's limits: headers, refusals and refilling, to the digit of the recorded ones."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import aiohttp
import pytest

from mixtura.limits.window import Limits
from mixtura.sim import SimOptions, SimulatedCloud, simulated_cloud
from mixtura.sim.bodies import organisation_id
from mixtura.virtual import run_virtual

LLAMA, GEMMA = "llama-3.1-8b-instant", "gemma2-9b-it"
ORG = organisation_id("gsk_a")
PROMPT = 6  # "hi" is one token, and the cloud's estimate adds five


class WireReply(NamedTuple):
    status: int
    headers: Any
    body: Any


Ask = Callable[..., Awaitable[WireReply]]


def _with_cloud(options: SimOptions, scenario: Callable[[Ask, SimulatedCloud], Awaitable[None]]) -> None:
    """Run a scenario against a cloud in virtual time."""

    async def main() -> None:
        async with simulated_cloud(options) as cloud, aiohttp.ClientSession() as session:

            async def ask(model: str = LLAMA, *, key: str = "gsk_a", **fields: Any) -> WireReply:
                body = {"model": model, "messages": [{"role": "user", "content": "hi"}]} | fields
                headers = {"authorization": f"Bearer {key}"}
                url = f"{cloud.base_url}/chat/completions"
                async with session.post(url, json=body, headers=headers) as response:
                    return WireReply(response.status, response.headers, json.loads(await response.read()))

            await scenario(ask, cloud)

    run_virtual(main())


def _limit_headers(response: WireReply) -> dict[str, str]:
    names = ("limit", "remaining", "reset")
    return {
        f"{name}-{what}": response.headers.get(f"x-ratelimit-{name}-{what}", "-")
        for what in ("requests", "tokens")
        for name in names
    }


def test_headers_tell_requests_per_day_and_tokens_per_minute() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        assert _limit_headers(await ask(max_tokens=7)) == {
            "limit-requests": "14400",
            "remaining-requests": "14399",
            "reset-requests": "6s",
            "limit-tokens": "6000",
            "remaining-tokens": "5987",
            "reset-tokens": "130ms",
        }
        await ask()
        await asyncio.sleep(0.6)
        third = _limit_headers(await ask())
        assert (third["remaining-requests"], third["reset-requests"]) == ("14397", "17.4s")

    _with_cloud(SimOptions(), scenario)


def test_a_token_refusal_reads_as_recorded_and_its_retry_after_is_enough() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        assert (await ask(max_tokens=3547 - PROMPT)).status == 200
        response = await ask(max_tokens=3572 - PROMPT)
        assert response.status == 429
        assert response.body == {
            "error": {
                "message": f"Rate limit reached for model `llama-3.1-8b-instant` in organization `{ORG}` service tier "
                "`on_demand` on tokens per minute (TPM): Limit 6000, Used 3547, Requested 3572. Please try again in "
                "11.19s. Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing",
                "type": "tokens",
                "code": "rate_limit_exceeded",
            }
        }
        assert list(response.body["error"]) == ["message", "type", "code"]
        assert response.headers["retry-after"] == "12"
        await asyncio.sleep(11.17)
        assert (await ask(max_tokens=3572 - PROMPT)).status == 429
        await asyncio.sleep(0.02)
        assert (await ask(max_tokens=3572 - PROMPT)).status == 200

    _with_cloud(SimOptions(), scenario)


def test_a_refusal_for_requests_per_minute_hides_the_token_headers() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        for _ in range(30):
            assert (await ask()).status == 200
        response = await ask()
        assert response.status == 429
        assert response.body["error"]["type"] == "requests"
        assert (
            "requests per minute (RPM): Limit 30, Used 30, Requested 1. Please try again in 2s."
            in (response.body["error"]["message"])
        )
        assert response.headers["retry-after"] == "2"
        assert _limit_headers(response)["limit-tokens"] == "-"
        assert _limit_headers(response)["limit-requests"] == "14400"
        await asyncio.sleep(2)
        assert (await ask()).status == 200

    _with_cloud(SimOptions(), scenario)


def test_daily_limits_are_windows_that_refill_continuously() -> None:
    limits = {LLAMA: Limits(rpd=2), GEMMA: Limits(tpd=100_000, tpm=300_000)}

    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        assert [(await ask()).status for _ in range(3)] == [200, 200, 429]
        response = await ask()
        assert (
            "requests per day (RPD): Limit 2, Used 2, Requested 1. Please try again in 12h0m0s."
            in (response.body["error"]["message"])
        )
        assert response.headers["retry-after"] == "43200"
        for _ in range(12):
            await ask(GEMMA, max_tokens=8000)
        await ask(GEMMA, max_tokens=99_386 - 12 * 8006 - PROMPT)
        tokens = await ask(GEMMA, max_tokens=692 - PROMPT)
        assert (
            "tokens per day (TPD): Limit 100000, Used 99386, Requested 692. Please try again in 1m7.391999999s."
            in (tokens.body["error"]["message"])
        )
        assert tokens.body["error"]["type"] == "tokens"
        assert tokens.headers["retry-after"] == "68"
        await asyncio.sleep(67.392)
        assert (await ask(GEMMA, max_tokens=692 - PROMPT)).status == 200

    _with_cloud(SimOptions(limits=limits), scenario)


def test_a_request_above_the_limit_itself_is_too_large_and_costs_nothing() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        response = await ask("openai/gpt-oss-120b", max_completion_tokens=65_536 - PROMPT)
        assert response.status == 413
        assert response.body["error"] == {
            "message": f"Request too large for model `openai/gpt-oss-120b` in organization `{ORG}` service tier "
            "`on_demand` on tokens per minute (TPM): Limit 8000, Requested 65536, please reduce your message size and "
            "try again. Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing",
            "type": "tokens",
            "code": "rate_limit_exceeded",
        }
        assert "retry-after" not in response.headers
        assert _limit_headers(response)["remaining-tokens"] == "8000"

    _with_cloud(SimOptions(), scenario)


def test_five_drafts_of_one_model_pass_its_tokens_per_minute_and_a_mixed_five_does_not() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        # The tutorial reserves about 200 prompt and 1,024 output tokens a draft.
        same = [await ask(max_tokens=1024 + 194) for _ in range(5)]
        assert [response.status for response in same] == [200, 200, 200, 200, 429]
        mixed = [await ask(GEMMA, max_tokens=1024 + 194) for _ in range(5)]
        assert {response.status for response in mixed} == {200}

    _with_cloud(SimOptions(), scenario)


def test_each_organisation_and_each_model_has_its_own_windows() -> None:
    keys = {"gsk_a": "one", "gsk_b": "one", "gsk_c": "two"}

    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        assert (await ask(key="gsk_a")).status == 200
        assert (await ask(key="gsk_b")).status == 429, "a second key of the same organisation"
        assert (await ask(key="gsk_c")).status == 200
        assert (await ask(GEMMA, key="gsk_a")).status == 200

    _with_cloud(SimOptions(keys=keys, limits={"*": Limits(rpm=1)}), scenario)


def test_refused_attempts_count_against_the_day() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        statuses = [(await ask()).status for _ in range(3)]
        assert statuses == [200, 429, 429]
        assert _limit_headers(await ask())["remaining-requests"] == "6"
        assert cloud.ledger.refused == {429: 3}

    _with_cloud(SimOptions(limits={LLAMA: Limits(rpm=1, rpd=10)}), scenario)


def test_without_limits_there_are_no_headers_and_no_refusals() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        for _ in range(40):
            response = await ask(max_tokens=8000)
            assert response.status == 200
        assert set(_limit_headers(response).values()) == {"-"}

    _with_cloud(SimOptions(unlimited=True), scenario)
    _with_cloud(SimOptions(plan="enterprise"), scenario)


def test_the_ledger_agrees_with_the_usage_in_replies() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        async def ask_model(model: str) -> WireReply:
            return await ask(model)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask_model(name)) for name in (LLAMA, LLAMA, GEMMA)]
        usages = [task.result().body["usage"] for task in tasks]
        ledger = cloud.ledger
        assert ledger.calls == {LLAMA: 2, GEMMA: 1}
        assert ledger.total_tokens == sum(usage["total_tokens"] for usage in usages)
        assert ledger.prompt_tokens[LLAMA] == sum(usage["prompt_tokens"] for usage in usages[:2])
        assert (ledger.in_flight, ledger.max_in_flight, ledger.arrived) == (0, 3, 3)

    _with_cloud(SimOptions(profile="fixed:2", tokens=20), scenario)


def test_time_passes_faster_by_the_speed() -> None:
    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        first = await ask()
        assert loop.time() - start == 2.0
        second = await ask()
        assert second.body["created"] - first.body["created"] == 20

    _with_cloud(SimOptions(profile="fixed:20", speed=10), scenario)


def test_a_prompt_prefix_seen_before_is_cached_and_free_of_the_token_limit() -> None:
    long = [{"role": "system", "content": "rule " * 300}, {"role": "user", "content": "hi"}]

    def cached_details(response: WireReply) -> Any:
        return response.body["usage"].get("prompt_tokens_details")

    async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
        model = "openai/gpt-oss-20b"
        first, again, other = [await ask(model, messages=long), await ask(model, messages=long), await ask(model)]
        assert [cached_details(response) for response in (first, again, other)] == [None, {"cached_tokens": 256}, None]
        charged = 302 + 5
        assert _limit_headers(first)["remaining-tokens"] == str(8000 - charged)
        assert _limit_headers(again)["remaining-tokens"] == str(8000 - 2 * charged)
        assert _limit_headers(other)["remaining-tokens"] == str(8000 - 2 * charged + 256 - PROMPT)
        assert cloud.ledger.cached_tokens[model] == 256
        assert cached_details(await ask(model, messages=long, key="gsk_b")) is None, "another organisation"
        await asyncio.sleep(7201)
        assert cached_details(await ask(model, messages=long)) is None, "forgotten"
        assert [cached_details(await ask(messages=long)) for _ in range(2)] == [None, None], "a model without caching"

    _with_cloud(SimOptions(), scenario)


@pytest.mark.slow
def test_ten_busy_minutes_take_the_same_course_every_time() -> None:
    def run() -> list[tuple[float, int, str]]:
        seen: list[tuple[float, int, str]] = []

        async def scenario(ask: Ask, cloud: SimulatedCloud) -> None:
            loop = asyncio.get_running_loop()

            async def client(model: str) -> None:
                while loop.time() < 600:
                    response = await ask(model, max_tokens=500)
                    seen.append((loop.time(), response.status, response.headers["x-request-id"]))
                    await asyncio.sleep(float(response.headers.get("retry-after", "4")))

            async with asyncio.TaskGroup() as group:
                for model in (LLAMA, LLAMA, GEMMA):
                    group.create_task(client(model))

        _with_cloud(SimOptions(profile="lpu", tokens=100, faults="503%5"), scenario)
        return seen

    first = run()
    assert {status for _, status, _ in first} == {200, 429, 503}
    assert run() == first
