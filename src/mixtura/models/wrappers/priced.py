"""The price of a call: `Priced` wraps any model whose price is known."""

import msgspec

from mixtura.chat import ChatRequest, Completion
from mixtura.models.base import ChatModel, Emit
from mixtura.models.card import Price


class Priced:
    """A model whose completions carry their cost in dollars."""

    def __init__(self, model: ChatModel, price: Price) -> None:
        self._model = model
        self._price = price

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request`. See `ChatModel.chat`."""
        completion = await self._model.chat(request, emit=emit, deadline=deadline)
        cost = self._price.cost(completion.usage)
        if completion.wasted is not None:
            cost += self._price.cost(completion.wasted)
        return msgspec.structs.replace(completion, cost=cost)
