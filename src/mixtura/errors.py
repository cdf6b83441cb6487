"""Every error Mixtura raises, split by what the caller can do about it.

MixturaError
├── ConfigError             fix what you wrote: a setting, an option, a file
│   ├── RecipeError         ... a recipe (names the file, the key and what was expected)
│   ├── MissingKeyError     ... an API key is not set
│   └── InputError          ... the question or conversation itself
├── BudgetError             the run would cost more than allowed; nothing was sent
│   └── DailyBudgetError    ... more than is left for today: wait for the next day, or allow more
├── LimitError              the run does not fit its rate limits in time; `.retry_after` says when it would
├── DeadlineError           the time the caller gave was over before anything could be answered
├── ModelError              one call to one model failed; `.action` says what a run does about it
│   ├── UnreachableError    retry       no connection, or it broke
│   │   └── BlockedError    drop        ... for good: a certificate that is not trusted, a proxy that refuses
│   ├── OverloadedError     retry       498, 500, 502, 503, 504: the provider is busy or broken
│   ├── BrokenReplyError    retry       an answer arrived that is not a completion
│   ├── BadGenerationError  retry       the model's own output failed validation (tools, JSON)
│   ├── RateLimitedError    wait        429: a limit that refills; `.retry_after` says when
│   ├── ModelGoneError      substitute  shut down, unknown or not for this key; names live ids in its place
│   ├── TimedOutError       drop        nothing, or not enough, within the time it had
│   ├── LoopedError         drop        the model repeated itself without end
│   ├── TooLargeError       drop        413 or context_length_exceeded: can never fit as it is
│   ├── UnloadableError     drop        a model file that cannot be loaded into this process
│   ├── RejectedError       drop        400, 422: the request itself is wrong for this model
│   └── UnauthorizedError   drop        401, 403: the key is wrong or not allowed
└── NoAnswerError           a run ended without one usable draft; `.failures` says why for each call

Each of them has `.status` and `.retry_after`: what a server that asked for its own client can send on to it.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from mixtura.portable import PortableError
from mixtura.secret import scrub

if TYPE_CHECKING:
    from mixtura.chat import Usage
    from mixtura.events import Answer

Action = Literal["retry", "wait", "substitute", "drop"]


def followed(reason: str, clause: str) -> str:
    """Return `reason` and then `clause`: behind a question as a sentence of its own, else after a semicolon."""
    if reason.endswith("?"):
        return f"{reason} {clause[:1].upper()}{clause[1:]}"
    return f"{reason.rstrip('.')}; {clause}"


class MixturaError(PortableError, Exception):
    """The root; catch it to catch everything Mixtura means to raise. Its text never holds a secret."""

    _scrubbed = staticmethod(scrub)
    exit_code: ClassVar[int] = 1
    answer: "Answer | None" = None
    """What is known of the run that raised it: usage, cost and decisions; None where no run was begun."""
    status: int | None = None
    """The HTTP status that a server can send on to its own client, 400 or more; None where nothing names one."""
    retry_after: float | None = None
    """The seconds after which asking again may help; None where nobody said, or where it would not."""

    def __init__(self, message: str) -> None:
        self.message = scrub(message)
        super().__init__(self.message)


class ConfigError(MixturaError):
    """Something the user wrote has to be changed before a run can start."""

    exit_code = 3


class RecipeError(ConfigError):
    """A recipe cannot be used; `where` is its file and key, the text says what was expected."""

    def __init__(self, where: str, problem: str) -> None:
        self.where = where
        self.problem = problem
        super().__init__(f"{where}: {problem}")


class MissingKeyError(ConfigError):
    """No API key for `provider`; `env` is the variable that should hold it."""

    def __init__(self, provider: str, env: str, hint: str = "") -> None:
        self.provider = provider
        self.env = env
        super().__init__(f"no API key for {provider!r}: set {env}{hint}")


class InputError(ConfigError):
    """The question cannot be asked as it is (empty, too long, not text)."""

    exit_code = 2
    status = 400


class BudgetError(MixturaError):
    """The run could cost `worst` dollars and may cost `allowed`; nothing was sent."""

    def __init__(self, worst: float | None, allowed: float, why: str = "") -> None:
        self.worst = worst
        self.allowed = allowed
        said = f"could cost up to ${worst:.6f}" if worst is not None else f"has no known price ({why})"
        super().__init__(
            f"the run {said} and at most ${allowed:.6f} is allowed; nothing was sent: "
            "raise max_cost (--max-cost), or take a smaller recipe or max_tokens"
        )


class DailyBudgetError(BudgetError):
    """The run could cost `worst` dollars, more than is left of the `allowed` dollars a day; nothing was sent.

    Attributes:
        spent: dollars that today's settled runs cost.
        reserved: dollars that runs not yet settled could cost.
        seconds_left: seconds until the next day begins; `retry_after` is the same.
    """

    exit_code = 75
    status = 429

    def __init__(self, worst: float, allowed: float, spent: float, reserved: float, seconds_left: float) -> None:
        self.worst: float = worst
        self.allowed = allowed
        self.spent = spent
        self.reserved = reserved
        self.seconds_left = seconds_left
        self.retry_after = max(0.0, seconds_left)
        left = max(0.0, allowed - spent - reserved)
        # Rounded up: whoever waits as long as told is not a few seconds early.
        hours, minutes = divmod(math.ceil(max(0.0, seconds_left) / 60), 60)
        wait = f"{hours} h {minutes} min" if hours else f"{minutes} min"
        # Not BudgetError's sentence: max_cost would change nothing here.
        super(BudgetError, self).__init__(
            f"the run could cost up to ${worst:.6f} and ${left:.6f} is left of today's ${allowed:.6f} "
            f"(${spent:.6f} spent, ${reserved:.6f} reserved by runs not settled); nothing was sent: "
            f"raise MIXTURA_DAILY_BUDGET, or wait {wait} until the next day begins (00:00 UTC)"
        )


class LimitError(MixturaError):
    """The run does not fit the rate limits it has within its deadline; nothing was sent. `window` says which one binds.

    `retry_after` is None, and `status` 413 in place of 429, where it never will fit as it is.
    """

    exit_code = 75

    def __init__(self, message: str, *, retry_after: float | None, window: str) -> None:
        self.retry_after = retry_after
        self.status = 413 if retry_after is None else 429
        self.window = window
        super().__init__(message)


class DeadlineError(MixturaError):
    """The deadline passed before the run had anything to answer with."""

    exit_code = 75
    status = 504


class Exceeded(NamedTuple):
    """The window that a refused call did not fit, in its own units: `dimension` is rpm, rpd, tpm or tpd."""

    dimension: str
    limit: float
    used: float | None = None


class ModelError(MixturaError):
    """One call to `provider`/`model` failed.

    Attributes:
        status: HTTP status as it was received, or None when none was.
        code: the provider's own error code, or "".
        retry_after: seconds the provider asks to wait, or None.
        attempts: how often it was tried.
        exceeded: the rate limit it did not fit, where the provider names one.
        usage: tokens that the provider bills for the failed call all the same, most often an estimate; None for none.
        sent: whether the provider was asked at all.
    """

    action: ClassVar[Action] = "drop"
    kind: ClassVar[str] = "failed"

    def __init__(
        self,
        provider: str,
        model: str,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        retry_after: float | None = None,
        attempts: int = 1,
    ) -> None:
        self.provider = provider
        self.model = model
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.attempts = attempts
        self.exceeded: Exceeded | None = None
        self.usage: Usage | None = None
        self.sent = True
        self.reason = scrub(message)
        super().__init__(f"{model} on {provider}: {self.reason}")


class UnreachableError(ModelError):
    """The provider could not be connected to, or the connection broke before an answer was whole."""

    action: ClassVar[Action] = "retry"
    kind = "unreachable"
    connected = True
    """There was a connection, so the provider may have counted the request."""


class BlockedError(UnreachableError):
    """A certificate or a proxy is in the way, and stays there until something is set; trying again does not help."""

    exit_code = 3
    action = "drop"
    kind = "blocked"
    connected = False


class OverloadedError(ModelError):
    """The provider is busy or broken right now (498, 5xx). `loading`: it loads its model, and answers when it has."""

    action = "retry"
    kind = "overloaded"
    loading = False


class BrokenReplyError(ModelError):
    """An answer arrived that is no completion. `alike`: it came whole, and the next one most likely looks so too."""

    alike = False
    action = "retry"
    kind = "broken_reply"


class BadGenerationError(ModelError):
    """What the model generated failed the provider's validation (tool arguments, JSON mode)."""

    failed_generation: str = ""
    """What it had generated, where the provider tells."""
    action = "retry"
    kind = "bad_generation"


class RateLimitedError(ModelError):
    """A limit that refills was hit; `retry_after` seconds until the call would fit, None when not said."""

    exit_code = 75
    action = "wait"
    kind = "rate_limited"


class ModelGoneError(ModelError):
    """The model is shut down or unknown, or `blocked`; `replacement` and `nearest` are live ids to use in its place.

    `blocked`: it is served, and not to this key (an administrator switched it off, its terms are not accepted, it is
    for another plan). The key is sound, and gets other models.
    """

    exit_code = 3
    action = "substitute"
    kind = "model_gone"

    def __init__(
        self,
        provider: str,
        model: str,
        message: str,
        *,
        replacement: str | None = None,
        nearest: Sequence[str] = (),
        status: int | None = None,
        code: str = "",
        blocked: bool = False,
    ) -> None:
        self.blocked = blocked
        self.replacement = replacement
        self.nearest = tuple(nearest)
        super().__init__(provider, model, message, status=status, code=code)


class TimedOutError(ModelError):
    """The call did not finish in the time it had."""

    exit_code = 75
    kind = "timed_out"


class LoopedError(ModelError):
    """The model repeated itself without end, and was stopped."""

    kind = "looped"


class TooLargeError(ModelError):
    """The request can never fit the model's window or a per-minute limit; waiting does not help."""

    kind = "too_large"


class UnloadableError(ModelError):
    """A model file cannot be loaded into this process; asking again would not change that."""

    exit_code = 3
    kind = "unloadable"


class RejectedError(ModelError):
    """The provider says that the request itself is wrong for this model."""

    kind = "rejected"


class UnauthorizedError(ModelError):
    """The key is wrong, expired or not allowed to ask, whichever the model."""

    exit_code = 3
    kind = "unauthorized"
    unpaid = False
    """The key is sound, and its account is without money."""


_REFUSED = (UnauthorizedError, ModelGoneError, UnloadableError, TooLargeError, RejectedError, RateLimitedError)
_URGENCY: tuple[type[ModelError], ...] = (*_REFUSED, BlockedError, UnreachableError)


class NoAnswerError(MixturaError):
    """No draft survived; `failures` holds each call's error, the most telling first.

    Attributes:
        status: what a server can send on where all calls failed alike: 429 when every one met a rate limit; 401, or
            the common 402 or 403, when every key was refused; the common 5xx, else 503, when every provider was busy
            or broken; else the 4xx that all of them have in common. None when they failed in different ways, or when
            none was answered: a gateway sends 502 then.
        retry_after: the longest that a call asks to wait, where every failure may pass by itself; else None.
    """

    def __init__(self, failures: Sequence[ModelError], message: str = "") -> None:
        rank = {kind: place for place, kind in enumerate(_URGENCY)}
        # Of failures alike, one that a provider gave tells more than one by which a call was not even sent.
        order = sorted(failures, key=lambda failure: (rank.get(type(failure), len(rank)), not failure.sent))
        self.failures = tuple(order)
        super().__init__(message or _sentence(self.failures))
        self.status = _status_of_all(self.failures)
        if all(failure.action in ("retry", "wait") for failure in self.failures):
            self.retry_after = max((f.retry_after for f in self.failures if f.retry_after is not None), default=None)

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # the class default, made precise by the failure
        """The exit code of the most telling failure."""
        return self.failures[0].exit_code if self.failures else 1


def _sentence(failures: Sequence[ModelError]) -> str:
    """Return the most telling of `failures`, which come first, and how many others there are."""
    if not failures:
        return "no model gave an answer"
    first = failures[0]
    if all(isinstance(failure, UnreachableError) for failure in failures):
        # The way to the provider is broken and no model is at fault, so the cause goes before their names.
        said, more = first.reason, len({failure.provider for failure in failures}) - 1
    else:
        said, more = first.message, len({failure.message for failure in failures}) - 1
    return said + (f" (and {more} other failure{'s' * (more > 1)})" if more else "")


def _status_of_all(failures: Sequence[ModelError]) -> int | None:
    """Return the HTTP status that speaks for all of `failures`, None when none does."""
    found = {_status_to_send(failure) for failure in failures}
    if len(found) == 1:
        return found.pop()
    for kind, status in ((UnauthorizedError, 401), (OverloadedError, 503)):
        if failures and all(isinstance(failure, kind) for failure in failures):
            return status
    return None


def _status_to_send(failure: ModelError) -> int | None:
    """Return the status that a client understands for a failure: providers have some of their own, such as 498."""
    status = failure.status
    match failure:
        case RateLimitedError():
            return 429
        case UnauthorizedError():
            return 402 if failure.unpaid or status in (402, 429) else 403 if status == 403 else 401
        case OverloadedError():
            return status if status is not None and status >= 500 else 503
    return status if status is not None and status >= 400 else None
