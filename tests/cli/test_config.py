"""`mixtura config`: the settings that a user keeps, which value counts, and what is said of bad ones."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import environment, run, sentence
from mixtura.cli.settings import SETTINGS, Settings
from mixtura.cli.toml_text import edited
from mixtura.sim import SimOptions, simulated_cloud
from pages import ROOT

BAD = [
    ("recipe", "dep"),
    ("recipe", "missing.toml"),
    ("provider", "grok"),
    ("provider", "http://"),
    ("deadline", "0"),
    ("deadline", "-1"),
    ("deadline", "soon"),
    ("max_cost", "nan"),
    ("max_cost", "inf"),
    ("daily_budget", "$5"),
    ("plan", "gold"),
    ("base_urls.box", "box:8000"),
    ("base_urls.local", "http://127.0.0.1/v1"),
    ("base_urls.A B", "http://127.0.0.1/v1"),
    ("recpie", "deep"),
    ("base_urls", "x"),
    ("", "x"),
]


def home(folder: Path, **given: str) -> dict[str, str]:
    return environment(MIXTURA_HOME=str(folder), **given)


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "config.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


async def shown(env: dict[str, str]) -> dict[str, tuple[str, str]]:
    rows = json.loads((await run(env, "config", "--json")).out)["settings"]
    return {row["name"]: (row["value"], row["from"]) for row in rows}


@pytest.mark.slow
async def test_a_flag_goes_before_the_environment_before_the_file_before_what_is_built_in(tmp_path: Path) -> None:
    env = home(tmp_path, GROQ_API_KEY="gsk_x")
    assert (await shown(env))["recipe"] == ("balanced", "built in")
    await run(env, "config", "set", "recipe", "single")
    assert (await shown(env))["recipe"] == ("single", "config")
    in_environment = {**env, "MIXTURA_RECIPE": "fast"}
    assert (await shown(in_environment))["recipe"] == ("fast", "MIXTURA_RECIPE")
    calls = [
        json.loads((await run(of, "ask", "--dry-run", "--json", *args, "Why?")).out)["calls"]
        for of, args in ((env, ()), (in_environment, ()), (in_environment, ("-r", "deep")))
    ]
    assert calls[0] == 1
    assert calls[0] < calls[1] < calls[2]
    # `--model` says what is asked: a default recipe must not make a mixture of it.
    alone = await run(in_environment, "ask", "--dry-run", "--json", "-m", "openai/gpt-oss-20b", "Why?")
    assert json.loads(alone.out)["calls"] == 1
    await run(env, "config", "unset", "recipe")
    assert (await shown(env))["recipe"] == ("balanced", "built in")


@pytest.mark.slow
async def test_every_setting_reaches_the_run_that_it_is_for(tmp_path: Path) -> None:
    async with simulated_cloud(SimOptions(unlimited=True, tokens=5)) as cloud:
        env = home(tmp_path, GROQ_API_KEY="gsk_x")
        for name, value in (("base_urls.groq", cloud.url), ("max_cost", "0.0000001"), ("recipe", "single")):
            assert (await run(env, "config", "set", name, value)).code == 0
        assert "at most $0.000000 is allowed" in (await run(env, "ask", "-q", "Why?")).err
        assert "at most $0.000000 is allowed" in (await run(env, "chat", stdin=b"Why?\n")).err
        assert (await run(env, "ask", "-q", "--max-cost", "1", "Why?")).code == 0
        await run(env, "config", "unset", "max_cost")
        await run(env, "config", "set", "daily_budget", "0")
        assert (await run(env, "ask", "-q", "Why?")).code == 75
        assert "✗ daily budget" in (await run(env, "doctor")).out
        assert (await run({**env, "MIXTURA_DAILY_BUDGET": "5"}, "ask", "-q", "Why?")).code == 0
        await run(env, "config", "unset", "daily_budget")
        await run(env, "config", "set", "plan", "Developer")
        assert "developer" in (await run(env, "doctor")).out
        await run(env, "config", "set", "base_urls.box", f"{cloud.url}/openai/v1")
        await run(env, "config", "set", "provider", "box")
        served = await run({**env, "MIXTURA_API_KEY": "gsk_x"}, "ask", "--json", "-m", "openai/gpt-oss-20b", "Why?")
        assert served.code == 0, served
        assert json.loads(served.out)["drafts"][0]["provider"] == f"{cloud.url}/openai/v1"
        assert (await run(env, "ask", "-q", "--sim", "Why?")).code == 0  # a simulated cloud is nobody's provider
        assert (await run({**env, "MIXTURA_API_KEY": "gsk_x"}, "models")).out.count("openai/gpt-oss-20b") == 1
        assert (await run(env, "ask", "-q", "--deadline", "0", "Why?")).code == 2


@pytest.mark.parametrize(("name", "value"), BAD)
async def test_a_value_that_cannot_be_is_refused_and_nothing_is_written(name: str, value: str, tmp_path: Path) -> None:
    done = await run(home(tmp_path), "config", "set", "--", name, value)
    assert done.code == 3
    assert (name or "no setting") in sentence(done)
    assert not (tmp_path / "config.toml").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('recipe = "dep"', "recipe: dep: no such recipe; did you mean 'deep'"),
        ("recipe = 5", "recipe: 5: no such recipe"),
        ("recipe = [1]", "recipe: "),
        ('deadline = "soon"', "deadline: expected a number"),
        ("deadline = true", "deadline: expected a number"),
        ("max_cost = nan", "max_cost: expected a number"),
        ('plan = "gold"', "plan: expected free, developer, enterprise, got 'gold'"),
        ('recpie = "deep"', "recpie: no such setting; did you mean 'recipe'?"),
        ("base_urls = 5", "base_urls: expected a table"),
        ('[base_urls]\nbox = "box"', "base_urls.box: 'box' is not a base URL"),
        ("recipe = ", "not a TOML file"),
        (b"\xff\xfe", "not a TOML file"),
    ],
)
async def test_a_file_that_was_edited_badly_is_one_sentence_with_its_name_and_the_key(
    text: str | bytes, said: str, tmp_path: Path
) -> None:
    file = write(tmp_path, text)
    env = home(tmp_path, GROQ_API_KEY="gsk_x")
    for args in (("ask", "--dry-run", "Why?"), ("config",), ("doctor",)):
        done = await run(env, *args)
        assert done.code != 0
        assert f"{file}: {said}" in (done.out if args == ("doctor",) else done.err), args
    assert file.read_bytes() == (text if isinstance(text, bytes) else text.encode())


async def test_what_is_wrong_can_be_unset_and_does_not_hide_the_rest(tmp_path: Path) -> None:
    write(tmp_path, 'plan = "gold"\nrecipe = "single"\n')
    env = home(tmp_path)
    done = await run(env, "config")
    assert "single" in done.out
    assert "mixtura config unset plan" in done.err
    assert (await run(env, "config", "unset", "plan")).code == 0
    assert (await run(env, "config")).code == 0
    assert (await run(env, "ask", "--dry-run", "-r", "nonsense", "Why?")).code == 3


async def test_comments_and_order_of_a_file_stay(tmp_path: Path) -> None:
    file = write(tmp_path, '# mine\nrecipe = "fast" # quick\n\n[base_urls]\n# upstairs\nbox = "http://box/v1"\n')
    env = home(tmp_path)
    await run(env, "config", "set", "deadline", "20")
    await run(env, "config", "set", "base_urls.attic", "http://attic/v1")
    await run(env, "config", "set", "recipe", "deep")
    assert file.read_text() == (
        '# mine\nrecipe = "deep"\ndeadline = 20\n\n[base_urls]\n# upstairs\nbox = "http://box/v1"\n'
        'attic = "http://attic/v1"\n'
    )
    assert file.stat().st_mode & 0o077 == 0


def test_a_recipe_of_a_file_is_found_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('name = "mine"\n[[proposers]]\nmodel = "openai/gpt-oss-20b"\n')
    settings = Settings({"MIXTURA_HOME": str(tmp_path / "home")})
    assert settings.set("recipe", "mine.toml") == str(tmp_path / "mine.toml")


def test_the_folder_is_the_one_of_the_xdg_rules(tmp_path: Path) -> None:
    assert Settings({"XDG_CONFIG_HOME": str(tmp_path)}).path == tmp_path / "mixtura" / "config.toml"
    assert Settings({"HOME": str(tmp_path)}).path == tmp_path / ".config" / "mixtura" / "config.toml"


def test_the_documentation_lists_the_settings_as_they_are() -> None:
    rows = [
        f"| `{each.name}` | {each.about} | {each.built_in} | `{each.variable}` | `{each.option}` | "
        + ", ".join(f"`{verb}`" for verb in each.verbs)
        + " |"
        for each in SETTINGS
    ]
    assert "\n".join(rows) in (ROOT / "docs" / "commands.md").read_text("utf-8")


_SCALARS = st.one_of(st.text(max_size=8), st.integers(-5, 5), st.sampled_from([0.5, 1.25]))
_KEYS = st.sampled_from(["recipe", "plan", "deadline", "a"])
_DOCUMENTS = st.tuples(st.dictionaries(_KEYS, _SCALARS, max_size=4), st.dictionaries(_KEYS, _SCALARS, max_size=3)).map(
    lambda pair: {**pair[0], **({"base_urls": pair[1]} if pair[1] else {})}
)
_NOISE = st.sampled_from(["", "# a comment\n", "\n\n", "# [base_urls]\n"])


@given(_DOCUMENTS, _DOCUMENTS, _NOISE, _NOISE)
def test_a_changed_text_says_what_is_wanted(
    before: dict[str, Any], after: dict[str, Any], above: str, below: str
) -> None:
    import tomli_w

    text = above + tomli_w.dumps(before) + below
    changed = edited(text, before, after)
    assert tomllib.loads(changed) == after or {**after, "base_urls": {}} == tomllib.loads(changed)
    if "# a comment" in text and set(before) >= set(after):
        assert "# a comment" in changed


@pytest.mark.slow
async def test_a_key_in_an_address_is_kept_and_not_shown(tmp_path: Path) -> None:
    env, url = home(tmp_path), "http://127.0.0.1:1/v1?tenant=a&token=k3y-of-mine"
    said = await run(env, "config", "set", "base_urls.box", url)
    assert "k3y" not in said.err
    assert tomllib.loads((tmp_path / "config.toml").read_text())["base_urls"]["box"] == url
    assert (await shown(env))["base_urls.box"][0] == "http://127.0.0.1:1/v1?tenant=a&token=***"
    for asked in (("ask", "--provider", "box", "hello"), ("models", "--provider", url)):
        failed = await run(env, *asked)
        assert failed.code != 0
        assert "k3y" not in failed.out + failed.err
