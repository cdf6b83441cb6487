"""3,000 to 3,500 tokens a mixture, three to four times one call?"""

from collections.abc import Mapping

import msgspec

from mixtura.chat import Message
from mixtura.models.card import ModelCard
from mixtura.models.catalog import Catalog
from mixtura.models.served import Served
from mixtura.planning.forecast import Forecast, forecast
from mixtura.planning.schedule import count_calls
from mixtura.recipe import Layer, Recipe, recipe_names
from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies.ratios import to
from mixtura.room.studies.study import TUTORIAL, Study, StudyTable, digits
from mixtura.room.studies.tutorial import tutorial

_WORD = 3.6  # letters a token of plain English, as tokens.py estimates


class _CatalogCards:
    """Models as far as counting needs them: what the catalogue knows, whether alive or gone."""

    def __init__(self) -> None:
        self._catalog = Catalog.load()

    def find(self, provider: str, model: str) -> Served:
        raise AssertionError("counting calls nobody")

    def card(self, provider: str, model: str) -> ModelCard:
        row = self._catalog.get(provider, model)
        return ModelCard(id=model, provider=provider) if row is None else row.card

    def replacement(self, provider: str, model: str) -> str | None:
        return None


def count_tokens(recipe: Recipe, length: int | None = None) -> Forecast:
    """Return what a mixture of the tutorial's question takes: at most, or with answers of `length` tokens each."""
    question = "letters " * round(tutorial().question_tokens * _WORD / len("letters "))
    return forecast(
        recipe if length is None else _cut(recipe, length), [Message(role="user", content=question)], _CatalogCards()
    )


def _cut(recipe: Recipe, length: int) -> Recipe:
    """Return the recipe with every answer of `length` tokens."""

    def shorter(layer: Layer) -> Layer:
        slots = tuple(msgspec.structs.replace(each, max_tokens=length) for each in layer.proposers)
        return msgspec.structs.replace(layer, proposers=slots)

    cut = msgspec.structs.replace(recipe, layers=tuple(map(shorter, recipe.layers)))
    if cut.escalate is not None:
        cut = msgspec.structs.replace(cut, escalate=shorter(cut.escalate))
    if cut.aggregator is not None and cut.aggregator.model:
        cut = msgspec.structs.replace(cut, aggregator=msgspec.structs.replace(cut.aggregator, max_tokens=length))
    return cut


def own(draft: float, answer: float) -> float:
    """Return the tokens of the tutorial's mixture, prompts and outputs, when drafts and answer have so many."""
    claims = tutorial()
    return len(claims.proposers) * (claims.question_tokens + draft) + claims.aggregator_prompt(draft) + answer


def _length(total: float) -> float:
    """Return how long draft and answer alike are when the tutorial's mixture takes `total` tokens."""
    each = own(1, 1) - own(0, 0)
    return (total - own(0, 0)) / each


def study() -> Study:
    """Count the tutorial's mixture, and the built-in recipes with its question and its lengths."""
    claims = tutorial()
    usual, single = own(claims.draft_tokens, claims.draft_tokens), claims.question_tokens + claims.draft_tokens
    low, high = claims.mixture_tokens
    longest = own(claims.limit_tokens, claims.limit_tokens)
    totals = {name: _both(name) for name in recipe_names() if name != "toy"}
    calls = len(claims.proposers) + 1
    rows = [
        ("the tutorial's program", f"{calls}", f"{usual:,.0f}", digits(usual / single), f"{longest:,.0f}"),
        ("the same, as its text says", f"{calls}", f"{low:,} to {high:,}", to(*claims.times_single), "-"),
        *(
            (
                f"recipe {name}",
                f"{count_calls(Recipe.named(name))}",
                f"{typical:,}",
                digits(typical / single),
                f"{most:,}",
            )
            for name, (typical, most) in totals.items()
        ),
    ]
    within = low <= usual <= high
    return Study(
        name="tutorial-tokens",
        title="3,000 to 3,500 tokens a mixture",
        claim=(
            f"A question of {claims.question_tokens} tokens with drafts of {claims.draft_tokens} takes {low:,} to {high:,} "
            f"tokens in all; a mixture takes {to(*claims.times_single)} times the tokens of one call."
        ),
        who=TUTORIAL,
        verdict="holds" if within else "holds when",
        sentence=(
            f"It holds when drafts and answer have {_length(low):.0f} to {_length(high):.0f} tokens each, or the "
            f"answer at most {high - own(claims.draft_tokens, 0):.0f}: with {claims.draft_tokens} its own figures add up "
            f"to {usual:,.0f} tokens, {digits(usual / single)} times one call of the same size. With our longer "
            f"instructions and drafts of {claims.draft_tokens} tokens the built-in recipes take {_span(totals)}."
        ),
        assumption=(
            f"The length of the answers: each draft is paid for twice, once written and once read. At the "
            f"tutorial's limit of {claims.limit_tokens:,} tokens it is {longest:,.0f}."
        ),
        table=StudyTable(
            (
                "mixture",
                "calls",
                f"tokens, answers of {claims.draft_tokens}",
                "times one call",
                "at most, by its limits",
            ),
            tuple(rows),
        ),
        charts=(_chart(totals, (low, high)),),
        sources=(
            *claims.sources[:1],
            "built-in recipes, counted as `mixtura ask --dry-run` does (planning/forecast.py)",
        ),
        method=(
            "Arithmetic: prompts of all calls and all outputs, no thinking, nobody stops early. Tokens of "
            f"instructions are estimated from their letters ({claims.instruction_tokens} in the tutorial's program). "
            "The tutorial names drafts but no length of the final answer; as long as a draft is assumed."
        ),
    )


def _span(totals: Mapping[str, tuple[int, int]]) -> str:
    """Return the span of the usual totals of recipes that make more than one call."""
    found = [typical for name, (typical, _) in totals.items() if count_calls(Recipe.named(name)) > 1]
    return f"{min(found):,} to {max(found):,}"


def _both(name: str) -> tuple[int, int]:
    """Return the tokens of a recipe's mixture: with answers of the tutorial's length, and at most."""
    recipe = Recipe.named(name)
    usual, most = count_tokens(recipe, tutorial().draft_tokens), count_tokens(recipe)
    return usual.prompt_tokens + usual.completion_tokens, most.prompt_tokens + most.completion_tokens


def _chart(totals: Mapping[str, tuple[int, int]], claimed: tuple[int, int]) -> Chart:
    claims = tutorial()
    bars = {
        "tutorial": own(claims.draft_tokens, claims.draft_tokens),
        **{name: usual for name, (usual, _) in totals.items()},
    }
    places = tuple(range(len(bars)))
    ends = (float(places[0]), float(places[-1]))
    return Chart(
        title=f"Tokens of a mixture: a question of {claims.question_tokens}, answers of {claims.draft_tokens} each",
        x="recipe",
        y="tokens",
        series=(
            Series("prompts and answers", places, tuple(bars.values()), kind="bars"),
            Series("the tutorial's figure", ends, (sum(claimed) / 2,) * 2, (claimed[0],) * 2, (claimed[1],) * 2),
        ),
        labels=tuple(bars),
    )
