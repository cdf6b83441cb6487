"""A user writes recipes, a model of their own, and a registry that finds it."""

from typing import assert_type

from mixtura import (
    Aggregator,
    Catalog,
    ChatModel,
    ChatRequest,
    Completion,
    Delta,
    Fallback,
    Layer,
    Mixture,
    ModelCard,
    ModelRegistry,
    Models,
    Policy,
    Predicted,
    Price,
    Proposer,
    Recipe,
    Served,
    Usage,
    recipe_names,
)
from mixtura.models.catalog import CatalogModel


def recipe() -> Recipe:
    proposers = (Proposer(model="a", samples=2, fallbacks=(Fallback(model="b"),)), Proposer(model="c", temperature=0.7))
    made = Recipe(
        name="mine",
        layers=(Layer(proposers=proposers),),
        escalate=Layer(proposers=(Proposer(model="d"),)),
        aggregator=Aggregator(kind="auto", model="d"),
        policy=Policy(deadline=30, quorum=2, when_limited=("wait", "fewer")),
    )
    assert_type(Recipe.from_toml(made.to_toml()), Recipe)
    assert_type(recipe_names(), tuple[str, ...])
    assert_type(made.layers[0].slots, tuple[Proposer, ...])
    return made


class Echo:
    """Says the question again. No base class: one method makes a model."""

    async def chat(self, request: ChatRequest, *, emit: object = None, deadline: float | None = None) -> Completion:
        assert_type(request.messages[-1].text, str)
        if callable(emit):
            emit(Delta(request.messages[-1].text))
        return Completion(model=request.model, text=request.messages[-1].text, usage=Usage(completion_tokens=1))


class Here:
    """Finds `Echo` under the provider "here", and the catalogue's models under the others."""

    def __init__(self) -> None:
        self.others: Models = ModelRegistry(env={})

    def find(self, provider: str, model: str) -> Served:
        if provider == "here":
            return Served(Echo(), self.card(provider, model))
        return self.others.find(provider, model)

    def card(self, provider: str, model: str) -> ModelCard:
        return ModelCard(id=model, provider=provider, price=Price(input=0.1, output=0.2))

    def replacement(self, provider: str, model: str) -> str | None:
        return None


def composed() -> Mixture:
    model: ChatModel = Echo()
    models: Models = Here()
    assert_type(Served(model, ModelCard(id="echo", provider="here")).chat, ChatModel)
    assert_type(models.find("here", "echo"), Served)
    return Mixture(recipe(), models=models, predicted={("here", "echo"): Predicted(first=0.1, token=0.01)})


def extended() -> Mixture:
    catalog = Catalog.load().extended([CatalogModel(id="llama3.2", provider="ollama", window=8192)])
    assert_type(catalog.get("ollama", "llama3.2"), CatalogModel | None)
    return Mixture("classic", models=ModelRegistry(catalog))
