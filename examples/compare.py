"""Does the mixture help? Ask it and single models the same questions, and compare them question by question.

The toys answer problems with known answers. Take questions of your own, and judge by ones that nothing was chosen on.
"""

import asyncio
import random

from mixtura import Layer, Mixture, Proposer, Recipe
from mixtura.lab.statistics import mcnemar, p_in_words, wilson

TEXT = "At first Leo owns {} bags with {} shells in each. Then he buys {} more. How many are left in the end?"


def alone(model: str) -> Recipe:
    """Return the recipe that asks one toy and nobody else."""
    proposer = Proposer(model=model, provider="toy", temperature=0.0, max_tokens=160)
    return Recipe(name=f"{model} alone", layers=(Layer(proposers=(proposer,)),))


async def graded(recipe: Recipe, count: int = 40) -> list[bool]:
    """Return for each of the questions whether the answer was right."""
    rng, right = random.Random(1), []
    for _ in range(count):
        bags, shells, bought = rng.randint(3, 30), rng.randint(5, 60), rng.randint(100, 900)
        answer = await Mixture(recipe).ask(TEXT.format(bags, shells, bought))
        right.append(answer.text.endswith(f"Answer: {bags * shells + bought}"))
    low, high = wilson(sum(right), count)
    print(f"{recipe.name}: {sum(right)} of {count} right (95 %: {low:.0%} to {high:.0%})")
    return right


if __name__ == "__main__":
    mixture = asyncio.run(graded(Recipe.named("toy")))
    for model in ("toy-moe-a", "toy-single"):
        ours, theirs, p = mcnemar(mixture, asyncio.run(graded(alone(model))))
        print(f"  only the mixture right: {ours}, only {model}: {theirs}, {p_in_words(p)}")
