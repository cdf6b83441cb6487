"""The calls of a recipe by stage, and the tokens of each call, sampled from a seed.

Prompts grow as in a run (`planning/demand.py`): calls of later layers and the aggregator read the drafts before them.
The length of drafts and how often they differ are assumptions; `AssumedSizes` holds both, and plans show them.
"""

from collections.abc import Collection
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixtura import prompts
from mixtura.errors import ConfigError
from mixtura.events import Role
from mixtura.models.served import Models
from mixtura.planning.estimates import USUAL_DRAFT
from mixtura.planning.schedule import output_limit, prompt_tokens, schedule
from mixtura.recipe import Aggregator, Layer, Proposer, Recipe

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]
Name = tuple[str, str]
"""A model: (provider, id)."""


class AssumedSizes(msgspec.Struct, frozen=True, kw_only=True):
    """Assumptions on sizes that are not known before a run; none of them is measured.

    Attributes:
        question: tokens of a question.
        output: mean tokens of a reply, reasoning included; a call's limit (max_tokens) cuts longer replies.
        variation: standard deviation of a reply's tokens over their mean (log-normal).
        differ: share of the mixtures whose drafts differ; these escalate, and they need the aggregator in recipes
            that stop when drafts agree.
    """

    question: int = 200
    output: int = USUAL_DRAFT
    variation: float = 0.5
    differ: float = 0.4

    def __post_init__(self) -> None:
        """Raise ConfigError for a value that is out of range."""
        for what, tokens in (("a question", self.question), ("a reply", self.output)):
            if tokens < 1:
                raise ConfigError(f"{what} of {tokens} tokens: expected 1 or more")
        if not 0 <= self.differ <= 1:
            raise ConfigError(f"drafts that differ in {self.differ:g} of the mixtures: expected 0 to 1")
        if not 0 < self.variation < 10:
            raise ConfigError(f"a variation of {self.variation:g}: expected more than 0 and less than 10")


class SizedCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a mixture.

    Attributes:
        stage: index of its stage in `MixtureWork.stages`.
        role: its role.
        model: the model it goes to.
        prompt: prompt tokens without the drafts that it reads.
        reads: indices in `MixtureWork.calls` of the drafts that it reads.
        most: the greatest number of output tokens; None: no limit.
        disputed: whether the call is made only if the drafts differ.
    """

    stage: int
    role: Role
    model: Name
    prompt: int
    reads: tuple[int, ...] = ()
    most: int | None = None
    disputed: bool = False


class MixtureWork(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one mixture, in the order of their stages; every sample is a call.

    Attributes:
        name: the recipe's name.
        stages: the name of each stage.
        calls: the calls.
        quorum: drafts of a layer that suffice; None: all.
        grace: seconds that the other drafts have after the quorum.
        assumed: the assumptions behind the sizes.
    """

    name: str
    stages: tuple[str, ...]
    calls: tuple[SizedCall, ...]
    quorum: int | None = None
    grace: float = 0.0
    assumed: AssumedSizes = AssumedSizes()

    @property
    def models(self) -> tuple[Name, ...]:
        """Every model once, in the order of their first calls."""
        return tuple(dict.fromkeys(call.model for call in self.calls))

    def replies_needed(self, stage: int) -> int:
        """Return how many replies a stage waits for before the grace begins."""
        size = sum(call.stage == stage for call in self.calls)
        drafts = any(call.stage == stage and call.role == "proposer" for call in self.calls)
        return min(size, self.quorum) if drafts and self.quorum is not None else size

    def tokens(self, call: SizedCall) -> tuple[float, float]:
        """Return the mean prompt and output tokens of a call, given that it is made."""
        read = sum((1 - self.skip_share(self.calls[at])) * (self._reply(self.calls[at]) + prompts.FENCE_TOKENS)
                   for at in call.reads)  # fmt: skip
        return call.prompt + read, self._reply(call)

    def skip_share(self, call: SizedCall) -> float:
        """Return the share of the mixtures that do not make a call."""
        return 1 - self.assumed.differ if call.disputed else 0.0

    def without(self, models: Collection[Name]) -> "MixtureWork":
        """Return the work without the calls to some models.

        Raises:
            ConfigError: no call is left, or no model is left to write the answer.
        """
        last = [call for call in self.calls if call.role in ("aggregator", "selector")]
        if all(call.model in models for call in self.calls) or any(call.model in models for call in last):
            raise ConfigError(f"cannot plan {self.name} without {', '.join(sorted(name for _, name in models))}")
        kept = [at for at, call in enumerate(self.calls) if call.model not in models]
        places = {at: place for place, at in enumerate(kept)}
        used = sorted({self.calls[at].stage for at in kept})
        left = tuple(
            msgspec.structs.replace(
                self.calls[at],
                stage=used.index(self.calls[at].stage),
                reads=tuple(places[read] for read in self.calls[at].reads if read in places),
            )
            for at in kept
        )
        return msgspec.structs.replace(self, calls=left, stages=tuple(self.stages[at] for at in used))

    def _reply(self, call: SizedCall) -> float:
        return float(min(self.assumed.output, call.most or self.assumed.output))


def work_of(recipe: Recipe, models: Models, assumed: AssumedSizes | None = None) -> MixtureWork:
    """Return the calls of one run of `recipe`, from its schedule; only the cards of `models` are used."""
    assumed = assumed or AssumedSizes()
    planned = schedule(recipe)
    # Prompt tokens without the drafts, whose lengths are sampled for each mixture.
    sizes = prompt_tokens(planned, assumed.question, lambda _: -prompts.FENCE_TOKENS)
    made = [
        SizedCall(
            stage=call.stage,
            role=call.role,
            model=(call.slot.provider, call.slot.model),
            prompt=size,
            reads=call.reads,
            most=output_limit(call.slot, models.card(call.slot.provider, call.slot.model), call.role),
            disputed=not call.certain,
        )
        for call, size in zip(planned.calls, sizes, strict=True)
    ]
    return MixtureWork(
        name=recipe.name,
        stages=planned.stages,
        calls=tuple(made),
        quorum=recipe.policy.quorum,
        grace=recipe.policy.grace,
        assumed=assumed,
    )


class SampledMixtures(NamedTuple):
    """Mixtures sampled from a seed. Lists are by call, in the order of the work; their arrays have a value per mixture.

    Attributes:
        times: arrival of each mixture, seconds.
        made: whether the call is made.
        prompts: its prompt tokens.
        outputs: its output tokens.
    """

    times: Array
    made: list[Flags]
    prompts: list[Whole]
    outputs: list[Whole]


def sample_mixtures(work: MixtureWork, rate: float, count: int, seed: int = 0) -> SampledMixtures:
    """Return `count` mixtures with Poisson arrivals, `rate` per second.

    Arrival times and each call's lengths use separate streams of random numbers: the same seed gives the same replies
    at any rate.

    Raises:
        ConfigError: the rate or count is not above 0.
    """
    if not (0 < rate < np.inf):
        raise ConfigError(f"a rate of {rate:g} mixtures a second: expected more than 0")
    if count < 1:
        raise ConfigError(f"{count} mixtures: expected 1 or more")
    times = np.cumsum(np.random.default_rng((seed, 0)).exponential(1 / rate, count))
    differ = np.random.default_rng((seed, 1)).random(count) < work.assumed.differ
    wide = float(np.log1p(work.assumed.variation**2))
    made: list[Flags] = []
    asked: list[Whole] = []
    replies: list[Whole] = []
    for place, call in enumerate(work.calls):
        chance = np.random.default_rng((seed, 2, place))
        tokens = chance.lognormal(np.log(work.assumed.output) - wide / 2, wide**0.5, count)
        outputs = np.clip(np.rint(tokens), 1, call.most or np.inf).astype(np.int64)
        read = np.zeros(count, np.int64)
        for at in call.reads:
            read += np.where(made[at], replies[at] + prompts.FENCE_TOKENS, 0)
        made.append(differ if call.disputed else np.ones(count, np.bool_))
        asked.append(call.prompt + read)
        replies.append(outputs)
    return SampledMixtures(times, made, asked, replies)


def cascade_of(recipe: Recipe) -> Recipe | None:
    """Return a recipe's drafts as a cascade: a vote, and the aggregator's model only if the drafts differ.

    Returns None if the recipe has no model to escalate to, has one draft, or is a cascade already.
    """
    aggregator, drafts = recipe.aggregator, recipe.layers[-1]
    if aggregator is None or not aggregator.model or recipe.escalate is not None or drafts.size < 2:
        return None
    stronger = Proposer(
        model=aggregator.model,
        provider=aggregator.provider,
        max_tokens=aggregator.max_tokens,
        reasoning_effort=aggregator.reasoning_effort,
    )
    return msgspec.structs.replace(
        recipe,
        name="cascade of the same",
        layers=(drafts,),
        escalate=Layer(proposers=(stronger,)),
        aggregator=Aggregator(kind="vote"),
        policy=msgspec.structs.replace(recipe.policy, stop_when_agree=True, quorum=_least(recipe, drafts)),
    )


def single_of(recipe: Recipe) -> Recipe | None:
    """Return a recipe of one call to the model that writes the final answer; None if the recipe is that already."""
    last: Proposer | Aggregator = recipe.layers[-1].proposers[0]
    if recipe.escalate is not None:
        last = recipe.escalate.proposers[0]
    if recipe.aggregator is not None and recipe.aggregator.model:
        last = recipe.aggregator
    elif recipe.escalate is None and recipe.layers[-1].size == 1:
        return None
    slot = Proposer(
        model=last.model, provider=last.provider, max_tokens=last.max_tokens, reasoning_effort=last.reasoning_effort
    )
    policy = msgspec.structs.replace(recipe.policy, quorum=None, min_drafts=1, stop_when_agree=False)
    return Recipe(name=f"{last.model.rpartition('/')[2]} alone", layers=(Layer(proposers=(slot,)),), policy=policy)


def _least(recipe: Recipe, layer: Layer) -> int | None:
    return None if recipe.policy.quorum is None else min(recipe.policy.quorum, layer.size)
