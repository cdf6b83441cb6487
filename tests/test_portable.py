"""Errors and answers cross to other processes and are copied with all that they hold; what cannot says so."""

import copy
import inspect
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from asking import World
from commands import environment
from mixtura import Answer, MixturaError, Mixture, Recipe, errors
from mixtura.limits.limiter import Limiter
from mixtura.models.registry import ModelRegistry

MADE: dict[str, tuple[Any, ...]] = {
    "RecipeError": ("a.toml", "no proposers"),
    "MissingKeyError": ("groq", "GROQ_API_KEY"),
    "BudgetError": (0.5, 0.1),
    "DailyBudgetError": (0.5, 1.0, 0.6, 0.1, 60.0),
    "NoAnswerError": ([errors.RateLimitedError("groq", "m", "slow down", retry_after=3.0)],),
}


def pickled(value: Any, protocol: int) -> Any:
    return pickle.loads(pickle.dumps(value, protocol))


CROSSINGS: dict[str, Callable[[Any], Any]] = {
    **{f"pickle {number}": partial(pickled, protocol=number) for number in range(6)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


class OwnError(errors.LimitError, TimeoutError):
    """A user's class: other arguments than ours, a slot, and a built-in error with a layout of its own."""

    __slots__ = ("shard",)

    def __new__(cls, tenant: str, *, shard: int) -> Self:
        return super().__new__(cls, tenant)

    def __init__(self, tenant: str, *, shard: int) -> None:
        super().__init__(f"{tenant} waits", retry_after=1.5, window="of ours")
        self.tenant, self.shard = tenant, shard


class PickyError(Exception):
    """An exception that pickle writes and cannot make again."""

    def __init__(self, message: str, *, response: object) -> None:
        super().__init__(message)
        self.response = response


def every_error() -> list[MixturaError]:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.MixturaError)]
    return [made(kind) for kind in kinds]


def made(kind: type[MixturaError]) -> MixturaError:
    if kind.__name__ in MADE:
        return kind(*MADE[kind.__name__])
    if kind is errors.LimitError:
        return errors.LimitError("no room", retry_after=3.0, window="8,000 tokens per minute")
    if kind is errors.ModelGoneError:
        return errors.ModelGoneError("groq", "old", "gone", replacement="new", nearest=["near"], status=404)
    if issubclass(kind, errors.ModelError):
        return kind("groq", "m", "failed", status=503, code="busy", retry_after=2.0)
    return kind("a sentence")


def held(error: BaseException) -> tuple[object, ...]:
    """Return what an error says and holds; the errors among it as what they hold."""
    attributes = {
        name: [held(each) for each in value] if name == "failures" else value for name, value in vars(error).items()
    }
    cause = None if error.__cause__ is None else held(error.__cause__)
    return type(error), str(error), error.args, attributes, cause, error.__suppress_context__


@pytest.mark.parametrize("crossing", CROSSINGS)
def test_every_error_crosses_with_all_that_was_set_on_it(crossing: str) -> None:
    for error in every_error():
        error.answer = Answer(text="so far", warnings=["one"])
        error.status, error.retry_after = 418, 7.0
        error.add_note("asked by the night job")
        error.__cause__ = errors.UnreachableError("groq", "m", "no route")
        if isinstance(error, errors.ModelError):
            error.exceeded, error.sent, error.attempts = errors.Exceeded("tpm", 8000, 7990.0), False, 3
        again = CROSSINGS[crossing](error)
        assert held(again) == held(error)
        assert again is not error


@pytest.mark.parametrize("crossing", CROSSINGS)
def test_an_error_class_of_a_user_crosses(crossing: str) -> None:
    error = OwnError("acme", shard=4)
    again = CROSSINGS[crossing](error)
    assert held(again) == held(error)
    assert (again.tenant, again.shard, again.window) == ("acme", 4, "of ours")


def test_what_cannot_be_pickled_costs_no_error_and_shows_no_secret() -> None:
    error = errors.OverloadedError("groq", "m", "busy")
    error.__cause__ = PickyError("the key gsk_abcdef1234 was sent", response=object())
    error.lock = threading.Lock()  # type: ignore[attr-defined]  # whatever a program puts on it
    again = pickle.loads(pickle.dumps(error))
    assert held(again)[:2] == held(error)[:2]
    assert str(again.__cause__) == "PickyError: the key *** was sent"
    assert b"gsk_abcdef" not in pickle.dumps(error)
    assert copy.deepcopy(error).__cause__ is copy.copy(error).__cause__ is error.__cause__


def test_a_chain_of_errors_crosses_in_one_pass() -> None:
    first = error = errors.OverloadedError("groq", "m", "0")
    for number in range(1, 30):
        error.__cause__ = errors.OverloadedError("groq", "m", str(number))
        error = error.__cause__
    error.__cause__ = first
    again: BaseException | None = pickle.loads(pickle.dumps(first))
    for number in range(30):
        assert str(again) == f"m on groq: {number}"
        again = None if again is None else again.__cause__


@pytest.mark.parametrize("crossing", CROSSINGS)
def test_answers_events_recipes_and_forecasts_cross(crossing: str, world: World) -> None:
    ran = world("classic")
    recipe = Recipe.named("classic")
    forecast = Mixture(recipe, env={}).forecast("Why?")
    for value in (ran.answer, *ran.answer.drafts, *ran.events, recipe, forecast):
        assert CROSSINGS[crossing](value) == value


@pytest.mark.parametrize("made", [lambda: Mixture("toy", env={}), lambda: ModelRegistry(env={}), Limiter])
def test_what_belongs_to_its_process_says_so(made: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"belongs to its process and cannot be pickled: .*make one in each process"):
        pickle.dumps(made())


async def test_a_stream_says_that_its_events_are_what_crosses() -> None:
    stream = Mixture("toy", env={}).stream("Why?")
    for crossing in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(
            TypeError, match=r"EventStream belongs to its process .*: read it here, and send the events on"
        ):
            crossing(stream)
    await stream.aclose()


def test_a_copy_of_a_mixture_shares_what_it_asks() -> None:
    mixture = Mixture("toy", env={})
    for copied in (copy.copy(mixture), copy.deepcopy(mixture), copy.deepcopy({"kept": [mixture]})["kept"][0]):
        assert vars(copied) == vars(mixture)
        copied.recipe = Recipe.named("lite")
        assert mixture.recipe.name == "toy"
    gone = weakref.ref(copied)
    del copied
    assert gone() is None


POOLS = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from mixtura import Completion, Layer, Mixture, ModelCard, NoAnswerError, Proposer, Recipe, Served

class Own:
    def find(self, provider, model):
        return Served(self, self.card(provider, model))
    def card(self, provider, model):
        return ModelCard(id=model, provider=provider)
    async def chat(self, request, **_):
        return Completion(model=request.model, text="5")

def ask(url):
    recipe = Recipe(layers=(Layer(proposers=(Proposer(model="m", provider=url or "own"),)),))
    return Mixture(recipe, **({"env": {}} if url else {"models": Own()})).ask_sync("What is 2 + 3?")

def told(ask_there):
    try:
        ask_there("http://127.0.0.1:9/v1")
    except NoAnswerError as error:
        (failure,) = error.failures
        return f"{type(failure).__name__} {failure.connected} {error.answer.failures[0].kind}"

if __name__ == "__main__":
    for name in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(name)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            print(pool.submit(ask, "").result().text, told(lambda url: pool.submit(ask, url).result()))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.apply(ask, [""]).text, told(lambda url: pool.apply(ask, [url])))
"""


@pytest.mark.slow
def test_answers_and_errors_come_back_from_process_pools(tmp_path: Path) -> None:
    program = tmp_path / "pools.py"
    program.write_text(POOLS)
    done = subprocess.run(
        [sys.executable, program], env=environment(), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["5 UnreachableError False unreachable"] * 4
    assert not done.stderr
