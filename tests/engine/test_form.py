"""The answer in the form that the caller asked for: repaired once, a draft in its place, or a clear error."""

import datetime as dt

import pytest

from asking import Ran, Reacts, World
from mixtura import Aggregator, ChatOptions, Layer, NoAnswerError, Proposer, Recipe
from mixtura.chat import JsonObject
from mixtura.events import AnswerDelta, AnswerFinished, AnswerRestarted
from mixtura.sim import Reply, SimOptions

SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
TODAY = dt.date(2026, 11, 1)
LAYER = (Layer(proposers=(Proposer(model=SMALL, samples=2),)),)
ALONE = Recipe(layers=(Layer(proposers=(Proposer(model=LARGE),)),))
OBJECT = ChatOptions(response_format={"type": "json_object"})
SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
COLOUR = ChatOptions(response_format={"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA}})
PROSE = "Sure! The colour is red, since roses are."


def writing(*texts: str, draft: str = "Red, I would say.") -> Reacts:
    """The large model writes `texts` in turn (the last one again and again), the small one the draft."""
    left = list(texts)

    def reply(request: JsonObject, call: int) -> Reply | str:
        if request["model"] != LARGE:
            return f"{draft} (Draft {call}.)"
        return left.pop(0) if len(left) > 1 else left[0]

    return reply


def ask(
    world: World, recipe: str | Recipe, reply: Reacts, options: ChatOptions = OBJECT, *, watched: bool = True
) -> Ran:
    """Ask a cloud that does not check what its models write, as servers of model files do not."""
    sim = SimOptions(unlimited=True, reply=reply, as_of=TODAY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mixtura.sim.generation._check_json", lambda *_: None)
        return world(recipe, "Name a colour.", sim=sim, options=options, watched=watched)


@pytest.mark.parametrize("kind", ["synthesize", "alone"])
@pytest.mark.parametrize("watched", [True, False])
def test_prose_in_place_of_json_is_repaired_once(world: World, kind: str, watched: bool) -> None:
    recipe = ALONE if kind == "alone" else Recipe(layers=LAYER, aggregator=Aggregator(model=LARGE))
    ran = ask(world, recipe, writing(PROSE, '{"colour": "red"}'), watched=watched)
    assert (ran.answer.text, ran.answer.status, ran.error) == ('{"colour": "red"}', "ok", None)
    assert "repaired" in ran.kinds
    assert [call.role for call in ran.answer.calls][-1] == "repair"
    asked = ran.prompts(LARGE)[-1]
    assert [turn["role"] for turn in asked[-2:]] == ["assistant", "user"]
    assert asked[-2]["content"] == PROSE
    assert "it is not JSON" in asked[-1]["content"]
    # Prose was never shown where JSON was asked for, so nothing is withdrawn.
    said = [
        event
        for event in ran.events
        if isinstance(event, AnswerDelta | AnswerRestarted) and not getattr(event, "reasoning", "")
    ]
    assert [getattr(event, "text", None) for event in said] == (['{"colour": "red"}'] if watched else [])


def test_a_draft_that_holds_the_schema_is_the_answer_where_no_repair_does(world: World) -> None:
    recipe = Recipe(layers=LAYER, aggregator=Aggregator(model=LARGE))
    ran = ask(world, recipe, writing(PROSE, '{"colour": "green"}', draft='{"colour": "blue"}'), COLOUR)
    assert ran.answer.text == '{"colour": "blue"}'
    assert ran.answer.status == "partial"
    assert any("has not the form" in said for said in ran.answer.warnings)
    assert len(ran.prompts(LARGE)) == 2


def test_without_any_reply_in_the_form_the_run_fails_and_says_why(world: World) -> None:
    for recipe in (ALONE, Recipe(layers=LAYER, aggregator=Aggregator(model=LARGE))):
        ran = ask(world, recipe, writing(PROSE), COLOUR)
        assert isinstance(ran.error, NoAnswerError)
        assert f"no reply has the form that was asked for; that of {LARGE}: it is not JSON" in ran.error.message
        assert ran.error.answer is not None
        assert ran.error.answer.cost


def test_an_error_without_the_form_says_why_the_repair_failed(world: World) -> None:
    def reply(request: JsonObject, call: int) -> Reply | str:
        repairs = any(turn["role"] == "assistant" for turn in request["messages"])
        return Reply(fault="400") if repairs else PROSE

    ran = ask(world, ALONE, reply, COLOUR)
    assert isinstance(ran.error, NoAnswerError)
    assert f"; asked again, {LARGE}" in ran.error.message
    assert [problem.kind for problem in ran.error.failures] == ["rejected"]


def test_drafts_that_only_vote_have_nobody_who_could_repair_them(world: World) -> None:
    recipe = Recipe(layers=LAYER, aggregator=Aggregator(kind="vote"))
    ran = ask(world, recipe, writing(PROSE), COLOUR)
    assert isinstance(ran.error, NoAnswerError)
    assert "say in the question what to write" in ran.error.message
    assert len(ran.cloud.requests) == 2


@pytest.mark.parametrize("words", ["", "Here you are: "])
def test_the_answer_names_the_repair_as_its_source_and_repeats_its_text_only_where_that_was_edited(
    world: World, words: str
) -> None:
    ran = ask(world, ALONE, writing(PROSE, words + '{"colour": "red"}'), COLOUR)
    (finished,) = [event for event in ran.events if isinstance(event, AnswerFinished)]
    (repair,) = [call for call in ran.answer.calls if call.role == "repair"]
    assert finished.source == repair.call
    assert finished.text == ('{"colour": "red"}' if words else None)


def test_fences_and_words_round_the_json_are_taken_off(world: World) -> None:
    for recipe in (ALONE, Recipe(layers=LAYER, aggregator=Aggregator(model=LARGE))):
        ran = ask(world, recipe, writing('Here you are:\n```json\n{"colour": "red"}\n```'), COLOUR)
        assert ran.answer.text == '{"colour": "red"}'
        assert "edited" in ran.kinds
        assert len(ran.prompts(LARGE)) == 1
        assert not ran.answer.warnings
        texts = [event.text for event in ran.events if isinstance(event, AnswerDelta) and event.text]
        assert "".join(texts) == '{"colour": "red"}'


def test_a_broken_aggregator_is_not_asked_to_repair_while_a_draft_has_the_form(world: World) -> None:
    recipe = Recipe(layers=LAYER, aggregator=Aggregator(model=LARGE))

    def reply(request: JsonObject, call: int) -> Reply | str:
        return Reply(fault="500") if request["model"] == LARGE else "Red." if call == 1 else '{"colour": "red"}'

    ran = ask(world, recipe, reply, COLOUR)
    assert ran.answer.text == '{"colour": "red"}'
    assert ran.answer.status == "partial"
    assert not any(call.role == "repair" for call in ran.answer.calls)


@pytest.mark.parametrize("kind", ["vote", "select", "auto", "merge"])
def test_drafts_without_the_form_are_left_out_where_a_draft_is_the_answer(world: World, kind: str) -> None:
    model = "" if kind == "vote" else LARGE
    recipe = Recipe(
        layers=(Layer(proposers=(Proposer(model=SMALL, samples=3),)),),
        aggregator=Aggregator(kind=kind, model=model),  # type: ignore[arg-type]
    )

    def reply(request: JsonObject, call: int) -> str:
        return {1: "Red!", 2: '{"colour": "blue"}', 3: '{"colour":"blue"}'}.get(call, "A")

    ran = ask(world, recipe, reply, COLOUR)
    assert ran.error is None, ran.error
    assert ran.answer.text.replace(" ", "") == '{"colour":"blue"}'
    assert "dropped" in ran.kinds
    assert all(body.get("response_format") for body in ran.cloud.requests if body["model"] == SMALL)


def test_an_aggregator_reads_drafts_in_any_form(world: World) -> None:
    recipe = Recipe(layers=LAYER, aggregator=Aggregator(model=LARGE))
    texts = {1: "Red, I would say.", 2: '{"colour": "blue"}', 3: '{"colour": "red"}'}
    ran = ask(world, recipe, lambda _request, call: texts[call], COLOUR)
    assert "dropped" not in ran.kinds
    (prompt,) = ran.prompts(LARGE)
    assert texts[1] in prompt[-1]["content"]
    assert texts[2] in prompt[-1]["content"]


def test_json_drafts_vote_by_what_they_say(world: World) -> None:
    recipe = Recipe(layers=(Layer(proposers=(Proposer(model=SMALL, samples=3),)),), aggregator=Aggregator(kind="vote"))
    texts = {1: '{"colour": "red"}', 2: '{"colour": "blue"}', 3: '{ "colour" : "blue" }'}
    ran = ask(world, recipe, lambda _request, call: texts[call], COLOUR)
    assert ran.answer.text in (texts[2], texts[3])
    assert not ran.answer.warnings


def test_json_that_the_callers_limit_cuts_off_is_given_as_it_is(world: World) -> None:
    options = ChatOptions(response_format={"type": "json_object"}, max_tokens=3)
    recipe = Recipe(layers=LAYER, aggregator=Aggregator(model=LARGE))
    ran = ask(world, recipe, writing('{"colour": "red and blue and green"}'), options)
    assert ran.error is None, ran.error
    assert ran.answer.finish_reason == "length"
    assert ran.answer.text.startswith('{"')
    assert len(ran.prompts(LARGE)) == 1


def test_the_forecast_holds_a_repair(world: World) -> None:
    from mixtura import Mixture

    recipe = Recipe(layers=LAYER, aggregator=Aggregator(model=LARGE))
    mixture = Mixture(recipe, env={"GROQ_API_KEY": "gsk_x"})
    most = mixture.forecast("Name a colour.", options=COLOUR)
    assert [row.role for row in most.rows] == ["proposer", "aggregator", "repair"]
    ran = ask(world, recipe, writing(PROSE, '{"colour": "red"}'), COLOUR)
    assert most.cost is not None
    assert ran.answer.cost is not None
    assert ran.answer.cost <= most.cost
    assert ran.answer.usage.prompt_tokens <= most.prompt_tokens
