"""Which calls of a run a caller's options reach: on the wire, in the forecast, and in the page that says so."""

import re
from pathlib import Path

import pytest

from asking import World
from mixtura import Aggregator, ChatOptions, Layer, Mixture, Proposer, Recipe
from mixtura.caller_options import REACH
from mixtura.chat import JsonObject
from mixtura.errors import InputError
from mixtura.events import CallStarted, RunStarted
from mixtura.recipe import Policy
from mixtura.sim import Reply

DOCS = Path(__file__).parents[2] / "docs"
TOOL: JsonObject = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
WIRE = {"max_tokens": "max_completion_tokens"}
WORDS = {
    "writes": "the call that writes the answer",
    "answers": "calls whose reply can be the answer",
    "acts": "calls that may call tools",
    "all": "every call",
    "none": "no call",
}
GIVEN: dict[str, object] = {
    "temperature": 0.11,
    "top_p": 0.22,
    "max_tokens": 333,
    "seed": 44,
    "reasoning_effort": "high",
    "stop": ["HALT"],
    "service_tier": "flex",
    "user": "u1",
    "metadata": {"ticket": "T1"},
}
SMALL, LARGE, OTHER = "openai/gpt-oss-20b", "openai/gpt-oss-120b", "openai/gpt-oss-safeguard-20b"


def recipe(kind: str, **policy: object) -> Recipe:
    """Two drafts, and the kind of aggregator with a model where it takes one."""
    aggregator = None if kind == "vote" else LARGE
    return Recipe(
        layers=(Layer(proposers=(Proposer(model=SMALL, temperature=0.7), Proposer(model=OTHER, temperature=0.9))),),
        aggregator=Aggregator(kind=kind, model=aggregator or ""),  # type: ignore[arg-type]
        policy=Policy(**policy),  # type: ignore[arg-type]
    )


def sent(world: World, asked: str | Recipe, **given: object) -> dict[str, list[object]]:
    """Return what each model was sent of one field, by model."""
    ((name, value),) = given.items()
    ran = world(asked, "Which?", reply=lambda _request, call: f"Words of call {call}.", options=ChatOptions(**given))  # type: ignore[arg-type]
    assert ran.error is None, ran.error
    found: dict[str, list[object]] = {}
    for body in ran.cloud.requests:
        found.setdefault(body["model"], []).append(body.get(WIRE.get(name, name)))
    assert value is not None
    return found


@pytest.mark.parametrize("name", [*GIVEN])
def test_a_field_reaches_the_calls_that_the_table_names(world: World, name: str) -> None:
    value = GIVEN[name]
    found = sent(world, recipe("synthesize"), **{name: value})
    drafts, answer = [found[SMALL][0], found[OTHER][0]], found[LARGE][0]
    reach = REACH[name]
    assert (answer == value) == (reach != "none")
    if name == "seed":
        # Counted up, so that drafts of one model are not the same draft twice.
        assert drafts == [44, 45]
    elif reach == "all":
        assert drafts == [value, value]
    else:
        assert value not in drafts


def test_where_a_draft_is_the_answer_its_form_is_asked_of_drafts_and_its_sampling_stays(world: World) -> None:
    for kind in ("vote", "auto", "select", "merge"):
        for name in ("max_tokens", "stop", "reasoning_effort"):
            found = sent(world, recipe(kind), **{name: GIVEN[name]})
            assert found[SMALL] == found[OTHER] == [GIVEN[name]], (kind, name)
        found = sent(world, recipe(kind), temperature=0.11)
        assert (found[SMALL], found[OTHER]) == ([0.7], [0.9]), kind


def test_reviewers_and_selectors_get_nothing_that_shapes_the_answer(world: World) -> None:
    chairless = Recipe(layers=recipe("rank").layers, aggregator=Aggregator(kind="rank"))
    ran = world(chairless, "Which?", options=ChatOptions(max_tokens=50, stop="HALT"))
    drafts, reviews = ran.cloud.requests[:2], ran.cloud.requests[2:]
    assert [body.get("stop") for body in drafts] == ["HALT", "HALT"]
    assert [body.get("stop") for body in reviews] == [None, None]
    assert all(body["max_completion_tokens"] > 50 for body in reviews)
    ran = world(chairless, "Which?", options=ChatOptions(stop="HALT", extra={"user": "u2"}))
    assert {body.get("user") for body in ran.cloud.requests} == {"u2"}, "who asks is said of every call"
    ran = world(recipe("select"), "Which?", options=ChatOptions(max_tokens=50, temperature=0.1, extra={"top_k": 3}))
    (selector,) = [body for body in ran.cloud.requests if body["model"] == LARGE]
    assert selector["max_completion_tokens"] > 50
    assert "temperature" not in selector


def test_an_earlier_layer_is_not_asked_for_the_answers_form(world: World) -> None:
    layer = recipe("vote").layers[0]
    layered = Recipe(layers=(layer, layer), aggregator=Aggregator(kind="vote"))
    ran = world(layered, "Which?", options=ChatOptions(stop="HALT"))
    assert [body.get("stop") for body in ran.cloud.requests] == [None, None, "HALT", "HALT"]


def test_what_extra_says_of_a_field_with_a_name_is_that_field(world: World) -> None:
    options = ChatOptions(extra={"max_tokens": 55, "stop": "HALT", "frequency_penalty": 0.5, "user": "u2"})
    ran = world(recipe("synthesize"), "Which?", options=options)
    *drafts, answer = ran.cloud.requests
    assert (answer["max_completion_tokens"], answer["stop"], answer["frequency_penalty"]) == (55, "HALT", 0.5)
    assert "max_tokens" not in answer
    for body in drafts:
        assert body["user"] == "u2"
        assert body["max_completion_tokens"] != 55
        assert not {"stop", "frequency_penalty"} & body.keys()


def test_a_limit_of_the_caller_is_in_the_forecast_and_the_events() -> None:
    mixture = Mixture(recipe("synthesize"), env={"GROQ_API_KEY": "gsk_x"})
    plain = mixture.forecast("Which?")
    capped = mixture.forecast("Which?", options=ChatOptions(max_tokens=7))
    assert [row.completion_tokens for row in capped.rows] == [*(row.completion_tokens for row in plain.rows[:-1]), 7]


def test_the_events_say_what_each_call_was_asked_with(world: World) -> None:
    ran = world(recipe("synthesize"), "Which?", options=ChatOptions(temperature=0.11, metadata={"ticket": "T1"}))
    started = [event for event in ran.events if isinstance(event, CallStarted)]
    assert [event.parameters.temperature for event in started] == [0.7, 0.9, 0.11]
    first = ran.events[0]
    assert isinstance(first, RunStarted)
    assert first.options is not None
    assert first.options.metadata == {"ticket": "T1"}
    # Drafts are asked the conversation itself; the aggregator's prompt is there word for word.
    assert [event.messages is None for event in started] == [True, True, False]
    assert started[-1].messages is not None
    bodies = ran.prompts(LARGE)[0]
    assert [{"role": said.role, "content": said.content} for said in started[-1].messages] == bodies


def test_an_answer_that_the_callers_limit_ends_is_no_failure(world: World) -> None:
    def reply(request: JsonObject, call: int) -> Reply | str:
        if request["model"] == LARGE:
            return Reply(text="one two three four five six seven eight", reasoning="")
        return f"Draft {call}."

    for watched in (True, False):
        ran = world(recipe("synthesize"), "Which?", reply=reply, options=ChatOptions(max_tokens=4), watched=watched)
        assert ran.answer.finish_reason == "length"
        assert ran.answer.status == "ok"
        assert ran.answer.text
        assert ran.answer.text in "one two three four five six seven eight"
        assert not ran.answer.warnings
        assert "AnswerRestarted" not in [type(event).__name__ for event in ran.events]
    # The recipe's own limit is another matter: whole drafts are better than half an answer.
    short = Recipe(layers=recipe("vote").layers, aggregator=Aggregator(model=LARGE, max_tokens=4))
    ran = world(short, "Which?", reply=reply)
    assert ran.answer.status == "partial"


def test_a_stop_word_at_the_very_beginning_is_an_empty_answer_and_no_failure(world: World) -> None:
    def reply(request: JsonObject, call: int) -> Reply | str:
        return Reply(text="") if request["model"] == LARGE else f"Draft {call}."

    ran = world(recipe("synthesize"), "Which?", reply=reply, options=ChatOptions(stop=["HALT"]))
    assert (ran.answer.text, ran.answer.status, ran.answer.finish_reason) == ("", "ok", "stop")
    alone = Recipe(layers=(Layer(proposers=(Proposer(model=LARGE),)),))
    ran = world(alone, "Which?", reply=reply, options=ChatOptions(stop=["HALT"]))
    assert (ran.answer.text, ran.answer.status) == ("", "ok")


def test_images_go_to_every_model_with_the_question(world: World) -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    ran = world(recipe("synthesize"), "What is this?", options=ChatOptions(images=[url]))
    for body in ran.cloud.requests:
        parts = body["messages"][-1]["content"]
        assert {"type": "image_url", "image_url": {"url": url}} in parts
        assert parts[0] == {"type": "text", "text": "What is this?"}


def test_a_slots_own_settings_reach_its_calls(world: World) -> None:
    text = """
    [[proposers]]
    model = "openai/gpt-oss-20b"
    stop = ["END"]
    [[proposers]]
    model = "openai/gpt-oss-120b"
    extra = { frequency_penalty = 0.3 }
    [aggregator]
    model = "openai/gpt-oss-120b"
    stop = ["FIN"]
    """
    ran = world(Recipe.from_toml(text), "Which?", options=ChatOptions(stop="HALT"))
    assert [body.get("stop") for body in ran.cloud.requests] == [["END"], None, "HALT"]
    assert [body.get("frequency_penalty") for body in ran.cloud.requests] == [None, 0.3, None]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_tokens": 0}, "max_tokens: expected at least 1, got 0"),
        ({"temperature": 2.5}, "temperature: expected 0 to 2, got 2.5"),
        ({"temperature": float("nan")}, "temperature: expected 0 to 2, got nan"),
        ({"top_p": 0}, "top_p: expected above 0 and up to 1"),
        ({"stop": ""}, "stop: expected texts that are not empty"),
        ({"stop": ["a", ""]}, "stop: expected texts that are not empty"),
        ({"seed": 1.5}, "seed: expected"),
        ({"reasoning_effort": ""}, "reasoning_effort: expected text"),
        ({"tools": [TOOL, TOOL]}, "two are named 'weather'"),
        ({"tools": [{"type": "function"}]}, "expected a function with a name"),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice: expected auto, none, required"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "no tool is named 'x'"),
        ({"tool_choice": "required"}, "'required' needs tools"),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "either tools or a response_format"),
        ({"response_format": {"type": "yaml"}}, "expected the type text, json_object or json_schema"),
        ({"response_format": {"type": "json_schema"}}, "expected json_schema = {name, schema}"),
        ({"images": ["cat.png"]}, "images: expected http(s) or data:image/ URLs"),
        ({"metadata": {"n": 1}}, "metadata"),
        ({"extra": {"n": 2}}, "'n' cannot be 2"),
        ({"extra": {"functions": []}}, "set ChatOptions.tools"),
        ({"max_tokens": 5, "extra": {"max_completion_tokens": 6}}, "max_tokens is set twice"),
        ({"extra": {"max_tokens": "five"}}, "max_tokens: expected"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence_and_nothing_is_sent(
    world: World, options: JsonObject, said: str
) -> None:
    for asked in ("classic", "single"):
        with pytest.raises(InputError) as refused:
            Mixture(asked, env={"GROQ_API_KEY": "gsk_x"}).forecast("Which?", options=ChatOptions(**options))
        assert said in refused.value.message
        assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strin"},
        {"properties": 3},
        {"required": "a"},
        {"pattern": "("},
        {"$ref": "#/nowhere"},
        {"$ref": "http://127.0.0.1:1/schema"},
        {"$ref": "file:///etc/hostname"},
        {"minLength": "many"},
    ],
)
def test_a_schema_that_is_none_is_refused_and_nothing_is_fetched(schema: JsonObject) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(InputError, match="is no JSON schema"):
        Mixture("classic", env={"GROQ_API_KEY": "gsk_x"}).forecast("Which?", options=ChatOptions(response_format=form))


def test_the_page_says_which_calls_a_field_reaches() -> None:
    text = (
        (DOCS / "library.md")
        .read_text("utf-8")
        .partition("### What a caller may set")[2]
        .partition("\nThe call that")[0]
    )
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, re.MULTILINE)
    assert {name: said.strip() for name, said in rows} == {name: WORDS[reach] for name, reach in REACH.items()}
    assert set(REACH) == set(ChatOptions.__struct_fields__)
