"""One call of a run: from a slot in the recipe to a completion, with its events, time limit and substitutes."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from mixtura.caller_options import without_texts
from mixtura.chat import NO_OPTIONS, ChatOptions, ChatRequest, Completion, Delta, Message, Usage
from mixtura.decisions import NoticedDetail, SubstitutedDetail
from mixtura.engine import tools
from mixtura.engine.allowance import CallTab
from mixtura.engine.ask import Ask, Settings, settings_of
from mixtura.engine.context import Run
from mixtura.engine.progress import Progress
from mixtura.errors import BadGenerationError, BrokenReplyError, ConfigError, ModelError, ModelGoneError, TooLargeError
from mixtura.events import CallStarted, Parameters
from mixtura.limits.policy import may_be_billed
from mixtura.models.base import Emit
from mixtura.models.card import ModelCard
from mixtura.planning.forecast import attempt_cost
from mixtura.planning.schedule import is_held, stand_ins
from mixtura.recipe import Fallback, Slot
from mixtura.tokens import characters, estimate_messages

OnDelta = Callable[[int, Delta], None]

# An estimate this far over the window is no estimate error: the call is not even sent.
_SURELY_TOO_LARGE = 1.35


def progress_of(run: Run, ask: Ask) -> Progress:
    """Return the progress of a call that is about to be made."""
    first = ask.instead or ask.slot
    # Held are the calls that every run makes; a second try has to find room of its own.
    held = is_held(ask.role, ask.layer)
    progress = Progress(first.provider, first.model, None if ask.again else run.hold, held=held)
    progress.watch_loops = run.loop_watch
    return progress


def request(
    card: ModelCard, ask: Ask, context: Progress | None = None, settings: Settings | None = None
) -> ChatRequest:
    """Return what is sent to `card`'s model for `ask`; settings a substitute does not take are left out.

    `settings` are those for `card`, where they are known already.
    """
    settings = settings or settings_of(card, ask)
    return ChatRequest(
        model=card.id,
        messages=ask.messages,
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
        seed=settings.seed,
        reasoning_effort=settings.reasoning_effort,
        options=settings.options,
        context=context,
    )


class _Watching(NamedTuple):
    """Where the pieces of a streamed reply go; `watched` by a reader, or only streamed so that they may be used."""

    emit: Emit
    watched: bool


class _CallPlan(NamedTuple):
    """How a call is made: until when, for whom, and with which settings for `card`, the slot's own model."""

    until: float
    watch: _Watching | None
    card: ModelCard
    settings: Settings


def _watching(run: Run, number: int, progress: Progress, on_delta: OnDelta | None) -> _Watching:
    clock = run.loop.time

    def emit(delta: Delta) -> None:
        progress.take(delta, clock())
        if on_delta is not None and (delta.text or delta.reasoning or delta.tool_calls):
            on_delta(number, delta)

    return _Watching(emit, watched=on_delta is not None)


def _parameters(run: Run, settings: Settings) -> Parameters:
    return Parameters(
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
        seed=settings.seed,
        reasoning_effort=settings.reasoning_effort,
        options=_kept(run, settings.options),
    )


def _kept(run: Run, options: ChatOptions) -> ChatOptions | None:
    if options is NO_OPTIONS:
        return None
    return options if run.options.record == "conversation" else without_texts(options)


async def call(
    run: Run, ask: Ask, number: int, until: float, progress: Progress, on_delta: OnDelta | None = None
) -> Completion:
    """Make one call and return its completion; the caller says how it ended, and keeps the time limit.

    Args:
        run: the run it belongs to.
        ask: what to ask of whom.
        number: from `run.next_call()`.
        until: event-loop time after which nobody waits for it.
        progress: is kept up to date.
        on_delta: gets the call's number and each piece; None shows them to nobody.

    Raises:
        ModelError: it failed for good, its fall-backs as well.
    """
    slot = ask.slot
    card = run.models.card(slot.provider, slot.model)
    settings = settings_of(card, ask)
    run.emit(_started(run, ask, number, settings))
    watch: _Watching | None = None
    if on_delta is not None or run.streams(ask.role):
        watch = _watching(run, number, progress, on_delta)
    plan = _CallPlan(until, watch, card, settings)
    tab = progress.tab = _tab(run, ask, progress)
    spent: Usage | None = None
    lost = 0.0
    chain = (ask.instead or slot, *slot.fallbacks)
    for place, link in enumerate(chain):
        try:
            completion = await _with_substitutes(run, ask, link, progress, plan)
            if tab is not None:
                tab.close(completion.usage, completion.charged)
            if completion.declined:
                run.declined[number] = completion.declined
            return completion if spent is None else _with_spent(completion, spent, lost)
        except ModelError as error:
            lost += _dollars(run, progress, error.usage)
            if tab is not None:
                tab.fail(lost, untold=error.usage is None and error.sent and may_be_billed(error))
            # What was begun cannot be begun anew by another model: a reader has seen it.
            last = place == len(chain) - 1 or progress.pieces > 0 or run.loop.time() >= until
            spent = error.usage = _sum(spent, error.usage)
            if last or (tab is not None and tab.refusal(worst_cost(run, ask, chain[place + 1]))):
                if tab is not None:
                    tab.close(None)
                raise
            following = chain[place + 1]
            why = error.kind.replace("_", " ")
            reason = f"{link.model} failed ({why}), {following.model} was asked instead"
            run.decide(SubstitutedDetail(model=link.model, by=following.model), reason, warning=True)
    raise AssertionError("a chain has at least one link")


def _started(run: Run, ask: Ask, number: int, settings: Settings) -> CallStarted:
    kept = ask.messages is not run.conversation and run.options.record == "conversation"
    return CallStarted(
        at=run.now,
        call=number,
        role=ask.role,
        model=ask.slot.model,
        provider=ask.slot.provider,
        layer=ask.layer,
        parameters=_parameters(run, settings),
        reads=list(ask.reads),
        messages=ask.messages if kept else None,
    )


def _tab(run: Run, ask: Ask, progress: Progress) -> CallTab | None:
    """Return what the attempts of a call are billed on; None where nobody limits what the run may cost."""
    if run.allowance is None:
        return None

    def warn(why: str) -> None:
        run.decide(NoticedDetail(), f"{progress.model} was not asked again: {why}", warning=True)

    # A second try has set aside what its own model takes; of the first the dearest link is planned.
    links = ask.slot.links if ask.instead is None and not ask.again else (ask.instead or ask.slot,)
    names = stand_ins(run.recipe.policy, links, run.models.replacement)
    return CallTab(
        run.allowance,
        max(worst_cost(run, ask, Fallback(model=model, provider=provider)) for provider, model in names),
        lambda usage: _dollars(run, progress, usage),
        lambda: worst_cost(run, ask, Fallback(model=progress.model, provider=progress.provider)),
        warn,
    )


def worst_cost(run: Run, ask: Ask, link: Fallback | Slot) -> float:
    """Return the dollars that one attempt at `ask` with a model costs at most; 0 where no price is known."""
    return (
        attempt_cost(run.models.card(link.provider, link.model), ask.slot, ask.role, ask.messages, ask.options) or 0.0
    )


def _dollars(run: Run, progress: Progress, usage: Usage | None) -> float:
    price = run.models.card(progress.provider, progress.model).price
    return 0.0 if price is None or usage is None else price.cost(usage)


def _with_spent(completion: Completion, spent: Usage, dollars: float) -> Completion:
    """Return `completion` with what the models before it in the chain took."""
    return msgspec.structs.replace(
        completion,
        wasted=_sum(completion.wasted, spent),
        cost=None if completion.cost is None else completion.cost + dollars,
        estimate=None if completion.estimate is None else completion.estimate + dollars,
    )


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return one or other
    return one + other


async def _with_substitutes(
    run: Run, ask: Ask, link: Fallback | Slot, progress: Progress, plan: _CallPlan
) -> Completion:
    provider, model = link.provider, link.model
    tried = [model]
    while (known := run.options.gone.get((provider, model))) is not None and known not in tried:
        model = _say_substitute(run, model, known)
        tried.append(model)
    while True:
        progress.provider, progress.model = provider, model
        try:
            return await _once(run, ask, progress, plan)
        except ModelGoneError as error:
            following = _substitute(run, provider, model, error)
            if following is None or following in tried:
                raise
            if not error.blocked:
                run.options.gone[(provider, model)] = following
            model = _say_substitute(run, model, following, blocked=error.blocked)
            tried.append(model)


def _say_substitute(run: Run, gone: str, instead: str, *, blocked: bool = False) -> str:
    reason = f"{gone} is {'not for this key' if blocked else 'gone'}, {instead} was asked instead"
    run.decide(SubstitutedDetail(model=gone, by=instead, gone=not blocked), reason, warning=True)
    return instead


def _substitute(run: Run, provider: str, model: str, error: ModelGoneError) -> str | None:
    policy = run.recipe.policy
    own = policy.substitutes.get(model)
    if own is not None or not policy.substitute:
        return own
    return error.replacement or run.models.replacement(provider, model)


async def _once(run: Run, ask: Ask, progress: Progress, plan: _CallPlan) -> Completion:
    watch = plan.watch
    provider, model = progress.provider, progress.model
    served = run.models.find(provider, model)
    known = plan.settings if served.card is plan.card else None
    asked = request(served.card, ask, progress, known)
    progress.streamed = watch is not None
    progress.place = served.place
    if served.accounting is None and not served.begins:
        # Nobody says when such a call is sent: at once, as far as anybody can tell.
        progress.begin(run.loop.time())
    window = served.card.window
    if window is not None and (size := _size(asked.messages, window)) > window * _SURELY_TOO_LARGE:
        raise TooLargeError(
            provider, model, f"the prompt is about {size:,} tokens and the model reads at most {window:,}; not sent"
        )
    emit: Emit | None = None
    if watch is not None:
        # A reply that is streamed only because its partial text may be used is parsed when that is wanted, if its
        # model can; else it is watched.
        progress.partial = served.partial and not watch.watched
        emit = None if progress.partial else watch.emit
    try:
        # A user's own model need not have been checked against the types.
        completion: object = await served.chat.chat(asked, emit=emit, deadline=plan.until)
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
    progress.detach()
    if completion.finish_reason == "unknown" and (word := completion.extra.get("finish_reason")):
        said = f"the reply of {model} ended for the reason {word!r}, which nobody agreed on; it is taken for whole"
        run.decide(NoticedDetail(), said, warning=True)
    if completion.warnings or completion.odd_fields:
        _warn(run, provider, model, completion)
    return _with_sound_calls(run, ask, completion, progress)


def _warn(run: Run, provider: str, model: str, completion: Completion) -> None:
    """Say what may be missing from a reply, and, the first time a provider sends one, which of its fields are odd."""
    for said in completion.warnings:
        run.decide(NoticedDetail(), f"the reply of {model} on {provider}: {said}", warning=True)
    odd = [field for field in completion.odd_fields if (provider, field) not in run.options.told]
    if odd:
        run.options.told.update((provider, field) for field in odd)
        fields = ", ".join(odd)
        said = f"{provider} writes {fields} in another form than documented; its replies are read as far as they go"
        run.decide(NoticedDetail(), said, warning=True)


def _with_sound_calls(run: Run, ask: Ask, completion: Completion, progress: Progress) -> Completion:
    """Return `completion` with those of its calls of tools that can be made.

    Raises:
        BadGenerationError: none can.
    """
    if not completion.tool_calls and ask.options.tool_choice is None:
        return completion
    required = tools.requires_call(ask.options)
    if not completion.tool_calls and not required:
        return completion
    if not ask.options.tools:
        # Nobody offered it any.
        return msgspec.structs.replace(completion, tool_calls=None)
    sound = tools.sound_calls(completion, ask.options, run.options.run)
    if not sound.calls and (required or not completion.text.strip()):
        problems = sound.problems or ("it called no tool, though one was required",)
        error = BadGenerationError(progress.provider, progress.model, "; ".join(problems))
        error.usage = _sum(completion.wasted, completion.usage)
        raise error
    for problem in sound.problems:
        run.decide(NoticedDetail(), f"a call of {progress.model} was left out: {problem}", warning=True)
    if sound.calls or completion.finish_reason != "tool_calls":
        return msgspec.structs.replace(completion, tool_calls=sound.calls or None)
    return msgspec.structs.replace(completion, tool_calls=None, finish_reason="stop")


def _is_whole(completion: Completion) -> bool:
    text: object = completion.text
    usage: object = completion.usage
    return isinstance(text, str) and isinstance(usage, Usage)


def _size(messages: tuple[Message, ...], window: int) -> int:
    """Return the estimated prompt tokens; 0 when the characters alone say that they fit."""
    return 0 if characters(messages) < window else estimate_messages(messages)
