"""The toy models in the package: their problems, their answers, and what the docs say about them."""

import json
import os
import re
from importlib.resources import files
from pathlib import Path

import pytest
from bench.toys import cards_table
from training import held_out
from training.check import differences
from training.problems import is_held_out, lesson

from commands import environment, run
from mixtura import Mixture, Recipe
from mixtura.chat import JsonObject, Message
from mixtura.errors import ConfigError
from mixtura.events import AnswerDelta
from mixtura.lab import toys
from mixtura.lab.statistics import mcnemar
from mixtura.models.registry import ModelRegistry
from mixtura.models.toy import domain
from mixtura.models.toy.provider import NAMES, SINGLE, words
from mixtura.sim import simulated_cloud
from terminals import SLOW, terminal

pytestmark = pytest.mark.models

FILES = Path(str(files("mixtura.models.toy"))) / "files"
EASY = "Ada has 125 apples. Then she buys 317 more. How many apples does Ada have now?"


async def test_llama_cpp_writes_what_the_training_code_writes() -> None:
    assert await differences(FILES, Path(__file__).parents[1] / "data" / "toy_golden.json") == []


async def test_the_comparison_notices_other_tokens_texts_and_chances(tmp_path: Path) -> None:
    golden = json.loads((Path(__file__).parents[1] / "data" / "toy_golden.json").read_text("utf-8"))
    golden["models"] = {"toy-dense": golden["models"]["toy-dense"]}
    golden["tokens"][0]["tokens"][0] += 1
    golden["prompts"][0]["drafted"].append(7)
    first, second = golden["models"]["toy-dense"][:2]
    first["text"] += "!"
    second["likeliest"][3] = {token: chance - 0.2 for token, chance in second["likeliest"][3].items()}
    (tmp_path / "golden.json").write_text(json.dumps(golden), "utf-8")
    found = " | ".join(await differences(FILES, tmp_path / "golden.json"))
    assert all(what in found for what in ("toy-dense: 'Ada has", "the template makes", "greedy text", " at 3 has "))


def test_the_models_take_less_than_eight_megabytes() -> None:
    assert {path.stem for path in FILES.glob("*.gguf")} == set(NAMES) == set(toys.cards())
    assert sum(path.stat().st_size for path in FILES.glob("*.gguf")) < 8_000_000


def test_the_problems_are_those_of_the_generator_and_none_was_trained_on(tmp_path: Path) -> None:
    held_out.write_problems(tmp_path / "problems.jsonl", 1000)
    assert (tmp_path / "problems.jsonl").read_bytes() == (FILES / "problems.jsonl").read_bytes()
    problems = toys.problems()
    assert len({problem.question for problem in problems}) == 1000
    assert all(is_held_out(problem.question) for problem in problems)
    assert not any(is_held_out(lesson(seed).question) for seed in range(3000))


def test_every_problem_states_its_steps_and_they_are_right() -> None:
    for seed in range(300):
        problem = lesson(seed)
        for step in problem.steps:
            left, sign, right, result = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", step).groups()  # type: ignore[union-attr]
            value = {"+": int(left) + int(right), "-": int(left) - int(right), "*": int(left) * int(right)}
            assert int(result) == (value[sign] if sign in value else int(left) // int(right))
        assert problem.steps[-1].endswith(f"={problem.answer}")
        assert problem.solution.endswith(f"Answer: {problem.answer}")


def test_every_problem_is_in_the_domain() -> None:
    assert {domain.why_outside(problem.question, words()) for problem in toys.problems()} == {""}


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("What is the capital of France?", "do not know 'capital', 'France'"),
        ("Ada has 5 zebras. Then she buys 3 more. How many zebras does Ada have now?", "do not know 'zebras'"),
        ("Ada has 12,000 apples and 3 more. How many apples does Ada have?", "cannot read"),
        ("Ada has 2.5 apples and 3 more. How many apples does Ada have?", "cannot read '2.5'"),
        ("Ada has 12000 apples. Then she buys 3 more. How many apples?", "too large"),
        ("Ada has some apples. How many apples does Ada have?", "not a word problem"),
        ("Ada has 5 apples. Then she buys 3 more.", "not a word problem"),
        ("", "not a word problem"),
        ("Ada has 5 apples. " * 100 + "How many?", "longer than"),
        ("Ada has 5 apples! How many are left of 3?", "cannot read '!'"),
    ],
)
async def test_a_question_outside_the_domain_is_answered_with_a_sentence(question: str, why: str) -> None:
    assert why in domain.why_outside(question, words())
    if question:
        async with Mixture("toy").stream(question) as events:
            pieces = [event.text async for event in events if isinstance(event, AnswerDelta)]
        answer = await Mixture("toy").ask(question)
        assert answer.text == "".join(pieces)
        assert why in answer.text
        assert "GROQ_API_KEY" in answer.text
        assert answer.status == "partial"
        assert [said for said in answer.warnings if "was not answered" in said and why in said]
        assert answer.usage.total_tokens == 0


async def test_a_short_problem_is_solved_by_drafts_and_an_aggregator() -> None:
    answer = await Mixture("toy").ask(EASY, seed=1)
    assert len(answer.drafts) == 3
    # Sampled drafts may have a wrong digit, but hardly ever a wrong calculation.
    assert re.fullmatch(r"125\+317=(\d+)\nAnswer: \1", answer.text)
    assert answer.cost == 0
    assert not answer.warnings


async def test_only_the_last_question_of_a_conversation_counts() -> None:
    said: list[Message | JsonObject] = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": [{"type": "text", "text": EASY}]},
    ]
    answer = await Mixture("toy").ask(said, system="Be brief.")
    assert answer.text.startswith("125+317=")


def test_drafts_are_sampled_at_the_temperature_that_the_study_names() -> None:
    assert {slot.temperature for slot in Recipe.named("toy").layers[0].proposers} == {toys.TEMPERATURE}


def test_an_unknown_toy_is_named() -> None:
    with pytest.raises(ConfigError, match="no toy model is called 'toy-dens': did you mean 'toy-dense'"):
        ModelRegistry(env={}).find("toy", "toy-dens")


async def test_a_study_asks_all_answerers_the_same_and_tests_against_the_mixture() -> None:
    asked = toys.problems()[:24]
    notes: list[tuple[int, int]] = []
    found = await toys.study(asked, os.environ, note=lambda done, every: notes.append((done, every)))
    assert [row.name for row in found.rows] == [
        *(f"{name}, {how}" for name in NAMES[:3] for how in ("T = 0.7", "greedy")),
        *("majority of the drafts", "aggregator, no drafts", "the mixture", "another problem's drafts"),
        *("toy-single, T = 0.7", "toy-single, greedy"),
    ]
    mixture = found.row("the mixture")
    for row in found.rows:
        assert len(row.right) == 24
        assert row.operations > 1e6
        assert row.against == (None if row is mixture else mcnemar(mixture.right, row.right))
    assert sum(mixture.right) > sum(found.row("another problem's drafts").right)
    assert notes[-1][0] <= notes[-1][1] == 24 * 8


def _study(mixture: int, single: int, greedy: int) -> toys.ToyStudy:
    problems = toys.problems()[:100]
    marks = {
        name: tuple(place < count for place in range(100))
        for name, count in (("m", mixture), ("s", single), ("g", greedy))
    }
    rows = (
        toys.StudyRow(toys.MIXTURE, marks["m"], 1.0),
        toys.StudyRow(toys.at_temperature("toy-single"), marks["s"], 1.0, mcnemar(marks["m"], marks["s"])),
        toys.StudyRow(toys.greedy("toy-single"), marks["g"], 1.0, mcnemar(marks["m"], marks["g"])),
    )
    return toys.ToyStudy(problems, rows, 0)


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        (
            (80, 50, 60),
            "The mixture wins against .* \\(toy-single, greedy\\): 80 of 100 against 60 of 100 right, p < 0.001",
        ),
        ((62, 61, 60), "The mixture does not win against .* \\(toy-single, T = 0.7\\): .*, which chance explains"),
        ((50, 61, 80), "The mixture loses against .* \\(toy-single, greedy\\): 50 of 100 against 80 of 100"),
    ],
)
def test_the_verdict_says_whether_the_mixture_wins_against_the_better_of_the_larger_models_rows(
    counts: tuple[int, int, int], verdict: str
) -> None:
    assert re.match(verdict, _study(*counts).verdict)


async def test_the_demo_shows_problems_and_then_the_verdict_above_a_table(tmp_path: Path) -> None:
    done = await run(environment(), "demo", "--questions", "10", "--show", "2", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out.count("the right answer is") == 2
    assert re.search(r"First token of a draft after \d+ ms, a whole mixture in \d+ ms\.", done.out)
    verdict, table = re.search(
        r"\n(The mixture (?:wins|loses|does not win) against .*)\n\n((?:.+\n)+)", done.out
    ).groups()  # type: ignore[union-attr]
    assert "toy-single" in verdict
    assert len(re.findall(r" \d+\.\d% +\d+-\d+ ", table)) == 12
    assert "10 held-out problems; 5 of them" in done.out
    assert max(map(len, table.splitlines()[:13])) <= 80


async def test_without_the_extra_the_demo_shows_recorded_answers_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n_find = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'xllamacpp' else _find(name, package)\n"
    )
    env = environment(PYTHONPATH=str(tmp_path))
    done = await run(env, "demo", "--questions", "2", "--show", "0", cwd=tmp_path)
    assert done.code == 0
    assert "pip install 'mixtura[local]'; recorded answers in their place" in done.err
    assert "scripted drafts" in done.out
    asked = await run(env, "ask", "-r", "toy", EASY, cwd=tmp_path)
    assert asked.code == 3
    assert "pip install 'mixtura[local]'" in asked.err


async def test_without_a_key_the_toy_answers_on_a_terminal_but_not_in_a_pipe() -> None:
    async with simulated_cloud(SLOW) as cloud, terminal(cloud, "ask", EASY, GROQ_API_KEY="") as shown:
        assert await shown.end() == 0
        assert shown.plain.startswith("mixtura: GROQ_API_KEY is not set, so the toy in this process answers")
        assert re.search(r"125\+317=\d+\nAnswer: \d+", shown.plain)
    piped = await run(environment(), "ask", EASY)
    assert (piped.code, piped.out) == (3, "")
    assert "set GROQ_API_KEY" in piped.err


def test_the_page_shows_the_cards_as_they_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "lab-models.md").read_text("utf-8")
    assert cards_table() in page


def test_cards_say_what_training_took() -> None:
    cards = toys.cards()
    family = sum(card.operations for name, card in cards.items() if name != SINGLE)
    # The larger model took about as much training as the mixture's four models together.
    assert 0.9 < cards[SINGLE].operations / family < 1.1
    assert json.loads((FILES / "cards.json").read_text("utf-8"))["toy-moe-a"]["experts"] == 8
