"""What stands on the command line and in files, as shells and editors hand it over: dashes, `~`, byte order marks."""

import base64
import codecs
import json
import os
from pathlib import Path

import pytest

from commands import forked, invoke, run
from mixtura.cli import main
from mixtura.errors import ConfigError
from mixtura.hardware.chip import read_chips
from mixtura.hardware.serving.trace import read_trace
from mixtura.hardware.shapes import read_shapes
from mixtura.models.catalog import read_models
from mixtura.models.local.names import read_names
from mixtura.models.predictions import read_predictions
from mixtura.models.recorded import RecordingIndex
from mixtura.recipe import Recipe
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.stored import read_events

MODEL = "openai/gpt-oss-20b"
RECIPE = f'name = "mine"\n[[proposers]]\nmodel = "{MODEL}"\n'
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def question_of(*words: str, before: tuple[str, ...] = ()) -> str:
    """Return the question that a run asks for these words."""
    shown = invoke("ask", "--sim", "-q", "-m", MODEL, "--show-prompts", *before, *words)
    assert shown.exit_code == 0, shown.output
    return shown.stderr.partition("[user]\n")[2].rstrip("\n")


@pytest.mark.parametrize(
    "question",
    [
        "- buy milk\n- call Ann\nSort these.",
        "-5 + 3 = ?",
        "--- title: x --- Summarise this.",
        "--help me?",
        "-question marks, what are they?",
        "--recipes for soup?",
        "-\tone\n-\ttwo",
        "-- What does this mean?",
        "-h is what?",
    ],
)
def test_a_question_may_begin_with_a_dash(question: str) -> None:
    assert question_of(question) == question
    assert question_of("First.", question, before=("--seed", "-1")) == f"First. {question}"


def test_values_of_options_and_what_stands_behind_two_dashes_stay() -> None:
    assert question_of("--", "-5", "--help") == "-5 --help"
    assert question_of("Why?", before=("-s", "- be brief", "--stop=- end", "-s", "-x")) == "Why?"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-5"], "no such option '-5'; write -- before what begins with a dash and is no option"),
        (["-hello"], "no such option '-hello'"),
        (["--recipie", "fast", "Why?"], "and is no option. Did you mean '--recipe'? (see"),
        (["--recipe fast", "Why?"], "'--recipe fast' can be the option --recipe with a value, and a text"),
        (["-save the date"], "'-save the date' can be the option -s with a value, and a text"),
        (["-qs be brief", "Why?"], "or write -- before the text"),
    ],
)
def test_what_may_be_an_option_is_refused_and_names_the_dashes(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", "--dry-run", *words]) == 2
    # Releases of click differ in their quotes and colons.
    found = capsys.readouterr()
    assert said.replace("'", "") in found.err.replace("option: ", "option ").replace("'", "")
    assert "--" in found.err
    assert found.out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["- buy milk"], "a question follows a command: mixtura ask -- "),
        (["chat", "- buy milk"], "unexpected extra argument"),
        (["demo", "--all of them"], "unexpected extra argument"),
        (["recipes", "-mine.toml"], "write -- before what begins with a dash"),
    ],
)
def test_other_verbs_say_what_to_do_with_a_dash(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with one file of every kind that is read."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    (folder / "mine.toml").write_text(RECIPE)
    (folder / "schema.json").write_text('{"type": "object"}')
    (folder / "picture.png").write_bytes(PICTURE)
    (folder / "predictions.toml").write_text("predictions = []\n")
    (folder / "script.jsonl").write_text('{"text": "Scripted."}\n')
    (folder / "faults.toml").write_text('[[faults]]\nkind = "429"\n')
    (folder / "recordings.jsonl").write_text(json.dumps({"question": "Why?", "outputs": {MODEL: "So."}}) + "\n")
    (folder / "talk.json").write_text('[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]')
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["ask", "--dry-run", "--recipe=~/mine.toml", "Why?"],
        ["ask", "--dry-run", "--schema=~/schema.json", "Why?"],
        ["ask", "--sim", "-q", "-m", "meta-llama/llama-4-scout-17b-16e-instruct", "--image=~/picture.png", "Why?"],
        ["recipes", "~/mine.toml"],
        ["plan", "--limits", "~/mine.toml"],
        ["doctor", "--recipe=~/mine.toml"],
        ["models", "add", "tiny", "~/none.gguf"],
        ["studies", "kimi-chips", "--to=~/report"],
        ["config", "set", "recipe", "~/mine.toml"],
    ],
)
def test_a_path_may_begin_with_the_home_folder(words: list[str], home: Path) -> None:
    done = invoke(*words)
    assert "No such file" not in done.output
    assert done.exit_code in (0, 1, 3), done.output
    assert not Path("~").exists()
    if words[0] == "config":
        assert f'"{home}/mine.toml"' in invoke("config", "--json").output
        assert invoke("config", "unset", "recipe").exit_code == 0
    elif words[0] == "models":
        assert "there is no such file" in str(done.exception)
    elif words[0] == "studies":
        assert (home / "report" / "kimi-chips.html").exists()


def test_a_variable_may_begin_with_the_home_folder(home: Path) -> None:
    assert invoke("ask", "--dry-run", "Why?", MIXTURA_RECIPE="~/mine.toml").exit_code == 0
    assert invoke("ask", "--dry-run", "Why?", MIXTURA_PREDICTIONS="~/predictions.toml").exit_code == 0
    assert invoke("config", "set", "recipe", "fast", MIXTURA_HOME="~/state/").exit_code == 0
    assert (home / "state" / "config.toml").exists()
    assert f"{home}/state/config.toml" in invoke("config", "path", MIXTURA_HOME="~/state").output
    assert f"{home}/x/mixtura/config.toml" in invoke("config", "path", XDG_CONFIG_HOME="~/x").output


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    "option", ["--script=~/script.jsonl", "--recordings=~/recordings.jsonl", "--faults=~/faults.toml"]
)
def test_files_of_a_simulated_cloud_may_be_in_the_home_folder(option: str, home: Path) -> None:
    # The port cannot be listened on, which is found out after the files were read.
    code, said = forked(["sim", "--host", "203.0.113.1", "--port", "9", option], {"HOME": str(home)})
    assert code == 3
    assert "cannot listen on" in said


async def test_a_conversation_may_be_in_the_home_folder(home: Path) -> None:
    async with simulated_cloud(SimOptions(unlimited=True)) as cloud:
        env = {**os.environ, "GROQ_BASE_URL": cloud.url, "GROQ_API_KEY": "gsk_x", "HOME": str(home)}
        lines = "\ufeffOne?\n/save ~/kept.json\n".encode()
        done = await run(env, "chat", "-m", MODEL, "--resume=~/talk.json", stdin=lines)
        assert done.code == 0
        assert [turn["content"] for turn in cloud.requests[0]["messages"]] == ["Hi", "Yes", "One?"]
        assert (home / "kept.json").read_bytes() == (home / "talk.json").read_bytes()


MARK = codecs.BOM_UTF8


def test_a_byte_order_mark_is_no_part_of_a_question() -> None:
    assert question_of("\ufeffWhy?") == "Why?"
    assert question_of("Explain:", "\ufeffone\n\ufefftwo", before=("-s", "\ufeffBe brief.")) == "Explain: one\ntwo"


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    def marked(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_bytes(MARK + text.replace("\n", "\r\n").encode())
        return path

    assert Recipe.load(marked("mine.toml", RECIPE)).name == Recipe.from_toml("\ufeff" + RECIPE).name == "mine"
    assert read_predictions(marked("p.toml", "predictions = []\n")) == {}
    assert read_shapes(marked("s.toml", "models = []\n")) == {}
    assert read_chips(marked("c.toml", "chips = []\n")) == {}
    assert read_models(marked("m.toml", 'checked = 2026-01-01\nsource = "x"\nmodels = []\n'), "groq") == []
    row = json.dumps({"question": "Why?", "outputs": {MODEL: "So."}})
    two = marked("r.jsonl", f"{row}\n")
    two.write_bytes(two.read_bytes() * 2)  # two files, joined
    RecordingIndex.load(two)
    assert len(read_trace(marked("t.csv", "time,prompt_tokens,output_tokens\n0,1,1\n")).times) == 1
    marked("models.toml", '[models.tiny]\npath = "/tiny.gguf"\n')
    assert list(read_names({"MIXTURA_HOME": str(tmp_path)})) == ["tiny"]
    marked("config.toml", 'recipe = "fast"\n')
    shown = invoke("config", MIXTURA_HOME=str(tmp_path))
    assert shown.exit_code == 0
    assert "fast" in shown.stdout
    assert invoke("config", "set", "max_cost", "1", MIXTURA_HOME=str(tmp_path)).exit_code == 0
    assert 'recipe = "fast"' in (tmp_path / "config.toml").read_text()
    schema = marked("schema.json", '{"type": "object"}')
    assert invoke("ask", "--dry-run", "--schema", str(schema), "Why?").exit_code == 0
    assert list(read_events(MARK + b'{"event": "x", "at": 1}\n' + MARK + b'{"event": "y"}\n'))


@pytest.mark.parametrize("kind", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_told_by_its_name(kind: str, tmp_path: Path) -> None:
    data = f"\ufeff{RECIPE}".encode(kind)
    file = tmp_path / "mine.toml"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match="it is UTF-16 text, not UTF-8: convert it first"):
        Recipe.load(file)


async def test_utf_16_that_is_piped_in_is_told_by_its_name() -> None:
    done = await run({**os.environ, "GROQ_API_KEY": "gsk_x"}, "ask", "-", stdin="\ufeffWhy?".encode("utf-16-le"))
    assert done.code == 2
    assert "it is UTF-16 text, not UTF-8" in done.err
