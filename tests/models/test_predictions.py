"""Predictions of models' times: their sources, and their use by the engine until calls have been measured."""

import asyncio
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import GEMMA, LLAMA, SEVENTY
from mixtura import Aggregator, Answer, Layer, LimitError, Mixture, Policy, Predicted, Proposer, Recipe
from mixtura.cli.session import environment
from mixtura.errors import ConfigError
from mixtura.events import CallFailed
from mixtura.hardware.gpu import SteadyLoad
from mixtura.hardware.host import host
from mixtura.limits.window import Limits
from mixtura.models.predictions import predictions_toml, read_predictions
from mixtura.models.registry import ModelRegistry
from mixtura.room.predictions import predictions
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.virtual import run_virtual

KEY = "gsk_test_secret"
SLOW_THEN_FAST = Recipe(
    layers=(Layer(proposers=(Proposer(model=SEVENTY), Proposer(model=GEMMA))),), aggregator=Aggregator(model=LLAMA)
)
PredictedCalls = dict[tuple[str, str], Predicted]


def predict_calls(**seconds: float) -> PredictedCalls:
    """Predict the same time for calls of any length, for each of the three models."""
    ids = {"llama": LLAMA, "gemma": GEMMA, "seventy": SEVENTY}
    return {("groq", ids[name]): Predicted(first=value, token=0.0) for name, value in seconds.items()}


def ask(
    sim: SimOptions, recipe: str | Recipe, predicted: PredictedCalls | None = None, times: int = 1, **asked: Any
) -> Any:
    """Ask `times` questions one after the other, in virtual time, and return the answers."""

    async def main() -> list[Answer]:
        async with simulated_cloud(sim) as cloud:
            env = {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url}
            mixture = Mixture(recipe, env=env, predicted=predicted)
            return [await mixture.ask(f"Question {number}?", **asked) for number in range(times)]

    return run_virtual(main())


def kinds(answer: Answer) -> list[str]:
    return [decision.kind for decision in answer.decisions]


def policy(recipe: Recipe, **fields: Any) -> Recipe:
    return msgspec.structs.replace(recipe, policy=Policy(**fields))


def test_a_slow_model_gets_the_share_of_the_deadline_that_its_machine_is_predicted_to_need() -> None:
    # By the published speeds the first model is faster than the second; on GPUs it is much slower.
    scout, oss = "meta-llama/llama-4-scout-17b-16e-instruct", "openai/gpt-oss-120b"
    recipe = Recipe(layers=(Layer(proposers=(Proposer(model=scout),)),), aggregator=Aggregator(model=oss))
    predicted = predictions({scout: "h100", oss: "h100"}, provider="groq", prompt=50, output=600)
    sim = SimOptions(profile="gpu:h100", tokens=600, unlimited=True)
    (without,) = ask(sim, recipe, deadline=8.0)
    (within,) = ask(sim, recipe, predicted, deadline=8.0)
    assert without.drafts[0].incomplete
    assert not within.drafts[0].incomplete
    assert within.status == "ok"


@pytest.mark.parametrize("watched", [True, False])
def test_a_stage_is_ended_at_its_predicted_share(watched: bool) -> None:
    async def main() -> list[float]:
        sim = SimOptions(unlimited=True, faults=f"silent@1-:{SEVENTY}", profile="fixed:1")
        async with simulated_cloud(sim) as cloud:
            failed: list[float] = []
            mixture = Mixture(
                policy(SLOW_THEN_FAST, deadline=40.0),
                env={"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url},
                predicted=predict_calls(seventy=30.0, gemma=1.0, llama=10.0),
                listeners=[lambda event: failed.append(event.at) if isinstance(event, CallFailed) else None]
                if watched
                else [],
            )
            answer = await mixture.ask("Why?")
            return failed or [answer.seconds - 1.0]

    assert run_virtual(main()) == pytest.approx([30.0], abs=0.2)


def test_a_mixture_predicted_to_be_too_slow_is_answered_by_one_model_and_the_range_is_said() -> None:
    recipe = policy(Recipe.named("classic"), latency_target=10.0)
    predicted = predictions({SEVENTY: "h100"}, provider="groq", output=1000)
    predicted[("groq", LLAMA)] = Predicted(first=8.0, token=0.0, spread=0.2)
    sim = SimOptions(unlimited=True, tokens=50)
    (usual,) = ask(sim, recipe)
    (routed,) = ask(sim, recipe, predicted)
    assert usual.n_calls == 4
    assert routed.n_calls == 1
    assert kinds(routed)[0] == "routed"
    reason = routed.decisions[0].reason
    assert "s (predicted, " in reason
    assert "more than its target of 10 s" in reason


def test_of_models_that_are_all_predicted_too_slow_the_fastest_answers() -> None:
    recipe = policy(Recipe.named("classic"), latency_target=1.0)
    (answer,) = ask(SimOptions(unlimited=True, tokens=5), recipe, predict_calls(seventy=30.0, gemma=2.0, llama=20.0))
    assert answer.drafts[0].answered_by == GEMMA


def test_measurements_take_precedence_over_predictions() -> None:
    recipe = policy(Recipe.named("classic"), latency_target=4.0)
    sim = SimOptions(unlimited=True, tokens=50, profile="fixed:3")
    answers = ask(sim, recipe, predict_calls(seventy=0.1, gemma=0.1, llama=0.1), times=12)
    assert "routed" not in kinds(answers[0])
    assert "routed" in kinds(answers[-1])
    assert "predicted" not in answers[-1].decisions[0].reason


def test_a_run_does_not_wait_for_room_when_its_prediction_leaves_no_time_to_answer() -> None:
    async def main(predicted: PredictedCalls) -> list[object]:
        sim = SimOptions(limits={LLAMA: Limits(tpm=3000)}, tokens=50)
        async with simulated_cloud(sim) as cloud:
            env = {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url}
            recipe = policy(Recipe.named("classic"), deadline=120.0, when_limited=("wait",))
            mixture = Mixture(recipe, env=env, predicted=predicted)
            await mixture.ask("First?")
            return await asyncio.gather(*(mixture.ask("Next?") for _ in range(2)), return_exceptions=True)

    assert all(isinstance(each, Answer) for each in run_virtual(main({})))
    assert any(isinstance(each, LimitError) for each in run_virtual(main(predict_calls(seventy=100.0))))


def test_predictions_are_the_machines_times_and_their_uncertainty() -> None:
    machine = host("openai/gpt-oss-120b", "h100", 8, engine="vllm")
    first, token = machine.first(SteadyLoad(3, 2000, 500)), machine.token(SteadyLoad(3, 2000, 500))
    found = predictions({"openai/gpt-oss-120b": "8xh100/vllm"}, prompt=2000, output=500, batch=3)
    ((key, each),) = found.items()
    assert key == ("vllm", "openai/gpt-oss-120b")
    assert each.first == pytest.approx(float(first.seconds))
    assert each.token == pytest.approx(float(token.seconds))
    assert min(first.spread, token.spread) / 2 < each.spread < max(first.spread, token.spread)
    assert each.seconds(500) == pytest.approx(each.first + 499 * each.token)
    own = predictions({("http://10.0.0.7:8000/v1", "my-name-for-it"): machine}, prompt=2000, output=500, batch=3)
    assert own == {("http://10.0.0.7:8000/v1", "my-name-for-it"): each}


@pytest.mark.parametrize(
    ("machines", "sizes", "words"),
    [
        ({"openai/gpt-oss-120b": "8xh10"}, {}, "unknown chip 'h10'"),
        ({"openai/gpt-oss-121b": "8xh100"}, {}, "unknown model shape 'gpt-oss-121b': nearest are gpt-oss-120b"),
        ({"moonshotai/Kimi-K2": "8xh100"}, {}, "give at least 15"),
        ({"openai/gpt-oss-120b": "8xh100/vlm"}, {}, "unknown engine 'vlm'"),
        ({}, {"batch": 0}, "batch is 0, expected a number of 1 or more"),
        ({}, {"output": math.nan}, "output is nan"),
        ({}, {"prompt": -5}, "prompt is -5"),
    ],
)
def test_a_machine_that_cannot_be_predicted_is_one_clear_sentence(
    machines: dict[str, str], sizes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        predictions(machines, **sizes)
    assert words in caught.value.message


numbers = st.floats(0, 1e9)


@given(st.dictionaries(st.tuples(st.text(), st.text()), st.tuples(numbers, numbers, numbers)))
def test_a_file_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, rows: dict[Any, Any]) -> None:
    wanted = {key: Predicted(first=a, token=b, spread=c) for key, (a, b, c) in rows.items()}
    path = tmp_path_factory.mktemp("predictions") / "predictions.toml"
    path.write_text(predictions_toml(wanted), "utf-8")
    assert read_predictions(path) == wanted


ROW = '[[predictions]]\nprovider = "vllm"\nmodel = "m"\nfirst = 1\ntoken = 0.1\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ROW + ROW, "m of vllm is predicted twice"),
        (ROW.replace("= 1", "= -1"), "m: first: expected a number of 0 or more, got -1"),
        (ROW.replace("= 1", "= inf"), "m: first: expected a number"),
        (ROW.replace("first = 1\n", ""), "missing required field `first`"),
        (ROW + "secs = 3\n", "unknown field `secs`"),
        (ROW.replace("= 1", '= "1"'), "Expected `float`"),
        ("[[prediction]]\n", "cannot be read as predictions"),
        ("x = [", "cannot be read as predictions"),
        ("\xff", "cannot be read as predictions"),
        ("# " + "x" * 1_100_000, "it has more than 1 MB"),
    ],
)
def test_a_wrong_file_is_refused_by_name_before_anything_is_sent(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        Mixture("classic", env={"MIXTURA_PREDICTIONS": str(path)})
    assert caught.value.message.startswith(f"MIXTURA_PREDICTIONS: {path}: ")
    assert words in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("path", ["missing.toml", "."])
def test_a_path_that_is_not_a_predictions_file_is_refused_by_name(path: str) -> None:
    with pytest.raises(ConfigError, match=r"MIXTURA_PREDICTIONS: .*: cannot be read as predictions"):
        ModelRegistry(env={"MIXTURA_PREDICTIONS": path})


@pytest.mark.parametrize("odd", [{"model": Predicted(first=1, token=1)}, {("groq", "m"): 3}, 7])
def test_an_invalid_prediction_argument_is_refused(odd: Any) -> None:
    with pytest.raises(ConfigError, match=r"predicted: expected \{\(provider, model\): Predicted\(...\)\}"):
        Mixture("classic", predicted=odd, env={})


@pytest.mark.parametrize("field", ["first", "token", "spread"])
def test_a_prediction_is_a_time(field: str) -> None:
    for odd in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"{field}: expected a number of 0 or more"):
            Predicted(**{"first": 1.0, "token": 1.0, field: odd})


def test_the_registry_puts_predictions_on_cards_and_an_argument_goes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "predictions.toml"
    filed, given_ = Predicted(first=1.0, token=0.1), Predicted(first=2.0, token=0.2)
    path.write_text(predictions_toml({("vllm", "m"): filed, ("toy", "toy-one"): filed}))
    env = {"MIXTURA_PREDICTIONS": str(path)}
    registry = ModelRegistry(env=env)
    assert registry.card("vllm", "m").predicted == filed
    assert registry.card("toy", "toy-one").predicted == filed
    assert registry.card("vllm", "other").predicted is None
    other = ModelRegistry(env=env, predicted={("vllm", "m"): given_})
    assert other.card("vllm", "m").predicted == given_
    assert other.card("toy", "toy-one").predicted is None


async def test_a_simulated_cloud_is_not_expected_to_be_as_slow_as_real_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIXTURA_PREDICTIONS", "mine.toml")
    async with environment(SimOptions()) as env:
        assert "MIXTURA_PREDICTIONS" not in env
    async with environment(None) as env:
        assert env["MIXTURA_PREDICTIONS"] == "mine.toml"


def test_a_file_is_read_without_numpy_and_making_one_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "predictions.toml"
    path.write_text(ROW)
    code = f"""
import sys
sys.modules["numpy"] = None
from mixtura import ModelRegistry, errors
assert ModelRegistry(env={{"MIXTURA_PREDICTIONS": {str(path)!r}}}).card("vllm", "m").predicted.first == 1
try:
    import mixtura.room.predictions
except errors.ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "predictions of machines need NumPy: pip install 'mixtura[room]'"
