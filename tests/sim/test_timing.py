"""Timing profiles: the drawn times, the client's times, and their agreement with the recorded ones."""

import asyncio
import csv
import random
import statistics
from collections import defaultdict
from importlib.resources import files

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.models.catalog import CatalogModel
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.sim.bodies import CallTimes
from mixtura.sim.timing import FittedTimings, parse_profile
from mixtura.virtual import run_virtual
from resources import recorded_data

LLAMA = CatalogModel(id="llama-3.1-8b-instant", speed=560)
SHIPPED = msgspec.toml.decode((files("mixtura.sim") / "data" / "timings.toml").read_bytes(), type=FittedTimings)
TIMED = [LLAMA, *(CatalogModel(id=model) for model in SHIPPED.models)]


def _draws(profile: str, model: CatalogModel, *, completion: int = 100, prompt: int = 200) -> list[CallTimes]:
    drawn, rng = parse_profile(profile), random.Random(3)
    return [drawn.draw(model, prompt, completion, rng) for _ in range(4000)]


@pytest.mark.parametrize(
    ("profile", "times"),
    [
        ("instant", CallTimes()),
        ("fixed:0.5", CallTimes(0, 0, 500_000_000)),
        ("rate:200", CallTimes(0, 0, 500_000_000)),
        ("lpu,llama-3.1-8b-instant=fixed:30", CallTimes(0, 0, 30_000_000_000)),
        ("fixed:1, other/model=rate:5", CallTimes(0, 0, 1_000_000_000)),
    ],
)
def test_plain_profiles_take_the_time_they_name(profile: str, times: CallTimes) -> None:
    assert set(_draws(profile, LLAMA)) == {times}


@pytest.mark.parametrize("profile", ["fast", "fixed", "fixed:x", "fixed:-1", "rate:0", "lpu,x=slow", "", "lpu:2"])
def test_an_unknown_profile_is_refused(profile: str) -> None:
    with pytest.raises(ConfigError, match=r"timing profile .*: expected lpu, instant, heavy"):
        parse_profile(profile)


def test_the_heavy_profile_has_its_quantiles_and_its_stalls() -> None:
    queues = sorted(times.queue / 1e9 for times in _draws("heavy", LLAMA))
    stalled = [queue for queue in queues if queue >= 10]
    calm = [queue for queue in queues if queue < 10]
    assert len(stalled) / len(queues) == pytest.approx(0.02, abs=0.01)
    assert statistics.median(calm) == pytest.approx(0.1, rel=0.1)
    assert calm[int(len(calm) * 0.99)] == pytest.approx(2.0, rel=0.25)


def test_the_lpu_profile_has_the_recorded_medians() -> None:
    rates, queues = defaultdict(list), defaultdict(list)
    with recorded_data("timings/groq_usage_dev.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            queues[row["model"]].append(float(row["queue_time"]))
            if int(row["completion_tokens"]) >= 40:
                rates[row["model"]].append(int(row["completion_tokens"]) / float(row["completion_time"]))
    held = [model for model, values in queues.items() if len(values) >= 4 and len(rates[model]) >= 3]
    assert len(held) >= 4
    for model in held:
        drawn = _draws("lpu", CatalogModel(id=model))
        tps = statistics.median(100 / (times.completion / 1e9) for times in drawn)
        assert tps == pytest.approx(statistics.median(rates[model]), rel=0.05), model
        queue = statistics.median(times.queue / 1e9 for times in drawn)
        assert queue == pytest.approx(statistics.median(queues[model]), rel=0.1), model


def test_a_model_without_records_writes_at_its_published_speed() -> None:
    tps = statistics.median(100 / (times.completion / 1e9) for times in _draws("lpu", LLAMA))
    assert tps == pytest.approx(560, rel=0.02)


@given(
    st.sampled_from(TIMED),
    st.sampled_from(["lpu", "heavy"]),
    st.integers(1, 10**6),
    st.integers(1, 10**5),
    st.integers(1, 10**4),
    st.integers(),
)
def test_times_are_positive_and_more_tokens_take_longer(
    model: CatalogModel, profile: str, prompt: int, completion: int, more: int, seed: int
) -> None:
    drawn = parse_profile(profile)
    times = drawn.draw(model, prompt, completion, random.Random(seed))
    longer = drawn.draw(model, prompt + more, completion + more, random.Random(seed))
    assert min(times.queue, times.prompt, times.completion) > 0
    assert longer.queue == times.queue
    assert longer.prompt > times.prompt
    assert longer.completion > times.completion


def test_no_spread_is_under_its_floor() -> None:
    for model, figures in {"default": SHIPPED.default, **SHIPPED.models}.items():
        assert figures.tps_spread is not None, model
        assert figures.tps_spread >= 0.02, model
        assert figures.prefill_spread is not None, model
        assert figures.prefill_spread >= 0.05, model
        assert figures.queue is None or (figures.queue_stretch or 0) >= 1, model


@pytest.mark.parametrize("model", TIMED, ids=lambda model: model.id)
def test_drawn_times_lie_on_both_sides_of_the_usual_one(model: CatalogModel) -> None:
    drawn = _draws("lpu", model)
    for name, least in (("prompt", 0.12), ("completion", 0.04), ("queue", 0.1)):
        low, middle, high = statistics.quantiles([getattr(times, name) for times in drawn], n=20)[1:18:8]
        assert low < middle * (1 - least), name
        assert high > middle * (1 + least), name


def test_a_long_prompt_takes_longer_to_read() -> None:
    short = statistics.median(times.prompt for times in _draws("lpu", LLAMA, prompt=100))
    long = statistics.median(times.prompt for times in _draws("lpu", LLAMA, prompt=20_000))
    assert long > 10 * short


def test_a_stream_arrives_token_by_token_in_its_time() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        options = SimOptions(profile="fixed:10", tokens=9)
        async with simulated_cloud(options) as cloud, aiohttp.ClientSession() as session:
            body = {"model": LLAMA.id, "messages": [{"role": "user", "content": "x"}], "stream": True}
            start = loop.time()
            url, headers = f"{cloud.base_url}/chat/completions", {"authorization": "Bearer k"}
            async with session.post(url, json=body, headers=headers) as response:
                return [loop.time() - start async for line in response.content if line.strip()]

    moments = run_virtual(main())
    assert moments == pytest.approx([*range(10), 10, 10]), "the role, nine tokens, the finish chunk and [DONE]"
