"""Models that a user brings along, in place of a registry of providers."""

from mixtura import ChatRequest, Completion, Delta, ModelCard, Usage
from mixtura.models.base import Emit
from mixtura.models.served import Served


class Echo:
    """A model of the user's own."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        if self.error:
            raise self.error
        if emit:
            emit(Delta("Echo: "))
        return Completion(
            model=request.model, text=f"Echo: {request.messages[-1].text[:20]} {request.seed}", usage=Usage()
        )


class Echoes:
    """Models of the user's own: one of them breaks its contract."""

    def find(self, provider: str, model: str) -> Served:
        return Served(Echo(ValueError("a bug of mine") if model == "broken" else None), self.card(provider, model))

    def card(self, provider: str, model: str) -> ModelCard:
        return ModelCard(id=model, provider=provider)

    def replacement(self, provider: str, model: str) -> str | None:
        return None
