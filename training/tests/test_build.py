"""Runs a small training: every step, the files it writes, and a comparison with llama.cpp. `make smoke`."""

import hashlib
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from training.build import FamilyBuild, train, write_files
from training.check import differences
from training.export import export
from training.learn import TrainingText, batches
from training.model import ExpertLayer, ModelShape, ToyModel
from training.plan import SMOKE
from training.problems import lesson
from training.sample import sample
from training.vocabulary import vocabulary, write_words

ROOT = Path(__file__).parents[2]
PACKAGED = Path(str(files("mixtura.models.toy"))) / "files"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete small build, made by the command."""
    made = tmp_path_factory.mktemp("smoke")
    command = [sys.executable, "-W", "ignore", "-m", "training", "smoke", "--folder", str(made)]
    subprocess.run(command, check=True, cwd=ROOT)
    return made


async def test_one_command_makes_files_that_llama_cpp_runs_as_the_training_code_does(folder: Path) -> None:
    assert {path.name for path in (folder / "files").glob("*.gguf")} == {path.name for path in PACKAGED.glob("*.gguf")}
    assert await differences(folder / "files", folder / "files" / "golden.json") == []


def test_training_learns(folder: Path) -> None:
    losses = {path.stem: json.loads(path.read_text("utf-8"))["loss"] for path in folder.glob("toy-*.json")}
    # A guess among all tokens would be 6.2.
    assert losses["toy-dense"] < 6.2
    assert losses["toy-aggregator"] < losses["toy-dense"]


def test_the_same_weights_make_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = write_files(FamilyBuild(SMOKE, folder), tmp_path)
    for path in again:
        assert digest(path) == digest(folder / "files" / path.name)


def test_the_same_seeds_make_the_same_weights(folder: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    build = FamilyBuild(SMOKE, tmp_path)
    for member in (SMOKE.proposers[0], SMOKE.proposers[2]):
        train(build, member)
        export(build.load(member.name), vocabulary(), tmp_path / "again.gguf", title=member.title, kept=member.kept)
        assert digest(tmp_path / "again.gguf") == digest(folder / "files" / f"{member.name}.gguf")


def test_the_words_in_the_package_are_the_vocabularys(tmp_path: Path) -> None:
    write_words(tmp_path / "words.json")
    assert (tmp_path / "words.json").read_bytes() == (PACKAGED / "words.json").read_bytes()


def test_texts_come_back_from_their_tokens() -> None:
    for seed in range(50):
        problem = lesson(seed)
        tokens = vocabulary().prompt(problem.question) + vocabulary().target(problem)
        assert vocabulary().decode(tokens) == problem.question + problem.solution


def test_experts_are_those_of_the_definition() -> None:
    torch.manual_seed(0)
    layer = ExpertLayer(ModelShape(1, 32, 1, 64, experts=4, used=2))
    torch.nn.init.normal_(layer.down, std=0.1)
    x = torch.randn(20, 32)
    mixed, uneven = layer(x)
    chances = layer.router(x).softmax(-1)
    for place in range(20):
        best, chosen = chances[place].topk(2)
        expected = sum(
            weight
            / best.sum()
            * (F.silu(x[place] @ layer.gate[expert].T) * (x[place] @ layer.up[expert].T))
            @ layer.down[expert].T
            for weight, expert in zip(best, chosen.tolist(), strict=True)
        )
        torch.testing.assert_close(mixed[place], expected, atol=1e-5, rtol=1e-4)
    assert uneven >= 0.9


def test_prompts_together_are_answered_as_alone() -> None:
    torch.manual_seed(0)
    words = vocabulary()
    model = ToyModel(ModelShape(2, 32, 1, 64, vocabulary=len(words))).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    prompts = [words.prompt(lesson(seed).question) for seed in range(5)]
    together = sample(model, prompts, temperature=0, seed=0, longest=12)
    assert together == [sample(model, [prompt], temperature=0, seed=0, longest=12)[0] for prompt in prompts]
    # Step by step the result equals that of a forward pass over the whole text.
    whole = torch.tensor([[*prompts[0], *together[0]]])
    said = model(whole)[0, len(prompts[0]) - 1 : -1].argmax(-1).tolist()
    assert said == together[0]


def test_only_solutions_are_learned() -> None:
    import random

    texts = [TrainingText([7, 8, 9], [10, 11, 1]), TrainingText([7], [12, 1])]
    (tokens, wanted), *_ = batches(texts, 64, random.Random(0))
    for row in range(len(tokens)):
        learned = [(int(token), int(want)) for token, want in zip(tokens[row], wanted[row], strict=True) if want >= 0]
        assert learned in ([(9, 10), (10, 11), (11, 1)], [(7, 12), (12, 1)])


def digest(path: Path) -> str:
    """Return a file's checksum."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
