"""Models that a user brings along, in place of a registry of providers."""

from collections.abc import Sequence
from typing import Any

from mixtura import (
    Answer,
    ChatRequest,
    Completion,
    Delta,
    MixturaError,
    Mixture,
    ModelCard,
    ModelError,
    Price,
    Recipe,
    Usage,
)
from mixtura.errors import OverloadedError
from mixtura.events import CallFailed, CallStarted, Event
from mixtura.models.base import Emit
from mixtura.models.served import Models, Served
from mixtura.virtual import run_virtual


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


class Told:
    """Models a, b, c, ... that do, call by call, what a test tells them: a reply, or an error to raise; the last again.

    Args:
        replies: by model. A text is a whole reply of that text, for ten tokens of prompt and one a word; a function is
            awaited with the request and `emit`, and returns one of them.
        cards: what is known of a model, where a test wants more than its name.

    Attributes:
        requests: what was asked, in order.
    """

    def __init__(self, cards: Sequence[ModelCard] = (), /, **replies: object) -> None:
        self.cards = {card.id: card for card in cards}
        self.replies = {model: list(told) if isinstance(told, list) else [told] for model, told in replies.items()}
        self.requests: list[ChatRequest] = []

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        self.requests.append(request)
        left = self.replies[request.model]
        reply = left.pop(0) if len(left) > 1 else left[0]
        if callable(reply):
            reply = await reply(request, emit or (lambda delta: None))
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, str):
            usage = Usage(prompt_tokens=10, completion_tokens=len(reply.split()))
            price = self.card("own", request.model).price
            cost = None if price is None else price.cost(usage)
            return Completion(model=request.model, text=reply, usage=usage, cost=cost)
        return reply  # type: ignore[return-value]  # a user's own model may return anything

    def find(self, provider: str, model: str) -> Served:
        return Served(self, self.card(provider, model))

    def card(self, provider: str, model: str) -> ModelCard:
        return self.cards.get(model) or ModelCard(id=model, provider=provider)

    def replacement(self, provider: str, model: str) -> str | None:
        return None

    @property
    def asked(self) -> list[str]:
        """The models that were asked, in order."""
        return [request.model for request in self.requests]


def card(model: str, price: Price | None = None, **known: Any) -> ModelCard:
    return ModelCard(id=model, provider="own", price=price, **known)


def failed(model: str, written: int | None = None, kind: type[ModelError] = OverloadedError) -> ModelError:
    """An error of a call that is billed for what it had written."""
    error = kind("own", model, "no luck")
    error.usage = None if written is None else Usage(completion_tokens=written)
    return error


class Asked:
    """What came of one question."""

    def __init__(self, told: Recipe, models: Models, question: Any = "Why?", **options: Any) -> None:
        self.events: list[Event] = []
        self.error: MixturaError | None = None
        record = options.pop("record", "conversation")
        mixture = Mixture(told, models=models, listeners=[self.events.append], record=record)
        try:
            self.answer: Answer = run_virtual(mixture.ask(question, **options))
        except MixturaError as error:
            self.error, self.answer = error, error.answer or Answer(text="")

    @property
    def started(self) -> list[CallStarted]:
        return [event for event in self.events if isinstance(event, CallStarted)]

    @property
    def lost(self) -> CallFailed:
        (lost,) = [event for event in self.events if isinstance(event, CallFailed)]
        return lost
