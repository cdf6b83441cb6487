"""Recipes are plain data: TOML in, TOML out, and an error says where, what was expected, and the nearest name."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura import Aggregator, Layer, Policy, Proposer, Recipe, RecipeError, recipe_names

GOOD = '[[proposers]]\nmodel = "a"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a =", "not TOML: Invalid value (at end of document)"),
        ('[[proposers]]\nmodel = "a\n', "line 2"),
        ("", "proposers: expected at least one"),
        ("proposers = []", "proposers: expected at least one"),
        ('proposers = "a"', "proposers: expected `array`, got `str`"),
        (GOOD + "temperatur = 1", "proposers[0].temperatur: unknown key; did you mean 'temperature'?"),
        (GOOD + "temperature = nan", "proposers[0].temperature: expected 0 to 2, got nan"),
        (GOOD + "temperature = inf", "proposers[0].temperature: expected 0 to 2, got inf"),
        (GOOD + "temperature = -0.1", "proposers[0].temperature: expected 0 to 2, got -0.1"),
        (GOOD + 'temperature = "hot"', "proposers[0].temperature: expected `float | null`, got `str`"),
        (GOOD + "top_p = 0", "proposers[0].top_p: expected above 0 and up to 1, got 0"),
        (GOOD + "samples = 0", "proposers[0].samples: expected 1 to 64, got 0"),
        (GOOD + "max_tokens = 0", "proposers[0].max_tokens: expected at least 1, got 0"),
        (GOOD + "weight = nan", "proposers[0].weight: expected a number above 0, got nan"),
        ('[[proposers]]\nmodel = " "', "proposers[0].model: expected text, got ' '"),
        ("[[proposers]]\nsamples = 1", "proposers[0].model: missing"),
        (GOOD + "samples = 2", "aggregator: expected one, since 2 drafts have to become one answer"),
        (GOOD + '[aggregator]\nkind = "synthesise"', "did you mean 'synthesize'?"),
        (GOOD + "[aggregator]", "aggregator.model: expected one, since kind 'synthesize' makes a call"),
        (GOOD + '[aggregator]\nkind = "vote"\nmodel = "b"', "aggregator.model: expected none"),
        (GOOD + "[policy]\nquorum = 2", "policy.quorum: 2 drafts are more than the smallest layer makes"),
        (GOOD + "[policy]\ndeadline = 0", "policy.deadline: expected seconds above 0, got 0"),
        (GOOD + '[policy.substitutes]\na = "b"\nb = "c"\nc = "a"', "policy.substitutes: a cycle: a -> b -> c -> a"),
        (GOOD + '[[layers]]\nproposers = [{model = "a"}]', "not both"),
        ("[[layers]]\n[[layers.proposers]]\nmodell = 1", "layers[0].proposers[0].modell: unknown key; did you mean"),
        ('[[layers]]\nproposers = [{model = "a", seed = 1.5}]', "layers[0].proposers[0].seed: expected `int | null`"),
    ],
)
def test_a_wrong_recipe_is_one_sentence_with_its_file_and_key(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_toml(text, "mine.toml")
    assert str(caught.value).startswith("mine.toml: ")
    assert said in str(caught.value)
    assert caught.value.exit_code == 3


def test_an_unknown_name_gives_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match="did you mean 'balanced'"):
        Recipe.named("balansed")
    with pytest.raises(RecipeError, match="built in are balanced, cascade"):
        Recipe.named("xyzzy")


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"missing\.toml: cannot be read: No such file"):
        Recipe.named(str(tmp_path / "missing.toml"))
    (tmp_path / "latin.toml").write_bytes(b'name = "caf\xe9"')
    with pytest.raises(RecipeError, match=r"latin\.toml: cannot be read: it is not UTF-8 text \(byte 12\)"):
        Recipe.load(tmp_path / "latin.toml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_recipe_of_your_own_is_read_from_its_path(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "mine.toml").write_text(GOOD, encoding)
    assert Recipe.named(str(tmp_path / "mine.toml")).layers[0].proposers[0].model == "a"


@pytest.mark.parametrize("name", recipe_names())
def test_a_built_in_recipe_survives_writing_and_reading(name: str) -> None:
    recipe = Recipe.named(name)
    assert recipe.name == name
    assert Recipe.from_toml(recipe.to_toml()) == recipe


texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(str.strip)
proposers = st.builds(
    Proposer,
    model=texts,
    temperature=st.none() | st.floats(0, 2),
    system=st.none() | texts,
    max_tokens=st.none() | st.integers(1, 10**6),
    seed=st.none() | st.integers(-(2**31), 2**31),
    samples=st.integers(1, 4),
    weight=st.floats(0.01, 100),
)
layers = st.builds(Layer, proposers=st.lists(proposers, min_size=1, max_size=3).map(tuple))
recipes = st.builds(
    Recipe,
    name=texts,
    description=st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20),
    layers=st.lists(layers, min_size=1, max_size=3).map(tuple),
    escalate=st.none() | layers,
    aggregator=st.builds(Aggregator, kind=st.sampled_from(["synthesize", "select", "rank", "auto"]), model=texts),
    policy=st.builds(Policy, deadline=st.floats(0.1, 1e4), seed=st.none() | st.integers(0, 99)),
)


@given(recipes)
def test_any_recipe_survives_writing_and_reading(recipe: Recipe) -> None:
    assert Recipe.from_toml(recipe.to_toml()) == recipe


def test_samples_become_seats_with_seeds_counted_up() -> None:
    layer = Layer(proposers=(Proposer(model="a", samples=3, seed=7), Proposer(model="b")))
    assert [(slot.model, slot.seed, slot.samples) for slot in layer.slots] == [
        ("a", 7, 1),
        ("a", 8, 1),
        ("a", 9, 1),
        ("b", None, 1),
    ]
    assert layer.size == 4
