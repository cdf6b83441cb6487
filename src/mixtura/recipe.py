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
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import tomli_w

from mixtura.errors import RecipeError
from mixtura.input_files import cause_of, read_input, shown_name, utf8_text, without_marks
from mixtura.recipe_checks import explain
from mixtura.slots import Aggregator, Fallback, Proposer, Slot

__all__ = [
    "STEPS",
    "Aggregator",
    "Fallback",
    "Layer",
    "Policy",
    "Proposer",
    "Recipe",
    "Slot",
    "Step",
    "Tools",
    "recipe_names",
]

Step = Literal["wait", "shrink", "swap", "fewer", "single"]
STEPS: tuple[Step, ...] = get_args(Step)
Auto = Literal["auto"]


def _check_seconds(key: str, value: float | Auto | None, least: float) -> None:
    if value is not None and value != "auto" and not least <= value < math.inf:
        what = "seconds above 0" if least else "seconds, 0 or more"
        raise ValueError(f"{key}: expected {what}, got {value}")


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


class Tools(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Who decides on a tool call where the caller offers tools.

    Attributes:
        policy: `act`: one model decides, having read the drafts, which are written without tools. `agree`: the
            proposers are offered the tools too, and calls that enough of them propose are made; where they do not
            agree, the acting model decides.
        agree: how many proposals have to be equal in tools and arguments; None: more than half of the drafts.
        acting: the model that decides; None takes the aggregator's. A recipe without either takes no tools.
    """

    policy: Literal["act", "agree"] = "act"
    agree: int | None = None
    acting: Aggregator | None = None

    def __post_init__(self) -> None:
        if self.agree is not None and self.policy != "agree":
            raise ValueError("agree: expected policy = 'agree' beside it")
        if self.agree is not None and self.agree < 1:
            raise ValueError(f"agree: expected at least 1, got {self.agree}")
        if self.acting is not None and self.acting.kind != "synthesize":
            raise ValueError(f"acting.kind: expected none, got {self.acting.kind!r}")

    def of(self, drafts: int) -> "Tools":
        """Return the same for so many drafts: where fewer are left than have to agree, the acting model decides."""
        if self.agree is None or self.agree <= drafts:
            return self
        return msgspec.structs.replace(self, policy="act", agree=None)


class Policy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a run may take and how it behaves when something goes wrong.

    Attributes:
        deadline: seconds for the whole run; what is not there by then is done without. "auto": 120, and more where
            calls wait for each other; see `planning/deadline.py`.
        quorum: so many drafts of a layer suffice; None waits for all.
        grace: seconds that stragglers still have once the quorum is there; what they wrote until then is used.
        first_token: seconds a call may be silent before it writes; None: as long as its deadline. "auto": by where it
            is served, its prompt, our other calls there and what was measured; see `engine/patience.py`.
        between_tokens: seconds a call may be silent while it writes; None: as long as its deadline. "auto": as above.
        hedge: try a call a second time when it is slower than 19 of 20 of its model's latest calls. It is never sent to
            the one machine, or model file, that the first one waits for.
        hedge_after: seconds after which that is done while too few of its calls are known. "auto": as above.
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

    deadline: float | Auto = "auto"
    quorum: int | None = None
    grace: float = 0.0
    first_token: float | Auto | None = None
    between_tokens: float | Auto | None = None
    hedge: bool = False
    hedge_after: float | Auto = "auto"
    min_drafts: int = 1
    when_limited: tuple[Step, ...] = STEPS
    max_wait: float | None = None
    latency_target: float | None = None
    stop_when_agree: bool = False
    substitute: bool = False
    substitutes: dict[str, str] = {}
    seed: int | None = None

    def __post_init__(self) -> None:
        for key in ("quorum", "min_drafts"):
            count = getattr(self, key)
            if count is not None and count < 1:
                raise ValueError(f"{key}: expected at least 1, got {count}")
        for key in ("deadline", "first_token", "between_tokens", "hedge_after", "latency_target"):
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
    `aggregator` the one draft of the one proposer is the answer. `tools` says who decides on tool calls.
    """

    name: str = "custom"
    description: str = ""
    layers: tuple[Layer, ...]
    escalate: Layer | None = None
    aggregator: Aggregator | None = None
    tools: Tools = Tools()
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
        if self.tools.agree is not None and self.tools.agree > last:
            raise ValueError(f"tools.agree: {self.tools.agree} drafts are more than the last layer makes")

    @classmethod
    def from_toml(cls, text: str, where: str = "recipe") -> "Recipe":
        """Read a recipe.

        Raises:
            RecipeError: names `where` (a file), the line or key, and what was expected there.
        """
        try:
            data = tomllib.loads(without_marks(text))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
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
            problem = explain(str(error), _PARTS)
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
            text = utf8_text(read_input(path))
        except (OSError, ValueError) as error:
            raise RecipeError(shown_name(path), f"cannot be read: {cause_of(error)}") from error
        return cls.from_toml(text, shown_name(path))

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
        raise RecipeError(shown_name(name), f"no such recipe; {hint} A path to a .toml file works too")

    def to_toml(self) -> str:
        """Write the recipe; `from_toml` reads the same one back."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        if len(self.layers) == 1:
            data["proposers"] = data.pop("layers")[0]["proposers"]
        order = ("name", "description", "proposers", "layers", "escalate", "aggregator", "tools", "policy")
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


_PARTS: dict[str, type[msgspec.Struct]] = {
    "proposers": Proposer,
    "layers": Layer,
    "escalate": Layer,
    "aggregator": Aggregator,
    "acting": Aggregator,
    "fallbacks": Fallback,
    "tools": Tools,
    "policy": Policy,
    "recipe": Recipe,
}
