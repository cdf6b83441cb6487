"""The simulated cloud's own counts, so that tests can compare a client's figures with the provider's bill."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Ledger:
    """Counts of one simulated cloud since it was started.

    Attributes:
        arrived: chat calls received, whether or not they were admitted.
        calls: admitted calls by model.
        prompt_tokens, completion_tokens: billed tokens by model. An aborted stream is billed for the tokens sent.
        cached_tokens: the part of the prompt tokens that came from the cache and is billed at a lower price.
        refused: responses with a status other than 200, by status.
        faults: calls that an injected fault hit, by kind.
        in_flight, max_in_flight: admitted calls not yet answered: the current number and the highest so far.
        answering: the current number of admitted calls not yet answered, by model.
        aborted: admitted calls whose client disconnected before the reply was complete.
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
        """Add one call's tokens to the bill."""
        self.prompt_tokens[model] += prompt
        self.cached_tokens[model] += cached
        self.completion_tokens[model] += completion

    @contextmanager
    def track_call(self, model: str) -> Iterator[None]:
        """Count a call as in flight while the block runs."""
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

    async def wait_idle(self) -> None:
        """Wait until no call is in flight. The server notices a client's disconnect with a delay."""
        await self._idle.wait()
