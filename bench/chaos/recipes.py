"""The recipes under test: the built-in ones, and others for features that those do not use."""

import functools

import msgspec

from mixtura import Aggregator, Layer, Policy, Proposer, Recipe, recipe_names
from mixtura.recipe import Fallback

SMALL, OTHER, LARGE = "openai/gpt-oss-20b", "qwen/qwen3.8-27b", "openai/gpt-oss-120b"
LLAMA, GEMMA, SEVENTY = "llama-3.1-8b-instant", "gemma2-9b-it", "llama-3.3-70b-versatile"
MODELS = (SMALL, OTHER, LARGE, LLAMA, GEMMA, SEVENTY)
MOST_DOLLARS = {"frugal": 0.002}
"""The `max_cost` of a recipe's runs, in dollars."""

_THREE = Layer(proposers=(Proposer(model=LLAMA, samples=2), Proposer(model=GEMMA)))
_WATCHFUL = Policy(deadline=40.0, quorum=2, grace=1.0, first_token=6.0, between_tokens=3.0, hedge=True, hedge_after=2.0)
_WRITER = Aggregator(model=SEVENTY)


def _own() -> tuple[Recipe, ...]:
    return (
        # Without a quorum, hedges and silence limits nothing is streamed unless a listener is attached.
        Recipe(name="plain", layers=(_THREE,), aggregator=_WRITER),
        Recipe(name="select", layers=(_THREE,), aggregator=Aggregator(kind="select", model=SEVENTY)),
        Recipe(name="auto", layers=(_THREE,), aggregator=Aggregator(kind="auto", model=SEVENTY), policy=_WATCHFUL),
        Recipe(name="peers", layers=(_THREE,), aggregator=Aggregator(kind="rank"), policy=Policy(deadline=40.0)),
        Recipe(
            name="weights",
            layers=(
                Layer(
                    proposers=(
                        Proposer(model=LARGE, weight=2.5),
                        Proposer(model=LLAMA, samples=2),
                        Proposer(model=GEMMA, weight=0.5),
                    )
                ),
            ),
            aggregator=Aggregator(kind="vote"),
            policy=_WATCHFUL,
        ),
        Recipe(name="layers", layers=(_THREE, _THREE), aggregator=_WRITER, policy=_WATCHFUL),
        Recipe(
            name="doubt",
            layers=(_THREE,),
            escalate=Layer(proposers=(Proposer(model=LARGE, weight=1.5),)),
            aggregator=Aggregator(kind="auto", model=SEVENTY),
            policy=Policy(deadline=50.0, stop_when_agree=True),
        ),
        Recipe(
            name="fallbacks",
            layers=(
                Layer(
                    proposers=(
                        Proposer(model=SMALL, reasoning_effort="low", fallbacks=(Fallback(model=LLAMA),), samples=2),
                        Proposer(model=OTHER, fallbacks=(Fallback(model=GEMMA), Fallback(model=LLAMA))),
                    )
                ),
            ),
            aggregator=Aggregator(model=LARGE, reasoning_effort="low", fallbacks=(Fallback(model=SEVENTY),)),
            policy=_WATCHFUL,
        ),
        # The mixture is expected to take about a second, so sometimes one model answers and sometimes all do.
        Recipe(
            name="hasty",
            layers=(_THREE,),
            aggregator=_WRITER,
            policy=msgspec.structs.replace(_WATCHFUL, latency_target=2.5),
        ),
        Recipe(name="frugal", layers=(_THREE,), aggregator=_WRITER, policy=msgspec.structs.replace(_WATCHFUL)),
    )


@functools.cache
def cloud_recipes() -> tuple[str, ...]:
    """Return the built-in recipes whose models a cloud serves: all but `toy`, which runs in this process."""
    return tuple(name for name in recipe_names() if name != "toy")


def recipes() -> dict[str, Recipe]:
    """Return every recipe by name.

    Faults tell the second layer from the aggregator by the model. Where both use the same model, the aggregator gets
    another one here, so that a fault can be aimed at either.
    """
    found: dict[str, Recipe] = {}
    for recipe in (*map(Recipe.named, cloud_recipes()), *_own()):
        writer = recipe.aggregator
        drafting = {slot.model for layer in recipe.layers for slot in layer.proposers}
        if len(recipe.layers) > 1 and writer is not None and writer.model in drafting:
            recipe = msgspec.structs.replace(recipe, aggregator=msgspec.structs.replace(writer, model=SEVENTY))
        found[recipe.name] = recipe
    return found


def stages(recipe: Recipe) -> tuple[str, ...]:
    """Return the stages of a recipe, named by the roles of their calls."""
    writer = recipe.aggregator
    found = ["proposer"]
    if recipe.escalate is not None:
        found.append("escalation")
    if writer is not None and writer.kind == "rank":
        found.append("reviewer")
    if writer is not None and writer.model:
        found.append("selector" if writer.kind == "select" else "aggregator")
    return tuple(found)
