"""What do n proposers of one MoE model save, compared with n different models?"""

import functools
from typing import NamedTuple

import msgspec
import numpy as np

from mixtura.hardware import routing
from mixtura.hardware.fitted import token_step
from mixtura.hardware.gpu import SteadyLoad, activated_experts
from mixtura.hardware.host import ModelHost, host
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.step import Array, TimeEstimate, array
from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies.facts import facts
from mixtura.room.studies.study import Study, StudyTable, digits, with_range

_MANY = array([1, 2, 3, 4, 6, 8])
_USUAL = 3  # proposers


class _OneModelFacts(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    chip: str
    chips: int
    engine: str
    toy: str
    prompt: float
    step: float
    question_tokens: int
    draft_tokens: int
    sources: tuple[str, ...]


class ProposerCurve(NamedTuple):
    """Activated experts per layer, bytes read per step, and time of a step, for each number of proposers in `_MANY`."""

    name: str
    experts: Array
    read: Array
    step: TimeEstimate


@functools.cache
def _facts() -> _OneModelFacts:
    return facts("one_model", _OneModelFacts)


def proposer_curve(machine: ModelHost, name: str, correlation: float) -> ProposerCurve:
    """Return the decode steps of one model's proposers whose tokens' choices have the given correlation."""
    assert machine.by is not None, "this study places proposers on GPUs"
    shape, setup = machine.shape, machine.setup

    def correlated_experts(model: ModelShape, tokens: Array) -> Array:
        return activated_experts(model, routing.effective_batch(tokens, correlation))

    load = SteadyLoad(_MANY, _facts().question_tokens, _facts().draft_tokens, apart=True)
    experts = correlated_experts(shape, _MANY)
    always = shape.unrouted * setup.unrouted_bytes(shape)
    read = array(always + shape.moe_layers * experts * shape.expert_weights * setup.expert_bytes(shape))
    return ProposerCurve(
        name, experts, read, token_step(shape, machine.chip, setup, load, machine.by, correlated_experts)
    )


def study() -> Study:
    """Count experts, bytes and milliseconds of n proposers of one model, at several correlations, and of n models."""
    known = _facts()
    machine = host(known.model, known.chip, known.chips, engine=known.engine)
    alone = proposer_curve(machine, "one model, tokens independent", 0.0)
    prompt = proposer_curve(
        machine, f"one model, alike as the toy's drafts of one prompt ({known.prompt:g})", known.prompt
    )
    same = proposer_curve(machine, f"one model, alike as the toy's drafts word for word ({known.step:g})", known.step)
    at = int(np.flatnonzero(_usual())[0])
    gigabytes = {each.name: float(each.read[at]) / 1e9 for each in (alone, prompt, same)}
    apart = _USUAL * float(alone.read[0]) / 1e9
    times = {each.name: float(each.step.seconds[at]) * 1e3 for each in (alone, prompt, same)}
    one = float(alone.step.seconds[0]) * 1e3
    rows = [
        (
            f"{_USUAL} different models of this size",
            digits(_USUAL * machine.shape.used),
            digits(apart),
            _times(alone, 0, _USUAL),
        ),
        *(
            (each.name, digits(float(each.experts[at])), digits(gigabytes[each.name]), _times(each, at))
            for each in (alone, prompt, same)
        ),
    ]
    saved, more = apart - gigabytes[alone.name], gigabytes[alone.name] - gigabytes[same.name]
    reading = float(machine.prefill(known.question_tokens)) * 1e3
    return Study(
        name="one-model",
        title="Proposers of one MoE model",
        claim="Proposers that run on the same MoE model share a prompt, so they activate fewer experts than unrelated "
        "requests.",
        who="this project, of the article's experts and the tutorial's proposers",
        verdict="holds when" if known.prompt < 0.1 < known.step else "holds",
        sentence=(
            "It holds when drafts have the same text at the same step: in the toy model a shared prompt alone gives "
            f"choices a correlation of {known.prompt:.1%}, equal words one of {known.step:.0%}. {_USUAL} proposers of "
            f"{known.model} read {digits(gigabytes[alone.name])} GB per step and take {digits(times[alone.name])} ms "
            f"of machine time; {_USUAL} different models of its size read {digits(apart)} GB ({digits(saved)} GB more) "
            f"and take {digits(_USUAL * one)} ms. Equal drafts would save another {digits(more)} GB and "
            f"{digits(times[alone.name] - times[same.name])} ms, but would be worthless as drafts."
        ),
        assumption=(
            "How soon drafts diverge. A toy model of eight experts that mostly writes the same solution twice gives "
            "bounds on both sides; where a real model lies between them is not known."
        ),
        table=StudyTable(("proposers", "experts per layer", "GB read per step", "ms of machine time"), tuple(rows)),
        charts=_charts(machine, (alone, same)),
        sources=(*known.sources, "GPU step model (hardware/gpu.py), factors in hardware/data/gpu.json"),
        method=(
            f"{machine.name}: the fitted step model with the distinct experts of n tokens, of which a share repeats "
            f"another's choices; ranges hold 80 %. {_USUAL} different models count as {_USUAL} steps of one proposer "
            f"each; on machines of their own they would take the time of one step ({digits(one)} ms) and {_USUAL} "
            f"times the memory. Reading the prompt once instead of {_USUAL} times saves another "
            f"{digits((_USUAL - 1) * reading)} ms."
        ),
    )


def _usual() -> Array:
    return array(_MANY == _USUAL)


def _times(found: ProposerCurve, at: int, count: int = 1) -> str:
    step = found.step
    middle, low, high = (1e3 * count * float(each[at]) for each in (step.seconds, step.low, step.high))
    return with_range(middle, low, high)


def _charts(machine: ModelHost, ways: tuple[ProposerCurve, ...]) -> tuple[Chart, ...]:
    many = tuple(_MANY.tolist())
    alone = ways[0]
    different = "different models"
    read = Chart(
        title=f"Gigabytes read per step, proposers of {machine.shape.name}",
        x="proposers",
        y="GB",
        series=(
            Series(different, many, tuple((_MANY * alone.read[0] / 1e9).tolist())),
            *(Series(each.name, many, tuple((each.read / 1e9).tolist())) for each in ways),
        ),
    )
    spent = Chart(
        title=f"Milliseconds of machine time per step, {machine.name}",
        x="proposers",
        y="ms",
        series=(
            _band(different, _MANY * alone.step.seconds[0], alone.step.spread),
            *(_band(each.name, each.step.seconds, each.step.spread) for each in ways),
        ),
        note="Fitted model; bands hold 80 %.",
    )
    return read, spent


def _band(name: str, seconds: Array, spread: float) -> Series:
    step = TimeEstimate({"all": seconds * 1e3}, spread)
    middle, low, high = (tuple(each.tolist()) for each in (step.seconds, step.low, step.high))
    return Series(name, tuple(_MANY.tolist()), middle, low, high)
