"""One call of a run: from a seat in the recipe to a completion, with its events, time limit and substitutes."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from mixtura.chat import ChatOptions, ChatRequest, Completion, Delta, Message, Usage
from mixtura.engine import agree, answers
from mixtura.engine.context import Run
from mixtura.errors import BrokenReplyError, ConfigError, ModelError, ModelGoneError, TimedOutError, TooLargeError
from mixtura.events import Call, CallFailed, CallFinished, CallStarted, Draft, Failure, Role
from mixtura.models.base import ModelCard
from mixtura.recipe import Aggregator, Proposer
from mixtura.tokens import estimate_messages

Seat = Proposer | Aggregator
OnDelta = Callable[[int, Delta], None]

# What a reply may take when the recipe does not say. Groq counts the asked-for maximum against the per-minute
# limit, so it is not simply large; and a model that reasons spends most of it before the first word of the answer.
_DRAFT_TOKENS = 1024
_ANSWER_TOKENS = 2048
_REASONING_TOKENS = {"none": 1024, "low": 2048, "medium": 4096, "default": 4096, "high": 8192}
# An estimate this far over the window is no estimate error: the call is not even sent.
_SURELY_TOO_LARGE = 1.35


class Ask(NamedTuple):
    """What to ask of a seat, in which role, with which options of the caller."""

    role: Role
    seat: Seat
    messages: tuple[Message, ...]
    layer: int = 0
    options: ChatOptions = ChatOptions()


def max_tokens(seat: Seat, card: ModelCard, role: Role) -> int | None:
    """Return the output limit to ask for: the seat's own, else one that does not starve the model.

    None (the provider's default) for models the catalogue does not know.
    """
    if seat.max_tokens is not None:
        return seat.max_tokens
    if card.max_output is None:
        return None
    wanted = _ANSWER_TOKENS if role == "aggregator" else _DRAFT_TOKENS
    if card.reasons:
        effort = seat.reasoning_effort or card.default_effort or "default"
        wanted = max(wanted, _REASONING_TOKENS.get(effort, 4096))
    return min(wanted, card.max_output)


def request(seat: Seat, card: ModelCard, ask: Ask) -> ChatRequest:
    """Return what is sent to `card`'s model for `ask`; settings a substitute does not take are left out."""
    effort = seat.reasoning_effort
    if effort is not None and card.id != seat.model and effort not in card.efforts:
        effort = None
    return ChatRequest(
        model=card.id,
        messages=ask.messages,
        temperature=seat.temperature,
        top_p=seat.top_p,
        max_tokens=max_tokens(seat, card, ask.role),
        seed=seat.seed,
        reasoning_effort=effort,
        options=ask.options,
    )


async def call(run: Run, ask: Ask, number: int, until: float, on_delta: OnDelta | None = None) -> Completion:
    """Make one call and return its completion; the caller says that it finished, and keeps the time limit.

    Args:
        run: the run it belongs to.
        ask: what to ask of whom.
        number: from `run.next_call()`.
        until: event-loop time after which nobody waits for it.
        on_delta: gets the call's number and each piece; None does not stream.

    Raises:
        ModelError: it failed for good; a CallFailed event has been said.
    """
    seat = ask.seat
    run.say(
        CallStarted(at=run.now, call=number, role=ask.role, model=seat.model, provider=seat.provider, layer=ask.layer)
    )
    emit = None if on_delta is None else lambda delta: on_delta(number, delta)
    try:
        return await _with_substitutes(run, ask, until, emit)
    except ModelError as error:
        failed(run, number, ask, error)
        raise


async def call_within(run: Run, ask: Ask, until: float, on_delta: OnDelta | None = None) -> tuple[int, Completion]:
    """Make one call that is stopped at `until`; return its number and completion.

    Raises:
        ModelError: it failed for good, `TimedOutError` when stopped; a CallFailed event has been said.
    """
    number = run.next_call()
    try:
        async with asyncio.timeout_at(until):
            return number, await call(run, ask, number, until, on_delta)
    except TimeoutError:
        error = timed_out(run, ask, until)
        failed(run, number, ask, error)
        raise error from None
    except asyncio.CancelledError:
        abandoned(run, number, ask, "the run was stopped")
        raise


async def _with_substitutes(run: Run, ask: Ask, until: float, emit: Callable[[Delta], None] | None) -> Completion:
    provider, model = ask.seat.provider, ask.seat.model
    tried = [model]
    while (known := run.options.gone.get((provider, model))) is not None and known not in tried:
        model = _say_substitute(run, model, known)
        tried.append(model)
    while True:
        try:
            return await _once(run, ask, provider, model, until, emit)
        except ModelGoneError as error:
            following = _substitute(run, provider, model, error)
            if following is None or following in tried:
                raise
            run.options.gone[(provider, model)] = following
            model = _say_substitute(run, model, following)
            tried.append(model)


def _say_substitute(run: Run, gone: str, instead: str) -> str:
    reason = f"{gone} is gone, {instead} was asked instead"
    run.decide("substituted", reason, warning=True, gone=gone, by=instead)
    return instead


def _substitute(run: Run, provider: str, model: str, error: ModelGoneError) -> str | None:
    policy = run.recipe.policy
    own = policy.substitutes.get(model)
    if own is not None or not policy.substitute:
        return own
    return error.replacement or run.models.replacement(provider, model)


async def _once(
    run: Run, ask: Ask, provider: str, model: str, until: float, emit: Callable[[Delta], None] | None
) -> Completion:
    served = run.models.find(provider, model)
    asked = request(ask.seat, served.card, ask)
    window = served.card.window
    if window is not None and (size := _size(asked.messages, window)) > window * _SURELY_TOO_LARGE:
        raise TooLargeError(
            provider, model, f"the prompt is about {size:,} tokens and the model reads at most {window:,}; not sent"
        )
    try:
        # A user's own model need not have been checked against the types.
        completion: object = await served.chat.chat(asked, emit=emit, deadline=until)
    except (ModelError, ConfigError):
        raise
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody stopped this call: the model's own task was cancelled inside it.
        raise BrokenReplyError(provider, model, "the model cancelled its own call") from None
    except Exception as error:
        # A ChatModel may be a user's own: whatever it raises costs this call, never its siblings.
        raise BrokenReplyError(provider, model, f"the model raised {type(error).__name__}: {error}") from error
    if not isinstance(completion, Completion) or not _is_whole(completion):
        raise BrokenReplyError(provider, model, f"the model returned {type(completion).__name__}, no whole Completion")
    return completion


def _is_whole(completion: Completion) -> bool:
    text: object = completion.text
    usage: object = completion.usage
    return isinstance(text, str) and isinstance(usage, Usage)


def characters(messages: Sequence[Message]) -> int:
    """Return how many characters of text `messages` hold: no text has more tokens than that."""
    total = 0
    for message in messages:
        content = message.content
        total += len(content if isinstance(content, str) else message.text)
    return total


def _size(messages: tuple[Message, ...], window: int) -> int:
    """Return the estimated prompt tokens; 0 when the characters alone say that they fit."""
    return 0 if characters(messages) < window else estimate_messages(messages)


def timed_out(run: Run, ask: Ask, until: float) -> TimedOutError:
    """Return the error of a call that was stopped at `until`."""
    seconds = until - run.start
    return TimedOutError(ask.seat.provider, ask.seat.model, f"no whole answer within {seconds:.3g} s of the run")


def failed(run: Run, number: int, ask: Ask, error: ModelError) -> None:
    """Say that a call failed for good."""
    lost = _failure(number, ask, error.kind, error.reason)
    lost = msgspec.structs.replace(lost, status=error.status, attempts=error.attempts)
    run.say(CallFailed(at=run.now, failure=lost))


def abandoned(run: Run, number: int, ask: Ask, reason: str) -> None:
    """Say that a call was stopped because nobody waits for it any more."""
    run.say(CallFailed(at=run.now, failure=_failure(number, ask, "abandoned", reason)))


def _failure(number: int, ask: Ask, kind: str, reason: str) -> Failure:
    seat = ask.seat
    return Failure(
        call=number, role=ask.role, model=seat.model, provider=seat.provider, kind=kind, reason=reason, layer=ask.layer
    )


def draft(number: int, ask: Ask, completion: Completion, *, lenient: bool = False) -> Draft:
    """Return a proposer's completion as a draft, its final answer extracted (see `answers.extract`)."""
    return Draft(
        **_common(number, ask, completion),
        layer=ask.layer,
        weight=ask.seat.weight if isinstance(ask.seat, Proposer) else 1.0,
        choice="" if agree.refuses(completion.text) else answers.extract(completion.text, lenient=lenient),
    )


def finished(run: Run, number: int, ask: Ask, completion: Completion) -> None:
    """Say that a call other than a proposer's is whole."""
    run.say(CallFinished(at=run.now, done=Call(**_common(number, ask, completion))))


def _common(number: int, ask: Ask, completion: Completion) -> dict[str, Any]:
    return {
        "call": number,
        "role": ask.role,
        "model": ask.seat.model,
        "provider": ask.seat.provider,
        "answered_by": completion.model,
        "text": completion.text,
        "reasoning": completion.reasoning,
        "finish_reason": completion.finish_reason,
        "tool_calls": completion.tool_calls,
        "usage": completion.usage,
        "cost": completion.cost,
        "timing": completion.timing,
        "attempts": completion.attempts,
        "service_tier": completion.service_tier,
        "extra": completion.extra,
    }


def without_tools(options: ChatOptions) -> ChatOptions:
    """Return the options for a call that drafts: tools are for the model that answers."""
    if options.tools is None and options.tool_choice is None:
        return options
    return msgspec.structs.replace(options, tools=None, tool_choice=None)
