"""Models whose calls take a while to stop: a connection that closes slowly, a thread that looks up now and then."""

import asyncio

from mixtura.chat import ChatRequest, Completion
from mixtura.models.base import ChatModel, Emit
from mixtura.models.card import ModelCard
from mixtura.models.served import Models, Served


class _SlowToStop:
    def __init__(self, model: ChatModel, seconds: float) -> None:
        self._model = model
        self._seconds = seconds

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        try:
            return await self._model.chat(request, emit=emit, deadline=deadline)
        except asyncio.CancelledError:
            await asyncio.sleep(self._seconds)
            raise


class SlowToStop:
    """The models of `models`, each of whose calls needs `seconds` to stop when it is cancelled."""

    def __init__(self, models: Models, seconds: float) -> None:
        self._models = models
        self._seconds = seconds

    def find(self, provider: str, model: str) -> Served:
        """Return the model, slow to stop."""
        served = self._models.find(provider, model)
        return served._replace(chat=_SlowToStop(served.chat, self._seconds))

    def card(self, provider: str, model: str) -> ModelCard:
        """Return what is known about the model."""
        return self._models.card(provider, model)

    def replacement(self, provider: str, model: str) -> str | None:
        """Return the id that the catalogue names in its place."""
        return self._models.replacement(provider, model)
