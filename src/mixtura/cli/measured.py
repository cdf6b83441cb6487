"""A run that is recorded and measured: what `ask --vs` and `demo --live` lay beside another one."""

import msgspec

from mixtura.cli.common import dollars
from mixtura.cli.session import chosen_recipe
from mixtura.events import Answer, AnswerDelta, AnswerRestarted, Event
from mixtura.folding import Fold
from mixtura.recipe import Recipe


class Recorder(Fold):
    """A fold that keeps the events it takes, and when the answer's first word came."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.first_word: float | None = None

    def add(self, event: Event) -> None:
        """Take the next event of the run."""
        self.events.append(event)
        if isinstance(event, AnswerDelta) and self.first_word is None and event.text.strip():
            self.first_word = event.at
        elif isinstance(event, AnswerRestarted):
            # What was shown until now is no part of the answer.
            self.first_word = None
        super().add(event)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One run in figures.

    Attributes:
        name: the recipe's name, or the model that was asked alone.
        status: as in `Answer`.
        first_word: seconds until the first word of the answer came; None where none did.
        seconds: the whole run.
        cost: dollars of the calls with a known price; None where none has one.
        unpriced: models without a known price, whose cost is missing from `cost`.
        estimated: a part of the tokens is estimated.
        calls: calls that finished.
    """

    name: str
    status: str
    first_word: float | None
    seconds: float
    cost: float | None
    unpriced: list[str]
    prompt_tokens: int
    completion_tokens: int
    estimated: bool
    calls: int

    @property
    def word(self) -> str:
        """The seconds to the first word as text."""
        return "none" if self.first_word is None else f"{self.first_word:.2f} s"

    @property
    def tokens(self) -> str:
        """All tokens as text."""
        return f"{'~' * self.estimated}{self.prompt_tokens + self.completion_tokens:,}"

    @property
    def money(self) -> str:
        """The dollars as text; "?" where no price is known, "+" behind a sum that leaves some out."""
        return dollars(self.cost) + "+" * bool(self.cost is not None and self.unpriced)


def measured(name: str, run: Recorder) -> Measured:
    """Return what is known of `run` in figures."""
    answer: Answer = run.answer()
    usage = answer.usage
    return Measured(
        name=name,
        status=answer.status,
        first_word=run.first_word,
        seconds=answer.seconds,
        cost=answer.cost,
        unpriced=answer.unpriced,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        estimated=usage.estimated,
        calls=answer.n_calls,
    )


def strongest(recipe: Recipe) -> tuple[str, str]:
    """Return provider and model of the one that speaks last: the aggregator, else who is asked when drafts differ.

    Without either it is the first proposer of the last layer.
    """
    if recipe.aggregator is not None and recipe.aggregator.model:
        return recipe.aggregator.provider, recipe.aggregator.model
    slot = recipe.escalate.proposers[-1] if recipe.escalate is not None else recipe.layers[-1].proposers[0]
    return slot.provider, slot.model


def alone(model: str, provider: str | None) -> Recipe:
    """Return the recipe that asks one model alone, as `--model` does.

    Raises:
        RecipeError: it cannot be asked.
    """
    return chosen_recipe(None, [model], provider)
