"""What to run, as plain data: layers of proposers, an aggregator, a policy. TOML in, TOML out.

A recipe file, shortest form (one layer):

    name = "two"
    [[proposers]]
    model = "openai/gpt-oss-20b"
    samples = 2
    [aggregator]
    model = "openai/gpt-oss-120b"

More layers are written `[[layers]]` with `[[layers.proposers]]` inside.
"""

import difflib
import functools
import math
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import msgspec
import tomli_w

from mixtura.errors import RecipeError
from mixtura.kinds import KINDS, AggregatorKind

Step = Literal["wait", "shrink", "swap", "fewer", "single"]
STEPS: tuple[Step, ...] = get_args(Step)


def _check_seconds(key: str, value: float | None, least: float) -> None:
    if value is not None and not least <= value < math.inf:
        what = "seconds above 0" if least else "seconds, 0 or more"
        raise ValueError(f"{key}: expected {what}, got {value}")


class Fallback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A model to ask in place of one that fails or has no room, of the same or another provider."""

    model: str
    provider: str = "groq"

    def __post_init__(self) -> None:
        _check_text("model", self.model)


class Proposer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One model that drafts, `samples` times (each sample is a call of its own).

    Attributes:
        model: the provider's id for it.
        provider: a name from the catalogue, or a base URL.
        temperature: 0 to 2; None leaves it to the provider.
        system: said to this proposer only, after the conversation's own system prompt.
        max_tokens: the most it may write, reasoning included; None takes what suits the model.
        seed: sample i is asked with seed + i.
        reasoning_effort: one of the values the model takes (see `mixtura models`).
        weight: what its draft counts in a vote.
        fallbacks: asked in turn where this model fails or has no room; the first also takes its second tries.
    """

    model: str
    provider: str = "groq"
    temperature: float | None = None
    top_p: float | None = None
    system: str | None = None
    max_tokens: int | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    samples: int = 1
    weight: float = 1.0
    fallbacks: tuple[Fallback, ...] = ()

    def __post_init__(self) -> None:
        _check_text("model", self.model)
        _check_sampling(self.temperature, self.top_p, self.max_tokens)
        if not 1 <= self.samples <= 64:
            raise ValueError(f"samples: expected 1 to 64, got {self.samples}")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"weight: expected a number above 0, got {self.weight}")


class Layer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Proposers asked at the same time; from the second layer on they read the drafts of the layer before."""

    proposers: tuple[Proposer, ...]

    def __post_init__(self) -> None:
        if not self.proposers:
            raise ValueError("proposers: expected at least one")

    @property
    def size(self) -> int:
        """How many calls the layer makes."""
        return sum(proposer.samples for proposer in self.proposers)

    @property
    def slots(self) -> tuple[Proposer, ...]:
        """Every call of the layer: each proposer once per sample, seeds counted up."""
        return tuple(
            proposer
            if proposer.samples == 1
            else msgspec.structs.replace(
                proposer, samples=1, seed=None if proposer.seed is None else proposer.seed + sample
            )
            for proposer in self.proposers
            for sample in range(proposer.samples)
        )


class Aggregator(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How drafts become the answer.

    Kinds: `synthesize` (a model writes it from the drafts), `select` (a model names the best draft, returned
    word for word), `vote` (final answers are extracted and counted; no call), `rank` (every proposer ranks the
    anonymous drafts; `model`, when given, is the chairman who then writes), `auto` (vote where a clear majority
    of drafts ends in the same checkable answer, else synthesize).
    """

    kind: AggregatorKind = "synthesize"
    model: str = ""
    provider: str = "groq"
    temperature: float | None = None
    top_p: float | None = None
    system: str | None = None
    max_tokens: int | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    fallbacks: tuple[Fallback, ...] = ()

    def __post_init__(self) -> None:
        model = KINDS[self.kind].model
        if not self.model.strip() and model == "needed":
            raise ValueError(f"model: expected one, since kind {self.kind!r} makes a call")
        if self.model and model == "none":
            raise ValueError(f"model: expected none, since kind {self.kind!r} makes no call")
        _check_sampling(self.temperature, self.top_p, self.max_tokens)


class Policy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a run may take and how it behaves when something goes wrong.

    Attributes:
        deadline: seconds for the whole run; what is not there by then is done without.
        quorum: so many drafts of a layer suffice; None waits for all.
        grace: seconds that stragglers still have once the quorum is there; what they wrote until then is used.
        first_token: seconds a call may be silent before it writes; None: as long as its deadline.
        between_tokens: seconds a call may be silent while it writes; None: as long as its deadline.
        hedge: try a call a second time when it is slower than 19 of 20 of its model's latest calls.
        hedge_after: seconds after which that is done while too few of its calls are known.
        min_drafts: a run that has to do with less goes without proposers down to this many.
        when_limited: what is done, in this order, when rate limits or a budget leave no room for the whole run:
            wait, shrink (the output limits), swap (to a model with room), fewer (proposers), single (one model).
        max_wait: seconds to wait for room at most; None: as long as the deadline leaves time to answer.
        latency_target: seconds; when the mixture is expected to take longer, one model answers alone.
        stop_when_agree: return at once when all drafts end in the same checkable answer.
        substitute: replace a model that is gone by what the catalogue names, and say so.
        substitutes: replacements of your own, `"gone" = "instead"`; these need no `substitute`.
        seed: fixes the order in which drafts are shown; None draws one.
    """

    deadline: float = 120.0
    quorum: int | None = None
    grace: float = 0.0
    first_token: float | None = None
    between_tokens: float | None = None
    hedge: bool = False
    hedge_after: float = 4.0
    min_drafts: int = 1
    when_limited: tuple[Step, ...] = STEPS
    max_wait: float | None = None
    latency_target: float | None = None
    stop_when_agree: bool = False
    substitute: bool = False
    substitutes: dict[str, str] = {}
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.deadline) and self.deadline > 0):
            raise ValueError(f"deadline: expected seconds above 0, got {self.deadline}")
        for key in ("quorum", "min_drafts"):
            count = getattr(self, key)
            if count is not None and count < 1:
                raise ValueError(f"{key}: expected at least 1, got {count}")
        for key in ("first_token", "between_tokens", "hedge_after", "latency_target"):
            _check_seconds(key, getattr(self, key), least=0.001)
        for key in ("grace", "max_wait"):
            _check_seconds(key, getattr(self, key), least=0.0)
        if len(set(self.when_limited)) < len(self.when_limited):
            raise ValueError(f"when_limited: expected each step once, got {', '.join(self.when_limited)}")
        for start in self.substitutes:
            chain = [start]
            while (following := self.substitutes.get(chain[-1])) is not None:
                if following in chain:
                    raise ValueError(f"substitutes: a cycle: {' -> '.join([*chain, following])}")
                chain.append(following)


class Recipe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, weakref=True):
    """A whole mixture: who drafts, who answers, under which policy.

    `escalate` is asked only when the drafts do not agree; its drafts then join the others. Without an
    `aggregator` the one draft of the one proposer is the answer.
    """

    name: str = "custom"
    description: str = ""
    layers: tuple[Layer, ...]
    escalate: Layer | None = None
    aggregator: Aggregator | None = None
    policy: Policy = Policy()

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("layers: expected at least one layer of proposers")
        last = self.layers[-1].size
        if self.aggregator is None and (last > 1 or self.escalate is not None):
            raise ValueError(f"aggregator: expected one, since {last} drafts have to become one answer")
        smallest = min(layer.size for layer in self.layers)
        for key in ("quorum", "min_drafts"):
            count = getattr(self.policy, key)
            if count is not None and count > smallest:
                raise ValueError(f"policy.{key}: {count} drafts are more than the smallest layer makes")

    @classmethod
    def from_toml(cls, text: str, where: str = "recipe") -> "Recipe":
        """Read a recipe.

        Raises:
            RecipeError: names `where` (a file), the line or key, and what was expected there.
        """
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(where, f"not TOML: {error}") from error
        short = "proposers" in data
        if short:
            if "layers" in data:
                raise RecipeError(where, "proposers: expected either [[proposers]] (one layer) or [[layers]], not both")
            data["layers"] = [{"proposers": data.pop("proposers")}]
        elif "layers" not in data:
            raise RecipeError(where, "proposers: expected at least one [[proposers]] table with a model")
        try:
            return msgspec.convert(data, cls)
        except msgspec.ValidationError as error:
            problem = _explain(str(error))
            if short:
                problem = problem.replace("layers[0].proposers", "proposers")
            raise RecipeError(where, problem) from error

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Read a recipe from a TOML file.

        Raises:
            RecipeError: the file cannot be read, or is not a recipe.
        """
        try:
            # Some editors begin a file with a mark that TOML does not know.
            return cls.from_toml(Path(path).read_text("utf-8-sig"), str(path))
        except OSError as error:
            raise RecipeError(str(path), f"cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise RecipeError(str(path), f"not UTF-8 text (byte {error.start})") from error

    @classmethod
    def named(cls, name: str) -> "Recipe":
        """Return the built-in recipe `name`, or read the file when `name` is a path to a .toml file.

        Raises:
            RecipeError: no such recipe; names the nearest one.
        """
        if name in recipe_names():
            return _builtin(name)
        if name.endswith(".toml") or "/" in name:
            return cls.load(name)
        near = difflib.get_close_matches(name, recipe_names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"built in are {', '.join(recipe_names())}."
        raise RecipeError(name, f"no such recipe; {hint} A path to a .toml file works too")

    def to_toml(self) -> str:
        """Write the recipe; `from_toml` reads the same one back."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        if len(self.layers) == 1:
            data["proposers"] = data.pop("layers")[0]["proposers"]
        order = ("name", "description", "proposers", "layers", "escalate", "aggregator", "policy")
        return tomli_w.dumps({key: data[key] for key in order if key in data})


@functools.cache
def recipe_names() -> tuple[str, ...]:
    """Names of the built-in recipes, in alphabetical order."""
    folder = files("mixtura") / "recipes"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


@functools.cache
def _builtin(name: str) -> Recipe:
    text = (files("mixtura") / "recipes" / f"{name}.toml").read_text("utf-8")
    return Recipe.from_toml(text, f"{name}.toml")


def _check_text(key: str, value: str) -> None:
    if not value.strip():
        raise ValueError(f"{key}: expected text, got {value!r}")


def _check_sampling(temperature: float | None, top_p: float | None, max_tokens: int | None) -> None:
    # NaN passes no comparison, so both bounds are asked for positively.
    if temperature is not None and not 0 <= temperature <= 2:
        raise ValueError(f"temperature: expected 0 to 2, got {temperature}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected above 0 and up to 1, got {top_p}")
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens: expected at least 1, got {max_tokens}")


def _explain(problem: str) -> str:
    """Turn msgspec's words into ours: the key first, then what was expected, then the nearest valid name."""
    problem, _, path = problem.partition(" - at `$")
    key = path.rstrip("`").removeprefix(".")
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", problem):
        fields = _fields_at(key)
        near = difflib.get_close_matches(found[1], fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(fields)}"
        return f"{_join(key, found[1])}: unknown key; {hint}"
    if found := re.fullmatch(r"Object missing required field `(.*)`", problem):
        return f"{_join(key, found[1])}: missing"
    if found := re.fullmatch(r"Invalid enum value '?(.*?)'?", problem):
        kinds = STEPS if "when_limited" in key else get_args(AggregatorKind)
        near = difflib.get_close_matches(found[1], kinds, n=1)
        return f"{key}: expected one of {', '.join(kinds)}, got {found[1]!r}" + (
            f"; did you mean {near[0]!r}?" if near else ""
        )
    if found := re.match(r"([a-z_.]+): ", problem):
        return _join(key, problem)
    return f"{key or 'recipe'}: {problem[0].lower()}{problem[1:]}"


def _join(key: str, rest: str) -> str:
    return f"{key}.{rest}" if key else rest


def _fields_at(key: str) -> list[str]:
    parts: dict[str, type[msgspec.Struct]] = {
        "proposers": Proposer,
        "layers": Layer,
        "escalate": Layer,
        "aggregator": Aggregator,
        "policy": Policy,
    }
    owner: type[msgspec.Struct] = Recipe
    for word in re.findall(r"[a-z_]+", key):
        owner = parts.get(word, owner)
    return list(get_type_hints(owner))
