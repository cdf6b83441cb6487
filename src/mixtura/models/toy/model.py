"""A toy model behind a check of its domain. A question outside the domain is answered without running the model."""

import asyncio
from collections.abc import Collection

from mixtura.chat import ChatRequest, Completion, Delta, Timing
from mixtura.models.base import ChatModel, Emit
from mixtura.models.toy import domain


class DomainGuardedModel:
    """A model that receives only questions of its domain.

    Args:
        model: answers the questions inside the domain.
        words: the words that the model knows.
    """

    def __init__(self, model: ChatModel, words: Collection[str]) -> None:
        self._model = model
        self._words = words

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request`. See `ChatModel.chat`."""
        why = domain.why_outside(domain.question_of(request.messages), self._words)
        if not why:
            return await self._model.chat(request, emit=emit, deadline=deadline)
        await asyncio.sleep(0)  # a call that never awaits could not be cancelled
        text = domain.refusal(why)
        if emit is not None:
            emit(Delta(text=text))
        timing = Timing(first_token=None if emit is None else 0.0)
        return Completion(model=request.model, text=text, timing=timing, declined=f"outside what toys can do: {why}")
