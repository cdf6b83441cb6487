"""The price of a call: `Priced` wraps any model whose price is known.

What a provider says that it charged is the cost; the price then gives an estimate beside it. A charge of 0 is not
believed where the model has a price: who knows none says 0, too.
"""

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
        wasted = 0.0 if completion.wasted is None else self._price.cost(completion.wasted)
        if completion.charged is None:
            return msgspec.structs.replace(completion, cost=cost + wasted)
        return msgspec.structs.replace(completion, cost=(completion.charged or cost) + wasted, estimate=cost + wasted)
