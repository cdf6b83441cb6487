"""One try of a race: a call, how far it has come, and how patient one is with it."""

import asyncio

from mixtura.chat import Completion
from mixtura.engine.ask import Ask
from mixtura.engine.calls import progress_of
from mixtura.engine.context import Run
from mixtura.engine.patience import CallPatience
from mixtura.errors import ModelError


class Try:
    """One call of a race; `task` makes it."""

    def __init__(self, run: Run, ask: Ask) -> None:
        self.ask = ask
        self.number = run.next_call()
        self.progress = progress_of(run, ask)
        self.patience = CallPatience(run, self.progress, ask.messages)
        self.task: asyncio.Task[Completion | ModelError] | None = None

    @property
    def result(self) -> Completion | ModelError | None:
        """How it ended by itself; None while it is under way, and when it was stopped."""
        task = self.task
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()
