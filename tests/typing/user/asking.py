"""A user asks: with and without an event loop, with options, a conversation, a forecast."""

from pathlib import Path
from typing import assert_type

import mixtura
from mixtura import Answer, ChatOptions, Draft, Forecast, Message, Mixture, Recipe, Usage
from mixtura.events import Call, Failure, Note


async def ask_with_options(mixture: Mixture) -> None:
    answer = await mixture.ask(
        "Why is the sky blue?",
        system="One sentence.",
        options=ChatOptions(stop=["\n\n"], response_format={"type": "json_object"}),
        deadline=20.0,
        max_cost=0.01,
        seed=1,
        priority="batch",
        watch="answer",
    )
    assert_type(answer, Answer)
    assert_type(answer.text, str)
    assert_type(answer.cost, float | None)
    assert_type(answer.drafts, list[Draft])
    assert_type(answer.calls, list[Call])
    assert_type(answer.failures, list[Failure])
    assert_type(answer.decisions, list[Note])
    assert_type(answer.warnings, list[str])
    assert_type(answer.usage, Usage)
    assert_type(answer.n_calls, int)
    assert_type(answer.to_json(), bytes)
    for draft in answer.drafts:
        assert_type(draft.choice, str)
        assert_type(draft.timing.first_token, float | None)


async def ask_in_a_conversation(mixture: Mixture) -> str:
    said = [Message(role="user", content="Why is the sky blue?")]
    first = await mixture.ask(said)
    wire = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": first.text}]
    second = await mixture.ask([*wire, {"role": "user", "content": "And at night?"}])
    mixed = await mixture.ask([*said, {"role": "user", "content": "And at night?"}])
    return second.text + mixed.text


def ask_without_a_loop() -> float:
    assert_type(mixtura.ask("Why?"), Answer)
    assert_type(mixtura.ask("Why?", Path("mine.toml"), deadline=5), Answer)
    mixture = Mixture(
        Recipe.named("classic"), env={"GROQ_API_KEY": "gsk_x"}, plan="developer", daily_budget=2.5, record="digest"
    )
    assert_type(mixture.ask_sync("Why?", seed=3), Answer)
    forecast = mixture.forecast("Why?")
    assert_type(forecast, Forecast)
    assert_type(forecast.cost, float | None)
    return forecast.cost or 0.0
