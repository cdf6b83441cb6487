"""The command without a cloud: help, verbs, completion, options, what is said about wrong use."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from commands import complaint, complete, invoke, worded_by_click
from mixtura.cli import VERBS
from mixtura.cli.demo.recorded import is_right
from mixtura.cli.session import chosen_recipe
from mixtura.errors import RecipeError
from mixtura.lab.statistics import wilson
from mixtura.models.recorded import RecordingIndex
from mixtura.planning.schedule import count_calls

_COMMANDS = Path(__file__).parents[2] / "docs" / "commands.md"
_BLOCK = re.compile(r"```console\n\$ mixtura ?(\w*) --help\n(.*?)```", re.DOTALL)


def test_help_of_the_whole_command_imports_nothing_but_click() -> None:
    script = (
        "import sys; from mixtura.cli import main; code = main(['--help']);"
        "heavy = {'asyncio', 'aiohttp', 'msgspec', 'difflib', 'mixtura.recipe', 'mixtura.mixture'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "demo" in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_the_table_of_verbs_says_what_each_verb_says_of_itself(verb: str) -> None:
    command = importlib.import_module(f"mixtura.cli.{verb}").command
    assert (command.name, command.get_short_help_str(200)) == (verb, VERBS[verb])


@worded_by_click
def test_every_help_in_the_documentation_is_what_the_command_prints() -> None:
    blocks = dict(_BLOCK.findall(_COMMANDS.read_text("utf-8")))
    assert set(blocks) == {"", *VERBS}
    for verb, text in blocks.items():
        assert invoke(*([verb] if verb else []), "--help").output.rstrip() == text.rstrip(), verb


def test_without_a_verb_the_help_is_shown_as_wrong_use() -> None:
    shown = invoke()
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr.startswith("Usage: mixtura")


def test_the_version_names_python_and_the_platform() -> None:
    assert re.match(r"mixtura \d+\.\d+\.\d+ \(Python 3\.\d+\.\d+, \S+\)\n", invoke("--version").output)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["aks"], 2, "mixtura: no such command 'aks'; did you mean 'ask'? (see 'mixtura --help')"),
        (["xyz"], 2, "mixtura: no such command 'xyz'; there are ask, chat,"),
        pytest.param(["ask", "--recpie", "x", "q"], 2, "'--recipe'? (see 'mixtura ask --help')", marks=worded_by_click),
        (["ask", "--deadline", "nan", "q"], 2, "expected a number of at least 0, got 'nan'"),
        (["ask", "--max-cost", "-1", "q"], 2, "expected a number of at least 0, got '-1'"),
        (["ask", "--as-of", "yesterday", "--sim", "q"], 2, "expected a day like 2025-09-01, got 'yesterday'"),
        (["ask", "--as-of", "2025-09-01", "q"], 2, "--as-of needs --sim"),
        (["ask", "--deadline", "0", "--dry-run", "q"], 2, "deadline: expected seconds above 0"),
        (["ask", " "], 2, "mixtura: the question is empty"),
        (["ask", "x" * 1_000_001], 2, "1,000,001 characters; at most 1,000,000 can be asked"),
        (["ask", "caf\udce9"], 2, "the question is not valid UTF-8 text (character 4)"),
        (["ask", "-s", "\udcff", "q"], 2, "the system prompt is not valid UTF-8 text"),
        (["ask", "-r", "clasic", "q"], 3, "clasic: no such recipe; did you mean 'classic'?"),
        (["ask", "-r", "missing.toml", "q"], 3, "missing.toml: cannot be read: No such file or directory"),
        (["ask", "--provider", "grok", "--dry-run", "q"], 3, "unknown provider 'grok': did you mean 'groq'?"),
        (["recipes", "blanced"], 3, "did you mean 'balanced'?"),
        (["models", "--provider", "grok"], 3, "did you mean 'groq'?"),
        (["sim", "--speed", "0"], 2, "expected a number above 0"),
        (["sim", "--faults", "nonsense", "--port", "0"], 3, "nonsense"),
        (["sim", "--recordings", "missing.jsonl", "--port", "0"], 3, "missing.jsonl"),
        (["demo", "--recordings", "missing.jsonl"], 3, "missing.jsonl: cannot be read as recordings"),
        (["completion", "powershell"], 2, "'powershell' is not one of"),
    ],
)
def test_wrong_use_is_one_sentence_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], args: list[str], code: int, said: str
) -> None:
    got, sentence = complaint(capsys, *args)
    assert (got, said in sentence) == (code, True), sentence
    assert sentence.startswith("mixtura: ")


def test_a_missing_key_names_the_variable_where_to_get_one_and_the_simulated_cloud(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    code, sentence = complaint(capsys, "ask", "Why?")
    assert code == 3
    for part in ("GROQ_API_KEY", "console.groq.com/keys", "--sim"):
        assert part in sentence


def test_the_list_of_recipes_tells_calls_and_models() -> None:
    listed = {row["name"]: row for row in json.loads(invoke("recipes", "--json").stdout)}
    assert (listed["deep"]["calls"], listed["lite"]["calls"], listed["single"]["calls"]) == (13, 7, 1)
    assert listed["classic"]["models"] == ["llama-3.1-8b-instant", "gemma2-9b-it", "llama-3.3-70b-versatile"]
    text = invoke("recipes").stdout
    assert "4 calls: 2 x llama-3.1-8b-instant, gemma2-9b-it > synthesize by llama-3.3-70b-versatile" in text
    assert all(row["description"] in text for row in listed.values())


def test_a_shown_recipe_can_be_asked_again_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(invoke("recipes", "cascade").stdout)
    assert chosen_recipe(str(path)) == chosen_recipe("cascade")
    assert json.loads(invoke("recipes", str(path), "--json").stdout)["name"] == "cascade"


def test_models_take_the_place_of_the_last_layers_proposers() -> None:
    assert chosen_recipe(None).name == "balanced"
    one = chosen_recipe(None, ["a"], "http://127.0.0.1:1/v1")
    assert [(p.model, p.provider) for p in one.layers[-1].proposers] == [("a", "http://127.0.0.1:1/v1")]
    assert (count_calls(one), one.aggregator) == (1, None)
    deep = chosen_recipe("deep", ["a", "b"])
    assert len(deep.layers[0].slots) == 6
    assert [p.model for p in deep.layers[-1].proposers] == ["a", "b"]
    moved = chosen_recipe("cascade", (), "ollama")
    assert moved.escalate is not None
    assert {p.provider for p in (*moved.layers[0].proposers, *moved.escalate.proposers)} == {"ollama"}
    with pytest.raises(RecipeError, match=r"single with --model: .*aggregator"):
        chosen_recipe("single", ["a", "b"])


def test_a_dry_run_needs_no_key_and_adds_up() -> None:
    told = json.loads(invoke("ask", "--dry-run", "--json", "-r", "classic", "Why?").stdout)
    assert told["calls"] == sum(row["count"] for row in told["rows"]) == 4
    assert told["cost"] == pytest.approx(sum(row["cost"] for row in told["rows"]))
    text = invoke("ask", "--dry-run", "-m", "nobody/knows", "Why?")
    assert "at most" in text.stdout
    assert "no price is known for nobody/knows" in text.stderr


def test_the_catalogue_alone_lists_who_lives_and_with_all_who_is_gone() -> None:
    shown = invoke("models", "--offline").stdout
    assert "openai/gpt-oss-120b" in shown
    assert "gemma2-9b-it" not in shown
    rows = {row["id"]: row for row in json.loads(invoke("models", "--offline", "--all", "--json").stdout)["models"]}
    assert rows["gemma2-9b-it"]["life"] == "gone since 2025-10-08"
    assert rows["gemma2-9b-it"]["replacement"] == "llama-3.1-8b-instant"
    assert rows["openai/gpt-oss-20b"]["usable"] is None


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("mixtura ", "plain,doctor"),
        ("mixtura d", "plain,demo"),
        ("mixtura ask --dr", "plain,--dry-run"),
        ("mixtura ask -r ca", "plain,cascade"),
        ("mixtura recipes coun", "plain,council"),
        ("mixtura chat -m openai/gpt-oss-1", "plain,openai/gpt-oss-120b"),
    ],
)
def test_verbs_options_recipes_and_models_complete(
    line: str, offered: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offered in complete(line, capsys, monkeypatch).splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion_script(shell: str) -> None:
    shown = invoke("completion", shell)
    assert shown.exit_code == 0
    assert "_MIXTURA_COMPLETE" in shown.output


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe 1998, Statistics in Medicine 17, the example of 15 in 148.
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=2e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10)[1] == pytest.approx(1.0)


def test_the_demos_own_questions_are_graded_as_their_file_says() -> None:
    rows = RecordingIndex.load(Path(__file__).parents[2] / "src" / "mixtura" / "cli" / "demo" / "questions.jsonl").rows
    assert len(rows) == 12
    for row in rows:
        graded = {model: is_right(text, row.answer) for model, text in row.outputs.items()}
        assert graded == row.graded, row.id
    assert not all(all(row.graded.values()) for row in rows)
