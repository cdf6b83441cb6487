"""Does a mixture take 3,000 to 3,500 tokens, three to four times those of one call?"""

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
from mixtura.tokens import PROMPT_HEAD, PROMPT_MARGIN

_WORD = 3.6  # letters per token of plain English, as tokens.py estimates


class _CatalogCards:
    """The models' cards from the catalogue, including retired models: all that a forecast needs."""

    def __init__(self) -> None:
        self._catalog = Catalog.load()

    def find(self, provider: str, model: str) -> Served:
        raise AssertionError("a forecast sends no call")

    def card(self, provider: str, model: str) -> ModelCard:
        row = self._catalog.get(provider, model)
        return ModelCard(id=model, provider=provider) if row is None else row.card

    def replacement(self, provider: str, model: str) -> str | None:
        return None


def count_tokens(recipe: Recipe, length: int | None = None) -> Forecast:
    """Return the forecast for the tutorial's question: with answers of `length` tokens each; None: at most."""
    question = "letters " * round(tutorial().question_tokens * _WORD / len("letters "))
    return forecast(
        recipe if length is None else _cut(recipe, length), [Message(role="user", content=question)], _CatalogCards()
    )


def typical_tokens(recipe: Recipe, length: int) -> int:
    """Return the tokens of a mixture with answers of `length` tokens: the forecast without its margin on prompts."""
    found = count_tokens(recipe, length)
    return round((found.prompt_tokens - PROMPT_HEAD * found.calls) / PROMPT_MARGIN) + found.completion_tokens


def _cut(recipe: Recipe, length: int) -> Recipe:
    """Return the recipe with a limit of `length` tokens on every answer."""

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
    """Return the prompt and output tokens of the tutorial's mixture for these tokens per draft and of the answer."""
    claims = tutorial()
    return len(claims.proposers) * (claims.question_tokens + draft) + claims.aggregator_prompt(draft) + answer


def _length(total: float) -> float:
    """Return the equal length of drafts and answer at which the tutorial's mixture takes `total` tokens."""
    each = own(1, 1) - own(0, 0)
    return (total - own(0, 0)) / each


def study() -> Study:
    """Count the tokens of the tutorial's mixture, and of the built-in recipes with its question and lengths."""
    claims = tutorial()
    usual, single = own(claims.draft_tokens, claims.draft_tokens), claims.question_tokens + claims.draft_tokens
    low, high = claims.mixture_tokens
    longest = own(claims.limit_tokens, claims.limit_tokens)
    totals = {name: _both(name) for name in recipe_names() if name != "toy"}
    calls = len(claims.proposers) + 1
    rows = [
        ("the tutorial's program", f"{calls}", f"{usual:,.0f}", digits(usual / single), f"{longest:,.0f}"),
        ("the same, as its text says", f"{calls}", f"{low:,} to {high:,}", to(*claims.times_single), "-"),
        *(_row(name, counts, single) for name, counts in totals.items()),
    ]
    within = low <= usual <= high
    return Study(
        name="tutorial-tokens",
        title="3,000 to 3,500 tokens per mixture",
        claim=(
            f"A question of {claims.question_tokens} tokens with drafts of {claims.draft_tokens} takes {low:,} to "
            f"{high:,} tokens in all; a mixture takes {to(*claims.times_single)} times the tokens of one call."
        ),
        who=TUTORIAL,
        verdict="holds" if within else "holds when",
        sentence=(
            f"It holds when drafts and answer have {_length(low):.0f} to {_length(high):.0f} tokens each, or the "
            f"answer at most {high - own(claims.draft_tokens, 0):.0f}: with {claims.draft_tokens} tokens each, the "
            f"tutorial's own figures add up to {usual:,.0f} tokens, {digits(usual / single)} times one call of the "
            f"same size. With our longer instructions and drafts of {claims.draft_tokens} tokens the built-in recipes "
            f"take {_span(totals)}."
        ),
        assumption=(
            "The length of the answers: each draft is paid for twice, once written and once read. At the "
            f"tutorial's limit of {claims.limit_tokens:,} tokens the total is {longest:,.0f}."
        ),
        table=StudyTable(
            ("mixture", "calls", f"tokens, answers of {claims.draft_tokens}", "times one call", "at most, by limits"),
            tuple(rows),
        ),
        charts=(_chart(totals, (low, high)),),
        sources=(
            *claims.sources[:1],
            "built-in recipes, counted as `mixtura ask --dry-run` does (planning/forecast.py)",
        ),
        method=(
            "Arithmetic: the prompts and outputs of all calls, without reasoning or early stops; the maximum includes "
            f"the forecast's margin of {PROMPT_MARGIN - 1:.0%} on prompts. Tokens of "
            f"instructions are estimated from their letters ({claims.instruction_tokens} in the tutorial's program). "
            "The tutorial gives the length of drafts but not of the final answer, which is assumed to be equal."
        ),
    )


def _row(name: str, counts: tuple[int, int], single: float) -> tuple[str, ...]:
    typical, most = counts
    calls = count_calls(Recipe.named(name))
    return f"recipe {name}", f"{calls}", f"{typical:,}", digits(typical / single), f"{most:,}"


def _span(totals: Mapping[str, tuple[int, int]]) -> str:
    """Return the range of the usual totals of recipes with more than one call."""
    found = [typical for name, (typical, _) in totals.items() if count_calls(Recipe.named(name)) > 1]
    return f"{min(found):,} to {max(found):,}"


def _both(name: str) -> tuple[int, int]:
    """Return the tokens of a recipe's mixture: with answers of the tutorial's length, and the maximum."""
    recipe = Recipe.named(name)
    most = count_tokens(recipe)
    return typical_tokens(recipe, tutorial().draft_tokens), most.prompt_tokens + most.completion_tokens


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
