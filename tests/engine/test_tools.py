"""Tools of the caller: who is offered them, which calls are calls, and who decided."""

import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import Reacts, World
from mixtura import (
    Aggregator,
    ChatOptions,
    ChatRequest,
    Completion,
    InputError,
    Layer,
    Mixture,
    NoAnswerError,
    Proposer,
    Recipe,
    Served,
    Usage,
)
from mixtura.chat import JsonObject
from mixtura.decisions import ActedDetail
from mixtura.engine import tools
from mixtura.engine.drafts import DraftSet
from mixtura.engine.tools import names_of
from mixtura.events import AnswerDelta, AnswerRestarted, Draft
from mixtura.planning.reductions import fewer
from mixtura.recipe import Tools, recipe_names
from mixtura.sim import Reply, SimOptions, ToolCall
from own_models import Echoes

TODAY = dt.date(2026, 11, 1)
TOOL: JsonObject = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
OTHER: JsonObject = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
ROME = ToolCall(name="weather", arguments='{"city":"Rome"}')
DRAFTS = (Layer(proposers=(Proposer(model=SMALL, samples=3),)),)
HISTORY: list[JsonObject] = [
    {"role": "user", "content": "Weather in Rome?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "Sunny."},
]


def acts(request: JsonObject, call: int) -> Reply | str:
    """Whoever is offered tools calls one, everybody else writes."""
    return Reply(text=None, tool_calls=(ROME,)) if request.get("tools") else f"Look it up ({call})."


def detail(ran_decisions: list[object]) -> ActedDetail:
    found = [said.detail for said in ran_decisions if said.kind == "acted"]  # type: ignore[attr-defined]
    assert len(found) == 1, found
    assert isinstance(found[0], ActedDetail)
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recipe_names() if name not in ("toy", "classic", "diverse")])
@pytest.mark.parametrize("watched", [True, False], ids=["streamed", "whole"])
def test_tools_reach_one_acting_model_in_every_built_in_recipe(world: World, name: str, watched: bool) -> None:
    options = ChatOptions(tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
    sim = SimOptions(unlimited=True, reply=acts, as_of=TODAY)
    ran = world(name, "Weather in Rome?", sim=sim, options=options, watched=watched)
    assert ran.error is None, ran.error
    offered = [body for body in ran.cloud.requests if body.get("tools")]
    assert len(offered) == 1
    assert (offered[0]["tool_choice"], offered[0]["parallel_tool_calls"]) == ("required", False)
    assert not [body for body in ran.cloud.requests if "parallel_tool_calls" in body and not body.get("tools")]
    assert ran.answer.tool_calls is not None
    assert ran.answer.tool_calls[0]["function"] == {"name": "weather", "arguments": '{"city":"Rome"}'}
    assert (ran.answer.finish_reason, ran.answer.status, ran.answer.warnings) == ("tool_calls", "ok", [])
    assert (detail(list(ran.answer.decisions)).by, detail(list(ran.answer.decisions)).tools) == ("model", ["weather"])


def test_a_recipe_that_nobody_writes_in_refuses_tools_by_its_name() -> None:
    for kind in ("vote", "rank"):
        recipe = Recipe(name="mine", layers=DRAFTS, aggregator=Aggregator(kind=kind))
        mixture = Mixture(recipe, env={"GROQ_API_KEY": "gsk_x"})
        with pytest.raises(InputError, match=r"'mine' takes no tools.*\[tools.acting\]"):
            mixture.forecast("Weather?", options=ChatOptions(tools=[TOOL]))
        # What nobody may call does not matter.
        mixture.forecast("Weather?", options=ChatOptions(tools=[TOOL], tool_choice="none"))


def test_a_named_model_acts_where_the_aggregator_has_none(world: World) -> None:
    recipe = Recipe(
        layers=DRAFTS, aggregator=Aggregator(kind="vote"), tools=Tools(acting=Aggregator(model=LARGE, temperature=0.1))
    )
    ran = world(recipe, "Weather?", reply=acts, options=ChatOptions(tools=[TOOL]))
    assert [body["model"] for body in ran.cloud.requests if body.get("tools")] == [LARGE]
    assert "Look it up (1)." in ran.prompts(LARGE)[0][-1]["content"]
    (said,) = [decision.reason for decision in ran.answer.decisions if decision.kind == "acted"]
    assert said == f"{LARGE} called weather"
    # Without tools the same recipe counts.
    ran = world(recipe, "Weather?", reply=lambda _r, _c: "The answer is 4.")
    assert ran.kinds == ["agreed"] or ran.kinds == ["voted"]
    assert not ran.prompts(LARGE)


@pytest.mark.parametrize("kind", ["synthesize", "select", "auto", "rank", "merge"])
def test_a_streamed_call_comes_in_pieces_that_add_up(world: World, kind: str) -> None:
    recipe = Recipe(layers=DRAFTS, aggregator=Aggregator(kind=kind, model=LARGE))  # type: ignore[arg-type]
    ran = world(recipe, "Weather?", reply=acts, options=ChatOptions(tools=[TOOL]))
    pieces = [piece for event in ran.events if isinstance(event, AnswerDelta) for piece in event.tool_calls or ()]
    assert "".join(piece["function"].get("arguments") or "" for piece in pieces) == '{"city":"Rome"}'
    assert [piece["function"]["name"] for piece in pieces if piece["function"].get("name")] == ["weather"]
    assert ran.answer.tool_calls is not None


def test_a_call_that_was_cut_off_is_no_call(world: World) -> None:
    def reply(request: JsonObject, call: int) -> Reply | str:
        if not request.get("tools"):
            return f"Sunny, I think ({call})."
        half = ToolCall(name="weather", arguments='{"city":"Ro')
        return Reply(text=None, tool_calls=(half,), finish_reason="length")

    recipe = Recipe(layers=DRAFTS, aggregator=Aggregator(model=LARGE))
    for watched in (True, False):
        options = ChatOptions(tools=[TOOL], extra={"disable_tool_validation": True})
        ran = world(recipe, "Weather?", reply=reply, options=options, watched=watched)
        assert ran.answer.tool_calls is None
        assert ran.answer.text.startswith("Sunny, I think")
        assert ran.answer.status == "partial"
        assert any("cut off at its output limit" in said for said in ran.answer.warnings)
        # What the reader saw of it is withdrawn, and what it took is billed.
        assert any(isinstance(event, AnswerRestarted) for event in ran.events) == watched
        assert ran.answer.usage.completion_tokens == ran.cloud.ledger.completion_tokens.total()


def test_what_attempts_before_a_call_that_is_none_took_is_billed() -> None:
    class Cut:
        async def chat(self, request: ChatRequest, **_: object) -> Completion:
            half = {"id": "a", "function": {"name": "weather", "arguments": '{"ci'}}
            took = Usage(prompt_tokens=5, completion_tokens=7)
            return Completion(
                model="m",
                text="",
                tool_calls=[half],
                finish_reason="length",
                usage=took,
                wasted=Usage(prompt_tokens=30),
            )

    class Models(Echoes):
        def find(self, provider: str, model: str) -> Served:
            return Served(Cut(), self.card(provider, model))

    recipe = Recipe(layers=(Layer(proposers=(Proposer(model="m"),)),))
    with pytest.raises(NoAnswerError) as failed:
        Mixture(recipe, models=Models()).ask_sync("Weather?", options=ChatOptions(tools=[TOOL]))
    assert failed.value.answer is not None
    assert failed.value.answer.usage.total_tokens == 42


def test_sound_calls_beside_a_broken_one_are_made_and_the_rest_is_said(world: World) -> None:
    def reply(request: JsonObject, call: int) -> Reply | str:
        if not request.get("tools"):
            return f"Hm ({call})."
        return Reply(text=None, tool_calls=(ROME, ToolCall(name="clock", arguments='{"zone":')), finish_reason="length")

    recipe = Recipe(layers=DRAFTS, aggregator=Aggregator(model=LARGE))
    options = ChatOptions(tools=[TOOL, OTHER], extra={"disable_tool_validation": True})
    ran = world(recipe, "Weather?", reply=reply, options=options)
    assert tools.names_of(ran.answer.tool_calls) == ["weather"]
    assert any("its call of clock was cut off" in said for said in ran.answer.warnings)


def completion(*calls: JsonObject, finish: str = "tool_calls") -> Completion:
    return Completion(model="m", text="", tool_calls=list(calls), finish_reason=finish)  # type: ignore[arg-type]


def test_what_odd_servers_send_becomes_calls_that_can_be_made() -> None:
    options = ChatOptions(tools=[TOOL, OTHER])
    sound, problems = tools.sound_calls(
        completion(
            {"function": {"name": "weather", "arguments": {"city": "Rome"}}},
            {"id": "x", "function": {"name": "clock", "arguments": ""}},
            {"id": "y", "function": {"name": "clock", "arguments": None}},
            {"id": "z", "function": {"name": "delete_everything", "arguments": "{}"}},
            {"id": "v", "function": {"name": "weather", "arguments": '["Rome"]'}},
        ),
        options,
        "0123456789abcdef",
    )
    assert [json.loads(call["function"]["arguments"]) for call in sound] == [{"city": "Rome"}, {}, {}]
    assert len({call["id"] for call in sound}) == 3
    assert all(call["type"] == "function" for call in sound)
    assert len(problems) == 2
    assert "delete_everything" in problems[0]


def test_a_model_that_was_offered_no_tools_calls_none(world: World) -> None:
    recipe = Recipe(layers=DRAFTS, aggregator=Aggregator(model=LARGE))
    ran = world(recipe, "Weather?", reply=lambda _r, _c: Reply(text="Sunny.", tool_calls=(ROME,)))
    assert ran.answer.tool_calls is None
    assert ran.answer.text == "Sunny."


def proposing(*calls: ToolCall | None) -> Reacts:
    """The first models propose `calls` in turn (None: they write); the large model calls the clock."""
    left = list(calls)

    def reply(request: JsonObject, _call: int) -> Reply | str:
        if request["model"] == LARGE:
            return Reply(text=None, tool_calls=(ToolCall(name="clock"),))
        made = left.pop(0)
        return "No tool is needed." if made is None else Reply(text=None, tool_calls=(made,))

    return reply


@pytest.mark.parametrize(
    ("calls", "needed", "by"),
    [
        ((ROME, ToolCall(name="weather", arguments='{ "city" : "Rome" }'), None), None, "agreement"),
        ((ROME, None, None), None, "model"),
        ((ROME, ToolCall(name="weather", arguments='{"city":"Oslo"}'), None), None, "model"),
        ((ROME, ROME, None), 3, "model"),
        ((ROME, None, None), 1, "agreement"),
    ],
)
def test_equal_proposals_decide_where_the_policy_says_so(
    world: World, calls: tuple[ToolCall | None, ...], needed: int | None, by: str
) -> None:
    recipe = Recipe(layers=DRAFTS, aggregator=Aggregator(model=LARGE), tools=Tools(policy="agree", agree=needed))
    ran = world(recipe, "Weather?", reply=proposing(*calls), options=ChatOptions(tools=[TOOL, OTHER]))
    assert ran.error is None, ran.error
    decided = detail(list(ran.answer.decisions))
    assert decided.by == by
    assert decided.tools == (["weather"] if by == "agreement" else ["clock"])
    assert bool(ran.prompts(LARGE)) == (by == "model")
    if by == "model":
        assert "[Calls weather(" in ran.prompts(LARGE)[0][-1]["content"]


def test_one_proposal_alone_agrees_with_nobody(world: World) -> None:
    recipe = Recipe(layers=DRAFTS, aggregator=Aggregator(model=LARGE), tools=Tools(policy="agree"))
    ran = world(recipe, "Weather?", reply=proposing(ROME, None, None), options=ChatOptions(tools=[TOOL, OTHER]))
    assert detail(list(ran.answer.decisions)).by == "model"
    # A smaller run than the policy counts on leaves the decision to the acting model.
    several = Recipe(layers=DRAFTS, aggregator=Aggregator(model=LARGE), tools=Tools(policy="agree", agree=3))
    for smaller, _ in fewer(several, SMALL):
        assert (smaller.tools.policy, smaller.tools.agree) == ("act", None)


@pytest.mark.parametrize(
    "arguments", ['{"x":NaN}', '{"x":1e999}', '{"x":"\\ud83d"}', '{"x":' + "[" * 700 + "]" * 700 + "}", "[1]", "7"]
)
def test_arguments_that_are_no_json_object_are_no_call(arguments: str) -> None:
    made = completion({"id": "a", "function": {"name": "weather", "arguments": arguments}})
    assert not tools.sound_calls(made, ChatOptions(tools=[TOOL]), "").calls


def test_the_choice_of_a_tool_and_calls_in_parallel_are_kept_to() -> None:
    calls = [{"id": name, "function": {"name": name, "arguments": "{}"}} for name in ("clock", "weather")]
    named = ChatOptions(tools=[TOOL, OTHER], tool_choice={"type": "function", "function": {"name": "weather"}})
    assert tools.names_of(tools.sound_calls(completion(*calls), named, "").calls) == ["weather"]
    single = ChatOptions(tools=[TOOL, OTHER], parallel_tool_calls=False)
    assert tools.names_of(tools.sound_calls(completion(*calls), single, "").calls) == ["clock"]


def test_a_tool_that_had_to_be_called_and_was_not_is_a_failure(world: World) -> None:
    options = ChatOptions(tools=[TOOL], tool_choice="required", extra={"disable_tool_validation": True})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mixtura.sim.generation._check_tool_calls", lambda *_: None)
        ran = world("single", "Weather?", reply=lambda _r, _c: "Sunny.", options=options)
    assert ran.error is not None
    assert "called no tool, though one was required" in ran.error.message


def test_text_beside_a_call_that_cannot_be_made_is_kept(world: World) -> None:
    def answering(_request: JsonObject, call: int) -> Reply:
        return Reply(text=f"Sunny {call}.", tool_calls=(ToolCall(name="nobody"),))

    options = ChatOptions(tools=[TOOL], extra={"disable_tool_validation": True})
    for recipe in ("single", Recipe(layers=DRAFTS, aggregator=Aggregator(model=LARGE))):
        ran = world(recipe, "Weather?", reply=answering, options=options)
        assert ran.error is None, ran.error
        assert ran.answer.text.startswith("Sunny")
        assert (ran.answer.tool_calls, ran.answer.finish_reason) == (None, "stop")
        assert any("is no tool that was offered" in said for said in ran.answer.warnings)


def draft(call: int, *made: tuple[str, JsonObject]) -> Draft:
    calls = [
        {"id": f"{call}{place}", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for place, (name, arguments) in enumerate(made)
    ]
    return Draft(call=call, role="proposer", model="m", provider="p", tool_calls=calls or None)


@given(st.permutations([("a", {"x": 1, "y": [1.0]}), ("b", {}), ("a", {"x": 2})]))
def test_the_order_of_calls_and_of_their_arguments_does_not_matter(made: list[tuple[str, JsonObject]]) -> None:
    same = [draft(0, ("a", {"y": [1], "x": 1}), ("b", {}), ("a", {"x": 2})), draft(1, *made), draft(2, ("b", {}))]
    assert tools.agreed(DraftSet(same), 2) == (same[0], 2)
    assert tools.agreed(DraftSet(same), 3) is None


def test_calls_without_tools_read_a_history_of_tools_as_text(world: World) -> None:
    def strict(request: JsonObject, call: int) -> Reply | str:
        turns = any(turn.get("tool_calls") or turn["role"] == "tool" for turn in request["messages"])
        assert not turns or request.get("tools"), "a server insists on tools beside such turns"
        return f"It is sunny ({call})."

    for kind in ("synthesize", "select", "rank"):
        recipe = Recipe(layers=(*DRAFTS, *DRAFTS), aggregator=Aggregator(kind=kind, model=LARGE))
        for options in (ChatOptions(tools=[TOOL]), ChatOptions()):
            ran = world(recipe, HISTORY, reply=strict, options=options)
            assert ran.error is None, ran.error
            assert ran.answer.text.startswith("It is sunny")
    acting = world("single", HISTORY, reply=strict, options=ChatOptions(tools=[TOOL])).cloud.requests
    assert [turn["role"] for turn in acting[0]["messages"]] == ["user", "assistant", "tool"]
    words = world("single", HISTORY, reply=strict).cloud.requests[0]["messages"]
    assert "[Calls weather(" in words[1]["content"]
    assert words[2] == {"role": "user", "content": "[Result of weather]\nSunny."}


@pytest.mark.parametrize("result", ["", "   ", "42"])
def test_a_conversation_that_ends_in_a_result_goes_on(world: World, result: str) -> None:
    history = [*HISTORY[:2], {"role": "tool", "tool_call_id": "c1", "content": result}]
    ran = world("fast", history, reply=lambda _r, _c: "It is sunny.", options=ChatOptions(tools=[TOOL]))
    assert ran.error is None, ran.error
    assert ran.answer.text == "It is sunny."


def test_a_call_without_a_name_is_named_in_words() -> None:
    assert names_of([{"type": "function", "function": {"name": "weather"}}, {}]) == ["weather", "a tool"]
    assert names_of(None) == []
