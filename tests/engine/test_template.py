"""A recipe's own prompt for the drafts: every word of it as written, the drafts fenced."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import World
from mixtura import Aggregator, Layer, Message, Proposer, Recipe, RecipeError, prompts
from mixtura.chat import JsonObject

SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
TEMPLATE = "Question:\n{question}\n\nAnswers, as JSON {like: this}:\n{drafts}\n\nCompose one."
EACH = "--- Answer {number} ({letter}) ---\n{draft}"


def recipe(**given: object) -> Recipe:
    return Recipe(
        layers=(Layer(proposers=(Proposer(model=SMALL, samples=2),)),),
        aggregator=Aggregator(model=LARGE, **given),  # type: ignore[arg-type]
    )


def prompt(world: World, asked: Recipe, question: object = "Why?") -> list[JsonObject]:
    ran = world(asked, question, reply=lambda _r, call: f"Words {call}.", seed=1)  # type: ignore[arg-type]
    assert ran.error is None, ran.error
    return ran.prompts(LARGE)[0]


def unfenced(text: str) -> str:
    """The prompt without the lines that fence drafts."""
    return re.sub(r"</?m[0-9a-f]{12} draft [A-Z]>\n?", "", text)


def test_the_whole_prompt_is_the_recipes(world: World) -> None:
    messages = prompt(world, recipe(system="You are an editor.", template=TEMPLATE, draft_template=EACH))
    assert messages[0] == {"role": "system", "content": "You are an editor."}
    (said,) = [turn["content"] for turn in messages[1:]]
    words = re.findall(r"Words \d\.", said)
    assert unfenced(said) == (
        "Question:\nWhy?\n\nAnswers, as JSON {like: this}:\n"
        f"--- Answer 1 (A) ---\n{words[0]}\n\n--- Answer 2 (B) ---\n{words[1]}\n\nCompose one."
    )
    assert len(re.findall(r"<m[0-9a-f]{12} draft [AB]>\nWords \d\.\n</m[0-9a-f]{12} draft [AB]>", said)) == 2


def test_without_a_system_text_none_is_added_and_the_conversations_stays(world: World) -> None:
    assert [turn["role"] for turn in prompt(world, recipe(template="{drafts}"))] == ["user"]
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Why?"},
    ]
    messages = prompt(world, recipe(system="Edit.", template="Of {question}:\n{drafts}"), conversation)
    assert [turn["role"] for turn in messages] == ["system", "user", "assistant", "user"]
    assert messages[0]["content"] == "Be brief.\n\nEdit."
    assert messages[-1]["content"].startswith("Of Why?:\n<m")


def test_a_template_without_the_question_follows_it(world: World) -> None:
    messages = prompt(world, recipe(template="Answers:\n{drafts}"))
    assert unfenced(messages[-1]["content"]).startswith("Why?\n\nAnswers:\nWords")


def test_images_stay_with_the_question() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    asked = Message(role="user", content=[{"type": "text", "text": "What is it?"}, image])
    (said,) = prompts.with_drafts([asked], "", ["A cat."], "m1", "", prompts.Template("{question} {drafts}"))
    assert said.content == [
        image,
        {"type": "text", "text": "What is it? <m1 draft A>\nA cat.\n</m1 draft A>"},
    ]


@given(st.text(max_size=20), st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_what_stands_in_a_draft_or_a_question_is_never_filled_in(question: str, drafts: list[str]) -> None:
    drafts = [f"{{question}} {{drafts}} {{number}} {draft}" for draft in drafts]
    template = prompts.Template("{question}|{drafts}|{unknown}", "{number}. {draft}")
    (said,) = prompts.with_drafts([Message(role="user", content=question)], "", drafts, "m1", "", template)
    body = "\n\n".join(
        f"{place}. <m1 draft {prompts.label(place - 1)}>\n{draft.strip()}\n</m1 draft {prompts.label(place - 1)}>"
        for place, draft in enumerate(drafts, 1)
    )
    assert said.text == f"{question}|{body}|{{unknown}}"


@pytest.mark.parametrize(
    ("aggregator", "said"),
    [
        ('model = "m"\ntemplate = "Compose."', "aggregator.template: expected a place for the drafts, {drafts}"),
        ('model = "m"\ndraft_template = "{draft}"', "aggregator.draft_template: expected a template beside it"),
        (
            'model = "m"\ntemplate = "{drafts}"\ndraft_template = "x"',
            "aggregator.draft_template: expected a place for the draft, {draft}",
        ),
        ('kind = "vote"\ntemplate = "{drafts}"', "aggregator.template: kind 'vote' shows no drafts with one"),
        ('model = "m"\nextra = { messages = [] }', "aggregator.extra.messages: cannot be set there"),
        ('model = "m"\nextra = { top_k = 3 }', "aggregator.extra.top_k: expected as a key of its own, top_k"),
        ('model = "m"\nstop = [""]', "aggregator.stop: expected texts that are not empty"),
        ('model = "m"\nmin_p = 2.0', "aggregator.min_p: expected 0 to 1, got 2.0"),
        ('model = "m"\n[tools]\npolicy = "agre"', "tools.policy: expected one of act, agree, got 'agre'"),
        ('model = "m"\n[tools]\nagree = 2', "tools.agree: expected policy = 'agree' beside it"),
        (
            'model = "m"\n[tools]\npolicy = "agree"\nagree = 3',
            "tools.agree: 3 drafts are more than the last layer makes",
        ),
        ('model = "m"\n[tools.acting]\nkind = "vote"', "tools.acting.kind: expected none, got 'vote'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_with_the_key(aggregator: str, said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        Recipe.from_toml(f'[[proposers]]\nmodel = "m"\nsamples = 2\n[aggregator]\n{aggregator}\n', "mine.toml")
    assert said in refused.value.message


def test_every_new_setting_survives_toml() -> None:
    made = Recipe(
        layers=(Layer(proposers=(Proposer(model="a", top_k=5, min_p=0.1, repeat_penalty=1.1, stop=("x",)),)),),
        aggregator=Aggregator(model="b", template=TEMPLATE, draft_template=EACH, extra={"grammar": "x", "n_probs": 2}),
    )
    assert Recipe.from_toml(made.to_toml()) == made
