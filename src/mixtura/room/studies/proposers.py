"""Do parallel proposers queue on GPUs?"""

import functools
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from mixtura.hardware.host import ModelHost, host
from mixtura.hardware.serving.arrivals import open_load
from mixtura.hardware.serving.simulator import simulate
from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies import sweeps
from mixtura.room.studies.facts import facts
from mixtura.room.studies.ratios import PredictedRatio, to
from mixtura.room.studies.study import TUTORIAL, Study, StudyTable, digits

_MANY = (1, 2, 3, 4, 6, 8)  # proposers
_USUAL = 3  # proposers of the tutorial


class _ProposerFacts(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    prompt_tokens: int
    draft_tokens: int
    local_model: str
    local_chip: str
    lpu_model: str
    sources: tuple[str, ...]
    users: Mapping[str, float]


@functools.cache
def _facts() -> _ProposerFacts:
    return facts("proposers", _ProposerFacts)


def fan_out(machine: ModelHost, proposers: Sequence[int], most: int | None = None) -> list[float]:
    """Return the seconds until the last of several equal calls ends that arrive together at an idle machine.

    Args:
        machine: the machine.
        proposers: the numbers of calls to simulate.
        most: calls that the server processes at once; None: all of them.
    """
    size = _facts().prompt_tokens, _facts().draft_tokens
    step_times = machine.step_times(float(sum(size)), most or max(proposers))
    early = float(machine.delay(size[0]))
    return [early + float(simulate(open_load(np.zeros(many), *size), step_times).finished.max()) for many in proposers]


def study() -> Study:
    """Simulate three proposers on each measured machine, and compare 4 with 8 calls as measured and predicted."""
    measured = sweeps.data().sweeps
    grown = {each.name: each.times[8] / each.times[4] for each in measured}
    three = {each.name: fan_out(each.host, (1, _USUAL)) for each in measured}
    latency = {name: last / one for name, (one, last) in three.items()}
    local = host(_facts().local_model, _facts().local_chip, 1)
    queued = fan_out(local, (1, _USUAL), most=1)
    worst = max(*latency.values(), *grown.values())
    return Study(
        name="proposers",
        title="Do proposers queue on GPUs?",
        claim="Parallel calls to one GPU service run one after the other, so latency multiplies with the proposers.",
        who=TUTORIAL,
        verdict="does not hold" if worst < (1 + _USUAL) / 2 else "holds when",
        sentence=(
            "By our model, three proposers at once on an idle GPU machine take "
            f"x{to(min(latency.values()), max(latency.values()))} the time of one, not x{_USUAL}. "
            "In the measurements the time per token grows "
            f"x{to(min(grown.values()), max(grown.values()))} from 4 to 8 calls, least for the dense model. Only a "
            "server that processes one call at a time, such as a local one, takes "
            f"x{digits(queued[1] / queued[0])}."
        ),
        assumption=(
            "Continuous batching, which all current engines do: calls join the running batch, and a step's time is "
            "mostly reading weights that all calls share. An MoE model activates more experts for more calls, so its "
            "time grows more."
        ),
        table=StudyTable(
            ("machine", "kind", "1 to 3 calls, model", "4 to 8, measured", "4 to 8, predicted", "fit"),
            _rows(latency, queued[1] / queued[0]),
        ),
        charts=(_chart(local),),
        sources=(sweeps.source(), *_facts().sources),
        method=(
            f"Serving simulator over the fitted step model: prompts of {_facts().prompt_tokens} and drafts of "
            f"{_facts().draft_tokens} tokens that arrive together at an idle machine, until the last draft ends. Times "
            "of 4 and 8 calls: time per output token under steady load; ranges hold 80 % and assume independent "
            "errors, although errors on one machine are correlated."
        ),
    )


def _rows(latency: Mapping[str, float], queued: float) -> tuple[tuple[str, ...], ...]:
    """Return the table: each measured machine, a measurement by others, LPUs, and a server with one call at a time."""
    known, rows = _facts(), []
    for each in sweeps.data().sweeps:
        step = each.predict([4, 8])
        ratio = PredictedRatio.of(float(step.seconds[1]), float(step.seconds[0]), step.spread, step.spread)
        grown = digits(each.times[8] / each.times[4])
        rows.append(
            (each.name, "dense" if each.dense else "MoE", digits(latency[each.name]), grown, str(ratio), each.level)
        )
    line = host(known.lpu_model, "lpu_v1")
    one, last = fan_out(line, (1, _USUAL))
    return (
        *rows,
        (known.name, "dense", "-", f"{known.users['1'] / known.users['4']:.3g} (1 to 4)", "-", "-"),
        (f"{known.lpu_model}, {line.chips} x LPU", "MoE", digits(last / one), "-", "-", "fitted to recorded speeds"),
        (f"{known.local_model}, one call at a time", "dense", digits(queued), "-", "-", "arithmetic"),
    )


def _chart(local: ModelHost) -> Chart:
    """Draw the time of n proposers relative to one: a dense model, an MoE model, LPUs, and one call at a time."""
    found = {each.name: each for each in sweeps.data().sweeps}
    dense = next(each for each in found.values() if each.dense)
    mixed = next(each for each in found.values() if not each.dense)
    times = {
        dense.name: fan_out(dense.host, _MANY),
        mixed.name: fan_out(mixed.host, _MANY),
        f"{_facts().lpu_model}, LPUs": fan_out(host(_facts().lpu_model, "lpu_v1"), _MANY),
        "one call at a time": fan_out(local, _MANY, most=1),
    }
    return Chart(
        title="Time until the last of n drafts is written, relative to one draft",
        x="proposers at once",
        y="times the latency of one",
        series=tuple(Series(name, _MANY, tuple(each / took[0] for each in took)) for name, took in times.items()),
        note="Predicted for idle machines; the table has the measured growth from 4 to 8 calls.",
    )
