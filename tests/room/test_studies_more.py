"""The studies of sizes, wafers, proposers, the tutorial's times and tokens, small batches, first tokens, one model."""

import itertools
import tomllib
from importlib.resources import files

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.chat import Message
from mixtura.errors import ConfigError
from mixtura.hardware import routing
from mixtura.hardware.host import host
from mixtura.hardware.observed import BatchObservation, LayerObservation, LayerSizes, MachineRates
from mixtura.hardware.shapes import shape
from mixtura.models.catalog import Catalog
from mixtura.planning.schedule import prompt_tokens, schedule
from mixtura.recipe import Recipe
from mixtura.room.draw.charts import svg
from mixtura.room.experts import alike, look, toy_routing
from mixtura.room.studies import (
    first_token,
    one_model,
    proposers,
    small_batches,
    sweeps,
    tutorial_times,
    tutorial_tokens,
    two_sizes,
    wafer_speed,
)
from mixtura.room.studies.all import MEASURED, STUDIES
from mixtura.room.studies.ratios import PredictedRatio, to
from mixtura.room.studies.study import Study
from mixtura.room.studies.tutorial import QueueWaits, tutorial
from mixtura.tokens import estimate_messages

MODULES = (
    first_token,
    one_model,
    proposers,
    small_batches,
    tutorial_times,
    tutorial_tokens,
    two_sizes,
    wafer_speed,
)


def cells(study: Study) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in study.table.rows}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_study_is_complete_and_equal_each_time(module: object) -> None:
    run = module.study  # type: ignore[attr-defined]
    found: Study = run()
    assert STUDIES[found.name] is run
    assert msgspec.json.encode(run()) == msgspec.json.encode(found)
    assert all([found.claim, found.who, found.assumption, found.method, found.sources, found.table.rows])
    assert any(letter.isdigit() for letter in found.sentence)
    assert "nan" not in found.sentence
    assert "inf" not in found.sentence.split()
    assert found.charts
    assert all(svg(chart).startswith("<svg") for chart in found.charts)


def test_studies_that_measure_this_machine_run_only_by_name() -> None:
    assert set(MEASURED) == {"real-moe"}
    assert not set(MEASURED) & set(STUDIES)


def test_the_larger_model_costs_nearly_the_same_only_where_experts_are_equally_busy() -> None:
    found = cells(two_sizes.study())
    alone = float(found["cost on LPU, one user per micro-batch"][0])
    busy = float(found["cost on LPU, 1 user of the 20B against as many of the 120B as keep experts as busy"][0])
    assert busy < 1.5 < 4 < alone
    assert float(found["bytes of all weights, as released"][0]) == pytest.approx(4.7, abs=0.05)
    assert float(found["active parameters of a token"][0]) == pytest.approx(1.42, abs=0.01)


def test_the_measured_cost_on_gpus_lies_in_the_predicted_range() -> None:
    predicted, measured = {}, {}
    for name, cell, known in two_sizes.study().table.rows:
        if known == "measured":
            measured[name] = float(cell)
        elif known == "predicted":
            predicted[name] = [float(each) for each in cell.partition("(")[2].rstrip(")").split(" to ")]
    assert sorted(measured.values()) == pytest.approx([2.04, 2.07, 2.42], abs=0.005)
    assert all(low < measured[name] < high for name, (low, high) in predicted.items())


def test_the_list_price_of_the_larger_model_is_that_of_the_catalogue() -> None:
    small, large = (Catalog.load().get("groq", f"openai/gpt-oss-{size}") for size in ("20b", "120b"))
    assert small is not None
    assert large is not None
    assert small.price is not None
    assert large.price is not None
    ratio = large.price.output / small.price.output
    assert float(cells(two_sizes.study())["list price of output, today"][0]) == ratio


def test_the_vendors_speed_of_the_wafer_is_within_the_models_range_and_above_what_was_measured_later() -> None:
    found = wafer_speed.study()
    assert found.verdict == "holds when"
    rates = [float(row[1].replace(",", "")) for row in found.table.rows if row[3] in ("vendor", "measured")]
    assert rates[0] == 3000 > max(rates[1:])
    bar = found.charts[0].series[1]
    assert bar.low is not None
    assert bar.high is not None
    assert bar.low[0] < min(rates) < max(rates) < bar.high[0]


def test_batched_calls_hardly_wait_and_serial_calls_do() -> None:
    local = host("llama-3.1-8b", "h100_sxm", 1)
    one, three = proposers.fan_out(local, (1, 3))
    assert 1 < three / one < 1.2
    one, three = proposers.fan_out(local, (1, 3), most=1)
    assert 2.8 < three / one <= 3


def test_proposers_cost_more_on_moe_models_than_on_dense_ones_and_nothing_on_lpus() -> None:
    taken: dict[bool, list[float]] = {}
    for each in sweeps.data().sweeps:
        one, three = proposers.fan_out(each.host, (1, 3))
        taken.setdefault(each.dense, []).append(three / one)
    assert max(taken[True]) < min(taken[False]) < max(taken[False]) < 2
    one, three = proposers.fan_out(host("gpt-oss-120b", "lpu_v1"), (1, 3))
    assert three / one == pytest.approx(1, abs=0.01)
    assert proposers.study().verdict == "does not hold"


@given(st.floats(0.5, 20), st.sampled_from(["low", "usual", "high"]), st.floats(0, 0.5))
def test_a_length_that_a_time_allows_takes_that_time(seconds: float, end: str, share: float) -> None:
    machine = tutorial_times.recorded_times("a cloud", end, share)
    draft = machine.draft(seconds)
    assert machine.proposers(draft) == pytest.approx(seconds) if draft else machine.proposers(0) >= seconds
    answer = machine.answer(seconds + 5, draft)
    assert machine.aggregator(draft, answer) == pytest.approx(seconds + 5) if answer else True


@given(st.integers(1, 12), st.floats(0, 1))
def test_the_longest_of_several_waits_is_no_shorter_than_one(calls: int, share: float) -> None:
    queue = tutorial().queue
    assert queue.at(0) <= queue.at(share) <= queue.longest(calls, share) <= queue.at(1)


def test_the_median_of_the_longest_of_many_even_waits_is_known() -> None:
    assert QueueWaits((0.0, 1.0)).longest(3) == pytest.approx(0.5 ** (1 / 3))


def test_waits_are_those_that_the_simulated_cloud_draws() -> None:
    drawn = tomllib.loads((files("mixtura.sim") / "data" / "timings.toml").read_text("utf-8"))
    assert tutorial().queue.seconds == tuple(drawn["default"]["queue"])
    told = tomllib.loads((files("mixtura.room") / "data" / "first_token.toml").read_text("utf-8"))
    assert told["queue"]["seconds"] == drawn["models"]["openai/gpt-oss-120b"]["queue"]


def test_the_tutorials_times_need_shorter_answers_than_the_tutorial_names() -> None:
    usual = tutorial_times.recorded_times("", "usual", 0.5)
    said = tutorial()
    assert 0 < usual.draft(said.proposer_seconds) < said.draft_tokens
    assert usual.total(said.draft_tokens) > said.total_seconds
    assert tutorial_times.study().verdict == "holds when"


def test_the_tutorials_own_figures_are_more_tokens_than_it_says() -> None:
    # Three prompts of 200 and drafts of 400; then the question, 180 of instructions, all drafts, and 400 of answer.
    assert tutorial_tokens.own(400, 400) == 3 * (200 + 400) + (200 + 180 + 3 * 400) + 400
    assert tutorial_tokens.own(400, 400) > tutorial().mixture_tokens[1]


def test_a_recipe_is_counted_as_the_engine_forecasts_it() -> None:
    classic = Recipe.named(tutorial().recipe)
    found = tutorial_tokens.count_tokens(classic, 400)
    assert found.calls == 4
    assert found.completion_tokens == 4 * 400
    # The schedule's prompts around drafts of 400 tokens; the forecast rounds each of four prompts up.
    question = Message(role="user", content="letters " * 90)
    prompts = sum(prompt_tokens(schedule(classic), estimate_messages([question]), lambda _: 400))
    typical = tutorial_tokens.typical_tokens(classic, 400)
    assert typical == pytest.approx(prompts + 4 * 400, abs=4)
    # The tutorial's program with our longer instructions.
    assert 1 < typical / tutorial_tokens.own(400, 400) < 1.1
    assert tutorial_tokens.count_tokens(classic).completion_tokens == 4 * tutorial().limit_tokens


def test_recorded_times_a_layer_do_not_grow_with_the_model() -> None:
    line = small_batches.study().charts[0].series[0]
    micro = np.asarray(line.y)
    assert micro.mean() == pytest.approx(44, abs=1)
    assert abs(np.corrcoef(np.log(line.x), micro)[0, 1]) < 0.5


@given(st.floats(0.8, 10))
def test_the_cheaper_the_tokens_the_larger_the_break_even_micro_batch(price: float) -> None:
    low, high = small_batches.break_even(price)
    cheaper = small_batches.break_even(price * 0.9)
    assert low <= high
    assert low <= cheaper[0]
    assert high <= cheaper[1]


def test_tokens_that_cost_nothing_never_pay() -> None:
    assert small_batches.break_even(0.0) == (np.inf, np.inf)


def test_at_the_even_point_both_vendors_begin_equally_early() -> None:
    thinking, first = first_token.even()
    told = tomllib.loads((files("mixtura.room") / "data" / "first_token.toml").read_text("utf-8"))
    for vendor in told["vendors"]:
        assert first + thinking / vendor["rate"] == pytest.approx(vendor["answer"])
    assert first_token.study().verdict == "cannot be checked"


def test_proposers_with_correlated_choices_activate_fewer_experts_and_read_less() -> None:
    machine = host("gpt-oss-120b", "h100_sxm", 2, engine="vllm")
    ways = [one_model.proposer_curve(machine, "", correlation) for correlation in (0.0, 0.5, 1.0)]
    model = shape("gpt-oss-120b")
    assert ways[0].experts == pytest.approx(routing.distinct([1, 2, 3, 4, 6, 8], model.experts, model.used))
    assert ways[2].experts == pytest.approx(model.used)
    for more, less in itertools.pairwise(ways):
        assert (less.read[1:] < more.read[1:]).all()
        assert (less.step.seconds[1:] < more.step.seconds[1:]).all()


def test_a_read_of_one_proposer_is_its_active_weights() -> None:
    machine = host("llama-4-scout", "h200_sxm", 4)
    read = one_model.proposer_curve(machine, "", 0.0).read[0]
    assert read == pytest.approx(machine.shape.active * 2)


def test_equal_drafts_have_a_correlation_of_one_and_unrelated_drafts_none() -> None:
    chance = np.random.default_rng(3)

    def draft() -> toy_routing.Choices:
        return np.stack([[chance.permutation(8)[:2] for _ in range(40)] for _ in range(3)]).astype(np.int64)

    same = [[one, one, one] for one in (draft() for _ in range(6))]
    found = alike.describe(8, same)
    assert [each.proposers for each in found] == [2, 3]
    assert all(each.step == pytest.approx(2) and each.by_step == pytest.approx(1) for each in found)
    strangers = alike.describe(8, [[draft(), draft()] for _ in range(6)])[0]
    assert strangers.apart == pytest.approx(strangers.even, rel=0.03)
    assert strangers.by_step == pytest.approx(0, abs=0.08)
    assert strangers.by_prompt == pytest.approx(0, abs=0.08)


def test_one_problem_cannot_be_compared_with_others() -> None:
    with pytest.raises(ConfigError, match="give 2 to 12"):
        alike.observe(1)


@pytest.mark.slow
def test_the_recorded_correlations_match_the_toy_models_drafts() -> None:
    told = tomllib.loads((files("mixtura.room") / "data" / "one_model.toml").read_text("utf-8"))
    three = alike.observe()[-1]
    assert three.proposers == 3
    assert three.by_prompt == pytest.approx(told["prompt"], abs=0.02)
    assert three.by_step == pytest.approx(told["step"], abs=0.01)


def test_the_study_of_a_real_layer_compares_measurement_and_prediction() -> None:
    def seen(factor: float) -> LayerObservation:
        batches = tuple(
            BatchObservation(
                tokens, activated, activated, activated, activated / 1e3, activated / 2e3, factor * activated / 1e3
            )
            for tokens, activated in ((1, 4.0), (4, 14.0), (16, 36.0))
        )
        return LayerObservation(LayerSizes(), MachineRates(2e10, (1,), (1e-3,), 1e-5), 0.1, 0.99, 0.05, batches)

    toy = toy_routing.observe(problems=3)
    drafts = (alike.DraftOverlap(3, 4.6, 3.9, 3.9, 2.0, 0.0, 1.0),)
    close = look.study_of({"even router": seen(1.1), "skewed router": seen(0.95)}, (toy,), drafts, ((1, 4.0, 1e-3),))
    assert close.verdict == "holds"
    assert "a median error over batches of 10%" in close.sentence
    assert "takes 9 times as long" in close.sentence
    assert all(svg(chart).startswith("<svg") for chart in close.charts)
    assert sum(row[0] == "GPU of this machine" for row in close.table.rows) == 1
    assert look.study_of({"even router": seen(1.6)}, (toy,), drafts).verdict == "holds when"


def test_a_ratio_shows_its_range() -> None:
    assert str(PredictedRatio.of(3.0, 2.0)) == "1.5 (1.5 to 1.5)"
    found = PredictedRatio.of(3.0, 2.0, 0.3, 0.4)
    assert found.high / found.middle == pytest.approx(found.middle / found.low)
    assert found.high == pytest.approx(1.5 * np.exp(1.2815515655446004 * 0.5))


def test_a_span_of_figures_that_round_alike_is_one_figure() -> None:
    assert to(1.031, 1.26) == "1.03 to 1.26"
    assert to(2.0, 2.0001) == "2"
