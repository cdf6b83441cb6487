"""One call: what is sent, who is asked in its place, what that costs, and what becomes of a model that breaks rules."""

import asyncio
from typing import Any

import pytest

from mixtura import Aggregator, Completion, Layer, MixturaError, Mixture, Price, Proposer, Recipe
from mixtura.chat import ChatOptions, Usage
from mixtura.decisions import SubstitutedDetail
from mixtura.errors import BrokenReplyError, ConfigError, ModelGoneError, NoAnswerError, RejectedError
from mixtura.events import Parameters
from mixtura.recipe import Fallback, Policy
from mixtura.virtual import run_virtual
from own_models import Asked, Told, card, failed

DOLLAR = Price(input=0.0, output=1e6)  # a dollar a token that is written
DIME = Price(input=0.0, output=1e5)


def alone(slot: Proposer | None = None, *, instead: str = "", **policy: Any) -> Recipe:
    """One model, a, with fall-backs by name."""
    slot = slot or Proposer(
        model="a", provider="own", fallbacks=tuple(Fallback(model=model, provider="own") for model in instead)
    )
    return Recipe(layers=(Layer(proposers=(slot,)),), policy=Policy(**{"deadline": 60.0, **policy}))


FULL = Proposer(
    model="a",
    provider="own",
    temperature=0.3,
    top_p=0.9,
    max_tokens=77,
    seed=5,
    reasoning_effort="low",
    stop=("END",),
    fallbacks=(Fallback(model="b", provider="own"),),
)


def test_a_call_is_sent_with_the_settings_of_its_slot_and_its_event_says_so() -> None:
    models = Told(a="Because.")
    asked = Asked(alone(FULL), models)
    (sent,) = models.requests
    assert [message.text for message in sent.messages] == ["Why?"]
    assert (sent.model, sent.temperature, sent.top_p, sent.max_tokens) == ("a", 0.3, 0.9, 77)
    assert (sent.seed, sent.reasoning_effort, sent.options) == (5, "low", ChatOptions(stop=["END"]))
    (started,) = asked.started
    assert started.parameters == Parameters(
        temperature=0.3,
        top_p=0.9,
        max_tokens=77,
        seed=5,
        reasoning_effort="low",
        options=ChatOptions(stop=["END"]),
    )
    assert (started.role, started.model, started.provider, started.layer) == ("proposer", "a", "own", 0)
    assert (started.call, started.reads, started.messages) == (0, [], None)


def test_a_fall_back_is_sent_what_it_takes_of_the_slots_settings() -> None:
    models = Told([card("b", max_output=40, efforts=("high",))], a=failed("a"), b="Because.")
    Asked(alone(FULL), models)
    sent = models.requests[1]
    assert (sent.model, sent.temperature, sent.top_p, sent.seed) == ("b", 0.3, 0.9, 5)
    assert (sent.max_tokens, sent.reasoning_effort) == (40, None)


def test_an_event_that_leaves_texts_out_has_no_prompt_and_no_text_of_the_caller() -> None:
    told = Recipe(
        layers=(Layer(proposers=(Proposer(model="a", provider="own"), Proposer(model="b", provider="own"))),),
        aggregator=Aggregator(model="c", provider="own"),
    )
    options = ChatOptions(stop=["secret"], service_tier="flex")
    kept = Asked(told, Told(a="One.", b="Two.", c="Both."), options=options)
    assert [started.messages is None for started in kept.started] == [True, True, False]
    assert sorted(kept.started[2].reads) == [0, 1]
    assert kept.started[2].parameters.options == ChatOptions(stop=["secret"], service_tier="flex")
    told_less = Asked(told, Told(a="One.", b="Two.", c="Both."), options=options, record="digest")
    assert [started.messages for started in told_less.started] == [None, None, None]
    assert told_less.started[2].parameters.options == ChatOptions(service_tier="flex")
    plain = Asked(told, Told(a="One.", b="Two.", c="Both."))
    assert [started.parameters.options for started in plain.started] == [None, None, None]


def test_each_fall_back_is_asked_in_turn_and_what_the_ones_before_took_is_billed_at_their_price() -> None:
    models = Told(
        [card("a", DOLLAR), card("b", DIME), card("c", DOLLAR), card("d", DIME)],
        a=failed("a", 3),
        b=failed("b", 20, RejectedError),
        c=failed("c"),
        d="Because of it.",
    )
    asked = Asked(alone(instead="bcd"), models)
    assert models.asked == ["a", "b", "c", "d"]
    answer = asked.answer
    assert (answer.text, answer.status) == ("Because of it.", "ok")
    (draft,) = answer.drafts
    assert (draft.model, draft.answered_by) == ("a", "d")
    assert draft.wasted == Usage(completion_tokens=23)
    assert draft.cost == pytest.approx(3 * 1.0 + 20 * 0.1 + 3 * 0.1)
    said = [decision for decision in answer.decisions if decision.kind == "substituted"]
    assert [decision.detail for decision in said] == [
        SubstitutedDetail(model="a", by="b"),
        SubstitutedDetail(model="b", by="c"),
        SubstitutedDetail(model="c", by="d"),
    ]
    assert said[0].reason == "a failed (overloaded), b was asked instead"
    assert said[1].reason == "b failed (rejected), c was asked instead"
    assert all(decision.warning for decision in said)


def test_a_fall_back_that_took_nothing_more_adds_nothing() -> None:
    models = Told([card("a", DOLLAR), card("b", DOLLAR)], a=failed("a"), b="Because of it.")
    (draft,) = Asked(alone(instead="b"), models).answer.drafts
    assert (draft.wasted, draft.cost) == (None, 3.0)


def test_where_the_last_model_has_no_price_the_cost_is_not_known() -> None:
    models = Told([card("a", DOLLAR)], a=failed("a", 3), b="Because.")
    (draft,) = Asked(alone(instead="b"), models).answer.drafts
    assert (draft.wasted, draft.cost) == (Usage(completion_tokens=3), None)


def test_when_every_fall_back_fails_the_last_error_has_what_all_of_them_took() -> None:
    models = Told([card("a", DOLLAR), card("b", DOLLAR)], a=failed("a", 3), b=failed("b", 4, RejectedError))
    asked = Asked(alone(instead="b"), models)
    assert asked.error is not None
    failure = asked.lost.failure
    assert (failure.kind, failure.reason, failure.usage) == ("rejected", "no luck", Usage(completion_tokens=7))


def test_what_an_error_does_not_tell_is_what_the_one_before_told() -> None:
    models = Told(a=failed("a", 3), b=failed("b"))
    assert Asked(alone(instead="b"), models).lost.failure.usage == Usage(completion_tokens=3)


def test_no_fall_back_is_asked_once_the_time_is_up() -> None:
    class Late(Told):
        async def chat(self, request: Any, **_: Any) -> Completion:
            self.requests.append(request)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise failed("a") from None
            raise AssertionError

    models = Late()
    asked = Asked(alone(instead="b"), models, deadline=2.0)
    assert asked.error is not None
    assert models.asked == ["a"]


def gone(model: str, replacement: str | None = None) -> ModelGoneError:
    return ModelGoneError("own", model, f"there is no {model}", replacement=replacement)


def test_a_model_that_is_gone_gives_way_to_what_the_provider_names_and_that_is_remembered() -> None:
    models = Told(a=gone("a", "b"), b=gone("b", "c"), c="Because.")
    mixture = Mixture(alone(substitute=True), models=models)
    for asked in (["a", "b", "c"], ["c"]):
        models.requests.clear()
        answer = run_virtual(mixture.ask("Why?"))
        assert models.asked == asked
        assert answer.drafts[0].answered_by == "c"
        said = [decision for decision in answer.decisions if decision.kind == "substituted"]
        assert [decision.reason for decision in said] == [
            "a is gone, b was asked instead",
            "b is gone, c was asked instead",
        ]
        assert [decision.detail for decision in said] == [
            SubstitutedDetail(model="a", by="b", gone=True),
            SubstitutedDetail(model="b", by="c", gone=True),
        ]
        assert all(decision.warning for decision in said)


def test_models_that_name_each_other_are_asked_once_each() -> None:
    models = Told(a=gone("a", "b"), b=gone("b", "a"))
    mixture = Mixture(alone(substitute=True), models=models)
    for asked in (["a", "b"], ["b"]):
        models.requests.clear()
        with pytest.raises(MixturaError, match="there is no b"):
            run_virtual(mixture.ask("Why?"))
        assert models.asked == asked


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        ({}, ["a"]),
        ({"substitute": True}, ["a", "b"]),
        ({"substitutes": {"a": "c"}}, ["a", "c"]),
        ({"substitute": True, "substitutes": {"a": "c"}}, ["a", "c"]),
    ],
)
def test_whom_a_recipe_lets_be_asked_in_place_of_a_model_that_is_gone(policy: Any, asked: list[str]) -> None:
    models = Told(a=gone("a", "b"), b="From b.", c="From c.")
    Asked(alone(**policy), models)
    assert models.asked == asked


def test_the_catalogues_replacement_counts_where_the_provider_names_none() -> None:
    class Knows(Told):
        def replacement(self, provider: str, model: str) -> str | None:
            return {("own", "a"): "b"}.get((provider, model))

    models = Knows(a=gone("a"), b="Because.")
    assert Asked(alone(substitute=True), models).answer.text == "Because."


def words(count: int) -> str:
    return " ".join("a" * 9 for _ in range(count))


def test_a_prompt_that_is_far_too_large_is_not_sent() -> None:
    models = Told([card("a", window=1000, max_output=10)], a="Because.")
    asked = Asked(alone(), models, words(600))
    assert models.requests == []
    assert asked.lost.failure.kind == "too_large"
    assert isinstance(asked.error, NoAnswerError)
    assert [(lost.provider, lost.model) for lost in asked.error.failures] == [("own", "a")]
    reason = asked.lost.failure.reason
    assert reason.startswith("the prompt is about 1,")
    assert reason.endswith(" tokens and the model reads at most 1,000; not sent")


@pytest.mark.parametrize("known", [{"window": 1300}, {"window": None}])
def test_an_estimate_a_little_over_the_window_may_be_wrong_and_is_sent(known: dict[str, Any]) -> None:
    models = Told([card("a", **known)], a="Because.")
    assert Asked(alone(), models, words(600)).error is None


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (ValueError("a bug of mine"), "the model raised ValueError: a bug of mine"),
        (None, "the model returned NoneType, no whole Completion"),
        ({"text": "Because."}, "the model returned dict, no whole Completion"),
        (Completion(model="a", text=None), "the model returned Completion, no whole Completion"),  # type: ignore[arg-type]
        (
            Completion(model="a", text="Because.", usage=None),  # type: ignore[arg-type]
            "the model returned Completion, no whole Completion",
        ),
        (asyncio.CancelledError(), "the model cancelled its own call"),
    ],
)
def test_a_model_of_ones_own_that_breaks_its_contract_costs_its_call_and_is_said_plainly(
    reply: object, reason: str
) -> None:
    models = Told(a=[reply], b="From b.")
    two = (Proposer(model="a", provider="own"), Proposer(model="b", provider="own"))
    told = Recipe(layers=(Layer(proposers=two),), aggregator=Aggregator(kind="vote"))
    asked = Asked(told, models)
    assert asked.answer.text == "From b."
    failure = asked.lost.failure
    assert (failure.model, failure.provider, failure.kind) == ("a", "own", BrokenReplyError.kind)
    assert failure.reason == reason


def test_what_may_be_missing_from_a_reply_is_said_each_time_and_odd_fields_once_a_provider() -> None:
    said = Completion(model="a", text="Because.", warnings=("a piece was lost",), odd_fields=("content", "choices"))
    mixture = Mixture(alone(), models=Told(a=[said] * 2))
    first, second = (mixture.ask_sync("Why?").warnings for _ in range(2))
    assert first == [
        "the reply of a on own: a piece was lost",
        "own writes content, choices in another form than documented; its replies are read as far as they go",
    ]
    assert second == first[:1]


def test_what_the_user_has_to_change_is_no_failure_of_a_model() -> None:
    models = Told(a=ConfigError("set it up first"), b="From b.")
    asked = Asked(alone(instead="b"), models)
    assert isinstance(asked.error, ConfigError)
    assert asked.error.message == "set it up first"
    assert models.asked == ["a"]
