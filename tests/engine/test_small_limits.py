"""Drafts are shortened to what a rate limit lets their reader read, where that is less than its window."""

import random

import pytest

from mixtura import Aggregator, Answer, ChatRequest, Completion, Layer, Mixture, ModelCard, Proposer, Recipe, Usage
from mixtura.limits.limiter import Limiter
from mixtura.limits.window import Limits
from mixtura.models.base import Emit
from mixtura.models.served import Accounting, Served
from mixtura.tokens import estimate_messages
from mixtura.virtual import run_virtual

# No words in a row come twice, so that no draft goes in circles.
WORDS = [
    "index",
    "disk",
    "row",
    "page",
    "tree",
    "log",
    "write",
    "read",
    "merge",
    "sort",
    "key",
    "value",
    "block",
    "cache",
    "order",
    "scan",
    "range",
    "level",
    "file",
    "run",
]
LONG = " ".join(random.Random(1).choices(WORDS, k=1600))


class Readers:
    """Proposers write far more than they were asked for; the model "reader" has a window, and limits of its key."""

    def __init__(self, limits: Limits, *, known: bool = True, window: int | None = 100_000) -> None:
        self.limits = limits
        self.known = known
        self.window = window
        self.keeper = Limiter()
        self.read = self.calls = 0

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        if request.model == "reader":
            self.read = estimate_messages(request.messages)
        self.calls += 1
        text = "Short." if request.model == "reader" else f"{LONG} Says call {self.calls}."
        return Completion(model=request.model, text=text, usage=Usage(completion_tokens=9))

    def find(self, provider: str, model: str) -> Served:
        limits = self.limits if model == "reader" else Limits()
        accounting = Accounting(key=f"own/{model}", group="own", limits=limits, known=self.known, keeper=self.keeper)
        return Served(self, self.card(provider, model), accounting=accounting)

    def card(self, provider: str, model: str) -> ModelCard:
        return ModelCard(id=model, provider=provider, window=self.window)

    def replacement(self, provider: str, model: str) -> str | None:
        return None


def ask(models: Readers) -> Answer:
    told = Recipe(
        layers=(Layer(proposers=(Proposer(model="writer", provider="own", samples=2, max_tokens=50),)),),
        aggregator=Aggregator(model="reader", provider="own", max_tokens=100),
    )
    return run_virtual(Mixture(told, models=models).ask("Which index suits heavy writes?"))


@pytest.mark.parametrize("limits", [Limits(tpm=2000), Limits(tpd=2000), Limits(tpm=50_000, tpd=2000)])
@pytest.mark.parametrize("window", [100_000, None])
def test_the_smallest_window_of_tokens_counts(limits: Limits, window: int | None) -> None:
    models = Readers(limits, window=window)
    answer = ask(models)
    assert "trimmed" in [said.kind for said in answer.decisions]
    assert 1000 < models.read <= 2000


@pytest.mark.parametrize(
    "models",
    [Readers(Limits(rpm=2000)), Readers(Limits()), Readers(Limits(tpm=2000), known=False), Readers(Limits(tpm=90_000))],
    ids=["requests", "none", "a guess", "wide"],
)
def test_no_other_limit_shortens_a_draft(models: Readers) -> None:
    answer = ask(models)
    assert "trimmed" not in [said.kind for said in answer.decisions]
    assert models.read > 3000


def test_a_model_s_window_counts_where_it_is_smaller_than_its_limits() -> None:
    models = Readers(Limits(tpm=50_000), window=3000)
    assert "trimmed" in [said.kind for said in ask(models).decisions]
    assert models.read <= 3000
