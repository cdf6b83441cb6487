"""Mixtures on machines: times compared with closed forms, stages, stragglers, quorum, convergence, fleets and cost."""

import msgspec
import numpy as np
import pytest

from mixtura.errors import ConfigError
from mixtura.hardware.cost import concurrency
from mixtura.hardware.host import host
from mixtura.hardware.serving import closed
from mixtura.models.card import ModelCard
from mixtura.models.registry import ModelRegistry
from mixtura.recipe import Recipe
from mixtura.room.plan import fleet
from mixtura.room.plan.machines import HostedModel, ModelServer, PlacementSpec, ProviderModel, place, read_spec
from mixtura.room.plan.simulation import ModelCopies, SimulatedMixtures, floor, run
from mixtura.room.plan.work import AssumedSizes, MixtureWork, Name, work_of

REGISTRY = ModelRegistry()
PROVIDERS = REGISTRY.catalog.providers


def work(name: str, **assumed: float) -> MixtureWork:
    return work_of(Recipe.named(name), REGISTRY, AssumedSizes(**assumed))  # type: ignore[arg-type]


def on(request: MixtureWork, where: str) -> dict[Name, ModelServer]:
    placed = place(request, dict.fromkeys(request.models, read_spec(where)), REGISTRY, providers=PROVIDERS)
    return placed.machines


def ran(request: MixtureWork, where: str, rate: float, copies: int = 1, **how: float) -> SimulatedMixtures:
    stations = {model: ModelCopies(machine, copies) for model, machine in on(request, where).items()}
    return run(request, stations, rate, **how)  # type: ignore[arg-type]


def test_at_a_provider_a_mixture_takes_the_time_of_its_slowest_draft_and_its_answer() -> None:
    request = work("fast", variation=1e-6)
    told = ran(request, "groq", 0.5)
    expected = 2 * 0.3 + 400 / 1000 + 400 / 500
    assert told.seconds == pytest.approx(np.full(len(told.seconds), expected), rel=1e-9)
    assert [stage.name for stage in told.stages] == ["drafts", "answer"]
    assert sum(stage.seconds for stage in told.stages) == pytest.approx(float(told.seconds.mean()))


def test_on_idle_machines_a_single_model_takes_the_time_of_its_host() -> None:
    request = work("single", variation=1e-6)
    made = host("gpt-oss-120b", "h100", context=600)
    told = ran(request, "h100", 0.001)
    steps = made.decode(1, 200 + 1 + np.arange(399)).seconds.sum()
    alone = float(made.prefill(200)) + float(made.delay(200)) + float(steps)
    assert told.at(50) == pytest.approx(alone, rel=0.01)


def test_the_mean_in_flight_follows_littles_law() -> None:
    request = work("single")
    told = ran(request, "h100", 2.0)
    (served,) = told.served.values()
    machine = on(request, "h100")["groq", "openai/gpt-oss-120b"]
    assert isinstance(machine, HostedModel)
    inside = float(told.seconds.mean()) - float(machine.host.delay(200))
    assert served.in_flight == pytest.approx(closed.little(2.0, inside), rel=0.08)


def test_the_simulated_load_agrees_with_the_fixed_point_of_the_step_model() -> None:
    request = work("single", variation=1e-6)
    machine = on(request, "h100")["groq", "openai/gpt-oss-120b"]
    assert isinstance(machine, HostedModel)
    made = machine.host

    def residence(
        number: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    ) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
        batch = np.maximum(1.0, number)
        return np.asarray(batch * float(made.prefill(200)) / 1 + 399 * made.decode(batch, 400).seconds)

    expected = float(concurrency(3.0, residence, most=100))
    told = ran(request, "h100", 3.0)
    (served,) = told.served.values()
    assert served.in_flight == pytest.approx(expected, rel=0.15)


def test_more_load_takes_longer_and_more_copies_less() -> None:
    request = work("fast")
    calm, busy, relieved = (ran(request, "h100", *load).at(95) for load in ((0.05,), (3.0,), (3.0, 4)))
    assert calm < relieved < busy
    assert floor(request, on(request, "h100")).at(95) <= calm * 1.001


def test_slower_machines_than_predicted_make_slower_mixtures() -> None:
    request = work("fast")
    low, middle, high = (ran(request, "h100", 0.5, sigmas=sigmas).at(95) for sigmas in (-1.28, 0.0, 1.28))
    assert low < middle < high


def test_the_straggler_is_the_slowest_of_several_models() -> None:
    told = ran(work("balanced"), "groq", 1.0)
    assert told.straggler is not None
    stage, model, share = told.straggler
    assert (stage, model[1]) == ("drafts", "qwen/qwen3.8-27b")
    assert 0.6 < share < 1
    assert sum(told.waits.values()) == pytest.approx(1)
    assert ran(work("single"), "groq", 1.0).straggler is None


def test_a_quorum_and_its_grace_end_a_layer_before_its_straggler() -> None:
    request = work("fast")
    patient = msgspec.structs.replace(request, quorum=None)
    hasty = msgspec.structs.replace(request, grace=0.0)
    times = [ran(each, "h100", 0.1) for each in (hasty, request, patient)]
    assert times[0].at(95) < times[1].at(95) < times[2].at(95)
    assert times[0].cut > 0.99
    assert times[2].cut == 0


def test_an_escalation_is_paid_for_only_as_often_as_drafts_differ() -> None:
    spent = [ran(work("cascade", differ=share), "groq", 1.0).outputs for share in (0.0, 0.5, 1.0)]
    assert spent[0] < spent[1] < spent[2]
    assert spent[1] == pytest.approx((spent[0] + spent[2]) / 2, rel=0.05)


def test_a_model_that_reads_its_own_drafts_converges() -> None:
    told = ran(work("self"), "b200", 0.3, count=300)
    assert told.drift < 0.05 * told.at(95)
    assert told.at(50) >= floor(work("self"), on(work("self"), "b200")).at(50) * 0.95
    assert ran(work("fast"), "b200", 0.3).drift == 0


def test_equal_requests_give_equal_results_to_the_last_bit() -> None:
    request = work("council")
    first, second = (ran(work("lite").without([("groq", "qwen/qwen3.8-27b")]), "b200", 0.5) for _ in range(2))
    assert np.array_equal(first.seconds, second.seconds)
    assert request.models


def test_a_model_without_a_machine_is_named() -> None:
    with pytest.raises(ConfigError, match="no machine is given for openai/gpt-oss-120b"):
        run(work("single"), {}, 1.0)


def test_copies_grow_with_the_rate_and_carry_it() -> None:
    request = work("single")
    machines = on(request, "h100")
    (model,) = machines
    counts = [fleet.size_for_rate(request, machines, rate)[model].copies for rate in (0.01, 5.0, 50.0, 500.0)]
    assert counts == sorted(counts)
    assert counts[0] == 1
    told = run(request, fleet.size_for_rate(request, machines, 50.0), 50.0)
    alone = floor(request, machines)
    assert told.at(95) < 4 * alone.at(95)
    with pytest.raises(ConfigError, match="lower the rate"):
        fleet.size_for_rate(request, machines, 1e6)


def test_a_fleet_meets_its_slo_and_one_machine_less_would_not() -> None:
    request = work("single")
    machines = on(request, "h100")
    (model,) = machines
    found, told = fleet.size_for_slo(request, machines, 8.0, 4.0)
    assert told.at(95) <= 4.0
    assert np.array_equal(told.seconds, run(request, found, 8.0).seconds)
    fewer = {model: ModelCopies(machines[model], found[model].copies - 1)}
    assert found[model].copies > 1
    assert run(request, fewer, 8.0).at(95) > 4.0 * 0.95


def test_the_error_for_an_unreachable_slo_gives_the_floor_and_its_reason() -> None:
    request = work("single")
    with pytest.raises(ConfigError, match=r"the floor is .* because a call of gpt-oss-120b alone on 1 x h100_sxm"):
        fleet.size_for_slo(request, on(request, "h100"), 1.0, 0.2)


def test_a_bill_is_hours_over_mixtures_or_the_list_price_of_tokens() -> None:
    request = work("single")
    machines = on(request, "h100")
    (model,) = machines
    stations = {model: ModelCopies(machines[model], 3)}
    told = run(request, stations, 2.0)
    bill = fleet.bill(stations, told, 2.0)
    hour = host("gpt-oss-120b", "h100", context=600).hour()
    assert bill.dollars is not None
    assert bill.joules is not None
    assert float(bill.dollars.low) == pytest.approx(3 * float(hour.low) / 7200)
    assert float(bill.joules.high) == pytest.approx(3 * 700 * 1.4 / 2)
    hired = on(request, "groq")
    told = run(request, {model: ModelCopies(hired[model])}, 2.0)
    priced = fleet.bill({model: ModelCopies(hired[model])}, told, 2.0)
    assert priced.joules is None
    assert priced.dollars is not None
    assert float(priced.dollars.low) == pytest.approx((told.prompts * 0.15 + told.outputs * 0.60) / 1e6, rel=1e-6)


def test_a_chip_without_a_price_has_no_bill() -> None:
    request = work("single")
    machines = on(request, "h20_sxm")
    (model,) = machines
    stations = {model: ModelCopies(machines[model])}
    assert fleet.bill(stations, run(request, stations, 0.1), 0.1).dollars is None


def test_a_provider_of_unknown_speed_is_a_guess() -> None:
    made = ProviderModel(("elsewhere", "m"), ModelCard(id="m", provider="elsewhere"))
    assert made.basis == "a guess"
    assert float(made.alone(10, 100)) == pytest.approx(1.3)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("h100", PlacementSpec("h100")),
        ("8xh200", PlacementSpec("h200", 8)),
        ("8 x h200/sglang", PlacementSpec("h200", 8, "sglang")),
        ("mi300x", PlacementSpec("mi300x")),
        ("openai/gpt-oss-120b=8xh200", PlacementSpec("h200", 8, None, "openai/gpt-oss-120b")),
    ],
)
def test_a_placement_is_parsed(text: str, spec: PlacementSpec) -> None:
    assert read_spec(text) == spec
