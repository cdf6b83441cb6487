"""Writes what llama.cpp must reproduce: tokens, prompts, greedy texts and log-probabilities of the PyTorch model.

The weights are rounded as in the file (to float16 or eight bits), so that only the arithmetic differs.
"""

import copy
import json
from pathlib import Path
from typing import Any

import gguf
import torch

from training.build import FamilyBuild, members
from training.export import TYPES, StorageType
from training.held_out import problems
from training.model import ToyModel
from training.sample import sample
from training.vocabulary import vocabulary

_PROBLEMS = 8
_LIKELIEST = 8
_TEXTS = (
    "Ada has 5 apples.",
    "How many zebras?\n\nNone: 12345 of 7,000.",
    "Grüße, 世界! 🙂",
    "  two  spaces\tand a tab ",
    "12*7=84\nAnswer: 84",
    "it's <|end|> not special, don't",
)


def write_golden(build: FamilyBuild, path: Path) -> None:
    """Write the reference outputs of each model of a build, as JSON."""
    words = vocabulary()
    asked = [problem for problem, _ in problems(_PROBLEMS)]
    kept = {member.name: member.kept for member in members(build.plan)}
    drafts = ["1*2=2\nAnswer: 2", "2+2=4\nAnswer: 4", "3-1=2\nAnswer: 2"]
    golden: dict[str, Any] = {
        "tokens": [{"text": text, "tokens": words.encode(text)} for text in _TEXTS],
        "drafts": drafts,
        "prompts": [
            {
                "question": problem.question,
                "alone": words.prompt(problem.question),
                "drafted": words.prompt(problem.question, drafts),
            }
            for problem in asked
        ],
        "models": {
            name: _expected_texts(
                as_stored(build.load(name), how), [words.prompt(problem.question) for problem in asked]
            )
            for name, how in kept.items()
        },
    }
    path.write_text(json.dumps(golden, ensure_ascii=False) + "\n", "utf-8")


def as_stored(model: ToyModel, kept: StorageType) -> ToyModel:
    """Return a copy of the model whose matrices are rounded as in the file."""
    rounded = copy.deepcopy(model)
    for name, weight in rounded.named_parameters():
        if weight.ndim > 1 and "router" not in name:
            numbers = gguf.quants.quantize(weight.detach().float().numpy(), TYPES[kept])
            weight.data = torch.from_numpy(gguf.quants.dequantize(numbers, TYPES[kept]).copy()).float()
    return rounded


@torch.inference_mode()
def _expected_texts(model: ToyModel, prompts: list[list[int]]) -> list[dict[str, Any]]:
    words = vocabulary()
    found = []
    for prompt, written in zip(prompts, sample(model, prompts, temperature=0, seed=0), strict=True):
        logits = model(torch.tensor([[*prompt, *written]]))[0, len(prompt) - 1 :].float().log_softmax(-1)
        best = logits.topk(_LIKELIEST)
        found.append(
            {
                "text": words.decode(written),
                "likeliest": [
                    {token: round(chance, 5) for token, chance in zip(tokens, chances, strict=True)}
                    for tokens, chances in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                ],
            }
        )
    return found
