"""The kind `merge`: what counts as one field, what a model is asked of the others, and what a run says of it."""

import json
import re
from typing import Any

import pytest

from asking import Ran, Reacts, World
from mixtura import Aggregator, ChatOptions, Layer, Policy, Proposer, Recipe, prompts
from mixtura.chat import JsonObject
from mixtura.decisions import Detail, FellBackDetail, MergedDetail, NoticedDetail
from mixtura.engine.kinds.merge import Merge, Vote
from mixtura.events import CallStarted
from mixtura.sim import Reply

SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
OBJECT = ChatOptions(response_format={"type": "json_object"})


def merged(*values: Any, weights: tuple[float, ...] = ()) -> Merge:
    found = Merge([Vote(value, weights[place] if weights else 1.0) for place, value in enumerate(values)])
    found.value()
    return found


@pytest.mark.parametrize(
    ("values", "whole", "fields", "disputed"),
    [
        # Each leaf is a field; objects and lists of one length are walked through.
        ([{"a": 1, "b": {"c": 2, "d": [3, 4]}}] * 3, {"a": 1, "b": {"c": 2, "d": [3, 4]}}, 4, []),
        ([{"d": [1, 2]}, {"d": [1, 3]}, {"d": [1, 3]}], {"d": [1, 3]}, 2, []),
        ([{"d": [1, 2]}, {"d": [1, 3]}], {"d": [1, 2]}, 2, ["/d/1"]),
        # Lists of several lengths are one value each.
        ([{"d": [1]}, {"d": [1, 2]}, {"d": [1, 2]}], {"d": [1, 2]}, 1, []),
        ([{"d": []}, {"d": []}], {"d": []}, 0, []),
        # So are an object and something else.
        ([{"d": {"e": 1}}, {"d": 1}, {"d": 1}], {"d": 1}, 1, []),
        ([{"d": [1]}, {"d": {"e": 1}}, {"d": [1]}], {"d": [1]}, 1, []),
        # What most of them leave out is left out; what half of them have is disputed.
        ([{"a": 1}, {"a": 1}, {"a": 1, "b": 2}], {"a": 1}, 2, []),
        ([{"a": 1}, {"a": 1, "b": {"c": 2}}], {"a": 1}, 2, ["/b"]),
        ([{"a": 1, "b": [2]}, {"a": 1}], {"a": 1, "b": [2]}, 2, ["/b"]),
        ([{"b": 2}, {"b": 2}, {}], {"b": 2}, 1, []),
        # No field is a majority of itself where two stand against two.
        ([{"a": 1}, {"a": 2}, {"a": 1}, {"a": 2}], {"a": 1}, 1, ["/a"]),
        ([{"x/y": {"~z": 1}}, {"x/y": {"~z": 2}}], {"x/y": {"~z": 1}}, 1, ["/x~1y/~0z"]),
        # 1 and true are two values, and so are 1 and "1".
        ([{"a": True}, {"a": 1}, {"a": 1}], {"a": 1}, 1, []),
        ([{"a": "1"}, {"a": 1}], {"a": "1"}, 1, ["/a"]),
    ],
)
def test_a_field_is_what_all_drafts_can_be_compared_in(
    values: list[JsonObject], whole: JsonObject, fields: int, disputed: list[str]
) -> None:
    found = merged(*values)
    assert found.value() == whole
    assert found.fields == fields
    assert list(found.disputed) == disputed


def test_the_weight_of_a_draft_stands_behind_each_of_its_values() -> None:
    found = merged({"a": 1}, {"a": 2}, {"a": 3}, weights=(1.0, 2.5, 1.0))
    assert (found.value(), found.disputed) == ({"a": 2}, {})
    # Half of the weight is no majority.
    found = merged({"a": 1}, {"a": 2}, {"a": 1}, weights=(1.0, 2.0, 1.0))
    assert (found.value(), found.disputed) == ({"a": 1}, {"/a": [Vote(1, 2.0), Vote(2, 2.0)]})
    found = merged({"a": [1]}, {"a": [2]}, {"a": [3]}, weights=(1.0, 2.0, 1.0))
    assert (found.value(), found.disputed) == ({"a": [2]}, {"/a/0": [Vote(2, 2.0), Vote(1, 1.0), Vote(3, 1.0)]})


def test_a_value_that_was_left_out_is_no_value_to_choose_from() -> None:
    found = merged({"a": 1, "b": 5}, {"a": 1}, {"a": 1, "b": 6}, {"a": 1})
    assert found.disputed == {"/b": [Vote(5, 1.0), Vote(6, 1.0)]}
    assert found.value() == {"a": 1}


def test_a_field_that_was_decided_has_that_value_and_is_disputed_no_more() -> None:
    found = merged({"a": 1, "b": {"c": 1}}, {"a": 2, "b": {"c": 2}})
    found.decide("/b/c", 7)
    assert (found.value(), list(found.disputed), found.fields) == ({"a": 1, "b": {"c": 7}}, ["/a"], 2)


def recipe(count: int, weights: tuple[float, ...] = ()) -> Recipe:
    slots = tuple(Proposer(model=SMALL, weight=weights[place] if weights else 1.0) for place in range(count))
    return Recipe(
        layers=(Layer(proposers=slots),),
        aggregator=Aggregator(kind="merge", model=LARGE),
        policy=Policy(hedge=False),
    )


def ask(world: World, *said: Any, decides: Any = None, options: ChatOptions = OBJECT, **more: Any) -> Ran:
    def reply(request: JsonObject, call: int) -> Reply | str:
        if request["model"] == LARGE:
            return decides(request) if callable(decides) else as_text(decides)
        return as_text(left.pop(0))

    left = list(said)
    react: Reacts = reply
    asked = recipe(len(said), more.pop("weights", ()))
    return world(asked, "Who wrote it?", reply=react, options=options, **more)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloud that does not check what its models write, as servers of model files do not."""
    monkeypatch.setattr("mixtura.sim.generation._check_json", lambda *_: None)


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def told(ran: Ran) -> list[tuple[Detail | None, str, bool]]:
    return [(said.detail, said.reason, said.warning) for said in ran.answer.decisions]


def test_a_merge_says_how_many_fields_of_how_many_drafts(world: World) -> None:
    ran = ask(world, {"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 4, "b": 3})
    assert told(ran) == [(MergedDetail(fields=2), "2 fields of 3 drafts merged", False)]
    assert json.loads(ran.answer.text) == {"a": 1, "b": 3}
    # It is no draft's, word for word or otherwise: call 1 says the same.
    assert ran.answer.source == 1
    ran = ask(world, {"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 4, "b": 3}, {"a": 4, "b": 2}, decides={"/a": 9, "/b": 8})
    assert json.loads(ran.answer.text) == {"a": 9, "b": 8}
    assert ran.answer.source is None
    said = "2 fields of 4 drafts merged; 2 in which they differ: /a, /b"
    assert told(ran) == [(MergedDetail(fields=2, disputed=["/a", "/b"]), said, False)]


def test_of_many_disputed_fields_eight_are_named(world: World) -> None:
    ran = ask(world, *({f"f{n}": [draft, n] for n in range(10)} for draft in range(2)), decides={})
    names = ", ".join(f"/f{n}/0" for n in range(8))
    silent, merging = told(ran)
    assert silent[1:] == (f"{LARGE} said nothing of {names}; the most weight decides", True)
    assert isinstance(silent[0], NoticedDetail)
    assert silent[0].call == 2
    assert merging[1] == f"20 fields of 2 drafts merged; 10 in which they differ: {names}"
    assert isinstance(merging[0], MergedDetail)
    assert len(merging[0].disputed) == 10


def test_the_weights_of_the_proposers_count(world: World) -> None:
    ran = ask(world, {"a": 1}, {"a": 2}, {"a": 1}, weights=(1.0, 3.0, 1.0))
    assert json.loads(ran.answer.text) == {"a": 2}
    assert ran.kinds == ["merged"]


def test_a_model_reads_the_question_its_task_and_only_the_fields_in_which_drafts_differ(world: World) -> None:
    options = ChatOptions(response_format={"type": "json_object"}, user="u1")
    ran = ask(world, {"a": 1, "b": {"c": "x"}}, {"a": 1, "b": {"c": "y"}}, decides={"/b/c": "y"}, options=options)
    ((system, user),) = ran.prompts(LARGE)
    assert system == {"role": "system", "content": prompts.MERGE}
    marker = re.findall(r"<(m[0-9a-f]{12}) field>", user["content"])[0]
    assert user["content"] == (
        f"Who wrote it?\n\nFields, each between lines that begin with <{marker} and </{marker}:\n\n"
        f'<{marker} field>\n/b/c\n</{marker} field>\n<{marker} values>\n"x"\n"y"\n</{marker} values>'
    )
    (sent,) = [body for body in ran.cloud.requests if body["model"] == LARGE]
    assert (sent["response_format"], sent["user"]) == ({"type": "json_object"}, "u1")
    (started,) = [event for event in ran.events if isinstance(event, CallStarted) and event.model == LARGE]
    assert (started.role, started.layer) == ("aggregator", 1)
    assert json.loads(ran.answer.text) == {"a": 1, "b": {"c": "y"}}
    assert ran.answer.source == 1
    assert ran.answer.status == "ok"


def test_two_fields_stand_one_below_the_other(world: World) -> None:
    ran = ask(world, {"a": 1, "b": 3}, {"a": 2, "b": 4}, decides={"a": 2, "b": 4})
    shown = re.sub(r"m[0-9a-f]{12}", "M", ran.prompts(LARGE)[0][-1]["content"])
    assert shown.endswith("<M field>\n/b\n</M field>\n<M values>\n3\n4\n</M values>")
    assert "</M values>\n\n<M field>" in shown
    assert json.loads(ran.answer.text) == {"a": 2, "b": 4}


def test_the_recipes_own_instructions_stand_in_place_of_ours(world: World) -> None:
    own = Recipe(
        layers=(Layer(proposers=(Proposer(model=SMALL, samples=2),)),),
        aggregator=Aggregator(kind="merge", model=LARGE, system="Decide in JSON."),
    )
    left = ['{"a": 1}', '{"a": 2}', '{"/a": 2}']
    ran = world(own, reply=lambda _r, _c: left.pop(0), options=OBJECT)
    assert ran.prompts(LARGE)[0][0]["content"] == "Decide in JSON."


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "decides",
    [
        {"/b~1c/d/0": 7},
        {"b~1c/d/0": 7},
        {"b/c": {"d": {"0": 7}}},
        {"b/c": {"d": [7]}},
        "```json\n" + '{"/b~1c/d/0": 7}' + "\n```",
    ],
)
def test_a_decision_is_read_by_its_pointer_or_in_an_object_like_the_drafts(world: World, decides: Any) -> None:
    ran = ask(world, {"b/c": {"d": [1]}}, {"b/c": {"d": [2]}}, decides=decides)
    assert json.loads(ran.answer.text) == {"b/c": {"d": [7]}}
    assert not ran.answer.warnings


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("decides", [{"b": 3}, {"b": {"x": 1}}, {"b": None}, {"b": [1]}, "I do not know."])
def test_a_reply_that_does_not_reach_a_field_decides_nothing_of_it(world: World, decides: Any) -> None:
    options = ChatOptions()
    ran = ask(world, {"b": {"d": 1}, "e": 5}, {"b": {"d": 2}, "e": 5}, decides=decides, options=options)
    assert json.loads(ran.answer.text) == {"b": {"d": 1}, "e": 5}
    assert f"{LARGE} said nothing of /b/d; the most weight decides" in ran.answer.warnings


def test_a_name_with_signs_of_a_pointer_is_found_in_an_object_like_the_drafts(world: World) -> None:
    ran = ask(world, {"x/y": {"~z": 1}}, {"x/y": {"~z": 2}}, decides={"x/y": {"~z": 3}})
    assert json.loads(ran.answer.text) == {"x/y": {"~z": 3}}


def test_a_list_that_is_shorter_than_the_drafts_decides_what_it_holds(world: World) -> None:
    ran = ask(world, {"d": [1, 2]}, {"d": [3, 4]}, decides={"d": [3]})
    assert json.loads(ran.answer.text) == {"d": [3, 2]}
    assert ran.answer.warnings == [f"{LARGE} said nothing of /d/1; the most weight decides"]


def test_null_is_a_value_that_can_be_decided(world: World) -> None:
    ran = ask(world, {"a": 1}, {"a": 2}, decides={"/a": None})
    assert json.loads(ran.answer.text) == {"a": None}


def test_what_is_decided_for_some_fields_holds_and_the_rest_is_said(world: World) -> None:
    ran = ask(world, {"a": 1, "b": 3}, {"a": 2, "b": 4}, decides={"/b": 4})
    assert json.loads(ran.answer.text) == {"a": 1, "b": 4}
    assert ran.answer.warnings == [f"{LARGE} said nothing of /a; the most weight decides"]


def test_a_decision_that_copies_the_marker_is_none(world: World) -> None:
    def copies(request: JsonObject) -> str:
        marker = re.findall(r"<(m[0-9a-f]{12}) field>", request["messages"][-1]["content"])[0]
        return json.dumps({"/a": f"<{marker} values>", "/b": 4})

    ran = ask(world, {"a": 1, "b": 3}, {"a": 2, "b": 4}, decides=copies)
    assert json.loads(ran.answer.text) == {"a": 1, "b": 4}
    assert ran.answer.warnings == [f"{LARGE} said nothing of /a; the most weight decides"]


def test_a_model_that_could_not_be_asked_is_said_and_the_answer_is_partial(world: World) -> None:
    ran = ask(world, {"a": 1}, {"a": 2}, decides={}, faults=f"400:{LARGE}")
    detail, reason, warning = told(ran)[0]
    assert re.fullmatch(rf"{LARGE} could not be asked about the fields in which the drafts differ \(.+\)", reason)
    assert (detail, warning) == (NoticedDetail(), True)
    assert (ran.answer.text, ran.answer.status) == ('{"a":1}', "partial")


@pytest.mark.usefixtures("unchecked")
def test_one_draft_that_has_the_form_is_not_merged(world: World) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = ChatOptions(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    ran = ask(world, "Prose.", '{"a": 1}', "More prose.", options=form)
    assert told(ran)[-1] == (
        MergedDetail(),
        "only one draft has the form that was asked for; nothing to merge",
        False,
    )
    assert (ran.answer.text, ran.answer.source, ran.answer.n_calls) == ('{"a": 1}', 1, 3)


def test_one_object_among_prose_is_composed_with_it(world: World) -> None:
    ran = ask(world, "Prose.", '{"a": 1}', "More prose.", decides="Written.", options=ChatOptions())
    assert told(ran)[0] == (NoticedDetail(), "the drafts are no JSON objects, so they cannot be merged", True)
    assert ran.answer.text == "Written."


def test_two_objects_among_prose_are_merged(world: World) -> None:
    ran = ask(world, "Prose.", '{"a": 1}', '{"a": 1, "b": 2}', decides={"/b": 2}, options=ChatOptions())
    assert told(ran)[0][1] == "2 fields of 2 drafts merged; 1 in which they differ: /b"
    assert json.loads(ran.answer.text) == {"a": 1, "b": 2}


def test_json_that_is_no_object_cannot_be_merged(world: World) -> None:
    array = {"type": "array", "items": {"type": "integer"}}
    form = ChatOptions(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": array}})
    ran = ask(world, "[1]", "[2]", decides="[3]", options=form)
    assert told(ran)[0][1] == "the drafts are no JSON objects, so they cannot be merged"
    assert ran.answer.text == "[3]"


def test_fields_that_do_not_hold_together_give_way_to_a_whole_draft(world: World) -> None:
    schema = {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}
    form = ChatOptions(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    ran = ask(world, {"a": 1}, {"a": 2}, {"b": 1}, {"b": 2}, decides={"/a": 1, "/b": 1}, options=form)
    detail, reason, warning = told(ran)[-1]
    assert reason.startswith(f"the merged fields do not hold together; took the draft of {SMALL} (")
    assert isinstance(detail, NoticedDetail)
    assert (detail.call, warning) == (ran.answer.source, True)
    assert json.loads(ran.answer.text) in ({"a": 1}, {"a": 2}, {"b": 1}, {"b": 2})
    assert not any(isinstance(said.detail, FellBackDetail) for said in ran.answer.decisions)
