"""What the simulated cloud counted, so that a client's figures can be held against the provider's bill."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Ledger:
    """Counts of one simulated cloud since it was started.

    Attributes:
        arrived: chat calls that were received, whatever became of them.
        calls: admitted calls by model.
        prompt_tokens, completion_tokens: billed tokens by model; an aborted stream is billed for what was sent.
        cached_tokens: the part of the prompt tokens that was cached, and is cheaper.
        refused: answers that were no 200, by status.
        faults: calls that a planned fault befell, by its kind.
        in_flight, max_in_flight: admitted calls not yet answered, now and at most.
        answering: the same by model, now.
        aborted: admitted calls whose client went away first.
    """

    def __init__(self) -> None:
        self.arrived = 0
        self.calls: Counter[str] = Counter()
        self.prompt_tokens: Counter[str] = Counter()
        self.completion_tokens: Counter[str] = Counter()
        self.cached_tokens: Counter[str] = Counter()
        self.refused: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.in_flight = 0
        self.max_in_flight = 0
        self.answering: Counter[str] = Counter()
        self.aborted = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def total_tokens(self) -> int:
        """All billed tokens."""
        return self.prompt_tokens.total() + self.completion_tokens.total()

    def bill(self, model: str, prompt: int, cached: int, completion: int) -> None:
        """Add one call's tokens."""
        self.prompt_tokens[model] += prompt
        self.cached_tokens[model] += cached
        self.completion_tokens[model] += completion

    @contextmanager
    def flight(self, model: str) -> Iterator[None]:
        """Count a call as in flight for as long as the block runs."""
        self.calls[model] += 1
        self.in_flight += 1
        self.answering[model] += 1
        self._idle.clear()
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1
            self.answering[model] -= 1
            if not self.in_flight:
                self._idle.set()

    async def settled(self) -> None:
        """Return once no call is in flight; a client that went away may still be on its way to being noticed."""
        await self._idle.wait()
