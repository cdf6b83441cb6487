"""The events of a run for one reader."""

from collections.abc import AsyncGenerator, Callable
from typing import Self

from mixtura.errors import MixturaError
from mixtura.events import Answer, Event, Listener
from mixtura.folding import Fold


class EventStream:
    """The events of one run, in order; `aclose`, the end of `async with`, or dropping it stops what is open.

    A loop that is left by `break` stops nothing while the stream is still held: use `async with`.

    After the last event, iteration raises what `Mixture.ask` would raise, if anything. A reader who is slower than the
    run gets the pieces of a text merged, and no other event late or less often.
    """

    def __init__(self, begin: Callable[[Listener], AsyncGenerator[Event, None]]) -> None:
        self._fold = Fold()
        self._events = begin(self._fold.add)

    @property
    def answer(self) -> Answer:
        """The answer as far as the run has come: whole after the last event, also where iteration raises."""
        return self._fold.answer()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            return await anext(self._events)
        except MixturaError as error:
            error.answer = self._fold.answer()
            raise

    async def aclose(self) -> None:
        """Stop the run; returns when no call of it is open any more."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
