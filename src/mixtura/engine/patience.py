"""How long a call may be silent, and when it is slower than it should be.

A recipe that says so in seconds is taken at its word. With "auto" the time follows what is waited for:

    many machines   the provider's patience (models/data/providers.toml), and more for a long prompt
    one machine     the same, counted from the last thing that the machine did for any of our calls, and once more for
                    each of our calls there that has not written yet: their prompts may be read at the same time;
                    and again as long whenever the machine says that it is there: others may have it at work
    this process    as long as the deadline: whether a model file works is not guessed from its silence

What was measured lengthens it, and never shortens it: a short prompt says little about a long one, and a model that
was loaded says nothing about one that has been put out of memory since.
"""

import asyncio
import math
from collections.abc import Sequence

from mixtura.chat import Message
from mixtura.engine.context import Run
from mixtura.engine.progress import Progress
from mixtura.tokens import characters

# A call may take so many times as long as 19 of 20 of its model's latest calls.
_MEASURED_FACTOR = 3.0
_CHARACTERS_A_TOKEN = 4


class CallPatience:
    """How long one call may be silent; `messages` are its prompt."""

    def __init__(self, run: Run, progress: Progress, messages: Sequence[Message]) -> None:
        self._run = run
        self._progress = progress
        self._messages = messages
        # By model, since a fall-back may be more patient; asked for at every wake.
        self._alone: tuple[str, float] = ("", 0.0)
        # When its machine last said that it is there, though silent.
        self._renewed = -math.inf

    @property
    def silent_at(self) -> float:
        """The event-loop time at which it has been silent for too long; inf when it cannot be."""
        progress = self._progress
        since = progress.since
        if since is None or not progress.streamed:
            return math.inf
        seconds = self.seconds
        if progress.pieces:
            return max(since, progress.last, self._renewed) + seconds
        shared = progress.shared
        if shared is None:
            return max(since, self._renewed) + seconds
        return math.inf if shared.busy else max(since, shared.stirred, self._renewed) + seconds

    @property
    def seconds(self) -> float:
        """The seconds of silence that it is allowed now; inf for any."""
        policy, writes = self._run.recipe.policy, self._progress.pieces > 0
        stated = policy.between_tokens if writes else policy.first_token
        if stated is None:
            return math.inf
        if stated != "auto":
            return stated
        return self._between_tokens() if writes else self._first_token()

    async def is_renewed(self, until: float) -> bool:
        """Say whether a call that has been silent for too long is waited for once more as long.

        One machine may be at work for somebody else, whose calls nobody here knows of. So it is asked whether it is
        there; a recipe that states seconds is taken at its word all the same. Nothing is asked past `until`.
        """
        policy, progress = self._run.recipe.policy, self._progress
        stated = policy.between_tokens if progress.pieces else policy.first_token
        answers = self._run.models.find(progress.provider, progress.model).answers
        if stated != "auto" or progress.place.served_by != "machine" or answers is None:
            return False
        try:
            async with asyncio.timeout_at(until):
                is_there = await answers()
        except TimeoutError:
            return False
        if is_there:
            self._renewed = self._run.loop.time()
        return is_there

    @property
    def longest_gap(self) -> float:
        """The seconds that may lie between two of its tokens."""
        stated = self._run.recipe.policy.between_tokens
        if stated is None:
            return math.inf
        return self._between_tokens() if stated == "auto" else stated

    @property
    def late_at(self) -> float:
        """The event-loop time from which on it is slower than it should be; inf while it is not sent, or writes."""
        progress = self._progress
        since = progress.since
        if since is None or progress.pieces:
            return math.inf
        policy, place, shared = self._run.recipe.policy, progress.place, progress.shared
        if shared is not None:
            since = max(since, shared.stirred)
        account = self._run.account(progress.provider, progress.model)
        measured = None if account is None else account.latency.late_after(streamed=progress.streamed)
        stated = place.patience.hedge_after if policy.hedge_after == "auto" else policy.hedge_after
        if measured is None:
            return since + stated
        # What was measured where calls queue has their waits in it.
        return since + (max(measured, stated) if place.queues else measured)

    def _first_token(self) -> float:
        progress = self._progress
        if progress.place.served_by == "process":
            return math.inf
        model, alone = self._alone
        if model != progress.model:
            patience = progress.place.patience
            tokens = characters(self._messages) / _CHARACTERS_A_TOKEN
            alone = max(patience.first_token + tokens / patience.prompt_rate, self._measured())
            self._alone = progress.model, alone
        shared = progress.shared
        return alone if shared is None else alone * max(1, shared.waiting)

    def _between_tokens(self) -> float:
        progress = self._progress
        if progress.place.served_by == "process":
            return math.inf
        patience = progress.place.patience
        shared = progress.shared
        if shared is None or not shared.waiting:
            return patience.between_tokens
        # While a server reads the prompt of another call it may write nothing.
        return patience.between_tokens + self._first_token()

    def _measured(self) -> float:
        """Return the most that what was measured or predicted speaks for."""
        progress = self._progress
        account = self._run.account(progress.provider, progress.model)
        late = None if account is None else account.latency.late_after(streamed=True)
        predicted = self._run.models.card(progress.provider, progress.model).predicted
        return _MEASURED_FACTOR * max(late or 0.0, 0.0 if predicted is None else predicted.first)
