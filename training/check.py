"""Compares llama.cpp's output for the model files with the golden file of the training code. Needs no PyTorch."""

import json
import math
import os
from pathlib import Path
from typing import Any

from mixtura.chat import ChatRequest, Message
from mixtura.models.local.model import LocalModel
from mixtura.models.local.provider import local_model
from mixtura.models.local.request import body_of
from mixtura.prompts import SYNTHESIZE, with_drafts

# The tolerated difference of log-probabilities: float16 keys and values and fused attention change the third digit,
# products of eight-bit numbers the first.
_TOLERANCE = {"f16": 0.05, "q8_0": 0.5}
_COMPARED = -4.0  # log-probabilities below this are not compared


async def differences(folder: Path, golden: Path) -> list[str]:
    """Return where the model files in `folder` differ from the golden file, one sentence per difference."""
    reference, cards = _read(golden), _read(folder / "cards.json")
    found = []
    for name, texts in reference["models"].items():
        model = local_model(folder / f"{name}.gguf", os.environ, name=name, trusted=True)
        found += [f"{name}: {what}" for what in await _tokens(model, reference)]
        tolerance = _TOLERANCE[cards[name]["kept"]]
        for prompt, expected in zip(reference["prompts"], texts, strict=True):
            found += [f"{name}: {what}" for what in _texts(model, prompt["question"], expected, tolerance)]
    return found


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


async def _tokens(model: LocalModel, reference: dict[str, Any]) -> list[str]:
    found = []
    for row in reference["tokens"]:
        tokens = await model.llama.tokenize(row["text"])
        if tokens != row["tokens"]:
            found.append(f"{row['text']!r} is {tokens}, not {row['tokens']}")
    for row in reference["prompts"]:
        alone = (Message(role="user", content=row["question"]),)
        drafted = with_drafts(alone, SYNTHESIZE, reference["drafts"], "draft-1234")
        parts = [{"type": "text", "text": row["question"]}]
        for messages, expected in (
            (alone, row["alone"]),
            ((Message(role="user", content=parts),), row["alone"]),
            (drafted, row["drafted"]),
        ):
            prompt = await model.llama.apply_template(messages)
            if await model.llama.tokenize(prompt, special=True) != expected:
                found.append(f"the template makes {prompt!r}")
    return found


def _texts(model: LocalModel, question: str, expected: dict[str, Any], tolerance: float) -> list[str]:
    """Compare a greedy text and its log-probabilities up to the token where the texts differ, which has to be a tie."""
    request = ChatRequest(
        model=model.name, messages=(Message(role="user", content=question),), temperature=0.0, max_tokens=120, seed=1
    )
    body = json.loads(body_of(request))
    body |= {"logprobs": True, "top_logprobs": 8}
    text = ""
    steps: list[dict[str, Any]] = []

    def take(chunk: bytes) -> bool:
        nonlocal text
        for choice in json.loads(chunk).get("choices", ()):
            text += choice.get("delta", {}).get("content") or ""
            steps.extend((choice.get("logprobs") or {}).get("content") or ())
        return False

    model.llama.generate(json.dumps(body).encode(), take)
    found = [] if steps else ["no log-probabilities came"]
    for place, (step, likeliest) in enumerate(zip(steps, expected["likeliest"], strict=False)):
        theirs = {str(row["id"]): float(row["logprob"]) for row in step["top_logprobs"]}
        least = min(theirs.values())
        for token, chance in likeliest.items():
            # A token that llama.cpp does not list is at most as likely as the least likely one that it lists.
            if chance > _COMPARED and abs(theirs.get(token, min(least, chance)) - chance) > tolerance:
                found.append(f"token {token} at {place} has {theirs.get(token)}, not {chance}")
        if str(step["id"]) != next(iter(likeliest)):
            # From here on the texts differ. Of two tokens that are as good as equally likely either may come first.
            behind = max(likeliest.values()) - likeliest.get(str(step["id"]), -math.inf)
            if tolerance <= _TOLERANCE["f16"] and behind > 2 * tolerance:
                found.append(f"greedy text {text!r}, not {expected['text']!r}")
            break
    else:
        if tolerance <= _TOLERANCE["f16"] and text != expected["text"]:
            found.append(f"greedy text {text!r}, not {expected['text']!r}")
    return found
