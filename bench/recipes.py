"""What each built-in recipe takes: calls, dollars at most, seconds on a free and on a developer key.

    python -m bench.recipes

The question counts as 200 tokens, drafts and answers have 400, in the simulated cloud's fitted `lpu` times and on a
virtual clock. Each first question meets fresh limits; seconds are medians. The rows stand in docs/recipes.md.
"""

import statistics
from typing import NamedTuple

from bench.tutorial.asking import DRAFT_TOKENS, QUESTION, mixture_on_cloud
from bench.tutorial.wire import CHECKED
from mixtura import Answer, MixturaError, Mixture, Recipe, recipe_names
from mixtura.models.catalog import Tier
from mixtura.planning.schedule import count_calls
from mixtura.sim import SimOptions
from mixtura.virtual import run_virtual

ROUNDS = 15
HEADING = ("recipe", "calls", "dollars at most", "free key", "developer key")


class TicketQueue(NamedTuple):
    """One recipe's row, as it is printed."""

    name: str
    calls: str
    dollars: str
    free: str
    developer: str

    @property
    def markdown(self) -> str:
        """The row for docs/recipes.md."""
        return f"| [`{self.name}`](#{self.name}) | {' | '.join(self[1:])} |"


async def first_question(name: str, plan: Tier, seed: int) -> Answer | None:
    """Ask one question of fresh limits; None when the recipe cannot answer on this key."""
    options = SimOptions(as_of=CHECKED, plan=plan, tokens=DRAFT_TOKENS, profile="lpu", seed=seed)
    async with mixture_on_cloud(name, options) as (mixture, _):
        try:
            return await mixture.ask(QUESTION, seed=seed)
        except MixturaError:
            return None


def seconds(name: str, plan: Tier) -> str:
    """Return the median seconds of a first question, "-" when it cannot be answered."""
    answers = [run_virtual(first_question(name, plan, seed)) for seed in range(ROUNDS)]
    took = [answer.seconds for answer in answers if answer is not None]
    return f"{statistics.median(took):.1f} s" if took else "-"


def line(name: str) -> TicketQueue:
    """Measure one recipe."""
    recipe = Recipe.named(name)
    most = Mixture(recipe, env={"GROQ_API_KEY": "gsk_simulated"}).forecast(QUESTION)
    return TicketQueue(
        name,
        str(count_calls(recipe)),
        f"${most.cost:.4f}",
        *("-" if name == "toy" else seconds(name, plan) for plan in ("free", "developer")),
    )


def main() -> None:
    """Print the table as it stands in docs/recipes.md."""
    print(f"| {' | '.join(HEADING)} |\n|---|---|---|---|---|")
    for name in recipe_names():
        print(line(name).markdown)


if __name__ == "__main__":
    main()
