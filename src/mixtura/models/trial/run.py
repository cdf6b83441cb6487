"""Makes the calls of a trial, one after the other, since a server may have one slot."""

import asyncio
from collections.abc import AsyncIterator, Callable

from msgspec import structs

from mixtura.chat import ChatRequest, Completion, Delta
from mixtura.errors import (
    ModelError,
    ModelGoneError,
    OverloadedError,
    RateLimitedError,
    TimedOutError,
    UnauthorizedError,
    UnreachableError,
)
from mixtura.models.base import ChatModel, Emit
from mixtura.models.openai.http import HttpModel
from mixtura.models.openai.wire import Dialect
from mixtura.models.place import Place
from mixtura.models.trial import findings
from mixtura.models.trial.calls import CallName, PlannedCall
from mixtura.models.trial.findings import Finding, Pieces
from mixtura.models.wrappers.thinking import ThinkingApart

# A model of this process is not known to be slow or fast.
_PROCESS_SECONDS = 600.0
# How often, and how soon, a server that is loading its model is asked again.
_LOADING = 503
_AGAIN, _SOONEST = 1.0, 0.1
# What makes every further call end alike. A wrong address answers with one of the two statuses.
_FOR_ALL = (UnreachableError, UnauthorizedError, ModelGoneError, RateLimitedError)
_NO_SUCH_PAGE = (404, 405)


class _Tap:
    """A model whose replies are seen as its server sends them, before reasoning in the text is taken apart.

    Attributes:
        latest: the latest reply.
        notice: called for each piece of a stream.
    """

    def __init__(self, model: ChatModel) -> None:
        self.latest: Completion | None = None
        self.notice: Callable[[], None] = lambda: None
        self._model = model

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request`. See `ChatModel.chat`."""

        def seen(delta: Delta) -> None:
            self.notice()
            if emit is not None:
                emit(delta)

        watched = None if emit is None else seen
        self.latest = await self._model.chat(request, emit=watched, deadline=deadline)
        return self.latest


class DialectTrial:
    """Tries how one model of one server answers.

    Args:
        provider: the provider, for errors.
        model: the model as it answers by itself (`ModelRegistry.unwrapped`): second tries would hide what is sought.
        place: where it is served, whose patience bounds each call.
        calls: what is asked (`planned_calls`).
    """

    def __init__(self, provider: str, model: ChatModel, place: Place, calls: tuple[PlannedCall, ...]) -> None:
        self._provider = provider
        self._served = model
        self._tap = _Tap(model)
        self._model = ThinkingApart(self._tap)
        self._place = place
        self._calls = calls
        self._replies: list[Completion] = []
        self._failed: set[CallName] = set()
        self._streams = False
        self._dead = False

    async def findings(self) -> AsyncIterator[Finding]:
        """Make the calls and yield what each shows, in the order of `CALLS`. No failure of a call is raised."""
        for call in self._calls:
            if self._dead:
                yield findings.not_tried(call.name, "no call is answered here")
            elif call.request is None:
                yield findings.not_tried(call.name, call.skipped)
            else:
                before = self._dialect
                finding = await self._finding(call, call.request)
                lesser = findings.given_up(before, self._dialect)
                yield structs.replace(finding, said=f"{finding.said}; {lesser}") if lesser else finding

    @property
    def _dialect(self) -> Dialect | None:
        return self._served.dialect if isinstance(self._served, HttpModel) else None

    async def _finding(self, call: PlannedCall, request: ChatRequest) -> Finding:
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            completion, pieces = await self._answer(call, request)
        except ModelError as error:
            self._note(call.name, error)
            if call.name == "overflow":
                return findings.of_overflow(error, call.least, clock() - begun)
            return findings.of_error(call.name, error, clock() - begun)
        if call.name == "overflow":
            return findings.of_overflow(completion, call.least, clock() - begun)
        reply = self._tap.latest or completion
        self._replies.append(reply)
        most = request.max_tokens or 0
        match call.name:
            case "whole":
                return findings.of_whole(completion, most)
            case "streamed":
                finding = findings.of_streamed(completion, pieces, most)
                self._streams = finding.outcome == "works"
                return finding
            case "tools":
                return findings.of_tools(completion, reply)
            case "JSON":
                dialect = self._dialect
                return findings.of_json(completion, None if dialect is None else dialect.formats)
            case "reasoning":
                return findings.of_reasoning(self._replies)

    def _note(self, name: CallName, error: ModelError) -> None:
        """Note that a call failed, and whether each further one would."""
        self._failed.add(name)
        for_all = isinstance(error, _FOR_ALL) or error.status in _NO_SUCH_PAGE
        self._dead = self._dead or {"whole", "streamed"} <= self._failed or (name == "whole" and for_all)

    async def _answer(self, call: PlannedCall, request: ChatRequest) -> tuple[Completion, Pieces]:
        """Ask once; a server that is loading its model, or asks to wait, is asked again within the call's time."""
        loop = asyncio.get_running_loop()
        watched = call.name == "streamed" or (call.name == "reasoning" and self._streams) or "whole" in self._failed
        until = loop.time() + self._seconds()
        while True:
            try:
                return await self._once(request, until, watched=watched)
            except (OverloadedError, RateLimitedError) as error:
                pause = max(_SOONEST, _AGAIN if error.retry_after is None else error.retry_after)
                loading = isinstance(error, OverloadedError) and error.status == _LOADING and call.name == "whole"
                waits = isinstance(error, RateLimitedError) and error.retry_after is not None
                if not (loading or waits) or loop.time() + pause > until:
                    raise
                await asyncio.sleep(pause)

    async def _once(self, request: ChatRequest, until: float, *, watched: bool) -> tuple[Completion, Pieces]:
        loop = asyncio.get_running_loop()
        between, longest = self._place.patience.between_tokens, until + self._seconds()
        pieces = Pieces(begun=loop.time())
        try:
            async with asyncio.timeout_at(until) as limit:

                def notice() -> None:
                    pieces.note(loop.time())
                    limit.reschedule(min(longest, max(until, pieces.last + between)))

                self._tap.notice = notice
                emit = _ignore if watched else None
                completion = await self._model.chat(request, emit=emit, deadline=until)
        except TimeoutError:
            waited = loop.time() - pieces.begun
            said = "nothing more" if pieces.count else "nothing"
            raise TimedOutError(self._provider, request.model, f"{said} came within {waited:.0f} s") from None
        return completion, pieces

    def _seconds(self) -> float:
        """Return the seconds until a reply that shows nothing before its end has to be here."""
        if self._place.served_by == "process":
            return _PROCESS_SECONDS
        patience = self._place.patience
        return patience.first_token + 2 * patience.between_tokens


def _ignore(_delta: Delta) -> None:
    pass
