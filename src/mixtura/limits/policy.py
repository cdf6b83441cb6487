"""What each failure of a call means: whether it is tried again, which model is asked instead, and what it counts for.

The table is for readers; nothing parses it but the test that holds docs/limits.md and the code to it. These act on it:

- "again": `models/wrappers/retry.py`, by `ModelError.action`; the hedge of a slow call is `engine/race.py`'s.
- "another model": `engine/calls.py`, which asks fall-backs after every failure, and a replacement after `model_gone`.
- "breaker" and "counted": `models/wrappers/limited.py`, by the sets below. A model that is still loaded is in no
  breaker's count.
- that nothing else of a refused key is begun: `engine/run.py`.

    failure        again                      another model   breaker    counted in the windows
    unreachable    after a pause              fall-back       provider   yes, unless no connection was made
    blocked        never                      fall-back       -          no: no connection was made
    overloaded     after a pause              fall-back       model      no: nothing was begun
    broken_reply   after a pause              fall-back       model      yes
    bad_generation after a pause              fall-back       -          yes
    rate_limited   when its limit allows      fall-back       -          no, but one request a day
    model_gone     never                      replacement     -          no
    timed_out      a hedge, when one is left  fall-back       model      yes
    looped         never                      -               -          yes
    too_large      never                      fall-back       -          no
    unloadable     never                      fall-back       -          no: a model file has no windows
    rejected       never                      fall-back       -          no
    unauthorized   never                      fall-back       -          no; nothing else of its key is begun
"""

from mixtura.errors import (
    BlockedError,
    BrokenReplyError,
    ModelError,
    ModelGoneError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    TimedOutError,
    TooLargeError,
    UnauthorizedError,
    UnloadableError,
    UnreachableError,
)

TRIPS: tuple[type[ModelError], ...] = (UnreachableError, OverloadedError, BrokenReplyError, TimedOutError)
"""Failures that say that a model or its provider is not well."""

UNCOUNTED: tuple[type[ModelError], ...] = (
    BlockedError,
    OverloadedError,
    RateLimitedError,
    ModelGoneError,
    TooLargeError,
    RejectedError,
    UnauthorizedError,
    UnloadableError,
)
"""Refusals: the provider counts no tokens for them. (498 and 5xx are not billed; headers correct what is counted.)"""


def may_be_billed(error: ModelError) -> bool:
    """Say whether a provider may count, and bill, a call that ended so: it is no refusal, and a connection was made."""
    return not isinstance(error, UNCOUNTED) and not (isinstance(error, UnreachableError) and not error.connected)
