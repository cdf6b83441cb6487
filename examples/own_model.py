"""Bring a model of your own: one method, `chat`, and a registry that finds it.

It drafts beside two toys, and the final answers of the three drafts are counted.
"""

import asyncio
import re

from mixtura import ChatRequest, Completion, Mixture, ModelCard, ModelRegistry, Recipe, Served

MODELS = {"adder": "mine", "toy-dense": "toy", "toy-moe-b": "toy"}
RECIPE = "".join(f'[[proposers]]\nmodel = "{model}"\nprovider = "{at}"\n' for model, at in MODELS.items())


class Adder:
    """Adds up every number of the question: quick, and right where that is what is asked."""

    async def chat(self, request: ChatRequest, **_: object) -> Completion:
        """Answer `request`; the other arguments do not matter to a model this quick."""
        total = sum(int(number) for number in re.findall(r"\d+", request.messages[-1].text))
        return Completion(model=request.model, text=f"Answer: {total}")


class Registry(ModelRegistry):
    """Finds `Adder` under the provider "mine", and everything else as usual."""

    def find(self, provider: str, model: str) -> Served:
        """Return the model that answers."""
        found = Served(Adder(), ModelCard(id=model, provider=provider))
        return found if provider == "mine" else super().find(provider, model)


if __name__ == "__main__":
    mixture = Mixture(Recipe.from_toml(RECIPE + '[aggregator]\nkind = "vote"\n'), models=Registry())
    answer = asyncio.run(mixture.ask("Leo owns 6 bags with 16 shells in each. How many shells does Leo have?"))
    print({draft.model: draft.choice for draft in answer.drafts})
    print(answer.decisions[-1].reason)
