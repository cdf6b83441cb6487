"""Maps a seed and a number to a scenario: a recipe, faults aimed at its stages, and circumstances."""

import functools
import random
from typing import Literal, get_args

import msgspec

from bench.chaos import books
from bench.chaos.recipes import MOST_DOLLARS, recipes, stages
from mixtura.recipe import Recipe
from mixtura.sim.faults import BrokenTransferKind, Fault, OddReplyKind, RefusalKind

STAGES = ("proposer", "escalation", "reviewer", "selector", "aggregator")
Reach = Literal["all", "first", "some", "one"]
"""Which calls of a stage fail: all, the first, a random share, or all of one model."""

KEY = "gsk_chaosChaosChaosChaosChaos0123456789"
LEAKED = f"the key {KEY} of organization org_01chaoschaoschaoschaos was used"
FENCED, CHOICE, RANKING = "Drafts, each between lines that begin with <", " choice>A</", " ranking>B > A</"
"""Text in the prompts of aggregators, selectors and reviewers, by which faults find their calls (see prompts.py)."""

_WITH_WORDS = frozenset(get_args(RefusalKind)) - {"429", "404", "decommissioned"}
_USUAL = {"slow": "20", "drip": "0.25", "flood": "9", "comments": "12", "cut": "12", "stall": "25", "truncated": "12"}
LARGE = ("flood", "bloat", "comments")
"""Kinds of megabytes a call, which take real time: they are aimed at the first call only."""
_MIXTURES = 4  # one scenario in four is a random mixture of faults


def kinds() -> tuple[str, ...]:
    """Return every fault of the cloud as `kind` or `kind=value`, with all forms of Retry-After for limits."""
    plain = [str(kind) for kind in (*get_args(RefusalKind), *get_args(BrokenTransferKind), *get_args(OddReplyKind))]
    spelled = ("bloat=12", "429=0.5", "429=61", "429=none", "429=date+30", "cut=1", "error_event=40", "stall=1")
    return tuple(sorted({*plain, *spelled}))


class AimedFault(msgspec.Struct, frozen=True):
    """A fault (`kind` or `kind=value`) aimed at a stage. `model` is set if `reach` is "one"."""

    stage: str
    kind: str
    reach: Reach = "all"
    model: str = ""

    @property
    def name(self) -> str:
        """A short description."""
        reach = "" if self.reach == "all" else f" ({self.model or self.reach})"
        return f"{self.kind} at {self.stage}{reach}"


class ChaosScenario(msgspec.Struct, frozen=True, kw_only=True):
    """One or more runs under faults. Everything follows from `seed` and `number`.

    Attributes:
        limited: whether the free plan's limits apply.
        plan_known: whether the caller has set that plan.
        runs: how many runs of the recipe start at the same time.
        leaves: seconds after which the caller cancels the run; None for never.
        thinks: whether models write their reasoning into the text when the request does not set its format.
        leaks: whether refusals quote a key and an organisation.
        quality: the share of right drafts.
        slots: calls that the cloud answers at once, as one machine to which the recipe is moved; None: any.
        stops: seconds that a call needs to stop when it is cancelled.
        known: whether the models' latency is known from earlier calls, so that hedging and estimates use it.
        books: what happens to the books of a daily budget (`books.BooksFault`); "" for runs without one.
    """

    seed: int
    number: int
    recipe: str
    aims: tuple[AimedFault, ...]
    mixed: bool
    watched: bool
    limited: bool
    plan_known: bool
    deadline: float | None
    profile: str
    question: int
    thinks: bool
    leaks: bool
    runs: int
    leaves: float | None
    quality: float
    known: bool
    books: str = ""
    slots: int | None = None
    stops: float = 0.0

    @property
    def provider(self) -> str:
        """The provider that the models are asked at."""
        return "groq" if self.slots is None else "vllm"

    @property
    def id(self) -> str:
        """The scenario's id, as `--one` takes it."""
        return f"{self.seed}-{self.number}"

    @property
    def words(self) -> str:
        """The scenario on one line."""
        said = [self.recipe, " + ".join(aim.name for aim in self.aims), self.profile]
        said += ["watched"] * self.watched + ["thinking aloud"] * self.thinks + ["known pace"] * self.known
        said += ["free plan" + ("" if self.plan_known else ", not set")] * self.limited
        said += [f"deadline {self.deadline:g} s"] if self.deadline else []
        said += [f"{self.runs} runs at once"] if self.runs > 1 else []
        said += [f"{self.slots} slots at one machine"] if self.slots else []
        said += [f"{self.stops:g} s to stop a call"] if self.stops else []
        said += [f"left after {self.leaves:.2f} s"] if self.leaves else []
        said += [f"books: {self.books}"] if self.books else []
        return ", ".join(said)


@functools.cache
def cells(seed: int) -> tuple[tuple[str, str, str], ...]:
    """Return every (recipe, stage, kind of fault), shuffled, so that any part of the list is a sample."""
    found = [(name, stage, kind) for name, recipe in recipes().items() for stage in stages(recipe) for kind in kinds()]
    random.Random(f"chaos/{seed}/cells").shuffle(found)
    return tuple(found)


def scenario(seed: int, number: int) -> ChaosScenario:
    """Return scenario `number` of a seed. Three of four go through the cells in turn, the fourth is a mixture."""
    rng = random.Random(f"chaos/{seed}/{number}")
    mixed = number % _MIXTURES == _MIXTURES - 1
    if mixed:
        name = rng.choice(sorted(recipes()))
        aims = mixture(rng, recipes()[name])
    else:
        table = cells(seed)
        name, stage, kind = table[(number - number // _MIXTURES) % len(table)]
        aims = (_aim(rng, recipes()[name], stage, kind),)
    return circumstances(rng, seed, number, name, aims, mixed=mixed)


def circumstances(
    rng: random.Random, seed: int, number: int, name: str, aims: tuple[AimedFault, ...], *, mixed: bool
) -> ChaosScenario:
    """Return a scenario with these faults and randomly drawn circumstances."""
    limited = rng.random() < 0.3
    # Drawn apart, so that the scenarios before these had been thought of stay the same.
    own = random.Random(f"chaos/{seed}/{number}/own")
    slots = own.choice((1, 1, 2, 4)) if not limited and name not in MOST_DOLLARS and own.random() < 0.15 else None
    return ChaosScenario(
        seed=seed,
        number=number,
        recipe=name,
        aims=aims,
        mixed=mixed,
        watched=rng.random() < 0.6,
        limited=limited,
        plan_known=limited and rng.random() < 0.75,
        deadline=rng.choice((2.0, 8.0)) if rng.random() < 0.3 else None,
        profile=rng.choice(("fixed:0.3", "fixed:0.3", "lpu", "heavy")),
        question=rng.randrange(1_000_000),
        thinks=rng.random() < 0.3,
        leaks=rng.random() < 0.5,
        runs=2 if limited and rng.random() < 0.3 else 1,
        leaves=round(rng.uniform(0.01, 3.0), 3) if rng.random() < 0.05 else None,
        quality=rng.choice((0.4, 0.7, 0.9)),
        known=rng.random() < 0.3,
        slots=slots,
        stops=own.choice((0.1, 0.3, 1.0)) if own.random() < 0.15 else 0.0,
        # Nothing is known of the prices of a machine of one's own, and a budget refuses such runs.
        books=rng.choice(books.faults()) if rng.random() < 0.15 and slots is None else "",
    )


def mixture(rng: random.Random, recipe: Recipe) -> tuple[AimedFault, ...]:
    """Return one to four random faults at random stages."""
    there = stages(recipe)
    return tuple(_aim(rng, recipe, rng.choice(there), rng.choice(kinds())) for _ in range(rng.randint(1, 4)))


def _aim(rng: random.Random, recipe: Recipe, stage: str, kind: str) -> AimedFault:
    reach: Reach = "first" if kind.partition("=")[0] in LARGE else rng.choice(("all", "all", "first", "some", "one"))
    models = sorted(stage_models(recipe, stage))
    return AimedFault(stage, kind, reach, rng.choice(models) if reach == "one" else "")


def stage_models(recipe: Recipe, stage: str) -> set[str]:
    """Return the models that a stage of a recipe calls first. The reviewers are the proposers."""
    if stage == "escalation" and recipe.escalate is not None:
        return {slot.model for slot in recipe.escalate.proposers}
    if stage in ("selector", "aggregator") and recipe.aggregator is not None:
        return {recipe.aggregator.model}
    return {slot.model for layer in recipe.layers for slot in layer.proposers}


def faults(aims: tuple[AimedFault, ...], recipe: Recipe, *, leaks: bool) -> tuple[Fault, ...]:
    """Return the faults in the cloud's terms: by model and by text in the prompt.

    A proposer's prompt has no text of its own. The faults of the other stages come first, each followed by a fault
    without effect (`ignore_n`) that matches the rest of that stage's calls, because the first matching fault wins.
    """
    writer = recipe.aggregator.model if recipe.aggregator is not None else ""
    alone = len(recipe.layers) == 1
    found: list[Fault] = []
    for stage, marks, models in (
        ("selector", CHOICE, ("",)),
        ("reviewer", RANKING, ("",)),
        ("aggregator", FENCED, ("" if alone else writer,)),
        ("escalation", "", tuple(stage_models(recipe, "escalation")) if recipe.escalate is not None else ()),
        ("proposer", "", ("",)),
    ):
        for aim in aims:
            if aim.stage == stage:
                found += [_fault(aim, marks, aim.model or model, leaks=leaks) for model in models]
        if stage != "proposer":
            found += [Fault(kind="ignore_n", contains=marks, model=model) for model in models]
    return tuple(found)


def _fault(aim: AimedFault, contains: str, model: str, *, leaks: bool) -> Fault:
    kind, _, value = aim.kind.partition("=")
    if leaks and kind in _WITH_WORDS:
        value = LEAKED
    row = {
        "kind": kind,
        "value": value or _USUAL.get(kind, ""),
        "model": model,
        "contains": contains,
        "share": 0.5 if aim.reach == "some" else 1.0,
    }
    if aim.reach == "first":
        row |= {"first": 1, "last": 1}
    return msgspec.convert(row, Fault)
