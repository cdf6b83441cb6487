"""Timing profiles of machines: drawn times follow the hardware model's prediction at the current batch size."""

import asyncio
import math
import random
import statistics
import sys

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.hardware.gpu import SteadyLoad
from mixtura.hardware.host import host
from mixtura.models.catalog import Catalog, CatalogModel
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.sim.bodies import CallTimes
from mixtura.sim.machines import MachineProfile
from mixtura.sim.timing import parse_profile
from mixtura.virtual import run_virtual

LARGE = "openai/gpt-oss-120b"
MODEL = CatalogModel(id=LARGE, provider="groq", family="gpt-oss")


def draws(
    profile: str, model: CatalogModel = MODEL, *, prompt: int = 1000, completion: int = 300, others: int = 0
) -> list[CallTimes]:
    drawn, rng = parse_profile(profile), random.Random(3)
    return [drawn.draw(model, prompt, completion, rng, others) for _ in range(400)]


def median_writing(times: list[CallTimes]) -> float:
    return statistics.median(one.completion for one in times) / 1e9


@pytest.mark.parametrize(
    ("profile", "chip", "chips"),
    [
        ("gpu", "h100", None),
        ("gpu:h200", "h200", None),
        ("gpu:8xb200", "b200", 8),
        ("wafer", "wse3", None),
        ("machine:lp30", "lp30", None),
        ("machine:4xtpu_v6e", "tpu_v6e", 4),
    ],
)
def test_a_call_takes_the_predicted_time(profile: str, chip: str, chips: int | None) -> None:
    predicted = host(LARGE, chip, chips)
    load = SteadyLoad(1, 1000, 300)
    token, first = predicted.token(load), predicted.first(load)
    times = draws(profile)
    near = 0.2 * max(token.spread, first.spread) + 0.01
    assert math.log(median_writing(times) / (299 * float(token.seconds))) == pytest.approx(0, abs=near)
    reading = statistics.median(one.prompt for one in times) / 1e9
    assert math.log(reading / float(first.seconds)) == pytest.approx(0, abs=near)
    assert {one.queue for one in times} == {0}


def test_calls_vary_by_the_uncertainty_of_the_prediction() -> None:
    spread = host(LARGE, "b200", 8).token(SteadyLoad(1, 1000, 300)).spread
    logs = [math.log(one.completion) for one in draws("gpu:8xb200")]
    assert statistics.stdev(logs) == pytest.approx(spread, rel=0.15)


def test_an_engine_can_be_named() -> None:
    predicted = host(LARGE, "b200", 8, engine="trtllm")
    seconds = 299 * float(predicted.token(SteadyLoad(1, 1000, 300)).seconds)
    assert median_writing(draws("gpu:8xb200/trtllm")) == pytest.approx(seconds, rel=0.05)


def test_a_batch_slows_every_call_of_a_gpu_and_hardly_one_on_an_assembly_line() -> None:
    def slower(profile: str) -> float:
        return median_writing(draws(profile, others=31)) / median_writing(draws(profile))

    assert slower("gpu:8xh100") > 1.3
    assert slower("wafer") < 1.1
    crowded = draws("gpu:8xh100", others=31)
    assert statistics.median(one.queue for one in crowded) > 0


def test_a_call_beyond_a_full_machine_waits_for_another_to_end() -> None:
    room = host(LARGE, "h100", 1).room(1300)
    full, over = (draws("gpu:1xh100", others=others) for others in (room - 1, 2 * room - 1))
    waited = statistics.median(one.queue for one in over) - statistics.median(one.queue for one in full)
    # With twice as many calls as fit, a place becomes free after about one whole call.
    assert waited / 1e9 == pytest.approx(median_writing(full), rel=0.3)
    assert median_writing(over) == pytest.approx(median_writing(full), rel=0.05)


def test_a_model_that_does_not_fit_gets_as_many_chips_as_it_needs() -> None:
    kimi = CatalogModel(id="moonshotai/kimi-k2-instruct", family="kimi-k2")
    assert median_writing(draws("gpu:1xh100", kimi)) == pytest.approx(median_writing(draws("gpu:h100", kimi)))


@pytest.mark.parametrize(
    ("model", "family", "stand_in"),
    [("qwen/qwen3.8-27b", "qwen3", "qwen3-32b"), ("model-nobody-knows", "", "llama-3.1-8b")],
)
def test_a_model_of_unknown_shape_is_timed_as_one_of_its_family_or_as_a_usual_one(
    model: str, family: str, stand_in: str
) -> None:
    own = median_writing(draws("gpu", CatalogModel(id=model, family=family)))
    assert own == pytest.approx(median_writing(draws("gpu", CatalogModel(id=stand_in))))


@pytest.mark.parametrize("row", Catalog.load().models("groq"), ids=lambda row: row.id)
def test_every_model_of_the_catalogue_has_times_on_every_kind_of_machine(row: CatalogModel) -> None:
    for profile in ("gpu", "gpu:8xb200", "wafer", "machine:lp30", "machine:lpu"):
        times = parse_profile(profile).draw(row, 500, 200, random.Random(1), 3)
        assert times.completion > 0
        assert times.prompt > 0


@given(
    prompt=st.integers(0, 2_000_000),
    completion=st.integers(0, 200_000),
    others=st.integers(0, 100_000),
    on=st.sampled_from(["h100", "8xb200", "wse3", "lp30"]),
)
def test_every_size_and_every_load_has_times(prompt: int, completion: int, others: int, on: str) -> None:
    times = MachineProfile(on).draw(MODEL, prompt, completion, random.Random(0), others)
    assert min(times.queue, times.prompt, times.completion) >= 0
    assert times.prompt > 0


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("gpu:h10", "unknown chip 'h10': nearest are h100_sxm"),
        ("machine:wafr", "unknown chip 'wafr'"),
        ("gpu:lp30", "lp30 is not a gpu; write machine:lp30"),
        ("wafer:h100", "h100 is not a wafer; write machine:h100"),
        ("gpu:0xh100", "expected 1 to 100,000 chips"),
        ("gpu:8x", "expected a chip such as h100"),
        ("gpu:8xh100/vlm", "unknown engine 'vlm'"),
        ("machine", "expected lpu, instant, heavy"),
    ],
)
def test_an_unknown_machine_is_one_clear_sentence(profile: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_profile(profile)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_without_numpy_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("mixtura.hardware")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ConfigError, match=r"profiles of machines need NumPy: pip install 'mixtura\[room\]'"):
        parse_profile("gpu:9xh100")
    parse_profile("lpu")


def test_calls_in_flight_share_a_machine_and_calls_of_other_models_do_not() -> None:
    others = ("llama-3.1-8b-instant", "gemma2-9b-it")

    async def main() -> tuple[list[float], list[float]]:
        loop = asyncio.get_running_loop()
        options = SimOptions(profile="gpu:1xh100", tokens=200, unlimited=True)
        async with simulated_cloud(options) as cloud, aiohttp.ClientSession() as session:

            async def ask(model: str) -> float:
                begun = loop.time()
                body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
                headers = {"authorization": "Bearer k"}
                async with session.post(f"{cloud.base_url}/chat/completions", json=body, headers=headers) as response:
                    assert response.status == 200
                    await response.read()
                return loop.time() - begun

            mixed = await asyncio.gather(*(ask(others[number % 2]) for number in range(40)), ask(LARGE))
            crowd = await asyncio.gather(*(ask(LARGE) for _ in range(41)))
            assert not any(cloud.ledger.answering.values())
            return mixed, crowd

    mixed, crowd = run_virtual(main())
    predicted = host(LARGE, "h100", 1)
    alone = float(
        predicted.first(SteadyLoad(1, 80, 200)).seconds + 199 * predicted.token(SteadyLoad(1, 80, 200)).seconds
    )
    assert mixed[-1] == pytest.approx(alone, rel=0.4)
    assert statistics.median(crowd) > 2 * mixed[-1]
