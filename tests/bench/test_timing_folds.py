"""The fit of the simulated cloud's times: pooled spreads, their floors, and times that it was not fitted to."""

import math
import random
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from bench.fit_timings import (
    ENOUGH,
    POOLED_RECORDS,
    PREFILL_FLOOR,
    TPS_FLOOR,
    OwnSpread,
    Record,
    fit,
    prompt_line,
    read,
)
from bench.timing_folds import by_folds, by_model, coverage, folded, placed
from hypothesis import given
from hypothesis import strategies as st

from mixtura.models.catalog import CatalogModel
from mixtura.sim.timing import FittedProfile
from resources import recorded_data

RECORDED = "timings/groq_usage_dev.csv"


def cloud(spreads: dict[str, float], count: int, seed: int = 1) -> list[Record]:
    """Records of models that write 300 tokens a second, with log-normal times of these spreads."""
    rng = random.Random(seed)

    def around(usual: float, spread: float) -> float:
        return usual * math.exp(rng.gauss(0, spread))

    def record(model: str, spread: float) -> Record:
        prompt, completion = rng.randint(50, 2000), rng.randint(40, 400)
        reading, writing = around(0.002 + prompt / 20_000, spread), around(completion / 300, spread)
        return Record(model, around(0.1, spread), prompt, reading, completion, writing)

    return [record(model, spread) for model, spread in spreads.items() for _ in range(count)]


def test_the_shipped_figures_are_those_of_the_records(tmp_path: Path) -> None:
    written = tmp_path / "timings.toml"
    command = [sys.executable, "-m", "bench.fit_timings", str(recorded_data(RECORDED)), "--to", str(written)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    assert written.read_text("utf-8") == Path("src/mixtura/sim/data/timings.toml").read_text("utf-8")


@pytest.mark.slow
def test_the_middle_of_the_drawn_times_holds_times_left_out() -> None:
    records = read(recorded_data(RECORDED))
    found = by_folds(records, folds=6, rounds=5, draws=400)
    for measure, one in found.items():
        assert 0.7 <= one.middle_80 <= 0.9, measure
        assert one.middle_90 >= 0.8, measure
        assert one.ratio == pytest.approx(1, abs=0.1), measure
        assert one.below + one.above <= 0.06 * 5 * len(records), measure


def test_drawn_medians_are_the_recorded_ones() -> None:
    records = read(recorded_data(RECORDED))
    profile, rng = FittedProfile(timings=fit(records)), random.Random(1)
    for rows in by_model(records):
        if len(rows) < ENOUGH:
            continue
        model = CatalogModel(id=rows[0].model)
        drawn = [
            [profile.draw(model, row.prompt_tokens, row.completion_tokens, rng) for _ in range(2000)] for row in rows
        ]
        for name in ("queue", "prompt", "completion"):
            usual = (statistics.median(getattr(call, name) / 1e9 for call in calls) for calls in drawn)
            ratios = [getattr(row, name) / middle for row, middle in zip(rows, usual, strict=True)]
            assert statistics.median(ratios) == pytest.approx(1, abs=0.1), (model.id, name)


def test_records_that_agree_leave_a_spread() -> None:
    found = fit(cloud({"exact": 0.0, "loose": 0.3}, 8))
    exact, loose = found.models["exact"], found.models["loose"]
    assert TPS_FLOOR < (exact.tps_spread or 0) < (loose.tps_spread or 0)
    assert PREFILL_FLOOR < (exact.prefill_spread or 0) < (loose.prefill_spread or 0)
    assert (exact.queue_stretch or 0) > (loose.queue_stretch or 0) > 1


def test_many_records_have_the_spread_they_show() -> None:
    found = fit(cloud({"one": 0.1, "other": 0.3}, 300)).models
    assert found["one"].tps_spread == pytest.approx(0.1, rel=0.15)
    assert found["other"].tps_spread == pytest.approx(0.3, rel=0.15)
    assert found["other"].prefill_spread == pytest.approx(0.3, rel=0.15)


def test_calls_of_a_model_without_records_differ_as_those_of_the_others_do() -> None:
    assert fit(cloud({"one": 0.1, "other": 0.1}, 100)).default.tps_spread == pytest.approx(0.1, abs=0.03)


def test_congested_prompts_are_counted_and_not_spread() -> None:
    calm = cloud({"one": 0.1, "other": 0.1}, 20)
    slowed = [row._replace(prompt=row.prompt * 10) if place % 5 == 0 else row for place, row in enumerate(calm)]
    found = fit(slowed)
    assert found.models["one"].prefill_spread == pytest.approx(fit(calm).models["one"].prefill_spread, rel=0.3)
    assert found.models["one"].congested == pytest.approx(0.2, abs=0.01)
    assert found.congestion.factor == pytest.approx(10, rel=0.2)


@given(st.floats(0, 2), st.integers(1, 50), st.floats(0.05, 1), st.sampled_from([TPS_FLOOR, PREFILL_FLOOR]))
def test_a_pooled_spread_lies_between_its_own_and_that_of_all(
    own: float, records: int, usual: float, floor: float
) -> None:
    spread = OwnSpread(own, records).pooled_with(usual, floor)
    ends = sorted([max(own, floor), usual])
    doubt = math.sqrt(1 + 1 / records)
    assert ends[0] * doubt * 0.999 <= spread <= ends[1] * doubt * 1.001
    if records == 1:
        assert spread == pytest.approx(usual * doubt), "one record shows no spread"
    if records == POOLED_RECORDS:
        assert spread == pytest.approx(math.sqrt(ends[0] * ends[1]) * doubt)


@given(st.integers(2, 8), st.integers(0, 5))
def test_each_record_is_left_out_once(folds: int, seed: int) -> None:
    records = cloud({"one": 0.1, "other": 0.2}, 10)
    dealt = folded(records, folds, seed)
    assert sorted(row for fold in dealt for row in fold) == sorted(records)


def test_a_cloud_that_is_as_fitted_is_held_as_often_as_the_range_says() -> None:
    records = cloud({"one": 0.1, "other": 0.2, "third": 0.3}, 40)
    found = {measure: coverage(places) for measure, places in placed(folded(records, 4, 1), 200, 1).items()}
    for measure in ("queue", "prompt", "completion"):
        assert found[measure].middle_80 == pytest.approx(0.8, abs=0.1), measure
        assert found[measure].ratio == pytest.approx(1, abs=0.07), measure


def test_too_few_records_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 records are needed"):
        fit(cloud({"one": 0.1}, 3))
    flat = [row._replace(prompt=0.01) for row in cloud({"one": 0.1}, 9)]
    assert prompt_line(flat) is None


@pytest.mark.parametrize("module", ["bench.fit_timings", "bench.timing_folds"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no recorded usage figures in"),
        ("model,queue_time\nx,1\n", "does not have the format of groq_usage_dev.csv: 'prompt_time'"),
        (
            "model,queue_time,prompt_tokens,prompt_time,completion_tokens,completion_time\nx,1,1,0,1,1\n",
            "times and tokens have to be above 0, and in a row of x they are not",
        ),
        (
            "model,queue_time,prompt_tokens,prompt_time,completion_tokens,completion_time\nx,1,1,1,1,1\n",
            "at least 4 records are needed",
        ),
    ],
)
def test_a_file_that_cannot_be_fitted_is_named(module: str, text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "usage.csv"
    if text is not None:
        path.write_text(text, "utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", module, str(path)], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert ended.returncode == 3
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_the_file_says_how_its_figures_are_pooled() -> None:
    text = Path("src/mixtura/sim/data/timings.toml").read_text("utf-8")
    assert f"all models count as\n# {POOLED_RECORDS} records), at least {TPS_FLOOR:g} and {PREFILL_FLOOR:g}" in text
    assert set(tomllib.loads(text)["records"]) == set(tomllib.loads(text)["models"])
