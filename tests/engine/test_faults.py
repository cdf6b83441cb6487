"""Whatever a provider does, a run ends in a right answer with its decision said, or in one clear sentence."""

import msgspec
import pytest

from asking import World
from mixtura import Aggregator, ChatOptions, Layer, Policy, Proposer, Recipe
from mixtura.chat import JsonObject
from mixtura.events import RunFinished
from mixtura.sim import Reply

# The classic mixture, waiting for everybody: what becomes of one call is seen best where nothing protects it.
CLASSIC = Recipe.named("classic")
PATIENT = msgspec.structs.replace(CLASSIC, policy=Policy(deadline=60.0))

ANSWERS = {"llama": "LSM-trees, says draft {n}.", "gemma": "LSM-trees it is.", "seventy": "Take an LSM-tree."}

LOSES_ONE = [
    ("401:gemma2-9b-it", "unauthorized"),
    ("403:gemma2-9b-it", "unauthorized"),
    ("404:gemma2-9b-it", "model_gone"),
    ("decommissioned:gemma2-9b-it", "model_gone"),
    ("413:gemma2-9b-it", "too_large"),
    ("context:gemma2-9b-it", "too_large"),
    ("400:gemma2-9b-it", "rejected"),
    ("409:gemma2-9b-it", "overloaded"),
    ("422:gemma2-9b-it", "rejected"),
    ("429=420:gemma2-9b-it", "rate_limited"),
    ("498:gemma2-9b-it", "overloaded"),
    ("500:gemma2-9b-it", "overloaded"),
    ("502:gemma2-9b-it", "overloaded"),
    ("503:gemma2-9b-it", "overloaded"),
    ("reset:gemma2-9b-it", "unreachable"),
    ("reset_headers:gemma2-9b-it", "unreachable"),
    ("json_validate:gemma2-9b-it", "bad_generation"),
    ("silent:gemma2-9b-it", "timed_out"),
    ("drip:gemma2-9b-it", "timed_out"),
    ("stall:gemma2-9b-it", "timed_out"),
]
IN_STREAMS = [
    ("cut:gemma2-9b-it", "unreachable"),
    ("truncated:gemma2-9b-it", "broken_reply"),
    ("error_event:gemma2-9b-it", "bad_generation"),
    ("flood=10:gemma2-9b-it", "broken_reply"),
]
ODD = [
    ("empty_choices:gemma2-9b-it", "broken_reply"),
    ("not_json:gemma2-9b-it", "broken_reply"),
    ("not_completion:gemma2-9b-it", "broken_reply"),
]
EVERY = [
    *((fault, kind, watched) for fault, kind in LOSES_ONE for watched in (True, False)),
    *((fault, kind, True) for fault, kind in IN_STREAMS),
    *((fault, kind, watched) for fault, kind in ODD for watched in (True, False)),
]


@pytest.mark.parametrize(("fault", "kind", "watched"), EVERY)
def test_a_proposer_that_fails_is_reported_and_loses_no_sibling(
    world: World, fault: str, kind: str, watched: bool
) -> None:
    ran = world(PATIENT, reply=world.by_model(**ANSWERS), faults=fault, watched=watched)
    assert ran.error is None
    assert ran.answer.text == "Take an LSM-tree."
    assert [draft.model for draft in ran.answer.drafts] == [world.LLAMA, world.LLAMA]
    # One that breaks off while it writes is tried once more.
    assert {(failure.model, failure.kind) for failure in ran.answer.failures} == {(world.GEMMA, kind)}
    assert ran.cloud.ledger.in_flight == 0
    assert sum(isinstance(event, RunFinished) for event in ran.events) == watched
    assert ran.seconds < 60


@pytest.mark.parametrize(
    ("fault", "watched"), [(row[0].replace("gemma2-9b-it", "llama-3.3-70b-versatile"), row[2]) for row in EVERY]
)
def test_an_aggregator_that_fails_gives_way_to_the_best_draft_and_says_so(
    world: World, fault: str, watched: bool
) -> None:
    replies = {
        "llama": "The answer is 42. Draft {n}.",
        "gemma": "The answer is 7.",
        "seventy": "The answer is 1, said slowly.",
    }
    ran = world("classic", reply=world.by_model(**replies), faults=fault, watched=watched)
    assert ran.error is None
    assert "The answer is 42." in ran.answer.text
    assert ran.answer.status == "partial"
    assert "fell_back" in ran.kinds
    assert any("the aggregator failed" in warning for warning in ran.answer.warnings)
    assert ran.seconds <= 60.05
    assert ran.cloud.ledger.in_flight == 0


@pytest.mark.parametrize("after", ["0.5", "7.66", "0", "none", "date+3", "20"])
def test_a_rate_limit_that_passes_in_time_is_waited_for(world: World, after: str) -> None:
    ran = world(PATIENT, reply=world.by_model(**ANSWERS), faults=f"429={after}@1:gemma2-9b-it")
    assert len(ran.answer.drafts) == 3
    gemma = next(draft for draft in ran.answer.drafts if draft.model == world.GEMMA)
    assert gemma.attempts == 2
    assert ran.answer.failures == []


@pytest.mark.parametrize("after", ["61", "420"])
def test_a_rate_limit_longer_than_the_deadline_is_not_waited_for(world: World, after: str) -> None:
    ran = world(PATIENT, reply=world.by_model(**ANSWERS), faults=f"429={after}@1:gemma2-9b-it")
    assert ran.seconds < 2
    assert f"it would have to wait {after} s" in ran.answer.failures[0].reason
    longer = world(PATIENT, reply=world.by_model(**ANSWERS), faults=f"429={after}@1:gemma2-9b-it", deadline=3000)
    assert len(longer.answer.drafts) == 3
    assert longer.seconds > float(after)


@pytest.mark.parametrize("status", ["401", "403", "413", "404", "400"])
def test_what_cannot_succeed_is_asked_once(world: World, status: str) -> None:
    ran = world("classic", reply=world.by_model(**ANSWERS), faults=f"{status}:gemma2-9b-it")
    assert len(ran.prompts(world.GEMMA)) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("null_content:gemma2-9b-it", "wrote an empty draft"),
        ("empty_text:gemma2-9b-it", "wrote an empty draft"),
        ("only_reasoning:gemma2-9b-it", "it spent them on reasoning"),
    ],
)
def test_a_draft_without_text_is_billed_and_left_out(world: World, fault: str, words: str) -> None:
    ran = world("classic", reply=world.by_model(**ANSWERS), faults=fault)
    assert any(words in warning for warning in ran.answer.warnings)
    assert ran.answer.usage.total_tokens == ran.cloud.ledger.total_tokens
    (prompt,) = ran.prompts(world.SEVENTY)
    assert prompt[-1]["content"].count("draft B>") == 2
    assert "draft C>" not in prompt[-1]["content"]


@pytest.mark.parametrize("fault", ["null_content", "empty_text", "only_reasoning"])
def test_an_aggregator_without_words_gives_way_to_a_draft(world: World, fault: str) -> None:
    ran = world("classic", reply=world.by_model(**ANSWERS), faults=f"{fault}:llama-3.3-70b-versatile")
    assert ran.answer.text.startswith("LSM-trees")
    assert "wrote no answer" in ran.answer.warnings[-1]


def test_a_cut_off_aggregator_gives_way_to_a_whole_draft(world: World) -> None:
    def reply(request: JsonObject, call: int) -> Reply | str:
        if request["model"] == world.SEVENTY:
            return Reply(text="Take an LSM-tree, because", finish_reason="length")
        return f"LSM-trees, says draft {call}."

    ran = world("classic", reply=reply)
    assert ran.answer.text.startswith("LSM-trees, says draft")
    assert "cut off at its output limit" in ran.answer.warnings[-1]


def test_a_cut_off_answer_stands_where_every_draft_is_cut_off_too(world: World) -> None:
    def reply(request: JsonObject, call: int) -> Reply:
        return Reply(text=f"As far as I got {call}", finish_reason="length")

    ran = world("classic", reply=reply)
    assert ran.answer.text == "As far as I got 4"
    assert ran.answer.finish_reason == "length"
    assert "the answer is cut off at its output limit" in ran.answer.warnings


def test_a_refusing_aggregator_gives_way_unless_the_drafts_refuse_too(world: World) -> None:
    no = "I'm sorry, but I can't help with that."
    ran = world("classic", reply=world.by_model(**{**ANSWERS, "seventy": no}))
    assert ran.answer.text.startswith("LSM-trees")
    assert "refused, while the drafts answer" in ran.answer.warnings[-1]
    all_refuse = world("classic", reply=world.by_model(llama=no + " {n}", gemma="I cannot answer that.", seventy=no))
    assert all_refuse.answer.text == no
    assert all_refuse.answer.status == "ok"


def test_when_every_proposer_fails_the_aggregator_answers_alone(world: World) -> None:
    ran = world("classic", reply=world.by_model(**ANSWERS), faults="500:llama-3.1-8b-instant,500:gemma2-9b-it")
    assert ran.answer.text == "Take an LSM-tree."
    assert ran.answer.status == "partial"
    assert ran.prompts(world.SEVENTY)[0] == [{"role": "user", "content": "Which index suits heavy writes?"}]


def test_when_all_drafts_are_empty_the_aggregator_answers_alone(world: World) -> None:
    ran = world("classic", reply=world.by_model(llama="", gemma="  ", seventy="Take an LSM-tree."))
    assert ran.answer.text == "Take an LSM-tree."
    assert "no usable draft came" in ran.answer.warnings[-1]


def test_a_wrong_key_is_one_sentence_and_no_aggregator_call(world: World) -> None:
    ran = world("classic", faults="401")
    assert ran.error is not None
    assert "key" in ran.error.message
    assert "gsk_" not in ran.error.message
    assert ran.error.exit_code == 3
    assert ran.prompts(world.SEVENTY) == []
    assert ran.answer.error == ran.error.message


def test_where_the_key_is_refused_no_later_layer_or_stronger_model_is_asked(world: World) -> None:
    layer = Layer(proposers=(Proposer(model=world.LLAMA), Proposer(model=world.GEMMA)))
    for recipe in (
        Recipe(layers=(layer, layer), aggregator=Aggregator(model=world.SEVENTY)),
        Recipe(layers=(layer,), escalate=layer, aggregator=Aggregator(kind="vote")),
    ):
        ran = world(recipe, faults="401")
        assert ran.error is not None
        assert len(ran.cloud.requests) == 2


def test_the_most_telling_failure_speaks_for_all(world: World) -> None:
    ran = world("classic", faults="500:llama-3.1-8b-instant,decommissioned:gemma2-9b-it,500:llama-3.3-70b-versatile")
    assert ran.error is not None
    assert "gemma2-9b-it" in ran.error.message
    assert "llama-3.1-8b-instant" in ran.error.message or "gpt-oss-20b" in ran.error.message


def test_a_deadline_nobody_meets_is_one_clear_error_in_time(world: World) -> None:
    ran = world("classic", faults="silent", deadline=5)
    assert ran.error is not None
    assert "deadline of 5 s" in ran.error.message
    assert ran.seconds <= 5.05
    assert ran.cloud.ledger.in_flight == 0


def test_a_hanging_proposer_leaves_the_aggregator_its_share_of_the_deadline(world: World) -> None:
    ran = world(PATIENT, reply=world.by_model(**ANSWERS), faults="silent:gemma2-9b-it", deadline=8)
    assert ran.answer.text == "Take an LSM-tree."
    # At least half of an even share, and no more than the models' published speeds ask for.
    assert 2 <= ran.seconds < 5


def test_a_proposer_that_hangs_for_ever_costs_a_built_in_recipe_seconds(world: World) -> None:
    ran = world("classic", reply=world.by_model(**ANSWERS), faults="silent:gemma2-9b-it")
    assert ran.answer.text == "Take an LSM-tree."
    assert ran.seconds < 5
    assert ran.cloud.ledger.in_flight == 0


def test_a_quorum_drops_the_stragglers_and_closes_their_calls(world: World) -> None:
    recipe = Recipe(
        layers=(Layer(proposers=(Proposer(model=world.LLAMA, samples=2), Proposer(model=world.GEMMA))),),
        aggregator=Aggregator(model=world.SEVENTY),
        policy=Policy(quorum=2),
    )
    ran = world(recipe, reply=world.by_model(**ANSWERS), faults="silent:gemma2-9b-it")
    assert ran.seconds < 1
    assert ran.answer.failures[0].kind == "abandoned"
    assert ran.cloud.ledger.in_flight == 0
    assert ran.cloud.ledger.aborted == 1


def test_a_gone_model_is_substituted_when_the_policy_allows_and_the_answer_says_so(world: World) -> None:
    recipe = Recipe(
        layers=(Layer(proposers=(Proposer(model="qwen-qwq-32b"), Proposer(model=world.LLAMA))),),
        aggregator=Aggregator(model=world.SEVENTY),
        policy=Policy(substitute=True),
    )
    ran = world(recipe, reply=world.by_model(**ANSWERS))
    assert len(ran.answer.drafts) == 2
    assert any(warning.startswith("qwen-qwq-32b is gone") for warning in ran.answer.warnings)
    assert ran.answer.drafts[0].answered_by not in ("", "qwen-qwq-32b")


def test_substitutes_of_the_recipe_go_before_the_catalogue_and_chains_end(world: World) -> None:
    recipe = Recipe(
        layers=(Layer(proposers=(Proposer(model="no-such-a"),)),),
        policy=Policy(substitutes={"no-such-a": "no-such-b", "no-such-b": "no-such-c"}),
    )
    ran = world(recipe)
    assert ran.error is not None
    assert [body["model"] for body in ran.cloud.requests] == ["no-such-a", "no-such-b", "no-such-c"]
    assert "no-such-c" in ran.error.message


def test_no_error_text_of_a_provider_reaches_another_model(world: World) -> None:
    ran = world("classic", reply=world.by_model(**ANSWERS), faults="429=420:gemma2-9b-it")
    (prompt,) = ran.prompts(world.SEVENTY)
    assert "rate" not in prompt[-1]["content"].lower()
    assert "org_" not in str(ran.events)
    assert "gsk_test_secret" not in str(ran.events)


def test_usage_and_cost_are_what_the_cloud_billed(world: World) -> None:
    ran = world("classic", reply=world.by_model(**ANSWERS))
    answer, ledger = ran.answer, ran.cloud.ledger
    assert answer.n_calls == 4
    assert answer.usage.prompt_tokens == ledger.prompt_tokens.total()
    assert answer.usage.completion_tokens == ledger.completion_tokens.total()
    by_hand = (
        ledger.prompt_tokens[world.LLAMA] * 0.05
        + ledger.completion_tokens[world.LLAMA] * 0.08
        + ledger.prompt_tokens[world.GEMMA] * 0.20
        + ledger.completion_tokens[world.GEMMA] * 0.20
        + ledger.prompt_tokens[world.SEVENTY] * 0.59
        + ledger.completion_tokens[world.SEVENTY] * 0.79
    ) / 1e6
    assert answer.cost == pytest.approx(by_hand)
    assert answer.unpriced == []


def test_n_ignored_by_the_server_changes_nothing_since_samples_are_calls(world: World) -> None:
    ran = world("classic", reply=world.by_model(**ANSWERS), faults="ignore_n")
    assert len(ran.answer.drafts) == 3
    assert all("n" not in body for body in ran.cloud.requests)


def test_n_asked_for_by_a_caller_is_refused_in_one_sentence(world: World) -> None:
    ran = world("classic", reply=world.by_model(**ANSWERS), options=ChatOptions(extra={"n": 3}))
    assert ran.error is not None
    assert "a run has one answer" in ran.error.message
    assert not ran.cloud.requests


def test_surrogate_escapes_in_a_reply_do_no_harm(world: World) -> None:
    ran = world("classic", reply=world.by_model(**ANSWERS), faults="surrogate:gemma2-9b-it")
    assert len(ran.answer.drafts) == 3
    ran.answer.to_json().decode("utf-8")
