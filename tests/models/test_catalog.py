"""The catalogue: dated data, models' lifetimes, and chains of replacements."""

import datetime as dt
from pathlib import Path

import pytest

from mixtura import Aggregator, Catalog, ConfigError, Proposer, Recipe, recipe_names
from mixtura.models.catalog import CatalogModel, parse_models, read_models

TODAY = dt.date(2026, 11, 22)
TEXTBOOK = dt.date(2025, 9, 1)
catalog = Catalog.load()


def test_every_row_has_a_date_and_a_source() -> None:
    for row in catalog.models():
        assert row.checked is not None
        assert row.source
    for provider in catalog.providers.values():
        assert provider.checked is not None


@pytest.mark.parametrize("model", ["llama-3.1-8b-instant", "llama-3.3-70b-versatile", "gemma2-9b-it"])
def test_the_tutorials_models_were_served_then_and_are_gone_now(model: str) -> None:
    row = catalog.get("groq", model)
    assert row is not None
    assert row.is_served(TEXTBOOK)
    assert not row.is_served(TODAY)


def test_an_enterprise_key_keeps_what_others_lost() -> None:
    row = catalog.get("groq", "llama-3.3-70b-versatile")
    assert row is not None
    assert row.is_served(TODAY, "enterprise")
    assert not row.is_served(TODAY, "developer")
    assert row.id in catalog.live("groq", TODAY, "enterprise")
    assert row.id not in catalog.live("groq", TODAY, "developer")
    assert row.id not in catalog.live("groq", TODAY)


def test_a_model_is_served_from_its_first_day_until_the_day_it_is_shut_down() -> None:
    row = CatalogModel(id="a", provider="p", released=TEXTBOOK, shut_down=TODAY)
    day = dt.timedelta(days=1)
    assert [row.is_served(TEXTBOOK - day), row.is_served(TEXTBOOK)] == [False, True]
    assert [row.is_served(TODAY - day), row.is_served(TODAY)] == [True, False]


def test_replacements_lead_to_a_model_that_lives() -> None:
    assert catalog.replacement("groq", "gemma2-9b-it") == "llama-3.1-8b-instant"
    assert catalog.living_replacement("groq", "gemma2-9b-it", TODAY) == "openai/gpt-oss-20b"
    for row in catalog.models("groq"):
        if row.replacement is not None:
            alive = catalog.living_replacement("groq", row.id, TODAY)
            assert alive in catalog.live("groq", TODAY)


def test_a_cycle_of_replacements_ends() -> None:
    rows = [
        CatalogModel(id="a", provider="p", replacement="b", shut_down=TEXTBOOK),
        CatalogModel(id="b", provider="p", replacement="a", shut_down=TEXTBOOK),
    ]
    assert Catalog({}, rows).living_replacement("p", "a", TODAY) is None


def test_the_nearest_live_ids_are_named() -> None:
    assert catalog.nearest("groq", "gpt-oss-120", TODAY)[0] == "openai/gpt-oss-120b"
    assert set(catalog.nearest("groq", "zzz", TODAY)) <= set(catalog.live("groq", TODAY))


def test_an_unknown_provider_names_the_nearest_and_a_url_is_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'groq'"):
        catalog.provider("grok")
    assert catalog.provider("http://127.0.0.1:9/v1/").base_url == "http://127.0.0.1:9/v1"


def test_a_users_file_is_read_or_refused_in_one_sentence(tmp_path: Path) -> None:
    good = tmp_path / "good.toml"
    good.write_text('checked = 2026-01-01\nsource = "me"\n[[models]]\nid = "m"\nwindow = 10\n', "utf-8")
    (row,) = read_models(good, "mine")
    assert (row.provider, row.window, row.source) == ("mine", 10, "me")
    grown = catalog.extended([row])
    assert grown.get("mine", "m") == row
    assert grown.get("groq", "gemma2-9b-it") == catalog.get("groq", "gemma2-9b-it")
    bad = tmp_path / "bad.toml"
    bad.write_text('checked = 2026-01-01\nsource = "me"\n[[models]]\nid = 3\n', "utf-8")
    with pytest.raises(ConfigError, match=r"bad\.toml: Expected `str`, got `int` - at `\$\.models"):
        read_models(bad, "mine")


def test_built_in_recipes_name_models_the_catalogue_knows_and_efforts_they_take() -> None:
    for name in recipe_names():
        recipe = Recipe.named(name)
        slots: list[Proposer | Aggregator] = [*recipe.layers[-1].proposers]
        slots += [recipe.aggregator] if recipe.aggregator else []
        for slot in slots:
            if slot.model and slot.provider != "toy":
                row = catalog.get(slot.provider, slot.model)
                assert row is not None
                assert slot.reasoning_effort is None or slot.reasoning_effort in row.efforts
                if name not in ("classic", "diverse"):
                    assert row.is_served(TODAY)


def test_a_row_takes_the_day_and_source_of_its_file_where_it_has_none() -> None:
    text = """
checked = 2026-11-01
source = "https://example.com/all"
[[models]]
id = "a"
[[models]]
id = "b"
checked = 2026-11-02
source = "https://example.com/b"
"""
    rows = [(row.provider, row.checked, row.source) for row in parse_models(text, "p")]
    assert rows == [
        ("p", dt.date(2026, 11, 1), "https://example.com/all"),
        ("p", dt.date(2026, 11, 2), "https://example.com/b"),
    ]


def test_only_a_provider_s_own_models_are_its_live_ones() -> None:
    rows = [CatalogModel(id=f"of-{provider}", provider=provider) for provider in ("groq", "openrouter")]
    assert Catalog(catalog.providers, rows).live("groq", TODAY) == ["of-groq"]
